"""``chelys speak``: text to a sound file."""

from __future__ import annotations

import json
import secrets
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from chelys.cli.console import (
    CompatOption,
    DeviceOption,
    DtypeOption,
    ModelOption,
    ThreadsOption,
    echo,
    is_stdout,
    load_model,
    progress_bar,
)
from chelys.errors import OutputError, TextError, UserError

HELP = "Speak a text into a sound file."
EXAMPLE = 'Example: chelys speak "Hello there." -v heart -o hello.wav'


def speak(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to say; '-' reads it from standard input (UTF-8).")],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="File to write: .wav, .flac, .ogg, .opus, .mp3; '-' is a WAV on stdout."),
    ] = Path("speech.wav"),
    voice: Annotated[
        str | None,
        typer.Option("-v", "--voice", help="Name, voice file, clip, folder of clips, or a mix 'a:0.7+b:0.3'."),
    ] = None,
    preset: Annotated[
        str,
        typer.Option("-p", "--preset", help="ultra_fast, fast, standard, high_quality; TorToise v2: paper, streaming."),
    ] = "fast",
    candidates: Annotated[
        int | None,
        typer.Option("--candidates", min=1, help="Candidates to sample; the best is kept. Default: the preset's."),
    ] = None,
    keep: Annotated[
        int, typer.Option("--keep", min=1, help="Candidates to write, best first: NAME.wav, NAME-2.wav ...")
    ] = 1,
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, max=2**32 - 1, help="Same seed, same samples. Default: drawn, printed."),
    ] = None,
    model: ModelOption = "nano",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    threads: ThreadsOption = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change an option of the preset: --set temperature=0.5."),
    ] = None,
    compat: CompatOption = "repaired",
    stream: Annotated[
        bool, typer.Option("--stream", help="Write sentence by sentence as they are ready (WAV).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the receipt as JSON in place of the summary.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing but warnings and errors.")] = False,
) -> None:
    """Check all that can be checked before the model is loaded, then speak."""
    text = _read_text(text, model)
    changes = _check_options(preset, assignments or [], candidates)
    files = _output_files(output, keep, candidates, stream=stream, as_json=as_json)
    seed = secrets.randbelow(2**31) if seed is None else seed
    synthesizer = load_model(model, device, compat, dtype, threads)
    if changes:
        asked: dict[str, Any] = {"options": synthesizer.options(preset, **({"candidates": candidates} | changes))}
    else:
        asked = {"preset": preset, "candidates": candidates}
    if voice is not None:
        asked["voice"] = synthesizer.resolve_voice(voice, seed=seed)
    asked["seed"] = seed
    if stream:
        _speak_stream(synthesizer, text, asked, output, quiet=quiet)
    else:
        _speak_whole(synthesizer, text, {**asked, "keep": keep}, files, as_json=as_json, quiet=quiet)


def _read_text(text: str, model: str) -> str:
    try:
        if text != "-":
            text.encode("utf-8")  # the shell hands over any bytes; those that are no UTF-8 are lone surrogates here
        elif sys.stdin is None:
            raise TextError("standard input is closed: pipe UTF-8 text into it, or give the text itself")
        else:
            text = sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeError as error:
        at = f" (byte {error.start})" if isinstance(error, UnicodeDecodeError) else ""
        raise TextError(f"the text is not valid UTF-8{at}: convert it, for example with iconv -t utf-8") from error
    from chelys.text.normalize import check_speakable, refuse_blank

    (check_speakable if model == "nano" else refuse_blank)(text)  # others may read what nano cannot
    return text


def _check_options(preset: str, assignments: list[str], candidates: int | None) -> dict[str, object]:
    """Refuse what no model knows; whether this one has the preset is seen once it is loaded."""
    from chelys.inference.options import NANO_PRESETS, SpeechOptions, parse_options
    from chelys.registry import MORE_PRESETS

    known = (*NANO_PRESETS, *MORE_PRESETS)
    if preset not in known:
        raise UserError(f"unknown preset {preset!r}: choose one of {', '.join(known)}")
    changes = parse_options(assignments)
    if candidates is not None and "candidates" in changes:
        raise UserError("--candidates and --set candidates say the same: give one of them")
    SpeechOptions(**changes)  # type: ignore[arg-type]  # refuses what is out of range
    return changes


