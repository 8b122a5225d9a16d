"""``chelys speak``: what it writes, what it prints, and its answer to each mistake."""

from __future__ import annotations

import functools
import io
import json
import os
import re
import signal
import sys
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

import chelys
from chelys.audio.io import read
from chelys.files import file_lock

RATE = 24_000


def frames(data: bytes) -> int:
    """Length of a WAV, of which a pipe's header tells nothing."""
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        return len(file.readframes(file.getnframes())) // 2


def test_the_summary_names_file_seconds_speed_and_seed(invoke: Callable[..., Any]) -> None:
    result = invoke("speak", "Hello there.", "--seed", "7")
    assert result.exit_code == 0 and result.stderr == ""
    assert re.fullmatch(r"speech\.wav  0\.50 s  real-time factor \d+\.\d\d  seed 7\n", result.stdout)
    assert sf.info("speech.wav").duration == 0.5


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_the_suffix_picks_the_format(invoke: Callable[..., Any], suffix: str) -> None:
    assert invoke("speak", "Hello.", "-o", f"x.{suffix}", "-q").stdout == ""
    assert sf.info(f"x.{suffix}").format == suffix.upper() and len(read(f"x.{suffix}", RATE)) == RATE // 2


def test_a_drawn_seed_is_printed_and_gives_the_same_again(invoke: Callable[..., Any]) -> None:
    first = invoke("speak", "Hello.", "-o", "a.wav")
    other = invoke("speak", "Hello.")
    seeds = [re.search(r"seed (\d+)$", out.strip())[1] for out in (first.stdout, other.stdout)]  # type: ignore[index]
    assert seeds[0] != seeds[1]
    invoke("speak", "Hello.", "-o", "b.wav", "--seed", seeds[0])
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes() != Path("speech.wav").read_bytes()


def test_text_from_standard_input(invoke: Callable[..., Any], synthesizer: Any) -> None:
    assert invoke("speak", "-", input="\ufeffCafé, please.\n".encode()).exit_code == 0
    assert synthesizer.calls[0]["text"] == "Café, please.\n"


def test_keep_writes_the_best_first(invoke: Callable[..., Any]) -> None:
    result = invoke("speak", "Hello.", "--keep", "3", "--seed", "7", "-o", "a.flac")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("a.flac  0.50 s  score 1.0000  real-time factor ")
    assert lines[1:] == ["a-2.flac  0.50 s  score 0.9000", "a-3.flac  0.50 s  score 0.8000"]
    assert sorted(p.name for p in Path.cwd().iterdir()) == ["a-2.flac", "a-3.flac", "a.flac"]
    invoke("speak", "Hello.", "--seed", "9", "-o", "third.flac")
    np.testing.assert_array_equal(read("a-3.flac", RATE), read("third.flac", RATE))


def test_json_is_the_receipt_and_nothing_else(invoke: Callable[..., Any]) -> None:
    result = invoke("speak", "Hello, warn.", "--json", "--keep", "2", "--seed", "7")
    receipt = json.loads(result.stdout)
    assert receipt["text"] == "Hello, warn." and receipt["seed"] == 7 and receipt["real_time_factor"] >= 0
    assert receipt["files"] == [
        {"path": "speech.wav", "seconds": 0.5, "score": 1.0},
        {"path": "speech-2.wav", "seconds": 0.5, "score": 0.9},
    ]
    assert result.stderr == "chelys: warning: the text is warned of\n"


def test_stdout_gets_audio_and_nothing_else(invoke: Callable[..., Any]) -> None:
    result = invoke("speak", "Hello, warn.", "-o", "-", "--seed", "7")
    assert frames(result.stdout_bytes) == RATE // 2
    lines = result.stderr.splitlines()
    assert lines[0] == "chelys: warning: the text is warned of" and lines[1].startswith("-  0.50 s  real-time factor ")
    assert list(Path.cwd().iterdir()) == []
    assert invoke("speak", "Hello.", "-o", "-", "-q").stderr == ""


