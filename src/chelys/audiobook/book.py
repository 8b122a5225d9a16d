"""What a book is, whatever file it came in."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal, get_args

from chelys.errors import UserError, printable_line

#: scene: a break between scenes, without words; note: a footnote or endnote; contents: no more than a link inwards.
Kind = Literal["text", "heading", "scene", "note", "page", "table", "code", "caption", "contents"]
#: What is read only if it is asked for. page: numbers of printed pages, which stand amid paragraphs.
Optional = Literal["note", "page", "table", "code", "caption", "contents"]
OPTIONAL: tuple[Optional, ...] = get_args(Optional)

#: The number of a chapter, as a figure or in words.
NUMBER = (
    r"\d{1,4}|(?-i:[IVXLC]{1,8})|(?:the )?(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|last)"
    r"|(?:(?:twenty|thirty|forty|fifty)[ -]?)?(?:one|two|three|four|five|six|seven|eight|nine)"
    r"|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen|twenty|thirty|forty|fifty"
)
#: A heading whose number and name have no mark between them: books set them in two lines.
_TWO_LINES = re.compile(rf"((?:chapter|part|book|canto|act|appendix) (?:{NUMBER})) (?=(?-i:[A-Z“‘\"]))", re.IGNORECASE)
#: A paragraph of marks alone parts two scenes.
_SCENE = re.compile(r"[\s*#~•·⁂❦❧☙✻✽※§=_—–-]{1,40}")


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of a chapter."""

    text: str  # single-spaced, lines kept; may hold tags such as [voice:rowan]; empty between scenes
    kind: Kind = "text"
    anchors: tuple[str, ...] = ()  # ids in it, by which the navigation points to it
    level: int = 0  # of a heading, 1 to 6


@dataclass(frozen=True)
class Chapter:
    """A chapter of a book."""

    title: str  # one line
    paragraphs: list[Paragraph]

    @property
    def characters(self) -> int:
        """How many are to be read."""
        return sum(len(paragraph.text) for paragraph in self.paragraphs)


@dataclass(frozen=True)
class Cover:
    """A picture as it lies in the book."""

    data: bytes
    kind: Literal["jpeg", "png"]
    width: int  # pixels
    height: int


@dataclass(frozen=True)
class Book:
    """A book, ready to be read aloud."""

    title: str
    chapters: list[Chapter]
    author: str = ""
    language: str = ""  # as the book gives it, such as ``en-GB``; empty if it does not
    date: str = ""  # of publication, as the book gives it
    description: str = ""
    cover: Cover | None = None
    warnings: list[str] = field(default_factory=list)  # what was left out or guessed, a line each


def chosen(paragraphs: list[Paragraph], include: Collection[str]) -> list[Paragraph]:
    """The paragraphs that are read: of the optional kinds those that are included, no break at an end or twice."""
    kept: list[Paragraph] = []
    for paragraph in paragraphs:
        if paragraph.kind in OPTIONAL and paragraph.kind not in include:
            continue
        if paragraph.kind == "scene" and (not kept or kept[-1].kind in ("scene", "heading")):
            continue
        kept.append(paragraph)
    while kept and kept[-1].kind == "scene":
        kept.pop()
    return kept


def paragraph_of(text: str, kind: Kind = "text", anchors: tuple[str, ...] = ()) -> Paragraph | None:
    """A paragraph of a text, which may turn out a break between scenes; None if the text is blank.

    A heading becomes one line, with a full stop between a number and a name that have nothing else between them.
    """
    text = text.strip()
    if not text:
        return None
    if kind == "text" and _SCENE.fullmatch(text):
        return Paragraph("", "scene", anchors)
    if kind == "heading":
        line = " ".join(text.split())
        text = _TWO_LINES.sub(r"\1. ", line, count=1) if _TWO_LINES.match(line) else line
    return Paragraph(text, kind, anchors)


def title_line(text: str, most: int = 200) -> str:
    """A title in one line, not too long."""
    line = " ".join(printable_line(text).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def select(chapters: list[Chapter], numbers: str | None) -> list[tuple[int, Chapter]]:
    """Chapters with their numbers from 1; ``numbers`` such as ``3-7,9`` or ``12-`` takes some, in the book's order.

    Raises UserError if it names no chapter of the book.
    """
    numbered = list(enumerate(chapters, 1))
    if numbers is None:
        return numbered
    wanted: set[int] = set()
    for part in numbers.split(","):
        match = re.fullmatch(r"\s*(\d{1,6})?\s*(-)?\s*(\d{1,6})?\s*", part)
        if not match or not (match[1] or match[3]) or (not match[2] and not match[1]):
            raise UserError(f"{part.strip()!r} names no chapters: write 3, 3-7, 3- or several with commas")
        first = int(match[1] or 1)
        last = int(match[3]) if match[3] else len(chapters) if match[2] else first
        if not 1 <= first <= last or first > len(chapters):
            raise UserError(f"no chapters {part.strip()!r}: the book has 1 to {len(chapters)}; --list shows them")
        wanted.update(range(first, min(last, len(chapters)) + 1))
    return [(number, chapter) for number, chapter in numbered if number in wanted]
