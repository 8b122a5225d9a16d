"""HTML and Markdown to plain text: paragraphs parted by empty lines, entities as the characters they stand for.

Markdown becomes HTML first, by markdown-it-py (CommonMark with the tables and strikethrough of GitHub).
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

from chelys.text.formats import BLOCKS
from chelys.text.markup import SOUNDING

#: Left out with all that is in them, which no page shows as text.
_UNSEEN = frozenset("head script style template noscript iframe object svg canvas audio video select textarea".split())


def text_of_html(html: str, warnings: dict[str, None], *, keep_lines: bool = False) -> str:
    """The text that a browser would show, without blocks of code; ``keep_lines``: line ends are not mere spaces."""
    reader = HTMLReader(keep_lines=keep_lines)
    reader.feed(tags_alone(html))
    reader.close()
    if reader.blocks_of_code:
        warnings[f"left out: blocks of code ({reader.blocks_of_code})"] = None
    if reader.unseen:
        warnings[f"left out: what follows <{reader.unseen[0]}>, which never ends"] = None
    return reader.text()


def text_of_markdown(markdown: str, warnings: dict[str, None]) -> str:
    """The text that Markdown shows, without blocks of code and marks of footnotes."""
    return text_of_html(html_of_markdown(markdown, warnings), warnings, keep_lines=True)


def html_of_markdown(markdown: str, warnings: dict[str, None]) -> str:
    """Markdown as HTML, whose line ends are those of the text; marks of footnotes are left out."""
    from markdown_it import MarkdownIt  # late: most texts have none

    markdown, footnotes = re.subn(r"\[\^[^\[\]\s]{1,40}\]:?", "", markdown)
    if footnotes:
        warnings[f"left out: marks of footnotes ({footnotes})"] = None
    markdown = SOUNDING.sub(r"\\[\1\\](/\2/)", markdown)  # no links
    markdown = re.sub(r"(?<=\w)`(?=\w)", "'", markdown)
    markdown = re.sub(r"(?m)^([ \t]{0,20}(?:[-*+]|\d{1,9}[.)])[ \t]+)\[[ xX]\][ \t]+", r"\1", markdown)  # boxes to tick
    markdown = re.sub(r"(?<=\w)~(\w{1,20})~", r"\1", markdown)  # lowered
    markdown = re.sub(r"==(?=\S)([^=\n]{1,400})(?<=\S)==", r"\1", markdown)
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"]).disable("code")
    tokens = parser.parse(markdown)
    for token in tokens:
        if token.type == "list_item_open" and token.info:
            token.attrSet("value", token.info)  # items keep the numbers that they are written with
    html: str = parser.renderer.render(tokens, parser.options, {})
    return html


def tags_alone(html: str) -> str:
    """HTML for a ``HTMLReader``: without comments and declarations, and with ``&lt;`` for what begins no tag.

    The parser of the standard library goes to the end of the text for each of them that does not end.
    """
    pieces, end = [], 0
    while (start := html.find("<!--", end)) >= 0 and (close := html.find("-->", start + 4)) >= 0:
        pieces.append(html[end:start])
        end = close + 3
    html = "".join(pieces) + html[end:]
    html = re.sub(r"<[!?][^<>]{0,5000}>", "", html)
    return re.sub(r"<(?!/?[a-zA-Z][^<>]{0,5000}>)", "&lt;", html)


class HTMLReader(HTMLParser):
    """Collects the text of HTML, however broken it is."""

    def __init__(self, *, keep_lines: bool) -> None:
        super().__init__(convert_charrefs=True)
        self.keep_lines = keep_lines
        self.blocks_of_code = 0
        self.pieces: list[str] = []  # the text so far
        self.unseen: list[str] = []  # open elements that hide what is in them
        self._preformatted = 0  # how many are open
        self._lists: list[int | None] = []  # open lists: the number of the next item, None where they have none
        self._cells = 0  # of the row so far

    def text(self) -> str:
        """All of it, an empty line between paragraphs."""
        lines = (" ".join(line.split()) for line in "".join(self.pieces).split("\n"))
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "code" and self._preformatted:
            self.blocks_of_code += not self.unseen
            self.unseen.append(tag)
        elif tag in _UNSEEN:
            self.unseen.append(tag)
        if self.unseen:
            return
        if tag in BLOCKS:
            self.pieces.append("\n\n")
            self._preformatted += tag == "pre"
        if tag in ("ol", "ul", "menu"):
            start = dict(attrs).get("start") or "1"
            self._lists.append(int(start) if tag == "ol" and re.fullmatch(r"\d{1,9}", start) else None)
        elif tag == "li" and self._lists and (number := self._lists[-1]) is not None:
            value = dict(attrs).get("value") or ""
            number = int(value) if re.fullmatch(r"\d{1,9}", value) else number
            self.pieces.append(f"{number}. ")
            self._lists[-1] = number + 1
        elif tag == "tr":
            self._cells = 0
        elif tag in ("td", "th"):
            while self._cells and self.pieces and self.pieces[-1].isspace():
                self.pieces.pop()
            self.pieces.append(", " if self._cells else "")
            self._cells += 1
        elif tag == "br":
            self.pieces.append("\n")
        elif tag == "img":
            self.pieces.append(f" {dict(attrs).get('alt') or ''} ")
        elif tag == "sup" and self.pieces and self.pieces[-1][-1:].isdigit():
            self.pieces.append("^")
        elif tag == "q":
            self.pieces.append('"')

    def handle_endtag(self, tag: str) -> None:
        if self.unseen:
            if tag == self.unseen[-1]:
                self.unseen.pop()
            return
        if tag in BLOCKS:
            self.pieces.append("\n\n")
            self._preformatted -= tag == "pre" and self._preformatted > 0
        if tag in ("ol", "ul", "menu") and self._lists:
            self._lists.pop()
        elif tag == "q":
            self.pieces.append('"')

    def handle_data(self, data: str) -> None:
        if not self.unseen:
            self.pieces.append(data if self.keep_lines or self._preformatted else re.sub(r"\s+", " ", data))
