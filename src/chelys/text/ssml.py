"""SSML 1.1 (W3C 2010): the elements that people use. What has no meaning here is read or left out, with a warning.

No document type, no entities, nothing fetched: defusedxml refuses them, and the parser keeps no tree.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from chelys.errors import TextError
from chelys.text.document import FASTEST, SLOWEST
from chelys.text.markup import Part, Pause, TextRun, read_pause
from chelys.text.numbers import cardinal, ordinal
from chelys.text.split import CLAUSE_PAUSE_S, PARAGRAPH_PAUSE_S, PHRASE_PAUSE_S, SENTENCE_PAUSE_S

#: Open elements at a time.
DEEPEST = 64

_BORDERS = {"p": PARAGRAPH_PAUSE_S, "paragraph": PARAGRAPH_PAUSE_S, "s": SENTENCE_PAUSE_S, "sentence": SENTENCE_PAUSE_S}
_STRENGTHS = {
    "none": 0.0, "x-weak": PHRASE_PAUSE_S, "weak": CLAUSE_PAUSE_S, "medium": SENTENCE_PAUSE_S,
    "strong": PARAGRAPH_PAUSE_S, "x-strong": 2 * PARAGRAPH_PAUSE_S,
}  # fmt: skip
_RATES = {"x-slow": 0.5, "slow": 0.75, "medium": 1.0, "default": 1.0, "fast": 1.5, "x-fast": 2.0}
#: Their text is not meant to be heard.
_UNSPOKEN = frozenset(("desc", "lexicon", "meta", "metadata"))
#: Their text is read, and nothing is lost but what their attributes ask for.
_PLAIN = frozenset(("token", "w"))
#: Their text stands apart from that around them.
_APART = frozenset(("audio", "say-as"))
#: Their text is taken as one word or figure.
_WHOLE = frozenset(("phoneme", "say-as", "sub"))

_MONTHS = "January February March April May June July August September October November December".split()


def read_ssml(text: str, warnings: dict[str, None]) -> list[Part]:
    """Runs and pauses of an SSML document. Raises TextError if it is none, or has what is not safe to read."""
    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import ParseError, XMLParser

    reader = _SSMLReader(warnings)
    try:
        parser = XMLParser(target=reader, forbid_dtd=True)
        whole = text.encode("utf8", "replace").decode("utf8")  # half a surrogate pair is no text
        parser.feed(whole.lstrip("\ufeff \t\r\n"))
        parser.close()
    except DefusedXmlException:
        raise TextError("the SSML has a document type or entities, which are not read: write the text itself") from None
    except ParseError as error:
        line, column = error.position
        reason = re.sub(r": line \d+, column \d+", "", str(error))
        raise TextError(f"the SSML is not well formed: {reason} (line {line}, column {column + 1})") from None
    return reader.parts


@dataclass
class _Element:
    """An open element, and how its text is said."""

    name: str
    attributes: dict[str, str]
    rate: float = 1.0
    voice: str | None = None
    spoken: bool = True
    text: list[str] = field(default_factory=list)  # of elements that are taken as a whole


class _SSMLReader:
    """What the XML parser calls."""

    def __init__(self, warnings: dict[str, None]) -> None:
        self.parts: list[Part] = []
        self.warnings = warnings
        self._open: list[_Element] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        name = tag.rpartition("}")[2].lower()
        if not self._open and name != "speak":
            raise TextError(f"the SSML begins with <{name[:40]}>: an SSML document is <speak> ... </speak>")
        if len(self._open) == DEEPEST:
            raise TextError(f"the elements of the SSML stand in one another more than {DEEPEST} deep")
        around = self._open[-1] if self._open else _Element("", {})
        attributes = {key.rpartition("}")[2].lower(): value for key, value in attributes.items()}
        element = replace(around, name=name, attributes=attributes, text=[])
        if name in _APART and self._open and around.name not in _WHOLE:
            self._say(TextRun(" "))
        self._open.append(element)
        if around.name in _WHOLE:
            self._warn(f"<{name}> within <{around.name}> is ignored")
            element.name, element.text = around.name, around.text
            element.attributes = {"nested": "yes"}
        elif name in _BORDERS:
            self.parts.append(Pause(_BORDERS[name], asked=False))
        elif name == "break":
            self._break(attributes)
        elif name == "prosody":
            element.rate = self._rate(around.rate, attributes)
        elif name == "voice":
            element.voice = attributes.get("name") or around.voice
            if not attributes.get("name"):
                self._warn("<voice> without a name is ignored")
        elif name == "emphasis":
            self._warn("<emphasis> is ignored: this model has no emphasis of its own")
        elif name in _UNSPOKEN:
            element.spoken = False
            self._warn(f"<{name}> is left out")
        elif name == "audio":
            self._warn("<audio> is left out, the text in it is read")
        elif name not in _PLAIN and name not in _WHOLE and name != "speak":
            self._warn(f"<{name[:40]}> is ignored, the text in it is read")

    def data(self, text: str) -> None:
        """Text of the innermost element."""
        element = self._open[-1]
        if not element.spoken:
            return
        if element.name in _WHOLE:
            element.text.append(text)
        else:
            self._say(TextRun(re.sub(r"\s+", " ", text)))

    def end(self, tag: str) -> None:
        """The innermost element ends."""
        element = self._open.pop()
        if element.name in _BORDERS:
            self.parts.append(Pause(_BORDERS[element.name], asked=False))
        elif element.name in _WHOLE and element.spoken and "nested" not in element.attributes:
            self._open.append(element)  # its rate and voice are those around it
            text = " ".join("".join(element.text).split())
            self._say(_WHOLES[element.name](text, element.attributes, self._warn))
            self._open.pop()
        if element.name in _APART and self._open and self._open[-1].name not in _WHOLE:
            self._say(TextRun(" "))

    def close(self) -> None:
        """The document ends."""

    def _say(self, run: TextRun) -> None:
        element = self._open[-1]
        self.parts.append(replace(run, rate=element.rate, voice=element.voice))

    def _warn(self, line: str) -> None:
        self.warnings[line] = None

    def _break(self, attributes: dict[str, str]) -> None:
        if "time" in attributes:
            value = attributes["time"]
            pause = read_pause(value, f'<break time="{value[:40]}">', self.warnings)
        else:
            strength = attributes.get("strength", "medium").lower()
            if strength not in _STRENGTHS:
                self._warn(f"<break> has no strength {strength[:40]!r}, medium is taken")
            pause = Pause(_STRENGTHS.get(strength, SENTENCE_PAUSE_S))
        if pause:
            self.parts.append(pause)

    def _rate(self, around: float, attributes: dict[str, str]) -> float:
        ignored = sorted(attributes.keys() & {"pitch", "contour", "range", "volume", "duration"})
        if ignored:
            self._warn(f"<prosody> has a rate alone here: {', '.join(ignored)} is ignored")
        if "rate" not in attributes:
            return around
        written = attributes["rate"].strip().lower()
        percent = re.fullmatch(r"([+-]?)(\d{1,6}(?:\.\d{1,6})?)%", written)
        if written in _RATES:
            rate = _RATES[written]
        elif percent:
            share = float(percent[2]) / 100
            rate = around * {"": share, "+": 1 + share, "-": 1 - share}[percent[1]]
        elif re.fullmatch(r"\d{1,6}(\.\d{1,6})?", written):
            rate = around * float(written)
        else:
            self._warn(f"<prosody> has no rate {written[:40]!r}: ignored")
            return around
        if not SLOWEST <= rate <= FASTEST:
            self._warn(f"<prosody> asks for a rate of {rate:g}: speech is {SLOWEST:g} to {FASTEST:g} times as fast")
        return min(max(rate, SLOWEST), FASTEST)


# ---- elements that are taken as a whole -----------------------------------------------------------------------------

_Warn = Callable[[str], None]


def _phoneme(text: str, attributes: dict[str, str], warn: _Warn) -> TextRun:
    alphabet = attributes.get("alphabet", "ipa").lower()
    named = {"ipa": "ipa", "x-sampa": "x-sampa", "cmu": "cmu-arpabet", "cmu-arpabet": "cmu-arpabet"}.get(alphabet)
    if named is None:
        warn(f"<phoneme> has an unknown alphabet {alphabet[:40]!r}: its text is read")
    phonemes = attributes.get("ph", "").strip()
    if not phonemes:
        warn("<phoneme> without phonemes is ignored")
    return TextRun(text or "…", phonemes, named) if phonemes and named else TextRun(text)


def _sub(text: str, attributes: dict[str, str], warn: _Warn) -> TextRun:
    if not attributes.get("alias", "").strip():
        warn("<sub> without an alias is ignored")
    return TextRun(" ".join(attributes.get("alias", "").split()) or text)


def _say_as(text: str, attributes: dict[str, str], warn: _Warn) -> TextRun:
    kind = attributes.get("interpret-as", attributes.get("type", "")).lower()
    if kind in ("characters", "spell-out", "verbatim", "digits"):
        return TextRun(text, spelled=True)
    if kind == "telephone":
        return TextRun(re.sub(r"(?<=\d)(?=\d)", " ", re.sub(r"[^\dA-Za-z+]+", ", ", text).strip(", ")))
    figure = re.fullmatch(r"(-?)(\d[\d, ]{0,300})", text)
    if kind in ("cardinal", "number", "ordinal") and figure:
        number = int(re.sub(r"\D", "", figure[2]))
        return TextRun(f"{'minus ' if figure[1] else ''}{(ordinal if kind == 'ordinal' else cardinal)(number)}")
    if kind == "date":
        return TextRun(_date(text, attributes.get("format", "").lower()) or text)
    if kind in ("expletive", "bleep"):
        warn(f"<say-as> {kind} is left out")
        return TextRun(" ")
    if kind not in ("cardinal", "number", "ordinal", "fraction", "time", "currency", "unit", "address", "measure"):
        warn(f"<say-as> has no meaning for {kind[:40]!r}: the text is read as any other")
    return TextRun(text)


def _date(text: str, order: str) -> str | None:
    """``3/5/2024`` in the order of a format such as ``dmy`` as a date in words; None if it is another."""
    order = re.sub(r"(.)\1+", r"\1", order)  # "yyyymmdd"
    figures = re.findall(r"\d{1,8}", text)
    if len(figures) == 1 and len(figures[0]) == 8 and sorted(order) == ["d", "m", "y"]:
        widths = "".join(f"(\\d{{{4 if letter == 'y' else 2}}})" for letter in order)
        figures = list(re.fullmatch(widths, figures[0]).groups())  # type: ignore[union-attr]
    if not re.fullmatch("[dmy]{1,3}", order) or len(figures) != len(order) or len(set(order)) != len(order):
        return None
    named = dict(zip(order, figures, strict=True))
    if not 1 <= int(named.get("m", "1")) <= 12:
        return None
    month = _MONTHS[int(named["m"]) - 1] if "m" in named else ""
    day = str(int(named["d"])) if "d" in named else ""
    front = " ".join(filter(None, (month, day)))
    return ", ".join(filter(None, (front, named.get("y")))) if day else " ".join(filter(None, (front, named.get("y"))))


_WHOLES = {"phoneme": _phoneme, "say-as": _say_as, "sub": _sub}
