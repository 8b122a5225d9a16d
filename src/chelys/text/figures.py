"""Figures that are names (phones, codes, rooms), and what is left when dates, measures and money are read."""

from __future__ import annotations

import re

from chelys.text.numbers import (
    AMOUNT,
    LONGEST_AMOUNT,
    by_hundreds,
    cardinal,
    digits,
    figure,
    mixed,
    ordinal,
    plural,
    year,
)
from chelys.text.rules import LETTER_A, Late, Reading, Rules, before, behind, letters

NAMES = Rules(r"\d")

_LETTER_AND_FIGURES = r"\b([A-Z]{1,3})"
#: Things with a number of their own, which is read in pairs: "room 204", "flight 370".
_NUMBERED = (
    "apartment|apt|area|extension|flight [A-Z][A-Z\\d]|"
    "boeing|bus|cell|channel|exhibit|flight|frame|flat|gate|highway|interstate|locker|lot|platform|plot|row|seat|"
    "form|P\\.?S\\.?|room|route|suite|train|unit|ward"
)
_STREET = (
    "avenue|ave|boulevard|blvd|circle|court|ct|drive|dr|lane|ln|place|pl|parkway|pkwy|road|rd|square|street|st|"
    "terrace|way"
)  #: Numbers of an order are amounts, zeros in front or not.
_COUNTED = (
    "act|bk|book|no|number|chapter|chap|ch|day|episode|exercise|figure|item|lesson|level|line|page|part|question|round|scene|"
    "season|section|sec|slide|stage|step|table|track|unit|verse|vol|volume|week"
)
_SECRET = (
    "account|box|card|code|combination|extension|id|invoice|passcode|password|passport|pin|policy|postcode|reference|"
    "serial|ticket|tracking|zip"
)


def _groups(written: str) -> str:
    """Groups of digits, a breath between them but where each is a single one."""
    groups = re.findall("[0-9]+", written)
    return (" " if max(map(len, groups)) == 1 else ", ").join(map(digits, groups))


def _grouped(match: re.Match[str], reading: Reading) -> str:
    return _groups(match.group())


@NAMES.rule(r"(?<=[A-Za-z.,;:)\"])\[\d{1,3}\]", has="[")
def footnote(match: re.Match[str], reading: Reading) -> str:
    reading.warn(f"{match.group()} is taken for a footnote and left out")
    return ""


NAMES.add("phone", r"(?<![\d-])(?:\+?\d{1,3}[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])?\d{3}-\d{4}(?![\d-])", _grouped, has="-")
NAMES.add("phone_with_stops", r"(?<![\d.-])(?:\+?1\.)?\d{3}\.\d{3}\.\d{4}(?!\d|\.\d)", _grouped, has=".")
NAMES.add(
    "phone_behind_its_name",
    r"\b((?:tel(?:ephone)?|phone|fax|mobile|cell)\.?:? )(\d{3} \d{4})(?![\d-]| \d)",
    lambda match, reading: f"{match[1]}{_groups(match[2])}",
    flags=re.IGNORECASE,
)
NAMES.add(
    "phone_abroad",
    r"(?<!\d)\+\d{1,3}(?: ?\(0\) ?\d{1,5})?(?:[ -]\d{2,5}){2,5}(?!\d)",
    lambda match, reading: _groups(match.group().replace("(0)", " ")),
    has="+",
)
NAMES.words("model", r"\b([A-Za-z]\d{1,2})-(?=\d{3,5}[A-Z]{0,2}\b)", r"\1 ", has="-")
NAMES.add(
    "phone_in_groups",
    r"(?<![\d.,$£€-])(?:\d{3} \d{3} \d{4}|0\d{2,4} \d{3,4} \d{3,4}|0\d{4} \d{6})(?![\d,]|\.\d| [\d-])",
    _grouped,
)
NAMES.add(
    "free_phone", r"\b1-(800|900)-(?=[A-Z])", lambda match, reading: f"one {cardinal(int(match[1]))} ", has=("1-",)
)
NAMES.add("card", r"(?<![\d.,-])\d{4}([ -])\d{4}\1\d{4}(?:\1\d{1,7}){0,2}(?![\d-])", _grouped, has=" -")
NAMES.add("groups_joined_by_hyphens", r"(?<![\d-])\d{1,7}(?:-\d{1,7}){2,6}(?![\d-])", _grouped, has="-")
NAMES.add(
    "ten_digits",
    r"(?<![\d.,$£€-])(\d{3})(\d{3})(\d{4})(?<!000000)(?!\d|[.,]\d| ?[%€£$])",
    lambda match, reading: _groups(" ".join(match.groups())),
)
NAMES.add(
    "wireless",
    r"(?<![\d.,])(?:(?<=IEEE )802\.(\d{1,2})(?![\d.,]\d|\w)|802\.(\d{1,2})([A-Za-z]{1,2})(?!\w))",
    lambda match, reading: (
        f"eight oh two dot {cardinal(int(match[1] or match[2]))} {letters((match[3] or '').upper())}".rstrip()
    ),
    has=("802.",),
)
NAMES.add(
    "year_of_a_standard",
    r"\b((?:ISO|IEC|EN|DIN|BS|IEEE|ANSI)(?:[ /](?:ISO|IEC|EN))? (?:\d{1,5}(?:-\d{1,3})?)):((?:19|20)\d\d)(?![\d:])",
    lambda match, reading: f"{match[1]}, {year(int(match[2]))}",
    has=":",
)
NAMES.words("charity", r"\b501\(?c\)?\(?(\d)\)?", r"five oh one c \1", has=("501",))
NAMES.words("retirement_plan", r"\b401\(?k\)?(?![A-Za-z])", "four oh one k", has=("401",))


