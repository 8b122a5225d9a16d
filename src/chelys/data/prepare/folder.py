"""The folder OUT: whether it can be written to, and that only one preparation writes to it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chelys.errors import OutputError


def prepare_folder(out: Path) -> None:
    """Make the folder, before hours of work rather than after.

    Raises:
        OutputError: If it cannot be made or written to.
    """
    try:
        (out / "work").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out / "work"):
            pass
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise OutputError(f"cannot write to {out}: {error.strerror or error}; choose another folder") from error


@contextmanager
def lock(out: Path) -> Iterator[None]:
    """Keep other preparations out of the folder; the lock of a killed one is free.

    Raises:
        OutputError: If one is at work.
    """
    try:
        import fcntl
    except ImportError:  # Windows: nobody is kept out; work is content-keyed and appears whole all the same
        yield
        return
    with (out / "work" / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputError(
                f"another preparation is writing to {out}: wait for it, or choose another folder"
            ) from error
        yield
