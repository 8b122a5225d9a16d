"""ZIP archives of foreign origin, EPUB and DOCX, read within limits.

Nothing is unpacked to the disk: names only look up members, so a path that is absolute or leads out of the archive
finds nothing. Every read is bounded, whatever the archive claims, and so is their sum.
"""

from __future__ import annotations

import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from chelys.errors import TextError, first_line
from chelys.files import open_regular

#: Bytes of one member, of all that are read, and of the table of contents.
MAX_MEMBER, MAX_TOTAL, _MAX_DIRECTORY = 16 << 20, 512 << 20, 8 << 20
_END = b"PK\x05\x06"


class Archive:
    """An open archive; see ``open_archive``."""

    def __init__(self, file: zipfile.ZipFile, name: str) -> None:
        self._file, self.name, self._left = file, name, MAX_TOTAL
        self._members = {member.filename: member for member in file.infolist()}

    def __contains__(self, path: str) -> bool:
        return path in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def read(self, path: str, limit: int = MAX_MEMBER) -> bytes:
        """The bytes of a member. Raises TextError if it is missing, damaged, encrypted or larger than the limit."""
        member = self._members.get(path)
        if member is None:
            raise TextError(f"{self.name}: {path[:100]!r} is missing in it")
        if member.flag_bits & 1:
            raise TextError(f"{self.name} is encrypted: chelys reads books without a password or copy protection")
        limit = min(limit, self._left)
        try:
            with self._file.open(member) as file:
                data = file.read(limit + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
            raise TextError(f"{self.name}: {path[:100]!r} is damaged ({first_line(error)})") from None
        if len(data) > limit:
            raise TextError(f"{self.name}: {path[:100]!r} unpacks to more than {limit >> 20} MiB: cut it into parts")
        self._left -= len(data)
        return data


@contextmanager
def open_archive(source: Path | BinaryIO, name: str, what: str) -> Iterator[Archive]:
    """Open an archive. ``what`` it should be is named in the TextError if it is none."""
    with open_regular(source) if isinstance(source, Path) else source as file:
        try:
            _check_directory(file)
            archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise TextError(f"{name} is no {what}, or damaged: {first_line(error)}") from None
        with archive:
            yield Archive(archive, name)


def _check_directory(file: BinaryIO) -> None:
    """Refuse a table of contents that would fill memory before it is read."""
    size = file.seek(0, 2)
    file.seek(max(0, size - (1 << 16) - 22))
    tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) < at + 22:
        raise ValueError("the end of the archive is missing")
    if int.from_bytes(tail[at + 12 : at + 16], "little") > _MAX_DIRECTORY:
        raise ValueError("its table of contents is too large")
    file.seek(0)


def resolve(base: str, reference: str) -> tuple[str, str]:
    """Member and fragment that a reference in the member ``base`` leads to; no member if it leads elsewhere."""
    try:
        parts = urlsplit(reference.strip())
    except ValueError:
        return "", ""
    if parts.scheme or parts.netloc or parts.path.startswith(("/", "\\")):
        return "", ""
    path = unquote(parts.path)
    joined = posixpath.normpath(posixpath.join(posixpath.dirname(base), path)) if path else base
    return ("" if joined.startswith("..") else joined), unquote(parts.fragment)


def parse_xml(data: bytes, where: str) -> Any:
    """The root element of an XML file: no entities, nothing fetched, not too deep. Raises TextError."""
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        return fromstring(data)
    except DefusedXmlException:
        raise TextError(f"{where} defines entities, which chelys does not read") from None
    except (ParseError, ValueError, LookupError) as error:
        raise TextError(f"{where} is no XML ({first_line(error)})") from None


def local(tag: Any) -> str:
    """Name of an element or attribute without its namespace; empty for comments."""
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""