@NAMES.rule(rf"(?<![\d.,])\d{{{LONGEST_AMOUNT + 1},}}")
def digits_without_end(match: re.Match[str], reading: Reading) -> str:
    """Digits, but a trillion is one."""
    round_ = re.fullmatch(r"[1-9]\d{0,2}0{10,30}", match.group())
    return cardinal(int(match.group())) if round_ else _groups(match.group())


_DIAL_BEFORE = Late(
    r"\b(?:(dial(?:l?ed|l?ing|s)?|text(?:ed|ing|s)?(?: [A-Z]{2,12})? to)|"
    r"call(?:ed|ing|s)?|phon(?:e|ed|ing)|rang|ring|text) $",
    re.IGNORECASE,
)
_CALL_BEHIND = Late(r" (?:calls?|callers?|dispatchers?|emergency|operators?)\b")
_EMERGENCY = ("911", "999", "112", "311", "411")


@NAMES.rule(r"(?<![\d.,-])\d{2,6}(?!\d|[-,.]\d)", has=("ial", "ext", *_EMERGENCY))
def number_to_dial(match: re.Match[str], reading: Reading) -> str | None:
    """``Dial 911`` -> ``dial nine one one``."""
    called = _DIAL_BEFORE.compiled.search(before(match))
    emergency = match.group() in _EMERGENCY and (called or _CALL_BEHIND.compiled.match(behind(match)))
    return digits(match.group()) if emergency or (called and called[1]) else None


NAMES.add("zip_code", r"(?<=\b[A-Z]{2} )\d{5}(?:-\d{4})?(?![\d-]|,\d)", _grouped)
NAMES.words("number_sign", r"#(?=\d)", "number ", has="#")
_CODE_BEFORE = Late(
    rf"\b(?:(?:{_SECRET})(?: (?:no\.?|num(?:ber)?))?:?(?: (?:is|was|of|reads|to))?|(number(?: is| was)?)|"
    "address of|ending in) ?$",
    re.IGNORECASE,
)
_COUNTED_BEFORE = Late(rf"\b(?:{_COUNTED})\.?(?: (?:no\.?|number))? ?$", re.IGNORECASE)
_NUMBERED_BEFORE = Late(rf"\b(?:{_NUMBERED})(?: number)? $", re.IGNORECASE)


@NAMES.rule(r"(?<![\d.,])\d{4,12}(?!\d|[.,-]\d)")
def code(match: re.Match[str], reading: Reading) -> str | None:
    """``the code is 276983`` -> digits."""
    found = _CODE_BEFORE.compiled.search(before(match))
    return None if found is None or (found[1] and len(match.group()) < 5) else digits(match.group())


@NAMES.rule(r"(?<![\d.,:])0{1,3}(\d{1,3})(?!\d|[:/,.]\d)", has="0")
def zero_in_front(match: re.Match[str], reading: Reading) -> str | None:
    """``Chapter 07`` -> ``chapter seven``."""
    return cardinal(int(match[1])) if _COUNTED_BEFORE.compiled.search(before(match)) else None


@NAMES.rule(r"(?<![\d.,])(\d{1,4})(?:-?([A-Z]))?(?!\w|[.,-]\d)")
def numbered(match: re.Match[str], reading: Reading) -> str | None:
    """``Room 204`` -> ``room two oh four``, ``Exhibit No. 133-A`` -> ``exhibit number one thirty three A``."""
    written, letter = match.groups()
    if len(written) < 3 and not letter:
        return None
    counted = letter and _COUNTED_BEFORE.compiled.search(before(match))
    if not counted and _NUMBERED_BEFORE.compiled.search(before(match)) is None:
        return None
    return f"{_in_pairs(written)}{f' {letters(letter)}' if letter else ''}"


