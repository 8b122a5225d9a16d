"""Files that appear whole or not at all, locks between processes, and reads with a limit.

Everything is written under a unique temporary name next to its target, flushed to the disk, and renamed. Readers see
the old file or the new one, two writers never share a temporary file, and a failure leaves nothing behind. Only a
process that is killed leaves a temporary file: ``remove_partial_files`` deletes those.
"""

from __future__ import annotations

import errno
import filecmp
import json
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

from chelys.errors import BusyError, OutputError

_PREFIX, _SUFFIX = ".chelys-", ".part"
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)


@contextmanager
def atomic_path(
    path: str | Path, *, suffix: str = "", sync: bool = True, keep_identical: bool = False, locked: bool = False
) -> Iterator[Path]:
    """A temporary path next to ``path``; what the block writes there takes the place of ``path`` when the block ends.

    Args:
        path: The target; its folder must exist. A link stays a link: the file it leads to is replaced.
        suffix: Of the temporary name, for writers that insist on one. Without it no ``*.suffix`` pattern matches it.
        sync: Wait until the data is on the disk. Without it a power cut can leave an empty file under the name.
        keep_identical: Leave ``path`` untouched, with its time of change, if its bytes are the same.
        locked: The caller holds a lock on ``path``. The temporary name is always the same then, so that what a killed
            process left there is replaced.

    Raises:
        OSError: If it cannot be written; nothing is left behind.
    """
    target = Path(os.path.realpath(path))
    partial = target.with_name(f".{target.name}{_SUFFIX}") if locked else _partial(target, suffix)
    if locked:
        partial.unlink(missing_ok=True)
    try:
        yield partial
        if sync:
            _sync(partial)
        if keep_identical and target.is_file() and filecmp.cmp(partial, target, shallow=False):
            return
        os.replace(partial, target)
        if sync:
            _sync(target.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_file(
    path: str | Path, mode: str = "wb", *, sync: bool = True, keep_identical: bool = False
) -> Iterator[IO[Any]]:
    """An open file, ``wb`` or ``w`` (UTF-8, lines end as given), that takes the name ``path`` when the block ends.

    Args, Raises: See ``atomic_path``.
    """
    if mode not in ("wb", "w"):
        raise ValueError(f"mode is {mode!r}: give 'wb' or 'w'")
    text = {} if mode == "wb" else {"encoding": "utf8", "newline": ""}
    with atomic_path(path, sync=sync, keep_identical=keep_identical) as partial:
        with partial.open(mode.replace("w", "x"), **text) as file:  # type: ignore[call-overload]
            yield file


def write_bytes(path: str | Path, data: bytes, *, sync: bool = True, keep_identical: bool = False) -> None:
    """Write a file, whole or not at all."""
    with atomic_file(path, sync=sync, keep_identical=keep_identical) as file:
        file.write(data)


def write_text(path: str | Path, text: str, *, sync: bool = True, keep_identical: bool = False) -> None:
    """Write a text file (UTF-8), whole or not at all."""
    with atomic_file(path, "w", sync=sync, keep_identical=keep_identical) as file:
        file.write(text)


def write_json(path: str | Path, value: Any, *, indent: int | None = 2) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(path, json.dumps(value, indent=indent, ensure_ascii=False) + "\n")


def write_json_lines(
    path: str | Path, values: Iterable[Any], *, sync: bool = True, keep_identical: bool = False
) -> None:
    """Write one JSON value a line, whole or not at all; ``values`` may be a generator of any length."""
    with atomic_file(path, "w", sync=sync, keep_identical=keep_identical) as file:
        for value in values:
            file.write(json_line(value))


def json_line(value: Any) -> str:
    """One line of JSON; readable, except where a name is not valid Unicode and can only be written escaped."""
    line = json.dumps(value, ensure_ascii=False)
    try:
        line.encode("utf8")
    except UnicodeEncodeError:
        line = json.dumps(value)
    return line + "\n"


def digest(*parts: bytes) -> str:
    """Sixteen hexadecimal digits that change with any of the parts."""
    import hashlib  # late: reading a text needs none

    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:16]


def remove_partial_files(folder: str | Path) -> None:
    """Delete what killed processes left half-written in a folder; only while no other process writes there."""
    for left in Path(folder).glob(f"{_PREFIX}*{_SUFFIX}*"):
        if left.is_dir():
            import shutil

            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def refuse_existing(path: Path) -> None:
    """Raise the OutputError that answers the name of a file that exists where none is to be replaced."""
    if path.exists():
        raise OutputError(f"{path} exists: name another file with -o, or replace it with --force")


@contextmanager
def output_errors(path: str | Path, advice: str = "") -> Iterator[None]:
    """Turn any ``OSError`` of the block into the one-line ``OutputError`` for ``path``, with advice."""
    try:
        yield
    except OSError as error:
        hint = f"; {advice}" if advice else ""
        raise OutputError(f"cannot write {path}: {error.strerror or error}{hint}") from error


@contextmanager
def output_file(path: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """``atomic_file`` whose errors are the one-line ``OutputError`` for ``path``."""
    with output_errors(path), atomic_file(path, mode) as file:
        yield file


@contextmanager
def file_lock(path: str | Path, busy: str, *, remove: bool = False) -> Iterator[None]:
    """Hold a lock between processes until the block ends, or the process does, however it ends.

    The lock file stays behind, empty, unless it is to be removed, which not every system can do.

    Raises:
        BusyError: If another process holds it, with the message ``busy``.
        OutputError: If the lock file cannot be made.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise BusyError(busy) from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP):  # those: a file system without locks; go on without
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        yield
    finally:
        if remove:
            with suppress(OSError):  # Windows removes no open file
                os.unlink(path)
        lock.release()


def open_regular(path: str | Path, *, buffering: int = -1) -> BinaryIO:
    """Open a file for reading bytes; what is no regular file is refused, so that no pipe or device is waited for.

    Raises:
        OSError: If there is no such file, it cannot be read, or is a folder, a pipe, a socket or a device (``EINVAL``).
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | _CLOEXEC)
    except ValueError as error:  # a null character in the name
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        return open(handle, "rb", buffering=buffering)
    except BaseException:
        os.close(handle)
        raise


def read_bytes(path: str | Path, limit: int) -> bytes:
    """Read a whole file that may come from anywhere; no more bytes than the limit are ever held.

    Raises:
        OSError: If it cannot be read (``open_regular``) or is larger (``EFBIG``).
    """
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it is larger than {limit} bytes", str(path))
    return data


def read_text(path: str | Path, limit: int) -> str:
    """The same for a text file; a UnicodeDecodeError if it is not UTF-8."""
    return read_bytes(path, limit).decode("utf8")


def _partial(target: Path, suffix: str = "") -> Path:
    return target.with_name(f"{_PREFIX}{os.urandom(8).hex()}{_SUFFIX}{suffix}")


def _sync(path: Path) -> None:
    """Wait until a file's data, or the names in a folder, are on the disk."""
    if path.is_dir() and os.name == "nt":  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that cannot sync a folder
            raise
    finally:
        os.close(handle)
