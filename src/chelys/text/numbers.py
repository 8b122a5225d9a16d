"""Numbers as an American reads them aloud: money, times, dates, measures, fractions, plain figures.

Every pattern begins where no digit precedes and is bounded in length, so that the work is linear in the text
even for a page of digits.
"""

from __future__ import annotations

import re
from collections.abc import Callable

#: Longer runs of digits are names (phones, cards), not amounts, and are read digit by digit.
LONGEST_AMOUNT = 12

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = ["", "", *"twenty thirty forty fifty sixty seventy eighty ninety".split()]
#: Names of the powers of a thousand.
_THOUSANDS = ["", *(
    "thousand million billion trillion quadrillion quintillion sextillion septillion octillion nonillion decillion"
).split()]  # fmt: skip
_PLACES = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
           "twelve": "twelfth"}  # fmt: skip
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_MONTH = "|".join(_MONTHS)

#: Sign of a currency -> one, many, one of its parts, many of its parts.
CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"), "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"), "¥": ("yen", "yen", "sen", "sen"),
}  # fmt: skip
_SCALES = {"k": "thousand", "m": "million", "bn": "billion", "b": "billion"}

_UNITS = {
    "km/h": ("kilometer per hour", "kilometers per hour"), "kph": ("kilometer per hour", "kilometers per hour"),
    "mph": ("mile per hour", "miles per hour"), "km": ("kilometer", "kilometers"), "cm": ("centimeter", "centimeters"),
    "mm": ("millimeter", "millimeters"), "m": ("meter", "meters"), "ft": ("foot", "feet"), "mi": ("mile", "miles"),
    "kg": ("kilogram", "kilograms"), "mg": ("milligram", "milligrams"), "g": ("gram", "grams"),
    "lbs": ("pound", "pounds"), "lb": ("pound", "pounds"), "oz": ("ounce", "ounces"),
    "ml": ("milliliter", "milliliters"), "kHz": ("kilohertz", "kilohertz"), "MHz": ("megahertz", "megahertz"),
    "GHz": ("gigahertz", "gigahertz"), "Hz": ("hertz", "hertz"), "KB": ("kilobyte", "kilobytes"),
    "kB": ("kilobyte", "kilobytes"), "MB": ("megabyte", "megabytes"), "GB": ("gigabyte", "gigabytes"),
    "TB": ("terabyte", "terabytes"), "ms": ("millisecond", "milliseconds"), "sec": ("second", "seconds"),
    "min": ("minute", "minutes"), "hrs": ("hour", "hours"), "hr": ("hour", "hours"),
    "°C": ("degree Celsius", "degrees Celsius"), "°F": ("degree Fahrenheit", "degrees Fahrenheit"),
    "°": ("degree", "degrees"), "%": ("percent", "percent"),
}  # fmt: skip
_FRACTIONS = dict(enumerate("half third quarter fifth sixth seventh eighth ninth tenth".split(), 2))

_AMOUNT = r"(?<![\d.,])(?:\d{1,3}(?:,\d{3}){1,5}|\d{1,12})(?:\.\d{1,20})?(?!\d)"
# The second stop of "p.m." may end the sentence too, and is left where it seems to.
_HALF_DAY = r" ?([AaPp])(?:[Mm]\b|\.[Mm]\b(?:\.(?= ?[a-z0-9,;:?!)]))?)"
_UNIT = "|".join(re.escape(unit) for unit in sorted(_UNITS, key=len, reverse=True))


def speak_numbers(text: str) -> str:
    """Replace every figure of a single-spaced text, in ASCII and ``£ € ¥ °`` besides, by words."""
    for pattern, spoken in _RULES:
        text = pattern.sub(spoken, text)
    return text


def spell_number(number: int, *, and_: bool = False) -> str:
    """``12345`` -> ``twelve thousand, three hundred forty-five``; pure, so that threads cannot disturb each other.

    Below 10^36; ``and_`` is British: ``three hundred and forty-five``, ``one thousand and one``.
    """
    if not 0 <= number < 1000 ** len(_THOUSANDS):
        raise ValueError(f"{number} has no name here")
    parts: list[str] = []
    link = " and " if and_ else " "
    for power in range(len(_THOUSANDS) - 1, -1, -1):
        group = number // 1000**power % 1000
        if group:
            hundreds, rest = divmod(group, 100)
            words = [f"{_ONES[hundreds]} hundred"] * bool(hundreds) + [_below_hundred(rest)] * bool(rest)
            between = link if power == 0 and group < 100 else ", "  # "one thousand one", "one thousand, one hundred"
            parts += [between] * bool(parts) + [f"{link.join(words)} {_THOUSANDS[power]}".rstrip()]
    return "".join(parts) or "zero"


