"""``chelys read``: a book to an audiobook."""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chelys.cli.console import (
    DeviceOption,
    DtypeOption,
    ForceOption,
    LexiconOption,
    LocaleOption,
    MemoryOption,
    ModelOption,
    PresetOption,
    QuietOption,
    StoreOption,
    StoreSizeOption,
    ThreadsOption,
    complete_voices,
    echo,
    load_model,
    open_store,
    warn,
)
from chelys.cli.read_progress import MOST_WARNINGS, clock, progress, report
from chelys.errors import TextError, UserError

if TYPE_CHECKING:
    from chelys.audiobook.book import Book
    from chelys.audiobook.narrate import Made, OnLine, OnWrite
    from chelys.audiobook.plan import Forecast
    from chelys.audiobook.reading import ReadSettings
    from chelys.audiobook.script import Script
    from chelys.audiobook.store import StageStore

HELP = "Read a book into an audiobook."
EXAMPLE = "Example: chelys read book.epub -o book.m4b --voice heart, then: chelys read book.epub --list"

_LARGEST_STDIN = 1 << 28


def read(
    book: Annotated[
        str, typer.Argument(metavar="FILE|-", help="EPUB, DOCX, HTML, Markdown or plain text; '-' is standard input.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File to write: .m4b, .m4a, .mp3, .opus, .flac, .wav. Default: FILE.m4b."),
    ] = None,
    each_chapter: Annotated[
        bool, typer.Option("--each-chapter", help="A file for each chapter, in the folder that -o names.")
    ] = False,
    format: Annotated[
        str | None, typer.Option("--format", help="Of the files of --each-chapter. Default: mp3.")
    ] = None,
    book_format: Annotated[
        str, typer.Option("--from", help="What the book is: epub, docx, html, markdown, text; 'auto' goes by its name.")
    ] = "auto",
    chapters: Annotated[
        str | None, typer.Option("--chapters", metavar="NUMBERS", help="Read some: 3, 3-7, 12- or 1,4-5.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the chapters and read nothing.")] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Speak a few sentences, say how long the whole takes, and read nothing.")
    ] = False,
    find_names: Annotated[
        bool,
        typer.Option(
            "--find-names",
            help="List the words likeliest misread, speak each in two ways into the folder -o, and read nothing.",
        ),
    ] = False,
    preview: Annotated[
        str | None, typer.Option("--preview", metavar="TIME", help="Read the first 30s, or 5m, alone.")
    ] = None,
    include: Annotated[
        str | None,
        typer.Option(
            "--include",
            metavar="KINDS",
            help="Read these too: note, page, table, code, caption, contents; with commas.",
        ),
    ] = None,
    voice: Annotated[
        str | None,
        typer.Option("-v", "--voice", autocompletion=complete_voices, help="Of the narrator, as in 'chelys speak'."),
    ] = None,
    speakers: Annotated[
        Path | None,
        typer.Option("--speakers", metavar="FILE", help="Voices of quoted speech: lines of name, tab, voice."),
    ] = None,
    preset: PresetOption = "fast",
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Same seed, same book.")] = 0,
    speed: Annotated[float | None, typer.Option("--speed", help="Pace, 0.5 to 2: 2 is twice as fast.")] = None,
    pauses: Annotated[
        str | None,
        typer.Option(
            "--pauses",
            metavar="NAME=SECONDS",
            help="Silence after a paragraph, heading, scene, chapter, at begin and end: --pauses scene=2,chapter=3.",
        ),
    ] = None,
    lexicon: LexiconOption = None,
    locale: LocaleOption = "en-US",
    subtitles: Annotated[
        str | None,
        typer.Option("--subtitles", metavar="KINDS", help="Write srt, vtt, lrc beside the sound; with commas."),
    ] = None,
    bitrate: Annotated[
        int | None, typer.Option("--bitrate", metavar="KBPS", help="Of m4b, mp3 and opus: 16 to 320 kbit/s.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change an option of the preset: --set temperature=0.5."),
    ] = None,
    verify: Annotated[
        str | None,
        typer.Option(
            "--verify",
            metavar="HOW",
            help="Check every take: 'builtin', or a model of faster-whisper such as tiny.en, which also listens.",
        ),
    ] = None,
    choices: Annotated[
        Path | None,
        typer.Option(
            "--choices", metavar="FILE", help="Takes that were chosen on the board. Default: OUTPUT.choices.json."
        ),
    ] = None,
    store: StoreOption = None,
    no_store: Annotated[
        bool, typer.Option("--no-store", help="Keep nothing: a run that is stopped begins anew.")
    ] = False,
    store_size: StoreSizeOption = None,
    model: ModelOption = "nano",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    threads: ThreadsOption = None,
    max_memory: MemoryOption = None,
    force: ForceOption = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: an event a line while reading, or the list, or the plan.")
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Check what can be checked, read the book, then load the model and speak it."""
    from chelys.audiobook.reading import ReadSettings
    from chelys.inference.options import parse_options

    files = _output(book, None if find_names else output, each_chapter)
    options = parse_options(assignments or [])
    if speed is not None:
        options["speed"] = speed
    settings = ReadSettings(
        source=book if book == "-" else str(Path(book).absolute()), output=str(files),
        format=format or ("mp3" if each_chapter else ""), each_chapter=each_chapter, kbps=bitrate,
        subtitles=_parts(subtitles), preview_s=None if preview is None else _seconds(preview), book_format=book_format,
        chapters=chapters, include=_parts(include), voice=voice, speakers=_absolute(speakers),
        lexicon=_absolute(lexicon), locale=locale, pauses=pauses, seed=seed, preset=preset, options=options,
        verify=verify, choices=_choices(choices, files),
    )  # fmt: skip
    read_in = settings.book(_standard_input() if book == "-" else None)
    for warning in read_in.warnings[:MOST_WARNINGS]:
        warn(warning)
    if list_:
        _list(read_in, as_json=as_json)
        return
    synthesizer = load_model(model, device, "repaired", dtype, threads, brief=False, max_memory=max_memory)
    script = settings.script(read_in, synthesizer)
    with ExitStack() as stack:
        kept = None if no_store else stack.enter_context(open_store(store, store_size))
        if plan:
            _plan(script, settings.renderer(synthesizer, kept).takes, seed, as_json=as_json)
            return
        if find_names:
            folder = output or Path(f"{Path(settings.output).stem}-names")
            _find_names(script, settings.renderer(synthesizer, kept).takes, seed, folder, as_json=as_json)
            return
        started = time.monotonic()
        on_line, on_write = stack.enter_context(progress(script, as_json=as_json, quiet=quiet))
        made = _read(settings, read_in, script, kept, force=force, on_line=on_line, on_write=on_write)
    _warn_of(script)
    report(made, time.monotonic() - started, as_json=as_json, quiet=quiet)


def _read(
    settings: ReadSettings, book: Book, script: Script, store: StageStore | None, *, force: bool,
    on_line: OnLine | None, on_write: OnWrite | None,
) -> Made:  # fmt: skip
    from chelys.audiobook import reading

    takes = settings.renderer(script.tts, store).takes
    try:
        return reading.read(settings, book, script, takes, force=force, on_line=on_line, on_write=on_write)
    except KeyboardInterrupt:
        if store is None:
            raise
        raise KeyboardInterrupt("what was spoken is kept: the same command goes on") from None


def _choices(given: Path | None, output: Path) -> str | None:
    """The file that is given, or that lies beside the output."""
    from chelys.audiobook.choices import choices_beside

    beside = choices_beside(output)
    return str((given or beside).absolute()) if given is not None or beside.is_file() else None


def _output(book: str, output: Path | None, each_chapter: bool) -> Path:
    if output is not None:
        return output
    stem = Path("book" if book == "-" else book).stem
    return Path(stem if each_chapter else f"{stem}.m4b")


def _absolute(path: Path | None) -> str | None:
    return str(path.absolute()) if path is not None else None


def _parts(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if text else ()


def _seconds(text: str) -> float:
    unit = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:].lower())
    try:
        return float(text[:-1] if unit else text) * (unit or 1.0)
    except ValueError:
        raise UserError(f"{text!r} is no time: write 30s or 5m") from None


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise TextError("standard input is closed: pipe a book into it, or name a file")
    data = sys.stdin.buffer.read(_LARGEST_STDIN + 1)
    if len(data) > _LARGEST_STDIN:
        raise TextError(f"standard input is larger than {_LARGEST_STDIN >> 20} MiB: save it to a file")
    return data


def _list(book: Book, *, as_json: bool) -> None:
    if as_json:
        about = {"title": book.title, "author": book.author, "language": book.language, "cover": book.cover is not None}
        rows = [
            {"number": number, "title": one.title, "characters": one.characters}
            for number, one in enumerate(book.chapters, 1)
        ]
        print(json.dumps({**about, "chapters": rows, "warnings": book.warnings}, indent=1))
        return
    echo(f"{book.title}{f', by {book.author}' if book.author else ''}")
    for number, one in enumerate(book.chapters, 1):
        echo(f"{number:4d}  {one.characters:8d} characters  {one.title}")


def _plan(script: Script, takes: Any, seed: int, *, as_json: bool) -> None:
    from chelys.audiobook.plan import forecast

    found: Forecast = forecast(script, takes, seed)
    memory = _peak_memory()
    if as_json:
        plan = {
            "chapters": len(script.chapters), "characters": found.size.characters, "sentences": found.size.sentences,
            "seconds": round(found.seconds, 1), "work_seconds": round(found.work_s, 1),
            "real_time_factor": round(found.real_time_factor, 3), "memory_bytes": memory, "sampled": found.sampled,
        }  # fmt: skip
        print(json.dumps(plan, indent=1))
        return
    of_memory = f", {memory / 2**20:.0f} MB of memory" if memory else ""
    echo(
        f"{len(script.chapters)} chapters, {found.size.characters} characters, {found.size.sentences} sentences\n"
        f"{clock(found.seconds)} of sound, {clock(found.work_s)} of work (real-time factor "
        f"{found.real_time_factor:.2f}){of_memory}; judged by {found.sampled} sentences"
    )


def _find_names(script: Script, takes: Any, seed: int, folder: Path, *, as_json: bool) -> None:
    from chelys.audiobook.names import find_names, speak_names

    names = find_names(script)
    files = speak_names(script, names, takes, seed, folder)
    if as_json:
        print(json.dumps({"names": [asdict(name) for name in names], "files": [str(file) for file in files]}, indent=1))
        return
    for name in names:
        ways = " or ".join(f"/{one}/" for one in name.pronunciations)
        echo(f"{name.text}  {name.count} times  {ways}\n    {name.example}")
    echo(f"{files[-1]}: these words, for --lexicon; the sounds lie beside it")


def _peak_memory() -> int | None:
    """Bytes of this process at most so far; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _warn_of(script: Script) -> None:
    if script.skipped:
        warn(f"left out: paragraphs with nothing that this model can speak ({script.skipped})")
    warnings = list(script.warnings)
    for warning in warnings[:MOST_WARNINGS]:
        warn(warning)
    if len(warnings) > MOST_WARNINGS:
        warn(f"and {len(warnings) - MOST_WARNINGS} more warnings of the text: chelys text shows those of a passage")