def test_a_stream_into_a_file(invoke: Callable[..., Any]) -> None:
    result = invoke("speak", "One. Two. Three.", "--stream", "--seed", "7", "-o", "s.wav")
    assert re.fullmatch(r"s\.wav  1\.50 s  real-time factor \d+\.\d\d  seed 7\n", result.stdout)
    assert frames(Path("s.wav").read_bytes()) == 3 * RATE // 2
    invoke("speak", "Two.", "--seed", "8")
    np.testing.assert_array_equal(read("s.wav", RATE)[RATE // 2 : RATE], read("speech.wav", RATE))


def test_early_is_a_stream_that_is_asked_to_begin_early(invoke: Callable[..., Any], synthesizer: Any) -> None:
    assert invoke("speak", "One. Two.", "--stream", "-o", "s.wav").exit_code == 0
    assert invoke("speak", "One. Two.", "--early", "-o", "e.wav").exit_code == 0
    assert invoke("speak", "One. Two.", "--stream", "-p", "streaming", "-o", "p.wav").exit_code == 0
    assert [call["early"] for call in synthesizer.calls] == [False, True, True]
    assert len(read("e.wav", RATE)) == RATE


def test_voices_of_every_kind_are_found(invoke: Callable[..., Any], synthesizer: Any, clips: dict[str, Path]) -> None:
    assert invoke("voices", "add", "me", clips["good"]).exit_code == 0
    shelf_file = clips["good"].parents[1] / "shelf" / "me.safetensors"
    for voice in ("bronze", "me", shelf_file, clips["good"]):
        assert invoke("speak", "Hello.", "-v", voice, "-q", "--force").exit_code == 0
    assert [call["voice"].info["name"] for call in synthesizer.calls] == ["bronze", "me", "me", "good"]


def test_a_built_in_voice_comes_before_one_of_the_users(
    invoke: Callable[..., Any], synthesizer: Any, clips: dict[str, Path], tmp_path: Path
) -> None:
    invoke("voices", "add", "me", clips["good"])
    (tmp_path / "shelf" / "me.safetensors").rename(tmp_path / "shelf" / "heart.safetensors")
    invoke("speak", "Hello.", "-v", "heart")
    assert synthesizer.calls[0]["voice"] is synthesizer.voices["heart"]
    assert [row["kind"] for row in json.loads(invoke("voices", "list", "--json").stdout)] == ["built in"] * 13


# ---------------------------------------------------------------- mistakes


def test_an_unknown_voice_is_answered_with_the_known(
    refused: Callable[..., str], invoke: Callable[..., Any], clips: dict[str, Path]
) -> None:
    invoke("voices", "add", "me", clips["good"])
    line = refused("speak", "Hello.", "-v", "nobody")
    assert all(name in line for name in ("'nobody'", "heart", "bronze", "me"))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("empty", "is empty (0 bytes)"),
        ("silent", "is silent"),
        ("short", "lasts 0.10 s: a voice needs clips of at least 0.5 s"),
        ("corrupt", "is not audio, or damaged"),
        ("words", "is not audio, or damaged"),
    ],
)
def test_a_clip_that_is_no_use(refused: Callable[..., str], clips: dict[str, Path], kind: str, said: str) -> None:
    line = refused("speak", "Hello.", "-v", clips[kind])
    assert said in line and str(clips[kind]) in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Hello.", "-o", "gone/speech.wav"], "there is no folder"),
        (["Hello.", "-o", "/proc/speech.wav"], "cannot write /proc/speech.wav"),
        (["Hello.", "-o", "."], "it is a folder"),
        (["Hello.", "-o", "speech.xyz"], "unknown suffix '.xyz'; choose one of .wav, .flac, .ogg, .opus, .mp3, .pcm"),
        (["Hello.", "-o", "speech"], "it has no suffix; choose one of .wav, .flac, .ogg, .opus, .mp3, .pcm"),
        (["Hello.", "-o", "speech.mp3", "--stream"], "'.mp3' is not for streams; choose one of .wav"),
        (["Hello.", "--keep", "9"], "keep is 9; it must lie between 1 and 8"),
        (["Hello.", "--keep", "3", "--candidates", "2"], "--keep 3 is more than the 2 sampled"),
        (["Hello.", "--keep", "0"], "Invalid value for '--keep'"),
        (["Hello.", "--set", "pitch=2"], "'pitch=2' sets no option: write NAME=VALUE with one of candidates, "),
        (["Hello.", "--set", "temperature"], "'temperature' sets no option"),
        (["Hello.", "--set", "temperature=hot"], "temperature is 'hot'; it must be a number"),
        (["Hello.", "--set", "temperature=99"], "temperature is 99.0; it must lie between 0.0 and 10.0"),
        (["Hello.", "--set", "sampler=euler"], "sampler is 'euler'; choose from dpm++2m, ddim, ddpm"),
        (["Hello.", "--set", "guidance_ramp=maybe"], "guidance_ramp is 'maybe'; it must be true or false"),
        (["Hello.", "--set", "candidates=3", "--candidates", "2"], "give one of them"),
        (["Hello.", "-p", "paper"], "unknown preset 'paper': choose from ultra_fast, fast"),
        (["Hello.", "--compat", "exact"], "compat is 'exact'"),
        (["Hello.", "--candidates", "0"], "Invalid value for '--candidates'"),
        (["Hello.", "--seed", "-1"], "Invalid value for '--seed'"),
        (["Hello.", "--keep", "2", "--stream"], "--stream writes one candidate"),
        (["Hello.", "--json", "--stream"], "--stream has no receipt"),
        (["Hello.", "--json", "-o", "-"], "'-o -' puts audio on standard output"),
        (["Hello.", "--keep", "2", "-o", "-"], "'-o -' takes one candidate"),
        (["Hello.", "-p", "slow"], "unknown preset 'slow': choose one of ultra_fast, fast, standard, high_quality"),
        (["Hello.", "--model", "giant"], "no model 'giant'"),
        (["Hello.", "--device", "abacus"], "unknown device 'abacus': choose cpu, cuda, cuda:N, mps or auto"),
        (["Hello.", "--dtype", "int8"], "unknown dtype 'int8': choose from auto, float32, bfloat16, float16"),
        (["   "], "the text is empty"),
        ([""], "the text is empty"),
        (["-"], "the text is empty"),
        (["caf\udce9"], "not valid UTF-8"),
        ([], "Missing argument"),
        (["Hello.", "--voise", "x"], "No such option"),
    ],
)
def test_mistakes_are_one_line(refused: Callable[..., str], synthesizer: Any, arguments: list[str], said: str) -> None:
    assert said in refused("speak", *arguments)
    assert synthesizer.calls == []  # found out before any time was spent