def _in_pairs(written: str) -> str:
    return digits(written) if written.startswith("0") else by_hundreds(int(written))


@NAMES.rule(
    rf"(?<![\d.,$£€-])\b(\d{{3,4}})(?= (?:(?:(?:north|south|east|west|[NSEW]\.?) )?(?:[A-Z][a-z'.]+ "
    rf"){{1,3}}(?:{_STREET})\b"
    r"|(?:North|South|East|West) [A-Z][a-z]))",
    flags=re.IGNORECASE,
)
def house_number(match: re.Match[str], reading: Reading) -> str | None:
    """``1026 North Beckley Avenue`` -> ``ten twenty six``."""
    following = match.string[match.end() + 1 : match.end() + 2]
    return _in_pairs(match.group()) if following.isupper() else None


@NAMES.rule(r"(?<![\w.,-])(?=[A-Z\d]{5,20}(?![\w-]))(?:[A-Z]+\d+|\d+)[A-Z]+\d[A-Z\d]*")
def letters_among_figures(match: re.Match[str], reading: Reading) -> str:
    """``7ABC123`` -> ``seven A B C one two three``."""
    return " ".join(digits(c) or letters(c) for c in match.group())


@NAMES.rule(r"(?<![A-Za-z\d-])([A-Z]{1,3})-?(\d{3,12})(?!\d|[.,]\d)(?:-?([A-Z])\b)?")
def letter_and_figures(match: re.Match[str], reading: Reading) -> str | None:
    """``C2766`` -> ``C two seven six six``, ``A380`` -> ``A three eighty``."""
    capitals, written, last = match.groups()
    if len(capitals) > 1 and re.fullmatch("19[0-9]{2}|20[0-9]{2}", written):
        return None
    spoken = digits(written) if len(written) > 3 or written[0] == "0" else by_hundreds(int(written))
    return f"{letters(capitals)} {spoken}{f' {letters(last)}' if last else ''}"


@NAMES.rule(
    r"(?<![\w.])\.(\d{2,3})(?=(?:-| )?(?:cal\b|caliber|calibre|rifle|pistol|revolver|special|magnum|gun))",
    flags=re.IGNORECASE,
    has=".",
)
def caliber(match: re.Match[str], reading: Reading) -> str:
    """``.22 rifle`` -> ``twenty two``."""
    return by_hundreds(int(match[1]))


@NAMES.rule(r"(?<![A-Za-z\d&-])([A-Z]{1,3})-?(\d{1,2})(?:([A-Z])|'?(s))\b")
def letter_behind_a_figure(match: re.Match[str], reading: Reading) -> str:
    """``F-16A`` -> ``F sixteen A``, ``MP3s`` -> ``M P threes``."""
    capitals, written, last, several = match.groups()
    spoken = cardinal(int(written))
    return f"{letters(capitals)} {plural(spoken) if several else f'{spoken} {letters(last)}'}"


NAMES.add("capitals_before_a_figure", r"(?<![A-Za-z\d&-])([A-Z]{1,3})(?=\d)", lambda match, reading: letters(match[1]))

#: Joined to a figure by a hyphen: "a 5-km run".
_SHORT_UNITS = "cm|ft|g|GB|hr|in|kg|km|lb|lbs|m|MB|mg|mi|min|ml|mm|mph|oz|sec|TB|V|W|yd|yr"

RANGES = Rules("-")

_AMOUNT_UNIT = r"(?:[%°]|°[CF]| ?[AaPp]\.?[Mm]\.?|[a-zA-Z]{1,3})?"


RANGES.words("mixed_number", r"(?<![\d/.,-])(\d{1,3})-(?=\d{1,2}/\d{1,2}(?![\d/]))", r"\1 ", has="/")
RANGES.words("sign_of_money_first", r"([$£€])-(?=\d)", r"-\1", has=("$-", "£-", "€-"))
RANGES.words("from_noon_or_midnight", r"\b([Nn]oon|[Mm]idnight)-(?=\d)", r"\1 to ", has=("oon-", "night-"))


@RANGES.rule(r"(?<![\d.,/-])(\d\d?)-(\d\d?)(?![\d/-]|[.,%]\d)(?!%)", has="-")
def shares_of_a_hundred(match: re.Match[str], reading: Reading) -> str | None:
    """``50-50`` -> ``fifty fifty``, ``80-20`` -> ``eighty twenty``."""
    first, second = int(match[1]), int(match[2])
    shares = first + second == 100 and first >= second
    return f"{cardinal(first)} {cardinal(second)}" if shares or match.group() in ("20-20", "24-7") else None


