"""Who says what is quoted: a table of speakers and their voices, and how the text names them.

::

    # a speaker, a tab, a voice; other names of the speaker after commas
    Alice           ivy
    Rabbit, White Rabbit    elm
    *               hazel

A quotation belongs to the speaker that its paragraph names beside a verb of speech ("said Alice", "Alice asked"). In a
dialogue, paragraphs without a name go to the other of the last two speakers. What is left goes to ``*``, or to the
narrator.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from chelys.errors import UserError, first_line
from chelys.files import read_text

_LARGEST_TABLE = 1 << 20
_VOICE = re.compile(r"[^\s\[\]]{1,100}")
_QUOTED = re.compile(r'“[^“”]{1,20000}(?:”|$)|"[^"]{1,20000}(?:"|$)')
_SINGLE = re.compile(r"‘[^‘]{1,20000}?(?:’(?![a-zA-Z])|$)")
_VERBS = (
    "said|says|asked|asks|replied|replies|answered|cried|cries|shouted|whispered|muttered|murmured|exclaimed|added|"
    "continued|began|remarked|observed|returned|inquired|enquired|demanded|called|sighed|laughed|thought|repeated|"
    "insisted|admitted|agreed|warned|told|went on|interrupted|screamed|yelled|gasped|growled|snapped|explained"
)
_NEAR = 80  # characters beside a quotation in which its speaker is looked for


class Speakers:
    """A table of speakers. ``directed`` goes through a text, paragraph by paragraph."""

    def __init__(self, voices: Mapping[str, str]) -> None:
        """``voices``: names of speakers, ``*`` for all others, -> voices."""
        self._others = voices.get("*", "")
        self._voices = {name.lower(): voice for name, voice in voices.items() if name != "*"}
        named = "|".join(re.escape(name) for name in sorted(self._voices, key=len, reverse=True)) or r"(?!)"
        verb, article = rf"(?:{_VERBS})\b", r"(?:(?:the|old|young|little|poor) ){0,2}"
        self._behind = re.compile(
            rf"[\s,—–-]*(?:{verb}(?: \w+ly)? {article}({named})\b|{article}({named})(?: \w+ly)? {verb})", re.IGNORECASE
        )
        self._before = re.compile(rf"\b({named})\b[^.!?“\"]{{0,40}}\b{verb}[^.!?“\"]{{0,30}}[,:]\s*$", re.IGNORECASE)
        self._last: list[str] = []  # the last two speakers of this dialogue, the latest first
        self._open = ""  # who speaks on in the next paragraph

    @classmethod
    def load(cls, path: Path) -> Speakers:
        """Read a table. Raises UserError if there is none, or a line says something else; it is named."""
        try:
            lines = read_text(path, _LARGEST_TABLE).removeprefix("\ufeff").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"no table of speakers at {path} ({first_line(error)}): give UTF-8 lines 'name<TAB>voice'"
            ) from None
        voices: dict[str, str] = {}
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith("#"):
                continue
            names, _, voice = line.partition("\t")
            if not names.strip() or not _VOICE.fullmatch(voice.strip()):
                raise UserError(f"{path}, line {number}: expected 'name<TAB>voice', found {line[:40]!r}")
            voices |= {name.strip(): voice.strip() for name in names.split(",") if name.strip()}
        return cls(voices)

    @property
    def voices(self) -> list[str]:
        """All voices of the table."""
        return list(dict.fromkeys([*self._voices.values(), *([self._others] if self._others else [])]))

    def forget(self) -> None:
        """Begin a chapter: nobody has spoken yet."""
        self._last, self._open = [], ""

    def directed(self, text: str, narrator: str = "") -> str:
        """A paragraph with tags for the voices of its quotations; ``narrator``: the voice of the rest, by its tag."""
        spans = [match.span() for match in _QUOTED.finditer(text)]
        spans = spans or [match.span() for match in _SINGLE.finditer(text)]
        if not spans:
            self.forget()
            return text
        voice = self._voice_of(text, spans)
        unclosed = text[spans[-1][1] - 1] not in '”"’' or spans[-1][1] - spans[-1][0] < 2
        self._open = voice if unclosed else ""
        if not voice:
            return text
        pieces, end = [], 0
        for start, stop in spans:
            pieces += [text[end:start], f"[voice:{voice}]", text[start:stop], f"[voice:{narrator}]"]
            end = stop
        return "".join([*pieces, text[end:]])

    def _voice_of(self, text: str, spans: list[tuple[int, int]]) -> str:
        who = ""
        for place, (start, stop) in enumerate(spans):
            until = spans[place + 1][0] if place + 1 < len(spans) else len(text)
            since = spans[place - 1][1] if place else 0
            match = self._behind.match(text[stop : min(until, stop + _NEAR)]) or self._before.search(
                text[max(since, start - _NEAR) : start]
            )
            if match:
                who = next(name for name in match.groups() if name).lower()
                break
        if not who and self._open:
            return self._open
        if not who and len(self._last) == 2 and not text[: spans[0][0]].strip():
            who = self._last[1]
        if not who:
            return self._others
        self._last = [who, *(name for name in self._last if self._voices[name] != self._voices[who])][:2]
        return self._voices[who]