def test_all_files_to_keep_are_checked_before(refused: Callable[..., str], synthesizer: Any) -> None:
    Path("speech-2.wav").mkdir()
    assert "speech-2.wav: it is a folder" in refused("speak", "Hello.", "--keep", "2")
    assert synthesizer.calls == []


def test_undecodable_standard_input(refused: Callable[..., str]) -> None:
    assert "not valid UTF-8 (byte 3)" in refused("speak", "-", input=b"caf\xe9 au lait")


def test_a_stream_that_breaks_at_once_leaves_the_old_file(refused: Callable[..., str]) -> None:
    Path("s.wav").write_bytes(b"old")
    assert "sentence cannot be spoken" in refused("speak", "Please break.", "--stream", "-o", "s.wav", "--force")
    assert Path("s.wav").read_bytes() == b"old"


# ---------------------------------------------------------------- what exists, and what was stopped


@pytest.mark.parametrize("more", [["-o", "a.wav"], [], ["-o", "a.wav", "--stream"], ["-o", "b.wav", "--keep", "2"]])
def test_what_exists_is_not_overwritten_without_force(
    refused: Callable[..., str], invoke: Callable[..., Any], synthesizer: Any, more: list[str]
) -> None:
    for name in ("speech.wav", "a.wav", "b-2.wav"):
        Path(name).write_bytes(b"old")
    assert "exists: name another file with -o, or replace it with --force" in refused("speak", "Hello.", *more)
    assert synthesizer.calls == []
    assert invoke("speak", "Hello.", *more, "--force").exit_code == 0
    assert frames(Path(more[1] if more else "speech.wav").read_bytes()) == RATE // 2


