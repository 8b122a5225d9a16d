"""Feature folders: whole codes, the mels of the recordings, and clips that cannot be used left out."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr
import torch
import toy_corpus
from toy_corpus import RATE, ToyCorpus

from chelys.audio.mel import log_mel
from chelys.audio.rates import FRAMES_PER_CODE, MEL_22K, MEL_24K, SAMPLES_PER_CODE
from chelys.data.dataset import Features
from chelys.data.features import extract
from chelys.data.manifest import Utterance, read_manifest, write_manifest
from chelys.errors import ManifestError
from chelys.tortoise.mel import code_mel


def mel_of(wave: np.ndarray) -> torch.Tensor:
    """What a feature folder should hold of a wave at 24 kHz: ``(f, s)``, whole codes, rounded to float16."""
    frames = len(wave) // SAMPLES_PER_CODE * FRAMES_PER_CODE
    return log_mel(torch.from_numpy(wave.astype(np.float32))[None], MEL_24K)[0, :, :frames].half().float()


def tone(seconds: float, rate: int = RATE) -> np.ndarray:
    return toy_corpus.vowel(200.0, (500, 1500), seconds, rate).astype(np.float32)


def make(folder: Path, waves: dict[str, np.ndarray], *, rate: int = RATE, **cut: float) -> Features:
    for name, wave in waves.items():
        sf.write(folder / f"{name}.wav", wave, rate, subtype="FLOAT")
    write_manifest(folder / "m.jsonl", (Utterance(n, f"{n}.wav", f"Say {n}.", "ada", 1.0, **cut) for n in waves))
    extract([folder / "m.jsonl"], folder / "features", workers=1)
    return Features(folder / "features")


def test_frames_are_whole_codes_laid_end_to_end(toy: ToyCorpus) -> None:
    features = Features(toy.features)
    utterances = list(read_manifest(toy.manifest))
    assert [(c.id, c.audio, c.text, c.speaker) for c in features.clips] == [
        (u.id, u.audio, u.text, u.speaker) for u in utterances
    ]
    first = 0
    for clip, utterance in zip(features.clips, utterances, strict=True):
        assert clip.first == first
        assert clip.codes == int(utterance.seconds * RATE + 0.5) // SAMPLES_PER_CODE
        assert clip.frames == clip.codes * FRAMES_PER_CODE
        first += clip.frames
    assert features.frames.shape == (first, MEL_24K.bands)


def test_the_memory_map_holds_the_mels_of_the_clips(toy: ToyCorpus) -> None:
    features = Features(toy.features)
    for clip in features.clips[::5]:
        wave, _ = sf.read(clip.audio, dtype="float32")
        expected = mel_of(wave)
        assert torch.equal(features.mel(clip), expected)
        assert torch.equal(features.mel(clip, 8, 12), expected[:, 8:20])
        assert torch.equal(features.mel(clip, 8), expected[:, 8:])


def test_statistics(toy: ToyCorpus) -> None:
    features = Features(toy.features)
    frames = features.frames.astype(np.float64)
    assert features.statistics["mean"] == pytest.approx(frames.mean())
    assert features.statistics["std"] == pytest.approx(frames.std())
    assert features.statistics["hours"] == pytest.approx(len(frames) * 256 / 24_000 / 3600)


def test_clips_that_cannot_be_used_are_left_out_counted_and_listed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    waves = {name: tone(0.5) for name in ("a", "noise", "again")} | {
        "short": tone(0.04), "empty": np.zeros(0, np.float32), "nan": np.full(9000, np.nan, np.float32),
        "silent": 5e-4 * tone(0.5), "quiet": 1e-2 * tone(0.5), "z": tone(0.6),
    }  # fmt: skip
    order = ["a", "noise", "short", "empty", "nan", "gone", "silent", "quiet", "again", "z"]
    for name, wave in waves.items():
        sf.write(tmp_path / f"{name}.wav", wave, RATE, subtype="FLOAT")
    (tmp_path / "noise.wav").write_bytes(b"RIFFnonsense")
    write_manifest(tmp_path / "m.jsonl", (Utterance(n, f"{n}.wav", "Calm.", "ada", 1.0) for n in order))
    with caplog.at_level(logging.WARNING):
        extract([tmp_path / "m.jsonl"], tmp_path / "features", workers=1)
    features = Features(tmp_path / "features")
    assert [c.id for c in features.clips] == ["a", "quiet", "z"]
    assert torch.equal(features.mel(features.clips[2]), mel_of(waves["z"]))
    (record,) = caplog.records
    assert record.getMessage() == (
        "7 of 10 clips are left out (2 corrupt, 2 too short, 1 missing, 1 silent, 1 duplicate): "
        f"see {tmp_path / 'features' / 'bad_clips.jsonl'}"
    )
    listed = [json.loads(line) for line in (tmp_path / "features" / "bad_clips.jsonl").read_text().splitlines()]
    assert [(line["id"], line["reason"]) for line in listed] == [
        ("noise", "corrupt"), ("short", "too short"), ("empty", "too short"), ("nan", "corrupt"), ("gone", "missing"),
        ("silent", "silent"), ("again", "duplicate"),
    ]  # fmt: skip
    assert listed[-1]["detail"] == "sounds as a does"
    assert [clip.id for clip in features.bad_clips.all()] == [line["id"] for line in listed]


def test_a_sound_corpus_has_no_list_of_bad_clips(toy: ToyCorpus) -> None:
    assert not (toy.features / "bad_clips.jsonl").exists() and len(Features(toy.features).bad_clips) == 0


def test_clips_shorter_than_a_crop_are_noted(toy: ToyCorpus) -> None:
    features = Features(toy.features)
    longer = features.at_least(100)
    assert 0 < len(longer) < len(features.clips) and all(clip.frames >= 100 for clip in longer)
    noted = {clip.id: clip.reason for clip in features.bad_clips.all()}
    assert noted == {clip.id: "too short" for clip in features.clips if clip.frames < 100}


def test_nothing_usable(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.jsonl", [Utterance("a", "gone.wav", "Calm.", "ada", 1.0)])
    with pytest.raises(ManifestError, match="no usable clip in .*m.jsonl: 1 missing"):
        extract([tmp_path / "m.jsonl"], tmp_path / "features", workers=1)
    with pytest.raises(ManifestError, match="no features in"):
        Features(tmp_path / "features")


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_other_rates_are_resampled(tmp_path: Path, rate: int) -> None:
    wave = tone(0.8, rate)
    features = make(tmp_path, {"a": wave}, rate=rate)
    expected = mel_of(soxr.resample(wave, rate, RATE))
    assert torch.equal(features.mel(features.clips[0]), expected)
    same = mel_of(tone(0.8))[:60, :72]  # up to 4 kHz the clip sounds as it does at 24 kHz
    assert (features.mel(features.clips[0])[:60, :72] - same).abs().mean() < 0.15


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = tone(0.5), toy_corpus.vowel(120.0, (300, 900), 0.5, RATE).astype(np.float32)
    features = make(tmp_path, {"a": np.stack([left, right], 1)})
    assert torch.equal(features.mel(features.clips[0]), mel_of((left + right) / 2))


def test_pieces_of_longer_files(tmp_path: Path) -> None:
    wave = np.concatenate([tone(0.5), np.zeros(6000, np.float32), tone(1.0)])
    (clip,) = (features := make(tmp_path, {"a": wave}, start=0.75, end=1.5)).clips
    assert torch.equal(features.mel(clip), mel_of(wave[18_000:36_000]))
    assert clip.start == 0.75


def test_of_a_long_recording_only_the_clip_is_read(tmp_path: Path) -> None:
    wave = np.concatenate([tone(2.0), 0.1 * np.random.default_rng(1).standard_normal(20 * RATE, dtype=np.float32)])
    sf.write(tmp_path / "a.flac", wave, RATE)
    whole = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(whole[: len(whole) // 2] + bytes(len(whole) // 2))  # nobody may come to this
    write_manifest(
        tmp_path / "m.jsonl",
        [
            Utterance("clip", "a.flac", "Say a.", "ada", 0.5, start=0.5, end=1.0),
            Utterance("damaged", "a.flac", "Say a.", "ada", 1.0, start=18.0, end=19.0),
            Utterance("beyond", "a.flac", "Say a.", "ada", 1.0, start=40.0, end=41.0),
        ],
    )
    extract([tmp_path / "m.jsonl"], tmp_path / "features", workers=1)
    features = Features(tmp_path / "features")
    assert [clip.id for clip in features.clips] == ["clip"]
    assert (features.mel(features.clips[0]) - mel_of(wave[12_000:24_000])).abs().mean() < 0.02  # of 16 bits
    faults = {clip.id: clip.reason for clip in features.bad_clips.all()}
    assert faults == {"damaged": "corrupt", "beyond": "too short"}


def test_several_manifests_in_their_order(tmp_path: Path) -> None:
    for name in "ba":
        (tmp_path / name).mkdir()
        sf.write(tmp_path / name / "x.wav", tone(0.3 if name == "a" else 0.4), RATE)
        write_manifest(tmp_path / name / "m.jsonl", [Utterance(name, "x.wav", "Line\u2028two.", "ada", 0.3)])
    extract([tmp_path / "b" / "m.jsonl", tmp_path / "a" / "m.jsonl"], tmp_path / "features", workers=1)
    clips = Features(tmp_path / "features").clips
    assert [(c.id, c.text) for c in clips] == [("b", "Line\u2028two."), ("a", "Line\u2028two.")]
    assert [Path(c.audio).parent.name for c in clips] == ["b", "a"]


def test_the_number_of_workers_changes_nothing(toy: ToyCorpus, tmp_path: Path) -> None:
    extract([toy.manifest], tmp_path / "f", workers=2)
    for name in ("mel.f16", "index.jsonl", "statistics.json"):
        assert (tmp_path / "f" / name).read_bytes() == (toy.features / name).read_bytes(), name


def test_a_complete_folder_stays_and_an_incomplete_one_is_made_anew(toy: ToyCorpus, tmp_path: Path) -> None:
    folder = tmp_path / "features"
    make(tmp_path, {"a": tone(0.3)})
    whole = (folder / "mel.f16").read_bytes()
    extract([toy.manifest], folder, workers=1)
    assert (folder / "mel.f16").read_bytes() == whole
    (folder / "statistics.json").unlink()  # as a run leaves it that was killed before the end
    (folder / "mel.f16").write_bytes(whole[:1000])
    with pytest.raises(ManifestError, match="chelys data features MANIFEST"):
        Features(folder)
    extract([tmp_path / "m.jsonl"], folder, workers=1)
    assert (folder / "mel.f16").read_bytes() == whole


def test_a_faulty_manifest_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(json.dumps({"id": "a"}))
    with pytest.raises(ManifestError, match="m.jsonl:1: lacks"):
        extract([tmp_path / "m.jsonl"], tmp_path / "features", workers=1)
    assert not (tmp_path / "features").exists()


def test_the_mel_spec_of_the_published_codes(tmp_path: Path) -> None:
    wave = tone(0.8)
    sf.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    write_manifest(tmp_path / "m.jsonl", [Utterance("a", "a.wav", "Say a.", "ada", 0.8)])
    extract([tmp_path / "m.jsonl"], tmp_path / "features", mel_spec="codes", workers=1)
    features = Features(tmp_path / "features")
    resampled = soxr.resample(wave, RATE, 22_050)
    (clip,) = features.clips
    assert features.mel_spec == "codes" and features.spec == MEL_22K and clip.codes == len(resampled) // 1024
    expected = code_mel(torch.from_numpy(resampled)[None])[0, :, : clip.frames].half().float()
    assert torch.equal(features.mel(clip), expected)


def test_any_number_of_workers_makes_the_same_folder(toy: ToyCorpus, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("chelys.data.features.CHUNK", 4)
    extract([toy.manifest], tmp_path / "two", workers=2)
    names = sorted(path.name for path in toy.features.iterdir() if not path.name.startswith("pitch"))
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == names
    for name in names:
        assert (tmp_path / "two" / name).read_bytes() == (toy.features / name).read_bytes()


def test_mels_computed_in_the_main_process_are_the_same(toy: ToyCorpus, tmp_path: Path, monkeypatch) -> None:
    """The road that a GPU takes: workers read, the main process computes; here on the CPU under another name."""
    from chelys.data import features as module

    monkeypatch.setattr(module, "_read_and_compute", None)
    monkeypatch.setattr(module.torch, "device", lambda name: type("Device", (), {"type": "other"})())
    compute = module._compute
    monkeypatch.setattr(module, "_compute", lambda w, mel_spec, _: compute(w, mel_spec, "cpu"))
    extract([toy.manifest], tmp_path / "main", workers=1)
    assert (tmp_path / "main" / "mel.f16").read_bytes() == (toy.features / "mel.f16").read_bytes()