RANGES.words(
    "hyphen_to_a_word",
    r"(?<=[A-Za-z])-(?=\d)(?<![\d°][a-zA-Z]-)(?<!\d[a-zA-Z]{2}-)|"
    rf"(?<=\d)-(?!(?:{_SHORT_UNITS})\b(?!-\d))(?=[A-Za-z])",
    " ",
    has="-",
)
RANGES.words("up_to", rf"(?<=\d)({_AMOUNT_UNIT})-(?=[$£€¥~]?\.?\d)", r"\1 to ", has="-")


@RANGES.rule(rf"(?<![\d.,:])([\d.,:]{{0,20}}\d)({_AMOUNT_UNIT}) - (?=[$£€¥]?([\d.,:]{{0,20}}\d))", has=(" - ",))
def up_to_apart(match: re.Match[str], reading: Reading) -> str | None:
    """``10 - 15`` -> ``ten to fifteen``; a dash where the second figure is the smaller."""
    first, unit, second = match.groups()
    rising = _value(first) < _value(second) or "m" in unit.lower()
    return f"{first}{unit} to " if rising else None


def _value(written: str) -> float:
    try:
        return float(written.replace(",", "").replace(":", "."))
    except ValueError:
        return 0.0


RANGES.words("minus", r"(?<![^ (])-(?=[$£€¥]?\.?\d)", "minus ", has="-")

PLAIN = Rules(r"\d")


_RATED = Late(r" (?:rating|score|stars)\b")


@PLAIN.rule(r"(?<![\d/.,])(?:(\d{1,4}) )?(\d{1,4})/(\d{1,4})(?![\d/])", has="/")
def slashed(match: re.Match[str], reading: Reading) -> str:
    """``3/4`` -> ``three quarters``, ``24/7`` -> ``twenty four seven``, ``120/80`` -> ``one twenty over eighty``."""
    whole, top, bottom = match.groups()
    above, below = int(top), int(bottom)
    if not whole and 1900 <= above < 2100 and len(bottom) == 2:  # a season
        return f"{year(above)} {cardinal(below)}"
    if not whole and ((above == below and below in (5, 10, 100)) or _RATED.compiled.match(behind(match))):
        return f"{cardinal(above)} out of {cardinal(below)}"
    if match.group() == "9/11" or behind(match, 5) == " time" or not 0 < above < below or below > 100:
        over = " over " if above >= 60 and below >= 40 else " "
        first = f"{cardinal(int(whole))} " if whole else ""
        return f"{first}{cardinal(above)}{over}{cardinal(below)}"
    return mixed(int(whole or 0), above, below)


@PLAIN.rule(
    r"(?<![\d,])(\d{1,3}(?:,\d{3}){1,3}|\d{1,9})(?:st|nd|rd|th|ST|ND|RD|TH)\b",
    has=("st", "nd", "rd", "th", "ST", "ND", "RD", "TH"),
)
def place(match: re.Match[str], reading: Reading) -> str:
    return ordinal(int(match[1].replace(",", "")))


def _points(match: re.Match[str], reading: Reading) -> str:
    """``2.0.1`` -> ``two point zero point one``."""
    return " point ".join(figure(part) for part in match.group().split("."))


PLAIN.words("version", r"\b[vV](?=\d)", "v ", has="vV")
PLAIN.add("figure_with_several_points", r"(?<![\d.])\d{1,4}(?:\.\d{1,4}){2,4}(?!\d)", _points, has=".")


@PLAIN.rule(rf"({AMOUNT})(k|K|M|bn|B)\b", has=("k", "K", "M", "bn", "B"))
def scaled(match: re.Match[str], reading: Reading) -> str | None:
    """``100k`` -> ``one hundred thousand``; capitals may stand for a letter ("4K", "10K run")."""
    written, scale = match.groups()
    if scale in ("K", "B") or (scale == "M" and len(written) == 1 and not behind(match, 1) == " "):
        return f"{figure(written)} {scale}"
    return f"{figure(written)} {dict(k='thousand', M='million', bn='billion')[scale]}"


@PLAIN.rule(r"\b(\d{3,4})([pi])\b", has="pi")
def lines_of_a_screen(match: re.Match[str], reading: Reading) -> str:
    """``1080p`` -> ``ten eighty p``."""
    return f"{by_hundreds(int(match[1]))} {match[2]}"


PLAIN.add("letter_a_behind_a_figure", r"(?<=\d)[ -]?A\b(?! [a-z])", lambda match, reading: f" {LETTER_A}", has="A")
PLAIN.add("amount", AMOUNT, lambda match, reading: figure(match.group(), maybe_year=True))
PLAIN.add(
    "point_and_decimals", r"(?<!\d)\.(\d{1,20})(?!\d)", lambda match, reading: f" point {digits(match[1])}", has="."
)
# What the rules above passed over because of odd commas and dots around it.
PLAIN.add("any_digits", r"(?<!\d)\d+", lambda match, reading: figure(match.group()))