@pytest.mark.parametrize("more", [["-o", "s.wav", "--stream"], ["-o", "s.wav", "--keep", "2"], ["-o", "s.flac"]])
@pytest.mark.parametrize("ends", ["break", "interrupt"])
def test_a_stopped_text_keeps_its_finished_sentences_and_goes_on(
    refused: Callable[..., str], invoke: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, more: list[str], ends: str
) -> None:
    text = f"One. Two warn. Then {ends}. Four."
    stopped = invoke("speak", text, *more)
    kept = "s.wav" if "--stream" in more else "s.partial.wav"
    assert stopped.exit_code == (2 if ends == "break" else 130)
    assert f"2 of 4 sentences, 1.0 s, are in {kept}: the same command with --resume goes on\n" in stopped.stderr
    assert ends == "break" or stopped.stderr.count("\n") == 1
    assert sf.info(kept).duration == 1.0
    assert "go on with --resume, or begin anew with --force" in refused("speak", text, *more)
    refusal = refused("speak", "Another. " + text, *more, "--resume")
    assert "s.partial.jsonl was begun with another text: give the same" in refusal
    monkeypatch.setattr("fake_model.FakeSynthesizer._behave", lambda self, sentence: None)
    done = invoke("speak", text, *more, "--resume")
    seed = re.search(r"seed (\d+)$", done.stdout.splitlines()[0])[1]  # type: ignore[index]  # that of the stopped run
    assert done.exit_code == 0 and done.stderr == "chelys: warning: the text is warned of\n"
    whole = ["w.flac" if word == "s.flac" else "w.wav" if word == "s.wav" else word for word in more]
    assert invoke("speak", text, *whole, "--seed", seed).exit_code == 0
    endings = [".wav", "-2.wav"] if "--keep" in more else [Path(more[1]).suffix]
    made = sorted(path.name for path in Path.cwd().iterdir())
    assert made == sorted(f"{stem}{ending}" for ending in endings for stem in "sw")
    for name in made[: len(made) // 2]:
        assert Path(name).read_bytes() == Path(f"w{name[1:]}").read_bytes()
    again = invoke("speak", text, *more, "--resume")
    assert again.exit_code == 0 and "is there already, nothing to resume" in again.stderr


@pytest.mark.parametrize("more", [["--stream"], []])
def test_two_processes_do_not_speak_into_one_file(
    refused: Callable[..., str], invoke: Callable[..., Any], more: list[str]
) -> None:
    text, busy = "One. Two. Then break. Four.", "another process is speaking into s.wav: wait for it, or name another"
    asked = ["speak", text, "--seed", "7", "-o", "s.wav", *more]
    invoke(*asked)
    journal = Path("s.partial.jsonl").read_bytes()
    with file_lock("s.partial.lock", "busy"):
        for way in ("--resume", "--force"):
            assert busy in refused(*asked, way)
            assert Path("s.partial.jsonl").read_bytes() == journal
    assert "2 of 4 sentences" in invoke(*asked, "--resume").stderr and not Path("s.partial.lock").exists()


def test_a_journal_that_was_cut_or_spoiled_is_survived(refused: Callable[..., str], invoke: Callable[..., Any]) -> None:
    text = "One. Two. Then break. Four."
    invoke("speak", text, "--seed", "7", "-o", "s.wav", "--stream")
    journal, sound = Path("s.partial.jsonl"), Path("s.wav")
    lines = journal.read_text().splitlines(keepends=True)
    for cut in (lines[0] + lines[1] + lines[2][:20], "".join(lines[:2]) + '{"sentence": -1}\n', "".join(lines[:2])):
        journal.write_text(cut)
        assert "1 of 4" not in invoke("speak", text, "--seed", "7", "-o", "s.wav", "--stream", "--resume").stdout
        assert sf.info("s.wav").duration == 1.0 and len(journal.read_text().splitlines()) == 3
    whole = sound.read_bytes()
    sound.write_bytes(whole[: 44 + RATE + 10])  # cut within the second sentence
    invoke("speak", text, "--seed", "7", "-o", "s.wav", "--stream", "--resume")
    assert sound.read_bytes() == whole
    for spoiled in ("[]\n", "no JSON\n", "[" * 100_000 + "\n", '{"request": 3}\n'):
        journal.write_text(spoiled)
        assert "is no journal of a stopped run" in refused("speak", text, "-o", "s.wav", "--stream", "--resume")
    assert invoke("speak", "One. Two.", "-o", "s.wav", "--stream", "--force").exit_code == 0
    assert not journal.exists() and sf.info("s.wav").duration == 1.0


def test_the_name_of_a_file_is_spoken_with_a_hint(invoke: Callable[..., Any]) -> None:
    Path("notes.txt").write_text("What I noted.")
    said = invoke("speak", "notes.txt").stderr
    assert said == "chelys: warning: 'notes.txt' is a file; to speak what is in it: chelys speak - < notes.txt\n"
    assert invoke("speak", "notes.txt", "-q", "--force").stderr == ""


def test_a_line_stays_one_line_whatever_is_in_a_name(refused: Callable[..., str]) -> None:
    assert "no folder" in refused("speak", "Hello.", "-o", "a\nb\x1b[31m/speech.wav")


# ---------------------------------------------------------------- in a process of its own


def test_the_real_program_answers_mistakes_in_one_line(process: Callable[..., Any], tmp_path: Path) -> None:
    narrow = {"COLUMNS": "20"}
    for arguments, input, said in (
        (["speak", "-"], b"caf\xe9", b"not valid UTF-8"),
        ([b"speak", b"caf\xe9"], b"", b"not valid UTF-8"),
        (["speak", "Hello.", "--frobnicate"], b"", b"No such option"),
        (["train", "dvae", "--config", "x.yaml", "steps"], b"", b"'steps' is not KEY=VALUE"),
        (["voices", "add", "../me", "clip.wav"], b"", b"cannot be called '../me'"),
    ):
        run = process(*arguments, fake=False, stdin=-1, env=narrow)
        output, errors = run.communicate(input)
        assert (run.returncode, output) == (2, b"")
        assert errors.startswith(b"chelys: error: ") and errors.count(b"\n") == 1 and said in errors, errors
    assert list(tmp_path.iterdir()) == []


def test_a_stream_arrives_before_it_ends(process: Callable[..., Any]) -> None:
    run = process("speak", "One. Then wait.", "--stream", "-o", "-")
    assert len(run.stdout.read(44 + RATE)) == 44 + RATE  # the first half second, while the second is being made
    assert run.poll() is None
    run.terminate()
    run.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_are_one_line_that_says_what_is_kept(
    process: Callable[..., Any], tmp_path: Path, number: signal.Signals, status: int
) -> None:
    # a job in the background of a script has interrupts ignored, and hands that on
    heed = functools.partial(signal.signal, number, signal.SIG_DFL)
    run = process("speak", "One. Then wait.", "--stream", "-o", "s.wav", preexec_fn=heed)
    assert run.stderr.readline() == b"waiting\n"
    assert sf.info(tmp_path / "s.wav").duration == 0.5  # in sight, and whole
    run.send_signal(number)
    _, errors = run.communicate(timeout=20)
    assert run.returncode == status and errors.count(b"\n") == 1 and b"1 of 2 sentences, 0.5 s, are in s.wav" in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.partial.jsonl", "s.wav"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("module", ["typer", "torch"])
@pytest.mark.parametrize("after", ["time.sleep(9)", "raise ImportError('what a library makes of it')"])
def test_an_interrupt_is_one_line_while_modules_are_imported(
    process: Callable[..., Any], tmp_path: Path, module: str, after: str
) -> None:
    kill = f"import os, signal, time\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\nfinally:\n    {after}\n"
    (tmp_path / f"{module}.py").write_text(kill)
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    path = os.pathsep.join([str(tmp_path), str(Path(chelys.__file__).parents[1])])
    run = process("speak", "Hello.", "-o", "a.wav", fake=False, preexec_fn=heed, env={"PYTHONPATH": path})
    assert run.communicate(timeout=20) == (b"", b"chelys: interrupted\n") and run.returncode == 130


def test_an_interrupt_is_status_130(invoke: Callable[..., Any]) -> None:
    result = invoke("speak", "Please interrupt.")
    assert result.exit_code == 130 and result.output == "chelys: interrupted\n" and list(Path.cwd().iterdir()) == []


def test_a_reader_that_leaves_the_help_ends_it_quietly(process: Callable[..., Any]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    run = process("speak", "--help", fake=False, stdout=writing)
    os.close(writing)
    assert run.communicate()[1] == b"" and run.returncode == 141


def test_a_reader_that_goes_away_ends_it_quietly(process: Callable[..., Any]) -> None:
    run = process("speak", ". ".join(["Many words"] * 50), "--stream", "-o", "-")
    run.stdout.read(10)
    run.stdout.close()
    errors = run.stderr.read()
    assert run.wait(timeout=20) == 141 and errors == b""


@pytest.mark.parametrize("arguments", [["voices", "list"], ["speak", "Hello.", "-o", "-"]])
def test_a_reader_that_never_came_is_no_fault_either(process: Callable[..., Any], arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    run = process(*arguments, "-q" if "speak" in arguments else "--json", stdout=writing)
    os.close(writing)
    assert run.communicate()[1] == b"" and run.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["-o", "-"], ["-o", "-", "--stream"], ["--json"], []])
def test_a_full_disk_behind_stdout_is_one_line(process: Callable[..., Any], arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        run = process("speak", "Hello.", *arguments, stdout=full)
        errors = run.communicate()[1]
    assert (
        run.returncode == 2 and errors == b"chelys: error: no space left on the disk: make room, or write elsewhere\n"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
def test_it_works_with_standard_streams_closed(process: Callable[..., Any], tmp_path: Path) -> None:
    def close() -> None:
        os.close(0)
        os.close(1)

    run = process("speak", "Hello.", preexec_fn=close)
    assert (run.communicate()[1], run.returncode) == (b"", 0) and (tmp_path / "speech.wav").is_file()
    run = process("speak", "-", preexec_fn=close)
    assert b"standard input is closed" in run.communicate()[1] and run.returncode == 2


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_on_a_terminal_there_is_a_bar_and_audio_is_refused(process: Callable[..., Any]) -> None:
    import pty

    reading, writing = pty.openpty()
    run = process("speak", "Hello.", "-o", "-", stdout=writing)
    assert run.communicate()[1].count(b"\n") == 1 and run.returncode == 2
    run = process("speak", "Hello.", "-q", stderr=writing)
    assert run.wait(timeout=20) == 0
    run = process("speak", "Hello.", "--force", stderr=writing, env={"TERM": "xterm"})
    output, _ = run.communicate()
    assert b"real-time factor" in output
    os.set_blocking(reading, False)
    assert b"sampling" in os.read(reading, 100_000)
    os.close(reading)
    os.close(writing)


def test_options_are_set(invoke: Callable[..., Any], synthesizer: Any) -> None:
    turned = ["--set", "temperature=0.5", "--set", "steps=7", "--set", "guidance_ramp=true", "--set", "sampler=ddim"]
    assert invoke("speak", "Hello.", *turned, "--candidates", "3").exit_code == 0
    options = synthesizer.calls[-1]["options"]
    assert (options.temperature, options.steps, options.guidance_ramp, options.sampler) == (0.5, 7, True, "ddim")
    assert options.candidates == 3


def test_device_and_dtype_reach_the_model(
    invoke: Callable[..., Any], synthesizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(
        "chelys.load", lambda name, *, device, dtype, compat: asked.append((device, dtype)) or synthesizer
    )
    assert invoke("speak", "Hello.", "--device", "auto", "--dtype", "bfloat16").exit_code == 0
    assert invoke("speak", "Hello.", "--force").exit_code == 0
    assert asked == [("auto", "bfloat16"), ("auto", "float32")]


def test_the_limit_of_the_memory_reaches_the_model(invoke: Callable[..., Any], synthesizer: Any) -> None:
    assert invoke("speak", "Hello.", "--max-memory", "4GB").exit_code == 0
    assert synthesizer.max_memory == 4_000_000_000
    done = invoke("speak", "Hello.", "--force", "--max-memory", "much")
    assert done.exit_code == 2 and "'much' is no amount of memory: write 4GB or 500MB" in done.stderr


def test_old_names_of_options_still_set_them(invoke: Callable[..., Any], synthesizer: Any) -> None:
    with pytest.warns(DeprecationWarning, match="use max_new_tokens"):
        assert invoke("speak", "Hello.", "--set", "most_codes=9").exit_code == 0
    assert synthesizer.calls[0]["options"].max_new_tokens == 9
