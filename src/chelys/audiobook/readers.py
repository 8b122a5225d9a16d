"""A file of any kind to a book."""

from __future__ import annotations

import io
import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from chelys.audiobook.book import NUMBER, Book, Chapter, Paragraph, chosen, paragraph_of, title_line
from chelys.audiobook.docx import read_docx
from chelys.audiobook.epub import decode, read_epub
from chelys.audiobook.pages import read_page
from chelys.errors import TextError, UserError, first_line
from chelys.files import read_bytes

FORMATS = ("epub", "docx", "html", "markdown", "text")
_SUFFIXES = {
    ".epub": "epub", ".docx": "docx", ".html": "html", ".htm": "html", ".xhtml": "html", ".md": "markdown",
    ".markdown": "markdown", ".txt": "text", "": "text",
}  # fmt: skip
#: Bytes of a file that is a single text.
MAX_TEXT = 64 << 20
#: A paragraph of plain text that is the head of a chapter, with its name behind it or in the next line.
_HEADING = re.compile(
    rf"(?:(?:chapter|part|book|canto|act|section) (?:{NUMBER})\b[.:—–-]?(?: [^\n]{{1,80}})?"
    r"|(?:prologue|epilogue|preface|foreword|introduction|afterword|conclusion|appendix)[.:]?(?: [^\n]{1,60})?"
    r"|(?-i:[IVXLC]{1,8})\.?|\d{1,3}\.)(?:\n[^\n]{1,80})?",
    re.IGNORECASE,
)
#: What Project Gutenberg puts around a text.
_BEGIN = re.compile(r"\*\*\* ?START OF TH(?:E|IS) PROJECT GUTENBERG[^\n]*\*\*\*")
_END = re.compile(r"\*\*\* ?END OF TH(?:E|IS) PROJECT GUTENBERG")


def read_book(source: Path | bytes, *, format: str = "auto", include: Collection[str] = ()) -> Book:
    """Read a book: EPUB, DOCX, HTML, Markdown or plain text.

    ``source``: a file, or the bytes of one. ``format``: one of ``FORMATS``; ``auto`` goes by the suffix, and for bytes
    by what they look like. ``include``: kinds of paragraphs that are read besides text and headings (``OPTIONAL``).

    Raises TextError if it cannot be read or has nothing to read; UserError if the format is unknown.
    """
    name = source.name if isinstance(source, Path) else "standard input"
    if format == "auto":
        format = _format_of(source)
    if format not in FORMATS:
        raise UserError(f"unknown format {format!r}: choose from {', '.join(FORMATS)}")
    try:
        if format == "epub":
            book = read_epub(io.BytesIO(source) if isinstance(source, bytes) else source, name, include)
        elif format == "docx":
            paragraphs, about = read_docx(io.BytesIO(source) if isinstance(source, bytes) else source, name)
            book = _cut(paragraphs, name)
            book = replace(
                book, title=title_line(about.get("title", "")) or book.title,
                author=title_line(about.get("creator", "")),
                language=about.get("language", "")[:35], description=about.get("description", "")[:2000],
            )  # fmt: skip
        else:
            data = source if isinstance(source, bytes) else read_bytes(source, MAX_TEXT)
            book = _of_text(data, format, name, include)
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise TextError(f"{source if isinstance(source, Path) else name} cannot be read: {reason}") from None
    chapters = [replace(one, paragraphs=chosen(one.paragraphs, include)) for one in book.chapters]
    kept = [one for one in chapters if any(paragraph.kind != "scene" for paragraph in one.paragraphs)]
    if not kept:
        raise TextError(f"{name} holds no text to read")
    if empty := len(chapters) - len(kept):
        book.warnings.append(f"left out: chapters without text ({empty})")
    return replace(book, chapters=kept)


def _format_of(source: Path | bytes) -> str:
    if isinstance(source, Path):
        format = _SUFFIXES.get(source.suffix.lower())
        if format is None:
            raise UserError(
                f"{source.name}: no book that chelys knows; name what it is with --from {'|'.join(FORMATS)}"
            )
        return format
    if source[:4] == b"PK\x03\x04":
        return "docx" if b"word/" in source[:4096] and b"mimetypeapplication/epub" not in source[:100] else "epub"
    from chelys.text.front_end import format_of

    found = format_of(source[: 1 << 16].decode("utf-8", "replace"))
    return found if found in FORMATS else "text"


def _of_text(data: bytes, format: str, name: str, include: Collection[str]) -> Book:
    if len(data) > MAX_TEXT:
        raise TextError(f"{name} is larger than {MAX_TEXT >> 20} MiB: cut it into parts")
    if b"\0" in data[:4096] and data[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        raise TextError(f"{name} is no text: name what it is with --from {'|'.join(FORMATS)}")
    text, guessed = decode(data)
    warnings: dict[str, None] = dict.fromkeys([f"{name} is no UTF-8: read as Windows-1252"] if guessed else [])
    if format == "text":
        book = _cut(_plain_paragraphs(text), name)
    else:
        if format == "markdown":
            from chelys.text.html import html_of_markdown

            text = html_of_markdown(text, warnings)
        page = read_page(text, include, keep_lines=format == "markdown")
        book = _cut(page.paragraphs, name)
        if page.title:
            book = replace(book, title=title_line(page.title))
    return replace(book, warnings=[*warnings])


def _plain_paragraphs(text: str) -> list[Paragraph]:
    """Paragraphs parted by empty lines; those that look like the head of a chapter are headings."""
    if begin := _BEGIN.search(text):
        text = text[begin.end() :]
    if end := _END.search(text):
        text = text[: end.start()]
    found = []
    for block in re.split(r"\n[ \t\r\f\v]*\n\s*", text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n\n")):
        block = block.strip()
        heading = len(block) < 170 and _HEADING.fullmatch(block) is not None
        if made := paragraph_of(block, "heading" if heading else "text"):
            found.append(replace(made, level=2 if heading else 0))
    return found


def _cut(paragraphs: list[Paragraph], name: str) -> Book:
    """A book of paragraphs without navigation: a single heading of the first level is its title, others begin chapters.

    Chapters begin at the highest level that has several headings, and at those above it.
    """
    title = Path(name).stem if name != "standard input" else ""
    levels = [one.level for one in paragraphs if one.kind == "heading"]
    several = [level for level in sorted(set(levels)) if levels.count(level) > 1]
    deepest = several[0] if several else max(levels, default=0)
    top = [one for one in paragraphs if one.level == min(levels, default=0) and one.kind == "heading"]
    if len(top) == 1 and paragraphs[0] == top[0] and deepest > top[0].level:
        title = title_line(top[0].text)
    chapters: list[Chapter] = []
    for one in paragraphs:
        begins = one.kind == "heading" and one.level <= deepest
        if begins and chapters and all(0 < before.level < one.level for before in chapters[-1].paragraphs):
            above = chapters[-1]  # the title of the book, or of a part, that its first chapter follows at once
            named = one.text if above.title == title else f"{above.title}: {one.text}"
            chapters[-1] = Chapter(title_line(named), above.paragraphs)
        elif begins or not chapters:
            chapters.append(Chapter(title_line(one.text if begins else title or "Beginning"), []))
        chapters[-1].paragraphs.append(one)
    return Book(title or (chapters[0].title if chapters else ""), chapters)
