"""From RAW to OUT, as a whole: what is done, what is not done again, and what becomes of bad input."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import made_up
import numpy as np
import pytest
import soundfile as sf
from made_up import pause, speech, talk, tree

from chelys.data.manifest import read_manifest
from chelys.data.prepare.engine import Local
from chelys.data.prepare.metadata import read_clips, read_recordings
from chelys.data.prepare.pipeline import PrepareSettings, PrepareSummary, prepare
from chelys.data.prepare.work import Store
from chelys.errors import AudioError, ConfigError, OutputError
from chelys.files import file_lock

Settings = Callable[..., PrepareSettings]
Run = Callable[..., PrepareSummary]


@pytest.fixture
def run(tmp_path: Path, raw: Path, settings: Settings) -> Run:
    """Prepare ``raw`` into ``out``, in this process; keywords change the settings."""

    def go(
        out: str = "out", only: tuple[str, ...] = (), engine: Local | None = None, **changes: dict
    ) -> PrepareSummary:
        return prepare(raw, tmp_path / out, settings(**changes), only=only, engine=engine or Local(0))

    return go


def test_everything(run: Run, tmp_path: Path) -> None:
    summary = run()
    out = tmp_path / "out"
    assert (summary.recordings, summary.unreadable, summary.clips, summary.kept) == (2, 0, 6, 6)
    clips = list(read_clips(out))
    assert [c.source for c in clips] == ["deeper/two.flac"] * 3 + ["one.wav"] * 3
    assert [c.start for c in clips[:3]] == sorted(c.start for c in clips[:3])
    for clip in clips:
        assert clip.kept and not clip.reasons and clip.text and clip.text.startswith("said for")
        assert clip.confidence == 0.9 and len(clip.candidates) == 2 and clip.words[0] == ["said", 0.0, 0.1]
        assert len(clip.similar) == 2 and clip.id not in clip.similar
        assert clip.measured["loudness_db"] is not None and clip.measured["no_speech"] == 0.1
    utterances = list(read_manifest(out / "manifest.jsonl"))
    assert [u.id for u in utterances] == [c.id for c in clips]
    for u in utterances:
        audio, rate = sf.read(u.audio, start=round(u.start * 24_000), stop=round((u.end or 0) * 24_000))
        assert rate == 24_000 and len(audio) / rate == pytest.approx(u.seconds, abs=0.002) and np.abs(audio).max() > 0.1
    statistics = json.loads((out / "statistics.json").read_text())
    assert statistics["kept"] == 6 and statistics["kept_hours"] == pytest.approx(summary.hours)
    index = [json.loads(line) for line in (out / "shards" / "index.jsonl").read_text().splitlines()]
    assert sum(entry["clips"] for entry in index) == 6


def test_a_second_run_does_nothing(run: Run, tmp_path: Path) -> None:
    run()
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*") if p.is_file() and p.name != "lock"}
    first = run()
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*") if p.is_file() and p.name != "lock"}
    assert after == before
    assert first == run()


def test_a_new_recording_costs_only_itself(run: Run, raw: Path, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    calls.mkdir()
    run(transcribe={"model": str(calls)})
    sf.write(raw / "a first one.wav", talk([2.0, 1.4], seed=9), made_up.RATE)
    (calls / "calls").unlink()
    kept = {p: p.stat().st_ino for p in (tmp_path / "out" / "work").rglob("*.jsonl")}
    assert run(transcribe={"model": str(calls)}).kept == 8
    assert (calls / "calls").read_text() == "transcribe 2\nalign 2\n"
    assert all(p.stat().st_ino == inode for p, inode in kept.items() if p.exists() and "pack" not in p.parts)


def test_a_setting_changes_only_what_depends_on_it(run: Run, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    calls.mkdir()
    rules = tmp_path / "rules.yaml"
    rules.write_text("loudness_db: {min: -90}\n")
    run(transcribe={"model": str(calls)})
    (calls / "calls").unlink()
    run(transcribe={"model": str(calls)}, rules=str(rules), pack={"clips": 2})
    assert not (calls / "calls").exists()
    rules.write_text("seconds: {max: 2.2}\nconfidence: {min: 0.95}\n")
    assert run(transcribe={"model": str(calls)}, rules=str(rules)).kept == 0
    reasons = [c.reasons for c in read_clips(tmp_path / "out")]
    assert reasons == [["confidence below 0.95"], ["seconds above 2.2"], ["confidence below 0.95"]] * 1 + [
        ["confidence below 0.95"], ["seconds above 2.2"], ["confidence below 0.95"]
    ]  # fmt: skip


def test_stage_by_stage_is_the_same(run: Run, tmp_path: Path) -> None:
    run()
    for stage in ("segment", "measure", "filter", "transcribe", "align", "deduplicate", "similar", "pack"):
        run(out="slowly", only=(stage,))
    assert tree(tmp_path / "slowly") == tree(tmp_path / "out")


def test_processes_make_the_same(run: Run, tmp_path: Path) -> None:
    run()
    with Local(2) as engine:
        run(out="by many", engine=engine)
    assert tree(tmp_path / "by many") == tree(tmp_path / "out")


def test_what_is_said_of_recordings(run: Run, raw: Path, tmp_path: Path) -> None:
    (raw / "about.yaml").write_text("licence: CC0\nspeaker: Ada\n")
    (raw / "deeper" / "about.yaml").write_text("files:\n  two.flac: {speaker: Bob}\n")
    run(about={"licence": "unused"})
    clips = {c.source: c for c in read_clips(tmp_path / "out")}
    assert (clips["one.wav"].licence, clips["one.wav"].speaker) == ("CC0", "Ada")
    assert (clips["deeper/two.flac"].licence, clips["deeper/two.flac"].speaker) == ("CC0", "Bob")
    assert {u.speaker for u in read_manifest(tmp_path / "out" / "manifest.jsonl")} == {"Ada", "Bob"}
    (raw / "about.yaml").write_text("licence: CC BY 4.0\nvoice: Ada\n")
    with pytest.raises(ConfigError, match="about.yaml: voice"):
        run()


def test_repeats_are_dropped_with_a_word_on_what_they_repeat(run: Run, raw: Path, tmp_path: Path) -> None:
    shutil.copy(raw / "one.wav", raw / "same bytes.wav")
    audio, rate = sf.read(raw / "deeper" / "two.flac")
    sf.write(raw / "same sound.mp3", np.concatenate([np.zeros(1234), 0.7 * audio]), rate)
    assert run().kept == 6
    clips = {c.id: c for c in read_clips(tmp_path / "out")}
    repeats = [c for c in clips.values() if c.same_as]
    assert [c.source for c in repeats] == ["same bytes.wav"] * 3 + ["same sound.mp3"] * 3
    assert {c.reasons[0] for c in repeats} == {"same audio"}
    assert all(clips[c.same_as or ""].kept for c in repeats)


# ---- bad input ------------------------------------------------------------------------------------------------------


@pytest.fixture
def zoo(raw: Path) -> dict[str, str]:
    """Fill ``raw`` with trouble; name -> what must be said of it, empty where the recording is good."""
    good = raw / "one.wav"
    audio, rate = sf.read(good)
    outside = raw.parent / "outside.wav"
    shutil.copy(good, outside)
    (raw / "empty.mp3").touch()
    (raw / "corrupt.flac").write_bytes(b"fLaC" + bytes(range(256)) * 40)
    (raw / "text.ogg").write_text("these are words")
    sf.write(raw / "cut.wav", talk([1.3, 4.0], seed=40), rate)
    (raw / "cut.wav").write_bytes((raw / "cut.wav").read_bytes()[:200_000])
    sf.write(raw / "silence.wav", np.zeros(48_000), 24_000)
    (raw / "out.wav").symlink_to(outside)
    (raw / "nowhere.wav").symlink_to(raw / "missing.wav")
    (raw / "folder out").symlink_to(raw.parent)
    (raw / "looks like.wav").mkdir()
    os.mkfifo(raw / "pipe.wav")
    for i, name in enumerate(["two words.wav", 'it\'s "quoted".wav', "new\nline.wav", "речь 语音 كلام.wav", "-rf.wav"]):
        sf.write(raw / name, talk([1.2 + 0.1 * i], seed=20 + i), rate)
    strange = os.fsencode(raw) + b"/\xff\xfe.wav"
    with open(strange, "wb") as file:
        sf.write(file, talk([2.6], seed=31), rate, format="WAV")
    (raw / "notes.txt").write_text("no recording, and not listed")
    return {
        "empty.mp3": "empty (0 bytes)",
        "corrupt.flac": "not audio",
        "text.ogg": "not audio",
        "cut.wav": "ends early",
        "silence.wav": "",
        "out.wav": "a link that leads outside",
        "nowhere.wav": "cannot be read",
        "folder out": "a link to a folder",
        "pipe.wav": "not a regular file",
        "two words.wav": "", "it's \"quoted\".wav": "", "new\nline.wav": "", "речь 语音 كلام.wav": "", "-rf.wav": "",
        os.fsdecode(b"\xff\xfe.wav"): "",
    }  # fmt: skip


def test_bad_input_is_counted_and_listed(run: Run, zoo: dict[str, str], tmp_path: Path) -> None:
    summary = run()
    recordings = {r.source: r for r in read_recordings(tmp_path / "out")}
    assert set(recordings) == {"one.wav", "deeper/two.flac", *zoo}
    for name, said in zoo.items():
        reason = recordings[name].reason
        assert reason is None if not said else reason is not None and reason.startswith(said), (name, reason)
    unreadable = {name for name, r in recordings.items() if r.status == "unreadable"}
    assert unreadable == {"empty.mp3", "corrupt.flac", "text.ogg", "out.wav", "nowhere.wav", "folder out", "pipe.wav"}
    assert summary.unreadable == 7 and summary.recordings == len(recordings)
    kept = {c.source for c in read_clips(tmp_path / "out") if c.kept}
    assert kept == {
        "one.wav",
        "deeper/two.flac",
        "cut.wav",
        *(n for n, said in zoo.items() if not said and n != "silence.wav"),
    }
    for name in ("clips", "recordings", "manifest"):
        (tmp_path / "out" / f"{name}.jsonl").read_text(encoding="utf8")
    assert run() == summary


def test_music_alone_is_dropped(run: Run, raw: Path, tmp_path: Path) -> None:
    t = np.arange(12 * 24_000) / 24_000
    chords = [sum(np.sin(2 * np.pi * f * t + k) for k, f in enumerate(c)) for c in ((220, 277, 330), (196, 247, 294))]
    sf.write(raw / "music.wav", np.concatenate([pause(1), *(0.1 * c for c in chords), pause(1)]), 24_000)
    run()
    music = [c for c in read_clips(tmp_path / "out") if c.source == "music.wav"]
    assert music and not any(c.kept for c in music)


def test_a_worker_that_dies_in_mid_stage(run: Run, tmp_path: Path) -> None:
    with Local(1) as engine:
        summary = run(engine=engine, transcribe={"transcriber": "made_up:Deaf"})
    assert summary.kept == 0 and summary.failed == {"the worker was killed, twice": 2}
    assert {tuple(c.reasons) for c in read_clips(tmp_path / "out")} == {
        ("transcribe failed: the worker was killed, twice",)
    }
    assert run().kept == 6
    run(out="undisturbed")
    assert tree(tmp_path / "out") == tree(tmp_path / "undisturbed")


def test_a_full_disk(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(only=("segment", "measure", "transcribe"))
    whole, written = Store.growing, 0

    def growing(self: Store, path: Path):  # type: ignore[no-untyped-def]
        nonlocal written
        written += 1
        if written > 1:
            raise OSError(28, "No space left on device")
        return whole(self, path)

    monkeypatch.setattr(Store, "growing", growing)
    summary = run()
    assert summary.failed.keys() == {"no space left on the disk"}
    monkeypatch.setattr(Store, "growing", whole)
    assert not list((tmp_path / "out").rglob("*.part")) and not (tmp_path / "out" / "work" / "partial").exists()
    assert run().failed == {}
    run(out="undisturbed")
    assert tree(tmp_path / "out") == tree(tmp_path / "undisturbed")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_that_is_read_only(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o555)
    with pytest.raises(OutputError, match="cannot write to .*out: Permission denied; choose another folder"):
        run()


def test_a_file_system_that_is_read_only(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("chelys.data.prepare.work.tempfile.TemporaryFile", refuse)
    with pytest.raises(OutputError, match="cannot write to .*out: Read-only file system; choose another folder"):
        run()


def test_a_disk_that_is_full_at_the_end(run: Run, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    before = tree(tmp_path / "out")
    (raw / "about.yaml").write_text("licence: CC0\n")
    with monkeypatch.context() as full:
        full.setattr("chelys.files.os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(OutputError, match="No space left; what is done is kept: make room, and run it again"):
            run()
    assert tree(tmp_path / "out") == before
    run()
    assert {c.licence for c in read_clips(tmp_path / "out")} == {"CC0"}


def test_an_output_that_is_a_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match="cannot write to"):
        run()
    assert (tmp_path / "out").read_text() == "mine"


def test_a_recording_that_may_not_be_read(run: Run, raw: Path, tmp_path: Path) -> None:
    (raw / "one.wav").chmod(0)
    if os.access(raw / "one.wav", os.R_OK):
        pytest.skip("root may read anything")
    assert run().unreadable == 1
    assert next(r for r in read_recordings(tmp_path / "out") if r.source == "one.wav").reason == "Permission denied"
    (raw / "one.wav").chmod(stat.S_IRUSR)
    assert run().unreadable == 0


def test_two_at_once(run: Run, tmp_path: Path) -> None:
    store = Store(tmp_path / "out")
    store.make()
    with file_lock(store.lock, "busy"), pytest.raises(OutputError, match="another preparation is writing to"):
        run()


def test_no_recordings_and_no_folder(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "none").mkdir()
    assert prepare(tmp_path / "none", tmp_path / "out", settings(), engine=Local(0)) == PrepareSummary()
    with pytest.raises(AudioError, match="there is no folder .*missing"):
        prepare(tmp_path / "missing", tmp_path / "out2", settings(), engine=Local(0))
    assert not (tmp_path / "out2").exists()


def test_wrong_settings(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no stage 'fly': choose of segment, measure"):
        run(only=("fly",))
    with pytest.raises(ConfigError, match="there is no 'nobody:Nothing'"):
        run(transcribe={"transcriber": "nobody:Nothing"})
    with pytest.raises(ConfigError, match="encode.model is missing"):
        run(only=("encode",))
    (tmp_path / "rules.yaml").write_text("snr_db: 12\n")
    with pytest.raises(ConfigError, match="rules.yaml: snr_db: write {min: NUMBER, max: NUMBER}"):
        run(rules=str(tmp_path / "rules.yaml"))
    assert not (tmp_path / "out").exists()


def test_the_output_may_lie_within_the_recordings(raw: Path, settings: Settings) -> None:
    first = prepare(raw, raw / "out", settings(), engine=Local(0))
    assert prepare(raw, raw / "out", settings(), engine=Local(0)) == first
    assert first.recordings == 2


def test_speech_that_reaches_both_ends(raw: Path, run: Run, tmp_path: Path) -> None:
    sf.write(raw / "trimmed.wav", speech(2.0, 77), made_up.RATE)
    run()
    (clip,) = (c for c in read_clips(tmp_path / "out") if c.source == "trimmed.wav")
    assert clip.end <= 2.0 and clip.seconds > 1.5
