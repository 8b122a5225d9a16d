"""Covers: JPEG and PNG, told and measured by their heads, never decoded."""

from __future__ import annotations

from chelys.audiobook.book import Cover
from chelys.errors import TextError

#: Bytes of a cover, and pixels of a side.
MAX_COVER, _MAX_SIDE = 12 << 20, 10_000
#: Markers of JPEG segments that give the size: of each coding.
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


def cover_of(data: bytes) -> Cover:
    """A picture as a cover. Raises TextError, which says why it cannot be one."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR" and len(data) > 33:
        cover = Cover(data, "png", int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"))
    elif data[:3] == b"\xff\xd8\xff":
        cover = Cover(data, "jpeg", *_jpeg_size(data))
    else:
        raise TextError("it is neither JPEG nor PNG")
    if not (1 <= cover.width <= _MAX_SIDE and 1 <= cover.height <= _MAX_SIDE):
        raise TextError(f"it claims {cover.width} x {cover.height} pixels")
    return cover


def _jpeg_size(data: bytes) -> tuple[int, int]:
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # filled up
            at += 1
            continue
        if marker in _FRAMES:
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise TextError("it is a damaged JPEG")
