"""What the commands share: options, the model, progress on a terminal, printing, old option names."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from chelys.deprecation import warn_renamed
from chelys.errors import UserError, printable_line
from chelys.machine import MOST_THREADS, THREADS_VARIABLE, memory_size, set_threads, spin_if_idle

DEVICES = "cpu, cuda, cuda:N, mps or auto"
DTYPES = ("auto", "float32", "bfloat16", "float16")


def complete_voices(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of voices, for the shell: the model's and the user's."""
    from chelys.inference.voice_files import built_in_voices, list_user_voices
    from chelys.weights.catalog import find_model

    try:
        own = built_in_voices(find_model(ctx.params.get("model") or "nano"))
    except UserError:  # half of a name
        own = {}
    return [name for name in (*own, *list_user_voices()) if name.startswith(incomplete)]


def complete_own_voices(incomplete: str) -> list[str]:
    """The same of the user's voices alone."""
    from chelys.inference.voice_files import list_user_voices

    return [name for name in list_user_voices() if name.startswith(incomplete)]


def complete_presets(incomplete: str) -> list[str]:
    """Names of presets."""
    from chelys.inference.options import NANO_PRESETS
    from chelys.registry import MORE_PRESETS

    return [name for name in (*NANO_PRESETS, *MORE_PRESETS) if name.startswith(incomplete)]


def complete_models(incomplete: str) -> list[str]:
    """Names of models, and folders here that hold one."""
    from chelys import registry

    here = sorted(str(path.parent) for path in Path().glob("*/config.json"))
    return [name for name in ("nano", *registry.MODELS, *here) if name.startswith(incomplete)]


ModelOption = Annotated[
    str, typer.Option("--model", help="Name or folder of the model.", autocompletion=complete_models)
]
PresetOption = Annotated[
    str,
    typer.Option(
        "-p", "--preset", autocompletion=complete_presets,
        help="ultra_fast, fast, standard, high_quality, streaming; TorToise v2: also paper.",
    ),
]  # fmt: skip
DeviceOption = Annotated[
    str, typer.Option("--device", help="cpu, cuda, cuda:N, mps; auto is the first of CUDA, MPS and CPU that there is.")
]
DtypeOption = Annotated[
    str,
    typer.Option(
        "--dtype", help="What networks compute with: float32, bfloat16, float16; auto: bfloat16 if the hardware has it."
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads", min=1, max=MOST_THREADS, envvar=THREADS_VARIABLE,
        help="Threads of the CPU; default: the cores that this process may use.",
    ),
]  # fmt: skip
MemoryOption = Annotated[
    str | None,
    typer.Option(
        "--max-memory", metavar="SIZE", help="Memory that speaking may take, about: 4GB, 500MB. Default: no limit."
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", min=1, envvar=THREADS_VARIABLE, help="Processes; default: the cores that this process may use."
    ),
]
FormatOption = Annotated[
    str,
    typer.Option("--format", help="What the text is written in: text, markdown, html, ssml; 'auto' finds out."),
]
SsmlOption = Annotated[bool, typer.Option("--ssml", help="The text is SSML; the same as --format ssml.")]
LocaleOption = Annotated[
    str, typer.Option("--locale", help="en-US, or en-GB, where a date in figures has the day first.")
]
LexiconOption = Annotated[
    Path | None,
    typer.Option("--lexicon", metavar="FILE", help="Words and how they sound: lines of word, tab, KAY-lee or /kˈAli/."),
]
StoreOption = Annotated[
    Path | None,
    typer.Option("--store", metavar="FOLDER", envvar="CHELYS_STORE", help="Where what was computed is kept."),
]
StoreSizeOption = Annotated[
    float | None,
    typer.Option("--store-size", min=0.001, metavar="GB", help="Most that it may take; default: 20."),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing but warnings and errors.")]
CompatOption = Annotated[
    str, typer.Option("--compat", help="'reference' does what the original TorToise did, its faults included.")
]


def check_place(device: str | None, dtype: str | None = None) -> None:
    """Refuse unknown names before torch is imported; None is not looked at. Raises UserError."""
    if device is not None and not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device):
        raise UserError(f"unknown device {device!r}: choose {DEVICES}")
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f"unknown dtype {dtype!r}: choose from {', '.join(DTYPES)}")