def _output_files(output: Path, keep: int, candidates: int | None, *, stream: bool, as_json: bool) -> list[Path]:
    """The files to write, best first, each proved writable; none for standard output."""
    from chelys.audio.io import FORMATS, check_output

    if candidates is not None and keep > candidates:
        raise UserError(f"--keep {keep} is more than the {candidates} sampled: give --candidates {keep} or keep less")
    if stream and keep > 1:
        raise UserError(f"--stream writes one candidate: leave out --keep {keep} or --stream")
    if stream and as_json:
        raise UserError("--stream has no receipt: leave out --json or --stream")
    if not is_stdout(output):
        check_output(output, formats=("wav",) if stream else tuple(FORMATS))
        others = [output.with_stem(f"{output.stem}-{place}") for place in range(2, keep + 1)]
        for file in others:
            check_output(file)
        return [output, *others]
    if as_json:
        raise OutputError("'-o -' puts audio on standard output, where --json would go too: name a file with -o")
    if keep > 1:
        raise OutputError(f"'-o -' takes one candidate, not {keep}: name a file with -o or leave out --keep")
    if sys.stdout is None or sys.stdout.isatty():
        raise OutputError("'-o -' writes audio, which a terminal cannot show: redirect it, or name a file with -o")
    return []


def _speak_whole(
    synthesizer: Any, text: str, asked: dict[str, Any], files: list[Path], *, as_json: bool, quiet: bool
) -> None:
    from chelys.audio.io import write, write_stdout

    start = time.monotonic()
    with progress_bar(quiet=quiet) as progress:
        speech = synthesizer.speak(text, progress=progress, **asked)
    spent = time.monotonic() - start
    for warning in speech.warnings:
        echo(f"chelys: warning: {warning}", error=True)
    if not files:
        write_stdout(speech.audio, speech.sample_rate)
        if not quiet:
            echo(_summary("-", speech.seconds, spent, asked["seed"]), error=True)
        return
    kept = speech.candidates[: len(files)]
    for file, candidate in zip(files, kept, strict=True):
        write(file, candidate.audio, speech.sample_rate)
    seconds = [len(candidate.audio) / speech.sample_rate for candidate in kept]
    if as_json:
        written = [
            {"path": str(file), "seconds": round(length, 3), "score": candidate.score}
            for file, length, candidate in zip(files, seconds, kept, strict=True)
        ]
        times = {
            "synthesis_seconds": round(spent, 3),
            "real_time_factor": round(_real_time_factor(spent, speech.seconds), 3),
        }
        echo(json.dumps({**speech.receipt, "seed": asked["seed"], "files": written, **times}, indent=2))
    elif not quiet:
        echo(_summary(files[0], speech.seconds, spent, asked["seed"], kept[0].score if len(files) > 1 else None))
        for file, length, candidate in list(zip(files, seconds, kept, strict=True))[1:]:
            echo(f"{file}  {length:.2f} s  score {candidate.score:.4f}")


def _speak_stream(synthesizer: Any, text: str, asked: dict[str, Any], output: Path, *, quiet: bool) -> None:
    from contextlib import ExitStack

    from chelys.audio.io import WavStream

    start = time.monotonic()
    wav: WavStream | None = None
    with ExitStack() as stack:
        for chunk in synthesizer.stream(text, **asked):
            if wav is None:  # not before there is something to write
                target = sys.stdout.buffer if is_stdout(output) else output
                wav = stack.enter_context(WavStream(target, chunk.sample_rate))
            wav.write(chunk.audio)
            for warning in chunk.warnings:
                echo(f"chelys: warning: {warning}", error=True)
    if wav is None:
        raise TextError("nothing in the text can be spoken: give at least one word")
    if not quiet:
        echo(_summary(output, wav.seconds, time.monotonic() - start, asked["seed"]), error=is_stdout(output))


def _summary(file: Path | str, seconds: float, spent: float, seed: int, score: float | None = None) -> str:
    scored = "" if score is None else f"  score {score:.4f}"
    return f"{file}  {seconds:.2f} s{scored}  real-time factor {_real_time_factor(spent, seconds):.2f}  seed {seed}"


def _real_time_factor(spent: float, seconds: float) -> float:
    """Seconds of work for a second of speech; below 1 is faster than listening."""
    return spent / seconds if seconds else 0.0
