"""Pages of HTML to paragraphs, each with its kind; what is no part of the spoken text is known by its element.

EPUB says what an element is by ``epub:type`` or ``role`` (EPUB Structural Semantics Vocabulary, DPUB-ARIA); older books
by its class.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace

from chelys.audiobook.book import Kind, Paragraph, paragraph_of
from chelys.text.html import BLOCKS, HTMLReader, tags_alone

_KINDS: dict[str, Kind] = {
    **dict.fromkeys("h1 h2 h3 h4 h5 h6".split(), "heading"), "table": "table", "pre": "code",
    "figcaption": "caption",
}  # fmt: skip
_NOTES = re.compile(r"(?:^|\s)(?:doc-)?(?:(?:foot|end|rear)notes?|fn-?(?:list|text|block))(?:\s|$)", re.IGNORECASE)
_PAGES = re.compile(r"(?:^|\s)(?:doc-)?(?:page-?(?:break|num(?:ber)?|no))(?:\s|$)", re.IGNORECASE)
_REFERENCES = re.compile(
    r"(?:^|\s)(?:doc-)?(?:noteref|footnote-?ref(?:erence)?|fn-?(?:anchor|ref))(?:\s|$)", re.IGNORECASE
)
_CAPTIONS = re.compile(r"(?:^|\s)(?:fig(?:ure)?-?)?caption(?:\s|$)", re.IGNORECASE)
_CONTENTS = re.compile(r"(?:^|\s)(?:doc-)?(?:toc|index)(?:\s|$)")
#: What stands around a page for the reader on a screen: menus, footers, the address behind a link (Sphinx).
_AROUND = re.compile(r"(?:^|\s)(?:navigation|contentinfo|search|link-target)(?:\s|$)")
#: Classes of DocBook, SiSU and others for blocks that HTML has elements for.
_CLASSES: dict[str, Kind] = {
    **dict.fromkeys(("code", "code-block", "literal-block", "programlisting", "screen"), "code"),
    "table": "table", "informaltable": "table", "figure": "caption",
}  # fmt: skip
#: Above a table of contents.
CONTENTS_TITLE = re.compile(r"(?:table of )?contents", re.IGNORECASE)
#: The text of a link to a note: a figure or mark in brackets, or as it is if it is raised.
_MARK = re.compile(r"\s*[\[(]\s*(?:\d{1,4}|[a-z*†‡§])\s*[\])]\s*")
_RAISED_MARK = re.compile(r"\s*\^?[\[(]?\s*(?:\d{1,4}|[a-z]|[*†‡§¶]{1,3})\s*[\])]?\s*")
_MOST_LINKS = 20  # within one another; what never ends is none
_ITEM, _ITEM_BEGIN = re.compile(r"\d{1,9}\."), re.compile(r"^(\d{1,9}\.)\s+")
_OUTWARD = re.compile(r"\s*[a-z][a-z0-9+.-]{1,20}:|\s*//", re.IGNORECASE)
#: A document type with declarations of its own, at the beginning of a page.
_DECLARATIONS = re.compile(r"\s*(?:<\?xml[^<>]{0,500}>)?\s*<!DOCTYPE[^\[<>]{0,1000}\[", re.IGNORECASE)
#: Left out with all that is in them.
_SILENT = frozenset({"title", "nav", "rt", "rp", "form", "button"})
_VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())
#: Ended by the next of its kind, if its own end is missing.
_SELF_ENDING = frozenset("p h1 h2 h3 h4 h5 h6 li dd dt".split())


@dataclass
class Open:
    """An element that says what is in it; others of its name inside are counted."""

    tag: str
    kind: Kind | None  # None hides it
    depth: int = 1


@dataclass(frozen=True)
class Page:
    """What a page of HTML says."""

    title: str  # of its head
    paragraphs: list[Paragraph]
    linked: int  # characters of them that are links into the book


def read_page(html: str, include: Collection[str], *, keep_lines: bool = False) -> Page:
    """Paragraphs of a page, of all kinds. ``include``: with ``page``, page numbers are read where they stand.

    ``keep_lines``: line ends are those of the text, not mere spaces.
    """
    if (match := _DECLARATIONS.match(html)) and (end := html.find("]>", match.end())) >= 0:
        html = html[end + 2 :]
    reader = _PageReader(keep_lines=keep_lines, pages="page" in include)
    reader.feed(tags_alone(html))
    reader.close()
    reader.flush()
    title = re.search(r"<title[^<>]{0,200}>([^<]{0,1000})</title", html, re.IGNORECASE)
    return Page(_plain(title[1]) if title else "", _titles_of_contents(reader.paragraphs), reader.linked)


def _titles_of_contents(paragraphs: list[Paragraph]) -> list[Paragraph]:
    """Count the heading of a table of contents as part of it."""
    found = list(paragraphs)
    for place, (one, following) in enumerate(zip(paragraphs, paragraphs[1:], strict=False)):
        if following.kind == "contents" and CONTENTS_TITLE.fullmatch(one.text):
            found[place] = replace(one, kind="contents", level=0)
    return found


def _plain(text: str) -> str:
    from html import unescape

    return " ".join(unescape(text).split())


class _PageReader(HTMLReader):
    """Cuts the text of a page at its blocks."""

    def __init__(self, *, keep_lines: bool, pages: bool) -> None:
        super().__init__(keep_lines=keep_lines)
        self.paragraphs: list[Paragraph] = []
        self.linked = 0
        self._pages = pages
        self._open: list[Open] = []
        self._anchors: list[str] = []
        self._links: list[tuple[str, int, bool]] = []  # open links into the book: where to, first piece, raised
        self._linked = 0  # characters of the paragraph that are links into the book
        self._raised = 0
        self._level = 0

    @property
    def _kind(self) -> Kind:
        return next((one.kind for one in reversed(self._open) if one.kind), "text")

    @property
    def _hidden(self) -> bool:
        return bool(self._open) and self._open[-1].kind is None

    def flush(self) -> None:
        """End a paragraph here."""
        text = self.text()
        if _ITEM.fullmatch(text):  # the number of an item, whose text is yet to come
            return
        text = _ITEM_BEGIN.sub(r"\1 ", text)
        kind = self._kind
        if kind == "text" and self._linked and self._linked >= _size(_ITEM_BEGIN.sub("", text)):
            kind = "contents"
        self.pieces.clear()
        self.linked += self._linked
        self._linked = 0
        for part in text.split("\n\n"):
            if made := paragraph_of(part, kind, tuple(self._anchors)):
                level = self._level if made.kind == "heading" else 0
                self.paragraphs.append(Paragraph(made.text, made.kind, made.anchors, level))
                self._anchors.clear()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        top = self._open[-1] if self._open else None
        if top is not None and top.tag == tag and tag in _SELF_ENDING:
            self._close()
            top = self._open[-1] if self._open else None
        if self._hidden:
            assert top is not None
            top.depth += tag == top.tag
            return
        if cuts := self._cuts(tag):
            self.flush()
        self._anchors += [given[name] for name in ("id", "name") if given.get(name) and len(self._anchors) < 1000]
        if tag == "hr":
            self.paragraphs.append(Paragraph("", "scene"))
            return
        if tag in _VOID:
            if tag == "br":
                super().handle_starttag(tag, attrs)
            return
        kind = self._kind_of(tag, given)
        if kind != "text":
            if kind is not None and not cuts:
                self.flush()
            self._open.append(Open(tag, kind))
            if tag[0] == "h" and tag[1:].isdigit():
                self._level = int(tag[1])
        elif top is not None:
            top.depth += tag == top.tag
        if kind is None:
            return
        if tag == "a" and given.get("href") and len(self._links) < _MOST_LINKS and not _OUTWARD.match(given["href"]):
            self._links.append((given["href"], len(self.pieces), bool(self._raised)))
        if tag == "sup":
            self._raised += 1
            self._links = [(href, first, True) for href, first, _ in self._links]
        if tag in BLOCKS and not cuts:  # a row of a table is a paragraph
            self.pieces.append(" ")
        elif tag != "code":  # a block of code is read if it is asked for
            super().handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if not self._hidden:
            if self._cuts(tag):
                super().handle_endtag(tag)
                self.flush()
            elif tag in BLOCKS:
                self.pieces.append(" ")
            else:
                super().handle_endtag(tag)
            if tag == "sup" and self._raised:
                self._raised -= 1
            if tag == "a" and self._links:
                self._end_link()
        if self._open and self._open[-1].tag == tag:
            self._open[-1].depth -= 1
            if not self._open[-1].depth:
                self._close()

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            super().handle_data(data)

    def _cuts(self, tag: str) -> bool:
        """Whether an element ends the paragraph before it."""
        return tag in BLOCKS and (self._kind != "table" or tag in ("table", "tr"))

    def _close(self) -> None:
        """End the innermost element that says what is in it."""
        if self._open[-1].kind is not None:
            self.flush()
        self._open.pop()

    def _end_link(self) -> None:
        """Leave out a link that is no more than the mark of a note."""
        href, first, raised = self._links.pop()
        text = "".join(self.pieces[first:])
        if "#" not in href or not (_RAISED_MARK if raised else _MARK).fullmatch(text):
            self._linked += _size(text)
        else:
            del self.pieces[first:]
            if raised and self.pieces and self.pieces[-1] == "^":
                self.pieces.pop()

    def _kind_of(self, tag: str, given: dict[str, str]) -> Kind | None:
        """What an element says of what is in it: ``text`` is nothing, None that it is not for the ear."""
        what = f"{given.get('epub:type', '')} {given.get('role', '')} {given.get('class', '')}"
        style = given.get("style", "")
        if tag in _SILENT or "hidden" in given or "display:none" in style.replace(" ", "").lower():
            return None
        if _AROUND.search(what) or _REFERENCES.search(what) or (not self._pages and _PAGES.search(what)):
            return None
        if _NOTES.search(what):  # an inline one is the mark of a note (DocBook)
            return None if tag in ("a", "sup") else "note"
        if _CAPTIONS.search(what) or (tag == "caption" and self._kind == "table"):
            return "caption"
        if _CONTENTS.search(f"{given.get('epub:type', '')} {given.get('role', '')}"):
            return "contents"
        if tag in ("p", "div"):
            known = (_CLASSES.get(one) for one in given.get("class", "").split())
            return next((kind for kind in known if kind), "text")
        if tag == "table" and given.get("role") in ("presentation", "none"):
            return "text"
        return _KINDS.get(tag, "text")


def _size(text: str) -> int:
    """Characters but for spaces."""
    return len("".join(text.split()))
