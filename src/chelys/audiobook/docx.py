"""DOCX (Office Open XML, ECMA-376): paragraphs in order, headings by their styles."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from chelys.audiobook.archive import Archive, local, open_archive, parse_xml
from chelys.audiobook.book import Kind, Paragraph, paragraph_of
from chelys.errors import TextError

_DOCUMENT, _NOTES = "word/document.xml", ("word/footnotes.xml", "word/endnotes.xml")
_HEADING = re.compile(r"(?:heading|title) ?(\d?)", re.IGNORECASE)
#: Formulas, pictures and text that was deleted or moved away.
_SILENT = frozenset({"del", "moveFrom", "oMath", "drawing", "pict", "object", "instrText", "delText"})


def read_docx(source: Path | BinaryIO, name: str) -> tuple[list[Paragraph], dict[str, str]]:
    """Paragraphs of a document, of all kinds, and what it says of itself: title, creator, language, description.

    Raises TextError if it is no DOCX, damaged or encrypted.
    """
    with open_archive(source, name, "DOCX (an encrypted one is none)") as archive:
        if _DOCUMENT not in archive:
            raise TextError(f"{name} is no DOCX: {_DOCUMENT} is missing in it")
        styles = _styles(archive)
        body = next(iter(parse_xml(archive.read(_DOCUMENT), f"{name}: {_DOCUMENT}")), None)
        paragraphs = [] if body is None else list(_paragraphs(body, styles))
        for path in _NOTES:
            if path in archive:
                notes = parse_xml(archive.read(path), f"{name}: {path}")
                found = (paragraph_of(_spoken_text(one), "note") for one in notes.iter() if local(one.tag) == "p")
                paragraphs += [one for one in found if one is not None]
        core = "docProps/core.xml"
        about = parse_xml(archive.read(core), f"{name}: {core}") if core in archive else ()
        return paragraphs, {local(one.tag): " ".join((one.text or "").split()) for one in about}


def _styles(archive: Archive) -> dict[str, str]:
    """Id of a style -> its name, which does not depend on the language of the program."""
    path = "word/styles.xml"
    if path not in archive:
        return {}
    found = {}
    for style in parse_xml(archive.read(path), f"{archive.name}: {path}").iter():
        if local(style.tag) == "style":
            names = (_value(one) for one in style if local(one.tag) == "name")
            found[_attribute(style, "styleId")] = next(names, "")
    return found


def _paragraphs(body: Any, styles: dict[str, str]) -> Iterator[Paragraph]:
    ahead = [(body, False)]  # and whether it stands in a table
    while ahead:
        block, in_table = ahead.pop()
        if local(block.tag) == "p":
            style = next((_value(one) for one in block.iter() if local(one.tag) == "pStyle"), "")
            name = styles.get(style, style).lower()
            heading = _HEADING.match(name)
            kind: Kind = "heading" if heading else "caption" if name == "caption" else "text"
            if made := paragraph_of(_spoken_text(block), "table" if in_table else kind):
                level = int(heading[1] or 1) if heading and made.kind == "heading" else 0
                yield Paragraph(made.text, made.kind, (), level)
        else:
            in_table = in_table or local(block.tag) == "tbl"
            ahead += [(child, in_table) for child in reversed(list(block))]


def _spoken_text(paragraph: Any) -> str:
    """The text of a paragraph: its runs, without what no reader sees."""
    pieces: list[str] = []
    ahead = [paragraph]
    while ahead:
        one = ahead.pop()
        tag = local(one.tag)
        if tag in _SILENT:
            continue
        if tag == "t":
            pieces.append(one.text or "")
        elif tag in ("tab", "br", "cr", "noBreakHyphen"):
            pieces.append("-" if tag == "noBreakHyphen" else " " if tag == "tab" else "\n")
        ahead += reversed(list(one))
    return "".join(pieces)


def _value(element: Any) -> str:
    return _attribute(element, "val")


def _attribute(element: Any, name: str) -> str:
    return next((value for key, value in element.attrib.items() if local(key) == name), "")
