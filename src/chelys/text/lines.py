"""Lines and paragraphs: where the end of a line ends a sentence, and where it is only the edge of the page."""

from __future__ import annotations

import re
from collections.abc import Iterator

#: Text is wrapped at no fewer letters than these.
NARROWEST_PAGE = 40
#: A list of words may be in small letters; so many words a line has at most, and so many lines at least.
_WORDS_OF_AN_ITEM, _ITEMS = 2, 3

_ITEM = re.compile(r"(?:[-*+•‣◦–—]|\(?\d{1,3}[.)]|\(?[a-z]\)) ")
_BEGINS = re.compile(r"[\"'“‘(\[]{0,2}[A-Z\d\u00c0-\u00de]")
_RUNS_ON = re.compile(
    r"(?:[,;:&/–—-]|\b(?:a|an|and|as|at|by|for|from|in|into|my|of|on|or|the|their|to|with|your|[A-Z][a-z]{0,4}\.))$"
)

#: A stop and the sentence behind it, the space forgotten ("It ended.Nobody spoke.").
FORGOTTEN_SPACE = re.compile(r"(?:(?<=[a-z]{2}[.!?])|(?<=[a-z]{2}[.!?]”))(?=[A-Z](?:[a-z]|['’][a-z]| ))")


def paragraphs(text: str) -> Iterator[list[str]]:
    """Runs of lines that are not empty, single-spaced; each in stretches, at whose ends a sentence ends."""
    lines: list[str] = []
    for line in [*text.splitlines(), ""]:
        words = " ".join(line.split())
        if words:
            lines.append(words)
        elif lines:
            yield list(_stretches(lines))
            lines = []


def _stretches(lines: list[str]) -> Iterator[str]:
    width = max(NARROWEST_PAGE, *map(len, lines))
    items = len(lines) >= _ITEMS and all(line.count(" ") < _WORDS_OF_AN_ITEM for line in lines)
    joined = [lines[0]]
    for last, line in zip(lines, lines[1:], strict=False):
        if _ITEM.match(line) or (not _RUNS_ON.search(last) and (items or _parts(last, line, width))):
            yield " ".join(joined)
            joined = []
        joined.append(line)
    yield " ".join(joined)


def _parts(last: str, line: str, width: int) -> bool:
    """Whether a line begins anew although there was room for its first word in the line before."""
    return _BEGINS.match(line) is not None and len(last) + 1 + len(line.partition(" ")[0]) <= width


def in_one_line(text: str) -> str:
    """The text in a line, with a stop where a paragraph or a line ends a sentence without one."""
    if len(text.splitlines()) < 2:
        return " ".join(text.split())
    return " . ".join(" . ".join(stretches) for stretches in paragraphs(text))
