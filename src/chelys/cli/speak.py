"""``chelys speak``: text to a sound file."""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import chelys
from chelys.cli.console import (
    CompatOption,
    DeviceOption,
    DtypeOption,
    ForceOption,
    FormatOption,
    LexiconOption,
    LocaleOption,
    MemoryOption,
    ModelOption,
    PresetOption,
    QuietOption,
    SsmlOption,
    ThreadsOption,
    complete_voices,
    echo,
    is_stdout,
    load_model,
    progress_bar,
    reading_options,
    warn,
)
from chelys.cli.text import file_named, read_argument
from chelys.errors import OutputError, TextError, UserError
from chelys.files import digest, refuse_existing

if TYPE_CHECKING:
    from chelys.inference.partial import PartialSpeech
    from chelys.inference.sound_recipe import SpeechRecipe
    from chelys.inference.speech import Chunk

BRIEF = 2000  # characters: two minutes of speech
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
        typer.Option(
            "-v",
            "--voice",
            autocompletion=complete_voices,
            help="Name, voice file, clip, folder of clips, or a mix 'a:0.7+b:0.3'.",
        ),  # fmt: skip
    ] = None,
    preset: PresetOption = "fast",
    candidates: Annotated[
        int | None,
        typer.Option("--candidates", min=1, help="Candidates to sample; the best is kept. Default: the preset's."),
    ] = None,
    keep: Annotated[
        int, typer.Option("--keep", min=1, help="Candidates to write, best first: NAME.wav, NAME-2.wav ...")
    ] = 1,
    speed: Annotated[
        float | None, typer.Option("--speed", help="Pace, 0.5 to 2: 2 is twice as fast. The pitch stays.")
    ] = None,
    format: FormatOption = "auto",
    ssml: SsmlOption = False,
    locale: LocaleOption = "en-US",
    lexicon: LexiconOption = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, max=2**32 - 1, help="Same seed, same samples. Default: drawn, printed."),
    ] = None,
    model: ModelOption = "nano",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    threads: ThreadsOption = None,
    max_memory: MemoryOption = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change an option of the preset: --set temperature=0.5."),
    ] = None,
    compat: CompatOption = "repaired",
    stream: Annotated[
        bool, typer.Option("--stream", help="Write sentence by sentence as they are ready, in sight (WAV).")
    ] = False,
    early: Annotated[
        bool, typer.Option("--early", help="As --stream; the first sentence comes in pieces, the first at once.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the same command was stopped; begin if nothing is there.")
    ] = False,
    force: ForceOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the receipt as JSON in place of the summary.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Check all that can be checked before the model is loaded, then speak."""
    stream = stream or early
    if not quiet:
        _hint_at_file(text)
    reading = reading_options(format, locale, ssml=ssml)
    text = _read_text(text, model, reading)
    changes = _check_options(preset, assignments or [], candidates=candidates, speed=speed)
    files = _output_files(output, keep, candidates, stream=stream, as_json=as_json)
    begun = _check_free(files, resume=resume, force=force)
    if begun is None:  # an earlier run came to its end
        echo(f"chelys: {files[0]} is there already, nothing to resume; --force speaks it anew", error=True)
        return
    if seed is None:
        seed = begun.get("seed", secrets.randbelow(2**31))
    synthesizer = load_model(model, device, compat, dtype, threads, brief=len(text) <= BRIEF, max_memory=max_memory)
    options = synthesizer.options(preset, **({"candidates": candidates, "speed": speed} | changes))
    early = early or (stream and options.early and synthesizer.speaks_early(options))
    asked: dict[str, Any] = {"options": options}
    if not changes:  # the receipt then names the preset
        asked = {"preset": preset, "candidates": candidates, "speed": speed}
    asked |= {"seed": seed, "voice": synthesizer.resolve_voice(voice, seed=seed)}
    document = synthesizer.read_text(text, lexicon=lexicon, voice=voice, options=options, **reading)
    partial = recipe = None
    if files:
        from chelys.inference.partial import PartialSpeech
        from chelys.inference.sound_recipe import SpeechRecipe

        voices = synthesizer.voices_of(document, options, asked["voice"], seed)
        recipe = SpeechRecipe(
            synthesizer, voices, options, seed, asked.get("preset"), text, reading, voice, lexicon, early
        )

        request = {
            "version": chelys.__version__, "text": digest(text.encode()), "reading": reading,
            "lexicon": digest(lexicon.read_bytes()) if lexicon else None,
            "voice": asked["voice"].fingerprint, "model": synthesizer.fingerprint, "seed": seed,
            "options": asdict(options), "compat": compat, "keep": keep, "stream": stream,
            "early": early,
        }  # fmt: skip
        partial = PartialSpeech(files[0], request, keep=keep, in_sight=stream)
    with _keeping(partial):
        if partial is not None and resume:
            partial.resume()
        if stream:
            _speak_stream(synthesizer, document, {**asked, "early": early}, partial, recipe, quiet=quiet)
        else:
            asked["keep"] = keep
            _speak_whole(synthesizer, document, asked, files, partial, recipe, as_json=as_json, quiet=quiet)


def _hint_at_file(text: str) -> None:
    """Whoever gives the name of a file most likely means what is in it."""
    if file_named(text):
        warn(f"{text!r} is a file; to speak what is in it: chelys speak - < {text}")


def _check_free(files: list[Path], *, resume: bool, force: bool) -> dict[str, Any] | None:
    """Refuse to overwrite what exists; the request of a stopped run that is to go on, empty if there is none.

    None if there is nothing left to do.
    """
    from chelys.inference.partial import journal_of, read_journal

    if not files or (force and not resume):
        return {}
    journal = journal_of(files[0])
    if resume:
        request, _ = read_journal(journal)
        return request if request is not None else None if files[0].exists() and not force else {}
    if journal.exists():
        raise OutputError(f"{files[0]} was begun and stopped: go on with --resume, or begin anew with --force")
    for file in files:
        refuse_existing(file)
    return {}


@contextmanager
def _keeping(partial: PartialSpeech | None) -> Iterator[None]:
    """Say what is kept, and how to go on, when the block is ended before its end."""
    if partial is None:
        yield
        return
    try:
        with partial:
            yield
    except BaseException as error:
        if partial.finished:
            kept = (
                f"{partial.sentences} of {partial.finished[-1].about['sentences']} sentences, {partial.seconds:.1f} s, "
                f"are in {partial.sounds[0]}: the same command with --resume goes on"
            )
            if isinstance(error, KeyboardInterrupt):  # one line in all
                raise KeyboardInterrupt(kept) from None
            echo(f"chelys: {kept}", error=True)
        raise


def _read_text(text: str, model: str, reading: dict[str, Any]) -> str:
    text = read_argument(text)
    from chelys.text.formats import format_of
    from chelys.text.normalize import check_speakable, refuse_blank

    format = format_of(text) if reading["format"] == "auto" else reading["format"]
    if format == "ssml":
        from chelys.text.ssml import read_ssml

        read_ssml(text, {})  # refuses what is damaged before anything is loaded
    (check_speakable if model == "nano" and format == "text" else refuse_blank)(text)  # others read more, or markup
    return text


def _check_options(preset: str, assignments: list[str], **given: float | None) -> dict[str, object]:
    """Refuse what no model knows; whether this one has the preset is seen once it is loaded."""
    from chelys.inference.options import NANO_PRESETS, SpeechOptions, parse_options
    from chelys.registry import MORE_PRESETS

    known = (*NANO_PRESETS, *MORE_PRESETS)
    if preset not in known:
        raise UserError(f"unknown preset {preset!r}: choose one of {', '.join(known)}")
    changes = parse_options(assignments)
    for name, value in given.items():
        if value is not None and name in changes:
            raise UserError(f"--{name} and --set {name} say the same: give one of them")
    chosen = {name: value for name, value in given.items() if value is not None}
    SpeechOptions(**chosen | changes)  # type: ignore[arg-type]  # refuses what is out of range
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
    synthesizer: Any, document: Any, asked: dict[str, Any], files: list[Path], partial: PartialSpeech | None,
    recipe: SpeechRecipe | None, *, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    from chelys.audio.io import to_pcm, write, write_stdout
    from chelys.inference.sound_recipe import sound_of

    def keep(chunk: Chunk) -> None:
        if partial is not None and chunk.sentences > 1:  # nothing is kept of a single one before its end
            partial.add(chunk)

    start = time.monotonic()
    spoken = partial.chunks() if partial is not None else []
    with progress_bar(quiet=quiet) as progress:
        speech = synthesizer.speak(document, progress=progress, spoken=spoken, on_chunk=keep, **asked)
    spent = time.monotonic() - start
    for warning in speech.warnings:
        warn(warning)
    if not files:
        write_stdout(speech.audio, speech.sample_rate)
        if not quiet:
            echo(_summary("-", speech.seconds, spent, asked["seed"]), error=True)
        return
    kept = speech.candidates[: len(files)]
    for place, (file, candidate) in enumerate(zip(files, kept, strict=True)):
        comment = recipe.comment(sound_of(to_pcm(candidate.audio).tobytes()), place) if recipe else ""
        write(file, candidate.audio, speech.sample_rate, comment=comment)
    if partial is not None:
        partial.remove()
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


def _speak_stream(
    synthesizer: Any, document: Any, asked: dict[str, Any], partial: PartialSpeech | None,
    recipe: SpeechRecipe | None, *, quiet: bool,
) -> None:  # fmt: skip
    from chelys.audio.io import WavStream
    from chelys.inference.sound_recipe import sound_of

    start, seconds = time.monotonic(), 0.0
    warnings: dict[str, None] = {}
    with ExitStack() as stack:
        progress = stack.enter_context(progress_bar(quiet=quiet))
        wav: WavStream | None = None
        first = 0 if partial is None else partial.sentences
        for chunk in synthesizer.stream(document, progress=progress, start=first, **asked):
            if partial is not None:
                partial.add(chunk)
            else:
                if wav is None:  # not before there is something to write
                    wav = stack.enter_context(WavStream(sys.stdout.buffer, chunk.sample_rate))
                wav.write(chunk.audio)
            seconds += len(chunk.audio) / chunk.sample_rate
            warnings |= dict.fromkeys(chunk.warnings)
    if partial is not None:
        seconds = partial.seconds
        warnings = dict.fromkeys(warning for chunk in partial.finished for warning in chunk.about["warnings"])
        partial.remove(recipe.comment(sound_of(partial.pcm())) if recipe else "")
    if not seconds:
        raise TextError("nothing in the text can be spoken: give at least one word")
    for warning in warnings:
        warn(warning)
    if not quiet:
        file = "-" if partial is None else partial.sounds[0]
        echo(_summary(file, seconds, time.monotonic() - start, asked["seed"]), error=partial is None)


def _summary(file: Path | str, seconds: float, spent: float, seed: int, score: float | None = None) -> str:
    scored = "" if score is None else f"  score {score:.4f}"
    return f"{file}  {seconds:.2f} s{scored}  real-time factor {_real_time_factor(spent, seconds):.2f}  seed {seed}"


def _real_time_factor(spent: float, seconds: float) -> float:
    """Seconds of work for a second of speech; below 1 is faster than listening."""
    return spent / seconds if seconds else 0.0
