"""Written English to spoken words: lower-case words and plain punctuation.

Every figure, sign and abbreviation becomes words. Words are ASCII letters with apostrophes and hyphens inside,
in lower case; acronyms keep their capitals, because only a tokenizer knows which of them are words ("NATO").
Punctuation is ``. , ? ! ; : - ( ) "``, one mark at a time. Letters lose their accents, typographic marks become
typewriter marks; what cannot be read (emoji, other scripts) is dropped, and reported.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from chelys.errors import TextError
from chelys.text.abbreviations import SHORT_FORMS
from chelys.text.addresses import ADDRESSES
from chelys.text.capitals import CAPITALS
from chelys.text.dates import CALENDAR, CLOCK
from chelys.text.figures import NAMES, PLAIN, RANGES
from chelys.text.folding import to_ascii
from chelys.text.lines import FORGOTTEN_SPACE, in_one_line
from chelys.text.roman import NUMERALS
from chelys.text.rules import LETTER_A, LOCALES, Reading, Rules
from chelys.text.scripture import SCRIPTURE
from chelys.text.sums import SIGNS_BETWEEN_FIGURES
from chelys.text.units import MEASURES, MONEY, SIGNS, units_named

#: Signs that have a name.
SYMBOLS = {
    "&": "and", "@": "at", "#": "hash", "+": "plus", "=": "equals", "%": "percent", "/": "slash", "\\": "backslash",
    "$": "dollars", "£": "pounds", "€": "euros", "¥": "yen", "°": "degrees",
}  # fmt: skip
_NAMES_OF_SIGNS = (
    SYMBOLS
    | {sign: names[1] for sign, names in SIGNS.items()}
    | {
        "¢": "cents",
        "µ": "mu",
        "Ω": "omega",
        "‰": "per mille",
        "_": " ",
        "*": " ",
        "<": "(",
        ">": ")",
        "|": ",",
    }
)
_SPEAKABLE = re.compile(rf"[A-Za-z0-9{re.escape(''.join(SYMBOLS | SIGNS))}¢µΩ‰]")
#: Strongest first: of several marks in a row this one is kept.
_STRENGTH = "?!.;:,"
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f]")

#: Letters of the longest word that is spoken; the longest in a dictionary of English has 45.
LONGEST_WORD = 100
_TOO_LONG = re.compile(rf"[^\W\d_]{{{LONGEST_WORD + 1},}}")


@dataclass(frozen=True)
class Normalized:
    """A normalised text."""

    text: str  # lower-case words, acronyms in capitals, and punctuation, single-spaced
    dropped: str  # the distinct characters that could not be spoken, in order of appearance
    warnings: tuple[str, ...] = ()  # what was guessed, a line each; the front end gathers what was dropped


def normalize(text: str, *, locale: str = "en-US") -> Normalized:
    """Write an English text as it is spoken.

    Args:
        text: What people write; one sentence or many.
        locale: One of `LOCALES`. American dates in figures have the month first, British ones the day.

    Raises:
        TextError: If the text is empty or blank, nothing in it can be spoken, or there is no such locale.
    """
    if locale not in LOCALES:
        raise TextError(f"no locale {locale!r}: choose from {', '.join(LOCALES)}")
    refuse_blank(text)
    folded, dropped = to_ascii(text)
    reading = Reading(locale)
    spoken = in_one_line(folded if folded.isprintable() else _CONTROL.sub(" ", folded))
    for rules in _RULES:
        spoken = rules.apply(spoken, reading)
    spoken = _tidy(_lower(spoken))
    if not re.search("[A-Za-z]", spoken):
        raise nothing_spoken(text)
    return Normalized(spoken, dropped, tuple(reading.warnings))


def check_speakable(text: str) -> None:
    """Refuse a text that cannot be spoken, before any work is done.

    Raises:
        TextError: If the text is empty or blank, has nothing that can be spoken, or holds a word that is too long.
    """
    refuse_blank(text)
    if not is_speakable(text):
        raise nothing_spoken(text)
    word = _TOO_LONG.search(text)
    if word:
        length = len(word.group())
        raise TextError(
            f"the word {word.group()[:20]!r}... has {length} letters, the longest that is spoken {LONGEST_WORD}: "
            "put spaces into it"
        )


def refuse_blank(text: str) -> None:
    """Raise a TextError if there is nothing at all."""
    if not text.strip():
        raise TextError("the text is empty: give at least one word to speak")


def nothing_spoken(text: str) -> TextError:
    """The error for a text in which no word is."""
    shown = repr(text.strip()[:20]) + ("..." if len(text.strip()) > 20 else "")
    return TextError(f"nothing in the text {shown} can be spoken: give English words or figures")


def is_speakable(text: str) -> bool:
    """Whether `normalize` takes the text: it has a letter, a figure or a sign with a name."""
    return bool(_SPEAKABLE.search(to_ascii(text)[0]))


_SPACES = Rules(r"[.!?][A-Z]")
_SPACES.words("forgotten_space", FORGOTTEN_SPACE.pattern, " ")

#: What is left when everything else is read.
_SIGNS = Rules(rf"[^A-Za-z.,?!\- {LETTER_A}]", r"[A-Za-z]\.[A-Za-z]", "--")
_SIGNS.words("dot", r"(?<=[A-Za-z])\.(?=[A-Za-z])", " dot ", has=".")
_SIGNS.words("sharp", r"(?<=\b[A-G])#(?!\w)", " sharp", has="#")
_SIGNS.add(
    "micro_unit",
    r"(?<![A-Za-z])µ[mgls](?![A-Za-z])",
    lambda match, _: units_named(match.group()),
    has="µ",
)
_SIGNS.words("micro", r"µ(?=[A-Za-z])", "micro", has="µ")
_SIGNS.words("or", r"(?<=[A-Za-z]{2})/(?=[A-Za-z]{2})", " ", has="/")
_SIGNS.add("sign", rf"[{re.escape(''.join(_NAMES_OF_SIGNS))}]", lambda match, _: f" {_NAMES_OF_SIGNS[match.group()]} ")
_SIGNS.words("bracket", r"[\[{]", "(", has="[{")
_SIGNS.words("closing_bracket", r"[\]}]", ")", has="]}")
_SIGNS.words("quote", r"(?<=[ (\"-])'|(?<![a-z]{2}in)'(?=[ .,?!;:)\"-]|$)|^'|''+", " ", has="'")
_SIGNS.words("dash", r"-{2,}", " - ", has=("--",))
_SIGNS.words("anything_else", rf"[^A-Za-z'.,?!;:\-()\" {LETTER_A}]", " ")

_RULES = (
    ADDRESSES, _SPACES, SCRIPTURE, SHORT_FORMS, CALENDAR, NUMERALS, SIGNS_BETWEEN_FIGURES, NAMES, RANGES, CLOCK, MONEY,
    MEASURES, PLAIN, CAPITALS, _SIGNS,
)  # fmt: skip

_ACRONYM = re.compile(r"(?<![A-Za-z])(?<![A-Za-z]')[A-Z]{2,}(?:'?s)?(?!'?[A-Za-z])")


def _lower(text: str) -> str:
    """Lower case but for acronyms."""
    pieces, start = [], 0
    for match in _ACRONYM.finditer(text):
        pieces += [text[start : match.start()].lower(), match.group()]
        start = match.end()
    return "".join([*pieces, text[start:].lower()]).replace(LETTER_A, "A")


_LOOSE_APOSTROPHE = re.compile(r"(?<![A-Za-z])'|(?<![a-z]{2}in)'(?![A-Za-z])")  # but "runnin'"
_LOOSE_HYPHEN = re.compile(r"(?<![A-Za-z])-|-(?![A-Za-z])")
_SEVERAL_MARKS = re.compile(r"[.,?!;:](?! [^-.,?!;: ]|$|[\")])")
_MARKS = re.compile(r"[.,?!;:][.,?!;: ]*(?:- [-.,?!;: ]*)*")
_MARKS_BEHIND_A_DASH = re.compile(r"- (?:[-.,?!;:] ?)+")
_LOOSE_SPACE = re.compile(r" (?=[.,?!;:)])|(?<=\() ")
_EMPTY_BRACKETS = re.compile(r"\([^A-Za-z()]*\)")


def _tidy(text: str) -> str:
    """One mark at a time, where marks belong."""
    if "'" in text:
        text = _LOOSE_APOSTROPHE.sub("", text)
    dashes = "-" in text
    if dashes:
        text = _LOOSE_HYPHEN.sub(" - ", text)
    text = " ".join(text.split())
    if _SEVERAL_MARKS.search(text):
        text = " ".join(_MARKS.sub(_strongest, text).split())
    if dashes:
        text = _MARKS_BEHIND_A_DASH.sub("- ", text)
    text = _LOOSE_SPACE.sub("", text)
    if "(" in text:
        text = " ".join(_EMPTY_BRACKETS.sub(" ", text).split())
    return text.lstrip(" .,?!;:-").rstrip(" -")


def _strongest(match: re.Match[str]) -> str:
    marks = match.group()
    kept = min((c for c in marks if c in _STRENGTH), key=_STRENGTH.index)
    closes = match.string[match.end() : match.end() + 1] in ('"', ")") and not marks.endswith(" ")
    return kept if closes else f"{kept} "
