"""Roman numerals: of rulers ("the eighth"), of wars and chapters ("two"), of centuries ("nineteenth")."""

from __future__ import annotations

import re
from collections.abc import Callable

from chelys.text.numbers import cardinal, ordinal, year
from chelys.text.rules import Late, Reading, Rules, before, behind

_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
#: A numeral below 400 as it is properly written; never empty.
_NUMERAL = r"(?=[IVXLC])C{0,3}(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})"
#: Of several letters, and not also an abbreviation ("IV drip", "XL", "CV").
_SURE = r"(?:XL|L?X{0,3})(?:VI{1,3}|I{2,3}|IX)|X{1,3}I?V|XI{1,3}|XX{1,2}I{0,3}|L[IVX]{2,6}"

#: Counted by Roman numerals; cardinal behind them, "I" too where they have a capital.
_COUNTED = (
    "act|annex|episode|appendix|article|book|bowl|canto|category|chapter|chap|class|division|factor|figure|"
    "grade|group|lesson|"
    "level|mark|month|number|part|phase|plate|psalm|round|saturn|scene|schedule|season|section|sonnet|stage|"
    "stanza|step|"
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

NUMERALS = Rules(
    r" [IVXLC]+(?![A-Za-z])",
    "WW",
    r"\bM[MDCLXVI]{3}",
    r"[(.]\)? ?[ivx]",
    r"[IVX]\)",
    r"^[IVXLC]{1,5}[. ]",
    r" [ivx]+\b",
)
_COUNTED_BEFORE = Late(rf"\b({_COUNTED})s?\.? (?:[IVXL]+,? (?:and|or|to|&) |[IVXL]+, )?$", re.IGNORECASE)
#: In small letters right before a numeral.
_SMALL_BEFORE = frozenset((*_COUNTED.split("|"), "and", "or", "to", "&"))
_RULER_BEFORE = Late(
    rf"(?:\b({_TITLES}) )?\b({'|'.join(_RULERS)})((?: (?:[A-Z][a-z]{{1,20}}|[A-Z]\.))?(?: [A-Z][a-z]{{1,20}})?) $"
)
_NAME_BEFORE = Late(r"\b(?!(?:The|His|Her|This|That|Their|Your|Our|Each|Every|Some|Any) )[A-Z][a-z]{2,20} $")
_DRIP_BEHIND = Late(r" (?:access|antibiotic|bag|catheter|drip|fluid|infusion|injection|line|pole|pump|therapy)")


def value(numeral: str) -> int:
    """``XIV`` -> 14."""
    numbers = [_VALUES[letter] for letter in numeral.upper()]
    return sum(-n if n < max(numbers[place:]) else n for place, n in enumerate(numbers))


NUMERALS.words("world_war", r"\bWW(?:I|1)\b", "world war one", has=("WW",))
NUMERALS.words("second_world_war", r"\bWW(?:II|2)\b", "world war two", has=("WW",))


NUMERALS.add(
    "year_in_numerals",
    r"\bM(?=[MDCLXVI]{3})M{0,2}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})\b",
    lambda match, reading: year(value(match.group())),
    has="M",
)


@NUMERALS.rule(
    rf"\b({_NUMERAL}|[ivx]{{1,6}})(?:th)? (century|centuries|dynasty|corps|olympiad)\b",
    has=("entur", "dynast", "orps", "lympiad"),
    flags=re.IGNORECASE,
)
def century(match: re.Match[str], reading: Reading) -> str | None:
    numeral, noun = match.groups()
    return f"{ordinal(value(numeral))} {noun}" if numeral[0].isupper() and numeral not in ("C", "I") else None


NUMERALS.add(
    "numerals_in_a_row",
    rf"\b((?:{_COUNTED})s?) ({_NUMERAL})-({_NUMERAL})\b(?!-)",
    lambda match, reading: f"{match[1]} {cardinal(value(match[2]))} to {cardinal(value(match[3]))}",
    has="-",
    flags=re.IGNORECASE,
)


@NUMERALS.rule(rf"(?<= )({_NUMERAL})(?![A-Za-z\d-]|'(?!s\b))\.?")
def numeral(match: re.Match[str], reading: Reading) -> str | None:
    """``Henry VIII`` -> ``henry the eighth``, ``Chapter IV`` -> ``chapter four``, ``Apollo XI`` -> ``apollo "
    "eleven``."""
    words = before(match, 60)
    last = words.split()[-1:]
    if last and not last[0][0].isupper() and not {last[0].rstrip("."), last[0].rstrip("s.")} & _SMALL_BEFORE:
        return None  # most often the pronoun
    counted = _COUNTED_BEFORE.compiled.search(words)
    if counted and match[1] != "C" and (match[1] != "L" or counted[1].lower() == "bowl"):
        played = match[1] == "I" and not counted[1][0].isupper() and re.match(" [a-z]", behind(match))
        return None if played else _ends(match, cardinal)  # "the part I played"
    ruler = _RULER_BEFORE.compiled.search(words)
    if ruler and _is_a_ruler(match, *ruler.groups()):
        return f"the {_ends(match, ordinal)}"
    sure = re.fullmatch(_SURE, match[1]) or (match[1] == "IV" and not _DRIP_BEHIND.compiled.match(behind(match)))
    return _ends(match, cardinal) if sure and _NAME_BEFORE.compiled.search(words) else None


def _is_a_ruler(match: re.Match[str], title: str | None, name: str, more: str) -> bool:
    if match[1] == "I":  # or the pronoun
        goes_on = re.match(r"[,;:)]|$| (?:of|was|had|is|and|in|\()", behind(match))
        return not more and (title is not None or goes_on is not None)
    if match[1] in ("L", "C") or (name == "Malcolm" and match[1] == "X"):
        return False
    return not more or len(match[1]) > 1 or match[1] == "V"


def _ends(match: re.Match[str], spoken: Callable[[int], str]) -> str:
    """A numeral in words. The old print's stop behind it ("George III. was") goes, but where a sentence may end."""
    following = behind(match).lstrip("\"') ")[:1]
    return spoken(value(match[1])) + "." * (match.group().endswith(".") and (not following or following.isupper()))


NUMERALS.add(
    "item_of_a_list", r"(?:(?<=\()|^)([IVX]{2,5}|V)(?=[.)] )", lambda match, reading: cardinal(value(match[1]))
)
NUMERALS.add(
    "small_numeral",
    r"\b((?:act|book|canto|chapter|part|scene|section|volume)s?) ([ivx]{2,5}|[vx])\b(?!')",
    lambda match, reading: f"{match[1]} {cardinal(value(match[2]))}",
    flags=re.IGNORECASE,
)
NUMERALS.add("small_item", r"(?<=\()([ivx]{2,5})(?=\))", lambda match, reading: cardinal(value(match[1])), has="(")
NUMERALS.add(
    "small_page",
    r"\b(pages?|pp?\.) ?([ivxl]{1,6})(?:-([ivxl]{1,6}))?\b",
    lambda match, reading: (
        f"{'pages' if match[3] or match[1] == 'pp.' else 'page'} {cardinal(value(match[2]))}"
        + (f" to {cardinal(value(match[3]))}" if match[3] else "")
    ),
    has="p",
)
