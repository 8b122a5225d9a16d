"""Roman numerals: of rulers ("the eighth"), of wars and chapters ("two"), of centuries ("nineteenth")."""

from __future__ import annotations

import re

from chelys.text.numbers import cardinal, ordinal
from chelys.text.rules import Reading, Rules

_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
#: A numeral below 400 as it is properly written; never empty.
_NUMERAL = r"(?=[IVXLC])C{0,3}(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})"
#: Of several letters, and not also an abbreviation ("IV drip", "XL", "CV").
_SURE = r"(?:XL|L?X{0,3})(?:VI{1,3}|I{2,3}|IX)|X{1,3}I?V|XI{1,3}|XX{1,2}I{0,3}|L[IVX]{2,6}"

#: Counted by Roman numerals; cardinal behind them, "I" too where they have a capital.
_COUNTED = (
    "act|annex|appendix|article|book|bowl|canto|category|chapter|chap|class|division|factor|figure|grade|group|lesson|"
    "level|mark|month|number|part|phase|plate|psalm|round|scene|schedule|season|section|sonnet|stage|stanza|step|"
    "symphony|table|tier|title|type|unit|vol|volume|war"
)
#: Rulers, popes and what families call their sons.
_RULERS = (
    "Abdul Adrian Albert Alexander Alexios Alfonso Amenhotep Andrew Antiochus Artaxerxes Augustus Baldwin "
    "Basil Bela Benedict "
    "Boniface Callixtus Cambyses Carlos Casimir Catherine Celestine Charles Christian Clement Clovis Conrad "
    "Constantine "
    "Cyrus Darius David Edmund Edward Elizabeth Emmanuel Eric Erik Eugene Faisal Ferdinand Francis Franz Frederick "
    "Friedrich George Gregory Gustav Gustavus Haakon Hadrian Harald Harold Henri Henry Honorius Hussein "
    "Innocent Isabella "
    "Ivan James Jean Joseph John Juan Julius Justinian Kamehameha Karl Kenneth Leo Leopold Lothair Louis "
    "Ludwig Malcolm "
    "Manuel Margaret Martin Mary Maximilian Mehmed Michael Mohammed Murad Napoleon Nebuchadnezzar Nicholas "
    "Nikolaus Olaf "
    "Osman Otto Pascal Paul Pedro Peter Philip Philippe Pius Ptolemy Rainier Rama Ramesses Ramses Richard "
    "Robert Rudolf "
    "Selim Sigismund Sixtus Stephen Suleiman Theodosius Thomas Thutmose Tiberius Umberto Urban Victor Victoria Wilhelm "
    "Wilhelmina William Xerxes Anthony Arthur Benjamin Daniel Donald Douglas Duncan Frank Franklin Gerald Harry Howard "
    "Hugh Jack Kevin Lawrence Matthew Patrick Raymond Ronald Samuel Steven Theodore Thurston Timothy Walter"
).split()
_TITLES = r"(?:King|Queen|Pope|Emperor|Empress|Tsar|Czar|Kaiser|Prince|Sultan|Shah|Pharaoh)"

NUMERALS = Rules(r"\b(?:[IVXLC]{2,}|[IVX])\b|\bWWI|\([ivx]+\)|\bpp?\. ?[ivx]+|pages? [ivx]+")


def value(numeral: str) -> int:
    """``XIV`` -> 14."""
    numbers = [_VALUES[letter] for letter in numeral.upper()]
    return sum(-n if n < max(numbers[place:]) else n for place, n in enumerate(numbers))


def _stop(match: re.Match[str]) -> str:
    """The old print's stop behind a numeral ("George III. was") goes, but where a sentence may end."""
    following = match.string[match.end() :].lstrip("\"') ")[:1]
    return "." if match.group().endswith(".") and (not following or following.isupper()) else ""


def _counted(match: re.Match[str], reading: Reading) -> str | None:
    before, numeral = match.group(1), match.group(2)
    if numeral == "I" and not before[0].isupper() and re.match(r" [a-z]", match.string[match.end() :]):
        return None  # "the part I played"
    return f"{before} {cardinal(value(numeral))}{_stop(match)}"


NUMERALS.add("world_war", r"\bWW(II?)\b", lambda match, reading: f"world war {cardinal(value(match[1]))}")
NUMERALS.add("chapter_and_its_like", rf"\b((?i:{_COUNTED})s?\.?) ({_NUMERAL})(?![A-Za-z'-])\.?", _counted)


@NUMERALS.rule(rf"\b({_NUMERAL}|[ivx]{{1,6}})(?:th)? (century|centuries|dynasty|corps|olympiad)\b", re.IGNORECASE)
def century(match: re.Match[str], reading: Reading) -> str | None:
    numeral, noun = match.groups()
    return f"{ordinal(value(numeral))} {noun}" if numeral[0].isupper() and numeral not in ("C", "I") else None


@NUMERALS.rule(
    rf"\b({_TITLES} )?((?:{'|'.join(_RULERS)})(?: (?:[A-Z][a-z]{{1,20}}|[A-Z]\.))?(?: [A-Z][a-z]{{1,20}})?),? "
    rf"({_NUMERAL})(?![A-Za-z]|'(?!s\b))\.?"
)
def ruler(match: re.Match[str], reading: Reading) -> str | None:
    """``Henry VIII`` -> ``henry the eighth``."""
    title, name, numeral = match.groups()
    several = " " in name
    if name.startswith("Malcolm") and numeral == "X":
        return None
    if numeral == "I" and (
        several or not (title or re.match(r"[,;:)]|$| (?:of|was|had|is|and|in|\()", match.string[match.end() :]))
    ):
        return None
    if numeral in ("L", "C") or (several and len(numeral) == 1 and numeral != "V"):
        return None
    return f"{title or ''}{name} the {ordinal(value(numeral))}{_stop(match)}"


@NUMERALS.rule(rf"(?<![A-Za-z] [A-Z] )\b([A-Z][a-z]{{2,20}}) ({_SURE})\b(?!['-])")
def behind_a_name(match: re.Match[str], reading: Reading) -> str:
    """``Apollo XI`` -> ``apollo eleven``."""
    return f"{match[1]} {cardinal(value(match[2]))}"


NUMERALS.add(
    "item_of_a_list", r"(?:(?<=\()|^)([IVX]{2,5}|V)(?=[.)] )", lambda match, reading: cardinal(value(match[1]))
)
NUMERALS.add("small_item", r"(?<=\()([ivx]{2,5})(?=\))", lambda match, reading: cardinal(value(match[1])))
NUMERALS.add(
    "small_page",
    r"\b(pages?|pp?\.) ?([ivxl]{1,6})(?:-([ivxl]{1,6}))?\b",
    lambda match, reading: (
        f"{'pages' if match[3] or match[1] == 'pp.' else 'page'} {cardinal(value(match[2]))}"
        + (f" to {cardinal(value(match[3]))}" if match[3] else "")
    ),
)
