"""What the verbs share: progress on a terminal, names for printing, the model."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from chelys.errors import ModelError, UserError

ModelOption = Annotated[str, typer.Option("--model", help="Name or folder of the model.")]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:N or mps.")]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes; default: the cores of this machine.")
]
CompatOption = Annotated[
    str, typer.Option("--compat", help="'reference' does what the original TorToise did, its faults included.")
]


def load_model(model: str, device: str = "cpu", compat: Any = "repaired") -> Any:
    """The synthesizer; torch is not imported before.

    Raises:
        ModelError: If the model cannot be loaded or the device has no such name.
    """
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", device):
        raise ModelError(f"unknown device {device!r}: choose cpu, cuda, cuda:N or mps")
    if compat not in ("repaired", "reference"):
        raise UserError(f"compat is {compat!r}: choose repaired or reference")
    import chelys

    return chelys.load(model, device=device, compat=compat)


@contextmanager
def progress_bar(*, quiet: bool = False) -> Iterator[Callable[..., None] | None]:
    """A bar on standard error while the block runs, if that is a terminal and silence is not asked for.

    Yields:
        ``update(stage, done, total)``, or None.
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
    """What a worker calls with ``(done, total)`` and perhaps more, to move the bar of a stage; None without a bar."""
    return None if update is None else lambda done, total, *_: update(stage, done, total)


def tell(message: str, *, error: bool = False) -> None:
    """Print a line that may cite names of files which are not valid UTF-8, or not of the terminal's alphabet."""
    stream = sys.stderr if error else sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(message.encode(encoding, "backslashreplace").decode(encoding), file=stream)


def is_stdout(path: Path) -> bool:
    """Whether ``-o`` named standard output."""
    return os.fspath(path) == "-"
