"""Where output goes: suffixes, places that can be written to, and files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from chelys.errors import OutputError

#: Suffix without its dot -> libsndfile's container and coding.
FORMATS: dict[str, tuple[str, str]] = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


def check_output(path: str | Path, formats: Sequence[str] = tuple(FORMATS)) -> str:
    """Find out before any work is done whether a file could be written.

    Args:
        path: Where to.
        formats: Those allowed.

    Returns:
        The format that the suffix names: a key of ``FORMATS``.

    Raises:
        OutputError: If the suffix is unknown or the place cannot be written to; nothing is left behind.
    """
    name = Path(path).suffix.lower().removeprefix(".")
    choice = f"choose one of {', '.join('.' + known for known in formats)}"
    try:
        target = Path(os.path.realpath(path))
        mode = _mode(target)
        if mode is not None and stat.S_ISDIR(mode):
            raise OutputError(f"cannot write {path}: it is a folder; give a file such as {Path(path) / 'speech.wav'}")
        if not name:
            raise OutputError(f"cannot write {path}: it has no suffix; {choice}")
        if name not in formats:
            why = f"'.{name}' is not for streams" if name in FORMATS else f"unknown suffix '.{name}'"
            raise OutputError(f"cannot write {path}: {why}; {choice}")
        if not os.path.isdir(target.parent):
            raise OutputError(f"cannot write {path}: there is no folder {target.parent}; make it first")
        if mode is not None and not stat.S_ISREG(mode):  # renaming onto a device would replace the device
            raise OutputError(f"cannot write {path}: it is not a regular file; use '-' to write to a pipe")
        if mode is not None and not os.access(target, os.W_OK):
            raise OutputError(f"cannot write {path}: permission denied; choose another file")
        with tempfile.TemporaryFile(dir=target.parent):
            return name
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; choose another place") from error


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


class WholeFile:
    """A file that takes its name when the ``with`` block ends well, and vanishes otherwise."""

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self.target = Path(os.path.realpath(path))  # a link stays a link
        self.partial = self.target.with_name(f".chelys-{secrets.token_hex(6)}.part")

    def __enter__(self) -> WholeFile:
        with self._as_output_error():
            self.file = self.partial.open("xb")
        return self

    def write(self, data: bytes) -> None:
        with self._as_output_error():
            self.file.write(data)

    def flush(self) -> None:
        with self._as_output_error():
            self.file.flush()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> None:
        with self._as_output_error():
            self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def seekable(self) -> bool:
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._as_output_error():
                self.file.close()
                if kind is None:
                    self.partial.replace(self.target)
        finally:
            self.partial.unlink(missing_ok=True)

    @contextmanager
    def _as_output_error(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error
