"""Books for tests, made by code: an EPUB of any parts, with every oddity that is asked for."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping

CONTAINER = (
    '<?xml version="1.0"?><container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles>'
    '<rootfile full-path="{}" media-type="application/oebps-package+xml"/></rootfiles></container>'
)
HEAD = '<?xml version="1.0" encoding="utf-8"?><!DOCTYPE html>'


def xhtml(body: str, title: str = "a page") -> str:
    return (
        f'{HEAD}<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops"><head><title>{title}'
        f"</title></head><body>{body}</body></html>"
    )


def nav(*entries: tuple[str, str]) -> str:
    items = "".join(f'<li><a href="{href}">{title}</a></li>' for title, href in entries)
    return xhtml(f'<nav epub:type="toc"><h1>Contents</h1><ol>{items}</ol></nav>')


def ncx(*entries: tuple[str, str]) -> str:
    points = "".join(
        f'<navPoint id="n{i}" playOrder="{i}"><navLabel><text>{title}</text></navLabel>'
        f'<content src="{href}"/></navPoint>'
        for i, (title, href) in enumerate(entries)
    )
    return (
        '<?xml version="1.0"?><!DOCTYPE ncx PUBLIC "-//NISO//DTD ncx 2005-1//EN" '
        '"http://www.daisy.org/z3986/2005/ncx-2005-1.dtd">'
        f'<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/" version="2005-1"><navMap>{points}</navMap></ncx>'
    )


def zipped(members: Mapping[str, str | bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)  # of 1980: names of tests hold its bytes
    return made.getvalue()


def epub(
    pages: Mapping[str, str | bytes], *, toc: str = "", toc_ncx: str = "", facts: str = "", manifest: str = "",
    spine: str = "", more: Mapping[str, str | bytes] | None = None,
) -> bytes:  # fmt: skip
    """An EPUB with the pages in order. ``toc`` and ``toc_ncx``: its navigation; ``more``: other members."""
    items = "".join(
        f'<item id="p{i}" href="{name}" media-type="application/xhtml+xml"/>' for i, name in enumerate(pages)
    )
    order = "".join(f'<itemref idref="p{i}"/>' for i in range(len(pages)))
    if toc:
        items += '<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>'
    if toc_ncx:
        items += '<item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/>'
    package = (
        '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata '
        f'xmlns:dc="http://purl.org/dc/elements/1.1/">{facts or "<dc:title>A Book</dc:title>"}</metadata>'
        f'<manifest>{items}{manifest}</manifest><spine toc="ncx">{order}{spine}</spine></package>'
    )
    members: dict[str, str | bytes] = {
        "mimetype": "application/epub+zip", "META-INF/container.xml": CONTAINER.format("OPS/package.opf"),
        "OPS/package.opf": package,
    }  # fmt: skip
    members |= {f"OPS/{name}": page for name, page in pages.items()}
    members |= {"OPS/nav.xhtml": toc} if toc else {}
    members |= {"OPS/toc.ncx": toc_ncx} if toc_ncx else {}
    return zipped(members | dict(more or {}))


def png(width: int = 4, height: int = 3) -> bytes:
    """A grey picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    rows = zlib.compress((b"\0" + b"\x80" * (3 * width)) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