def _below_hundred(number: int) -> str:
    if number < 20:
        return _ONES[number]
    tens, ones = divmod(number, 10)
    return f"{_TENS[tens]}-{_ONES[ones]}" if ones else _TENS[tens]


def spell_ordinal(words: str) -> str:
    """``twenty-one`` -> ``twenty-first``."""
    match = re.search("[a-z]+$", words)
    assert match is not None, words
    last = match.group()
    place = _PLACES.get(last) or (f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th")
    return words[: match.start()] + place


def cardinal(number: int) -> str:
    """``342`` -> ``three hundred forty two``."""
    return spell_number(number).replace("-", " ").replace(",", "")


def ordinal(number: int) -> str:
    """``21`` -> ``twenty first``."""
    return spell_ordinal(cardinal(number))


def year(number: int) -> str:
    """``1905`` -> ``nineteen oh five``; outside of 1100 .. 2099 a plain number."""
    high, low = divmod(number, 100)
    if not 11 <= high <= 20 or 2000 <= number <= 2009:
        return cardinal(number)
    if low == 0:
        return f"{cardinal(high)} hundred"
    return f"{cardinal(high)} {'oh ' if low < 10 else ''}{cardinal(low)}"


def digits(text: str) -> str:
    """``407`` -> ``four zero seven``."""
    return " ".join(_ONES[int(c)] for c in text if c in "0123456789")


def _figure(figure: str, *, maybe_year: bool = False) -> str:
    """A figure, with or without commas and decimals."""
    whole, point, decimals = figure.partition(".")
    plain = whole.replace(",", "")
    if len(plain) > LONGEST_AMOUNT or (len(plain) > 1 and plain[0] == "0"):
        words = digits(plain)
    elif maybe_year and not point and len(whole) == 4:
        words = year(int(plain))
    else:
        words = cardinal(int(plain)) if plain else ""
    return f"{words} point {digits(decimals)}".strip() if point else words


def _phone(match: re.Match[str]) -> str:
    return f" {', '.join(digits(group) for group in re.findall('[0-9]+', match.group()))} "


def _money(match: re.Match[str]) -> str:
    sign, figure, scale = match.groups()
    one, many, one_part, many_parts = CURRENCIES[sign]
    whole, _, decimals = figure.replace(",", "").partition(".")
    if scale:
        scale = scale.strip().lower()
        return f" {_figure(figure)} {_SCALES.get(scale, scale)} {many} "
    if len(decimals) != 2:
        return f" {_figure(figure)} {one if figure == '1' else many} "
    main, parts = int(whole or 0), int(decimals)
    words = [f"{cardinal(main)} {one if main == 1 else many}"] if main or not parts else []
    words += [f"{cardinal(parts)} {one_part if parts == 1 else many_parts}"] if parts else []
    return f" {' and '.join(words)} "


def _clock(match: re.Match[str]) -> str:
    hour, minute, second, half = match.groups()
    words = [cardinal(int(hour))]
    if int(minute):
        words.append(f"oh {cardinal(int(minute))}" if int(minute) < 10 else cardinal(int(minute)))
    elif not half:
        words.append("o'clock" if 1 <= int(hour) <= 12 and not second else "hundred hours" if not second else "zero")
    if second:
        words.append(f"and {cardinal(int(second))} {'second' if int(second) == 1 else 'seconds'}")
    return " ".join([*words, half[0].upper() + "M" if half else ""])


def _iso_date(match: re.Match[str]) -> str:
    when, month, day = (int(group) for group in match.groups())
    return f"{_MONTHS[month - 1]} {ordinal(day)}, {year(when)}"


def _fraction(match: re.Match[str]) -> str:
    whole, top, bottom = match.groups()
    above, below = int(top), int(bottom)
    if below not in _FRACTIONS or not 0 < above < below:
        before = f"{cardinal(int(whole))} " if whole else ""
        return f"{before}{cardinal(above)} slash {cardinal(below)}"
    name = _FRACTIONS[below]
    several = "halves" if name == "half" else f"{name}s"
    words = f"{cardinal(above)} {name if above == 1 else several}"
    if whole:
        return f"{cardinal(int(whole))} and {f'a {name}' if above == 1 else words}"
    return words


def _decade(match: re.Match[str]) -> str:
    century, tens = match.groups()
    if tens == "00":
        name = "hundreds" if century not in ("20", "10") else "thousands"
        return f"{cardinal(int(century) if name == 'hundreds' else int(century) // 10)} {name}"
    name = cardinal(int(tens))
    plural = f"{name[:-1]}ies" if name.endswith("y") else f"{name}s"
    return f"{cardinal(int(century))} {plural}" if century else plural


def _ordinal(match: re.Match[str]) -> str:
    return ordinal(int(match[1].replace(",", "")))


def _measure(match: re.Match[str]) -> str:
    figure, unit = match.groups()
    return f"{_figure(figure)} {_UNITS[unit][0 if figure == '1' else 1]} "


def _version(match: re.Match[str]) -> str:
    return " point ".join(_figure(part) for part in match.group().split("."))


_RULES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    # Phone numbers: (555) 123-4567, 555-1234, +1 555 123 4567; and digits without end.
    (re.compile(r"(?<![\d-])(?:\+?\d{1,3}[ -])?(?:\(\d{3}\) ?|\d{3}[ -])?\d{3}-\d{4}(?![\d-])"), _phone),
    (re.compile(r"(?<!\d)\+\d{1,3}(?: \d{2,5}){2,5}(?!\d)"), _phone),
    (re.compile(rf"(?<!\d)\d{{{LONGEST_AMOUNT + 1},}}"), lambda m: f" {digits(m.group())} "),
    (re.compile(r"(?<![\d-])(1\d{3}|20\d\d)-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])(?![\d-])"), _iso_date),
    (re.compile(r"(?<=[A-Za-z])-(?=\d)|(?<=\d)-(?=[A-Za-z])"), lambda m: " "),
    (re.compile(r"(?<=\d)(?:-| - )(?=[$£€¥]?\d)"), lambda m: " to "),
    (re.compile(r"(?<![^ (])-(?=[$£€¥]?\.?\d)"), lambda m: "minus "),
    (
        re.compile(rf"([$£€¥]) ?({_AMOUNT}|\.\d\d(?!\d))( ?(?:thousand|million|billion|trillion|bn|[kKmMbB])\b)?"),
        _money,
    ),
    (re.compile(r"(?<![\d:])([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?(?![\d:])" + f"(?:{_HALF_DAY})?"), _clock),
    (re.compile(r"(?<![\d:])(1[0-2]|[1-9])" + _HALF_DAY), lambda m: f"{cardinal(int(m[1]))} {m[2].upper()}M"),
    (re.compile(rf"\b({_MONTH}) (\d{{1,2}})(?!\d|[.,:/]\d)"), lambda m: f"{m[1]} {ordinal(int(m[2]))}"),
    (re.compile(r"(?<![\d/.,])(?:(\d{1,4}) )?(\d{1,4})/(\d{1,4})(?![\d/])"), _fraction),
    (re.compile(r"(?<![\d.,])'?(\d\d)?(\d0)'?s\b"), _decade),
    (re.compile(r"(?<![\d,])(\d{1,3}(?:,\d{3}){1,3}|\d{1,9})(?:st|nd|rd|th)\b"), _ordinal),
    (re.compile(rf"({_AMOUNT}) ?({_UNIT})(?![A-Za-z])"), _measure),
    (re.compile(r"(?<![\d.])\d{1,4}(?:\.\d{1,4}){2,4}(?![\d])"), _version),
    (re.compile(_AMOUNT), lambda m: f" {_figure(m.group(), maybe_year=True)} "),
    (re.compile(r"(?<!\d)\.(\d{1,20})(?!\d)"), lambda m: f" point {digits(m[1])} "),
    # What the rules above passed over because of odd commas and dots around it.
    (re.compile(r"(?<!\d)\d+"), lambda m: f" {_figure(m.group())} "),
)
