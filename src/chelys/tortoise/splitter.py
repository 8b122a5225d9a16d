"""Long text -> pieces, by the rule of published TorToise (Betker 2022): about ``desired`` characters each.

The rule packs sentences together, because the published networks speak a long piece better than a short one. It knows
no abbreviations; `chelys.text.split` does.
"""

from __future__ import annotations

import re
from typing import Any

from chelys.errors import UserError
from chelys.text.document import Sentence
from chelys.text.split import WORD_PAUSE_S, pause_after

_CLOSING = "\"')]"
_NOTHING = re.compile(r"[\s.,;:!?]*")


def split_tortoise(text: str, *, desired: int = 200, max_chars: int = 300, reference: bool = False) -> list[Sentence]:
    """Cut text at every ``|`` or, where there is none, by the published rule; no piece is empty.

    Args:
        text: As people write it; it has no pieces if it holds nothing to say.
        desired: Characters after which the next end of a sentence ends a piece, 1 or more.
        max_chars: Most characters in a piece, 1 or more.
        reference: Exactly as the original, with no silence between the pieces. Otherwise its faults are mended: it does
            not see the last character; it loses count of quotation marks when it walks back, and where one is missing
            it cuts at no sentence any more; it cuts words and 3.14 in two; a piece between two ``|`` may be of any
            length.

    Raises:
        UserError: If a length is below 1.
    """
    bars = text.split("|")
    if reference:
        pieces = cut(text, desired=desired, max_chars=max_chars, reference=True) if len(bars) == 1 else bars
        return [Sentence(piece, WORD_PAUSE_S) for piece in pieces if piece.strip()]
    pieces = []
    for part in bars:
        part = " ".join(part.split())
        whole = len(bars) > 1 and len(part) <= max_chars
        pieces += [part] if whole else cut(part, desired=desired, max_chars=max_chars)
    spoken = [piece for piece in pieces if any(c.isalnum() or c in "$£€¥%&@+=" for c in piece)]
    pauses = [*map(pause_after, spoken[:-1]), 0.0]
    return [Sentence(piece, pause_s) for piece, pause_s in zip(spoken, pauses, strict=False)]


def split_by_options(text: str, options: Any, *, reference: bool = False) -> list[Sentence]:
    """The same with ``SpeechOptions``: about two thirds of the most characters are desired, as published."""
    return split_tortoise(text, desired=options.max_chars * 2 // 3, max_chars=options.max_chars, reference=reference)


def cut(text: str, *, desired: int, max_chars: int, reference: bool = False) -> list[str]:
    """The published rule, which knows nothing of ``|``; arguments as of `split_tortoise`."""
    for name, value in (("desired", desired), ("max_chars", max_chars)):
        if value < 1:
            raise UserError(f"{name} is {value}; it must be 1 or more characters")
    text = re.sub("[“”]", '"', re.sub(r"\s+", " ", text))
    reader = _Published(text) if reference else _Repaired(text, max_chars)
    pieces: list[str] = []
    start = 0
    marks: list[int] = []  # ends of sentences behind the start
    while reader.end < len(text):
        reader.step()
        length = reader.end - start
        if length >= max_chars:
            if marks and length > desired / 2:
                reader.back_to(marks[-1])
            else:
                reader.back_to_break(start, desired)
        elif reader.quoted:
            if reader.ahead(1) == '"' and reader.ahead(2) in ("", " "):
                reader.step(2)
                marks.append(reader.end)
            continue
        elif reader.ends_sentence:
            while reader.end < len(text) and reader.end - start < max_chars and reader.swallows:
                reader.step()
            marks.append(reader.end)
            if reader.end - start < desired:
                continue
        else:
            continue
        pieces.append(text[start : reader.end])
        start, marks = reader.end, []
    pieces.append(text[start:])
    return [piece.strip() for piece in pieces if not _NOTHING.fullmatch(piece)]


class _Published:
    """Reads character by character, forwards and back, with the original's view of things."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.end = 0  # characters that are read
        self.quoted = False  # whether a quotation is open
        self.visible = len(text) - 1  # looking ahead never sees the last character

    @property
    def here(self) -> str:
        return self.text[self.end - 1]

    def ahead(self, characters: int) -> str:
        """The character so far ahead; nothing at the end of the text."""
        place = self.end - 1 + characters
        return self.text[place] if place < self.visible else ""

    def step(self, characters: int = 1) -> None:
        for _ in range(min(characters, len(self.text) - self.end)):
            self.end += 1
            self._look()

    def back_to(self, end: int) -> None:
        while self.end > end:
            self.end -= 1
            self._look()

    def back_to_break(self, start: int, desired: int) -> None:
        """Walk back to where a sentence too long may be cut, or to so few characters as are desired."""
        while not self.may_break and 1 < self.end > start + desired:
            self.back_to(self.end - 1)

    def _look(self) -> None:
        """A quotation mark opens or closes, also when it is walked back onto; walked back over, it does nothing."""
        if self.here == '"':
            self.quoted = not self.quoted

    @property
    def ends_sentence(self) -> bool:
        return self.here in "!?" or (self.here == "." and self.ahead(1) in ("", " "))

    @property
    def swallows(self) -> bool:
        """Whether the next character belongs to the end of a sentence that is here; so does one that is not seen."""
        return self.ahead(1) in ("", "!", "?", ".")

    @property
    def may_break(self) -> bool:
        """Whether a sentence too long may be cut here."""
        return self.here in "!?. "


class _Repaired(_Published):
    """Sees the last character, and knows from the start which marks belong together."""

    def __init__(self, text: str, max_chars: int) -> None:
        super().__init__(text)
        self.visible = len(text)
        self._inside = _inside_quotations(text, max_chars)

    def _look(self) -> None:
        self.quoted = bool(self._inside[self.end - 1])

    @property
    def ends_sentence(self) -> bool:
        if self.here != ".":
            return self.here in "!?"
        behind = self.end
        while self.text[behind : behind + 1] in tuple(_CLOSING):
            behind += 1
        return self.text[behind : behind + 1] in ("", " ")

    @property
    def swallows(self) -> bool:
        return self.ahead(1) in tuple(f"!?.{_CLOSING}")

    def back_to_break(self, start: int, desired: int) -> None:
        """As far as it takes to save a word; a word longer than a piece is cut where the piece ends."""
        end = self.end
        while not self.may_break and self.end > start + 1:
            self.back_to(self.end - 1)
        if not self.may_break:
            self.step(end - self.end)

    @property
    def may_break(self) -> bool:
        return self.here in "!? " or (self.here == "." and self.ahead(1) in ("", " "))


def _inside_quotations(text: str, max_chars: int) -> bytearray:
    """For every character 1 if it, or its opening mark, stands inside of a quotation.

    A mark opens if a word begins behind it, and closes if one ends before it. One without a partner, or with a partner
    too far away for one piece to hold both, counts for nothing.
    """
    inside = bytearray(len(text))
    opened = -1
    for match in re.finditer('"', text):
        place = match.start()
        before, behind = text[place - 1 : place], text[place + 1 : place + 2]
        if behind.strip() and not (before.strip() and before not in "([-—–"):
            opened = place
        elif opened >= 0:
            if place - opened < max_chars:
                inside[opened:place] = b"\1" * (place - opened)
            opened = -1
    return inside
