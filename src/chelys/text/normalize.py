"""Written English to spoken words: lower-case words and plain punctuation.

Every figure, sign and abbreviation becomes words. Words are ASCII letters with apostrophes and hyphens inside,
in lower case; acronyms keep their capitals, because only a tokenizer knows which of them are words ("NATO").
Punctuation is ``. , ? ! ; : - ( ) "``, one mark at a time. Letters lose their accents, typographic marks become
typewriter marks; what cannot be read (emoji, other scripts) is dropped, and reported.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from chelys.errors import TextError
from chelys.text.abbreviations import (
    ABBREVIATIONS,
    BEFORE_FIGURE,
    DOTTED,
    MAY_END,
    SAINT_OR_STREET,
    SENTENCE_STARTERS,
    saint_or_street,
)
from chelys.text.numbers import speak_numbers

_KEPT = frozenset("£€¥°")

_FOLDED = {
    **dict.fromkeys("‘’‚‛′´ʼʹʻ`", "'"),
    **dict.fromkeys("“”„‟″«»‹›", '"'),
    **dict.fromkeys("‐‑", "-"),
    **dict.fromkeys("–—―‒⸺⸻", " - "),
    "−": "-", "…": "...", "•": ",", "·": " ", "™": "", "®": "", "©": " copyright ", "×": " times ", "÷": " divided by ",
    "±": " plus or minus ", "≈": " about ", "≠": " is not equal to ", "≤": " at most ", "≥": " at least ",
    "²": " squared ", "³": " cubed ", "§": " section ", "№": " number ", "¢": " cents ", "µ": "micro", "⁄": "/",
    "ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D",
    "ð": "th", "Ð": "Th", "þ": "th", "Þ": "Th", "ı": "i", "¿": "", "¡": "",
    "\u00ad": "",  # the soft hyphen only says where a line may break
}  # fmt: skip

#: Control, format and unassigned characters and combining marks vanish without a word.
_SILENT_CATEGORIES = ("C", "M")


def to_ascii(text: str) -> tuple[str, str]:
    """Fold every character by itself, so that the work is linear in the text.

    Gives the folded text, and the distinct visible characters that have no reading, in order of appearance.
    """
    if text.isascii():
        return text, ""
    pieces: list[str] = []
    dropped: dict[str, None] = {}
    for character in text:
        folded = character if character in _KEPT else _fold(character)
        if folded is None:
            dropped[character] = None
            folded = " "
        pieces.append(folded)
    return "".join(pieces), "".join(dropped)


@lru_cache(maxsize=4096)
def _fold(character: str) -> str | None:
    if character.isascii():
        return character
    if character in _FOLDED:
        return _FOLDED[character]
    if character in "\u2028\u2029\x85":
        return "\n"
    category = unicodedata.category(character)
    if category.startswith("Z"):
        return " "
    decomposed = unicodedata.normalize("NFKD", character)
    folded = "".join(_FOLDED.get(c, c) for c in decomposed if not unicodedata.combining(c))
    if folded and all(c.isascii() or c in _KEPT for c in folded):
        # A ready-made fraction or a circled number stands apart from the figure before it ("2½").
        return f" {folded}" if category == "No" else folded
    return "" if category[0] in _SILENT_CATEGORIES else None


#: Signs that have a name.
SYMBOLS = {
    "&": "and", "@": "at", "#": "hash", "+": "plus", "=": "equals", "%": "percent", "/": "slash", "\\": "backslash",
    "$": "dollars", "£": "pounds", "€": "euros", "¥": "yen", "°": "degrees",
}  # fmt: skip
_SPEAKABLE = re.compile(rf"[A-Za-z0-9{re.escape(''.join(SYMBOLS))}]")
#: Strongest first: of several marks in a row this one is kept.
_STRENGTH = "?!.;:,"
#: Stands for the name of the letter A until the articles are in lower case.
_LETTER_A = "\x01"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

#: Letters of the longest word that is spoken; the longest in a dictionary of English has 45.
LONGEST_WORD = 100
_TOO_LONG = re.compile(rf"[^\W\d_]{{{LONGEST_WORD + 1},}}")


#: Whose dates, the first being the default.
LOCALES = ("en-US", "en-GB")


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
    spoken = _single_spaced(folded)
    for pattern, replacement in _BEFORE_NUMBERS:
        spoken = pattern.sub(replacement, spoken)
    spoken = speak_numbers(" ".join(spoken.split()))
    for pattern, replacement in _AFTER_NUMBERS:
        spoken = pattern.sub(replacement, spoken)
    spoken = _tidy(_lower(spoken))
    if not re.search("[A-Za-z]", spoken):
        raise nothing_spoken(text)
    return Normalized(spoken, dropped)


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


def _single_spaced(text: str) -> str:
    """Lines joined; an empty line ends a sentence."""
    lines = [" ".join(_CONTROL.sub(" ", line).split()) for line in text.strip().splitlines()]
    return " ".join(line or "." for line in lines)


def _abbreviation(match: re.Match[str]) -> str:
    word = match[1]
    ends = word in MAY_END and (match[2] is None or match[2].isupper())
    touching = match.string[match.end() : match.end() + 1].isalpha()  # "Mr.Brown"
    return ABBREVIATIONS[word] + ("." if ends else "") + (" " if touching else "")


def _dotted(match: re.Match[str]) -> str:
    """``U.S.`` -> ``US``; at the end of the text the stop stays."""
    letters = match.group().replace(".", "").upper()
    return letters + ("." if not match.string[match.end() :].strip("\"') ") else "")


def _initial(match: re.Match[str]) -> str:
    """``J. Smith`` -> ``J Smith``."""
    letter, following = match.groups()
    stop = "." if following in SENTENCE_STARTERS else ""
    return (_LETTER_A if letter == "A" else letter) + stop


def _words(words: dict[str, str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


_Rule = tuple[re.Pattern[str], "str | Callable[[re.Match[str]], str]"]

_BEFORE_NUMBERS: tuple[_Rule, ...] = (
    (re.compile(rf"(?<![A-Za-z.])(?:{_words(DOTTED)})"), lambda m: DOTTED[m.group()]),
    (re.compile(rf"\b({_words(BEFORE_FIGURE)})\.? (?=\d)"), lambda m: f"{BEFORE_FIGURE[m[1]]} "),
    (SAINT_OR_STREET, saint_or_street),
    (re.compile(rf"\b({_words(ABBREVIATIONS)})\.(?=(?: ?([^ ]))?)"), _abbreviation),
    (re.compile(r"#(?=\d)"), "number "),
    (re.compile(r"~(?=[\d$£€])"), "about "),
)

_AFTER_NUMBERS: tuple[_Rule, ...] = (
    (re.compile(r"(?<![A-Za-z.])(?:[A-Za-z]\.){2,20}(?![A-Za-z])"), _dotted),
    # Initials, but for I: "You and I. Then ..."
    (re.compile(r"(?<![A-Za-z.'])([A-HJ-Z])\.(?= (?:([A-Z][a-z]{1,20}|A(?!\.))|[A-Z]))"), _initial),
    # "vitamin A", "plan A": an article is never last, the name of the letter may be.
    (re.compile(r"(?<=[a-z] )A(?= ?(?:[.,?!;:)]|$))"), _LETTER_A),
    (re.compile(r"(?<=[A-Za-z])\.(?=[A-Za-z])"), " dot "),
    (re.compile(rf"[{re.escape(''.join(SYMBOLS))}]"), lambda m: f" {SYMBOLS[m.group()]} "),
    (re.compile(r"[\[{<]"), "("),
    (re.compile(r"[\]}>]"), ")"),
    (re.compile(r"(?<=[ (\"-])'|'(?=[ .,?!;:)\"-])|^'|'$|''+"), " "),
    (re.compile(r"-{2,}"), " - "),
    (re.compile(rf"[^A-Za-z'.,?!;:\-()\" {_LETTER_A}]"), " "),
)

_ACRONYM = re.compile(r"[A-Z]{2,}(?:'?s)?")
_LETTERS = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*")
_SHOUTED = re.compile(r"(?<![A-Za-z'])[A-Z]{2,}(?: [A-Z]+){2,}(?![A-Za-z'])")


def _lower(text: str) -> str:
    """Lower case but for acronyms; three capital words in a row are shouted, and no acronyms."""

    def lower(match: re.Match[str]) -> str:
        word = match.group()
        return word if _ACRONYM.fullmatch(word) else word.lower()

    text = _SHOUTED.sub(lambda match: match.group().lower(), text)
    return _LETTERS.sub(lower, text).replace(_LETTER_A, "A")


def _tidy(text: str) -> str:
    """One mark at a time, where marks belong."""
    text = re.sub(r"(?<![A-Za-z])'|'(?![A-Za-z])", "", text)
    text = re.sub(r"(?<=[A-Za-z])-(?=[A-Za-z])", "\0", text).replace("-", " - ").replace("\0", "-")
    text = re.sub(r"[.,?!;:][.,?!;: ]*(?:- [-.,?!;: ]*)*", _strongest, " ".join(text.split()))
    text = re.sub(r"- (?:[-.,?!;:] ?)+", "- ", text)
    text = re.sub(r" (?=[.,?!;:)])|(?<=\() ", "", text)
    text = re.sub(r"\([^A-Za-z()]*\)", " ", text)
    return " ".join(text.split()).lstrip(" .,?!;:-").rstrip(" -")


def _strongest(match: re.Match[str]) -> str:
    marks = match.group()
    kept = min((c for c in marks if c in _STRENGTH), key=_STRENGTH.index)
    closes = match.string[match.end() : match.end() + 1] in ('"', ")") and not marks.endswith(" ")
    return kept if closes else f"{kept} "