def load_model(
    model: str, device: str = "auto", compat: Any = "repaired", dtype: str = "float32", threads: int | None = None, *,
    brief: bool = True, max_memory: str | None = None,
) -> Any:  # fmt: skip
    """The synthesizer; arguments are checked before torch is imported, which then gets its number of threads.

    ``brief``: whether the work is soon done, so that the load of the machine stays what it is.

    Raises UserError if device, dtype or compat is unknown, or the memory is too little; ModelError if the model cannot
    be loaded.
    """
    check_place(device, dtype)
    if compat not in ("repaired", "reference"):
        raise UserError(f"compat is {compat!r}: choose repaired or reference")
    most_bytes = None if max_memory is None else memory_size(max_memory)
    set_threads(threads)
    if brief:
        spin_if_idle()
    import chelys

    synthesizer = chelys.load(model, device=device, dtype=dtype, compat=compat)
    if most_bytes is not None:
        synthesizer.max_memory = most_bytes
    return synthesizer


def open_store(folder: Path | None, gigabytes: float | None = None) -> Any:
    """The store of stages. Raises UserError if the folder is something else; OutputError if it cannot be written."""
    from chelys.audiobook.store import MAX_BYTES, StageStore, default_store

    size = MAX_BYTES if gigabytes is None else round(gigabytes * 1e9)
    return StageStore(folder or default_store(), max_bytes=size, on_warning=warn)


def reading_options(format: str, locale: str, *, ssml: bool) -> dict[str, Any]:
    """How to read a text, for ``read_text``. Raises UserError if there is no such format or locale."""
    from chelys.text.formats import FORMATS
    from chelys.text.normalize import LOCALES

    if format not in FORMATS:
        raise UserError(f"unknown format {format!r}: choose from {', '.join(FORMATS)}")
    if ssml and format not in ("auto", "ssml"):
        raise UserError(f"--ssml and --format {format} contradict each other: give one of them")
    if locale not in LOCALES:
        raise UserError(f"unknown locale {locale!r}: choose from {', '.join(LOCALES)}")
    return {"format": "ssml" if ssml else format, "locale": locale}


@contextmanager
def progress_bar(*, quiet: bool = False) -> Iterator[Callable[..., None] | None]:
    """A progress bar on standard error while the block runs, if that is a terminal and ``quiet`` is not set.

    Yields ``update(stage, done, total)``, or None.
    """
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)

        def update(stage: str, done: int, total: int) -> None:
            progress.update(task, description=stage, completed=done, total=total)

        yield update


def counting(update: Callable[..., None] | None, stage: str) -> Callable[..., None] | None:
    """Callback ``(done, total, ...)`` that moves the bar of a stage; None without a bar."""
    return None if update is None else lambda done, total, *_: update(stage, done, total)


def echo(message: str, *, error: bool = False) -> None:
    """Print a text, also if it cites names that are not valid UTF-8, or that the terminal cannot show or should not."""
    stream = sys.stderr if error else sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    lines = message.encode(encoding, "backslashreplace").decode(encoding).split("\n")
    print("\n".join(map(printable_line, lines)), file=stream)


def warn(message: str) -> None:
    """One line on standard error, whatever is in it."""
    echo(f"chelys: warning: {message}".replace("\n", " "), error=True)


def renamed(**options: str) -> type[TyperCommand]:
    """Command class under which old options work: ``renamed(borrowed="speaker-blend")``."""
    names = {f"--{old.replace('_', '-')}": f"--{new}" for old, new in options.items()}

    class Command(TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            return super().parse_args(ctx, rename_options(args, names))

    return Command


def rename_options(arguments: Sequence[str], renamed: Mapping[str, str | None]) -> list[str]:
    """Give the options of a command line their new names; nothing after ``--`` is touched.

    ``--old`` becomes ``--new``; None drops an option that took no value.
    """
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    kept = []
    for argument in arguments[:end]:
        option, equals, value = argument.partition("=")
        if option in renamed:
            new = renamed[option]
            warn_renamed(option, new)
            if new is None:
                continue
            argument = f"{new}{equals}{value}"
        kept.append(argument)
    return kept + list(arguments[end:])


def is_stdout(path: Path) -> bool:
    """Whether ``-o`` named standard output."""
    return os.fspath(path) == "-"
