"""Numbers in words, as an American reads them aloud. Pure functions: threads cannot disturb each other."""

from __future__ import annotations

import re
from functools import lru_cache

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
#: Sign of a currency -> one, many, one of its parts, many of its parts.
CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"), "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"), "¥": ("yen", "yen", "sen", "sen"),
}  # fmt: skip
_FRACTIONS = {2: ("half", "halves"), 4: ("quarter", "quarters")}

#: An amount of money or of anything else: commas, decimals, no digit on either side.
AMOUNT = r"(?<![\d.,])(?:\d{1,3}(?:,\d{3}){1,5}|\d{1,12})(?:\.\d{1,20})?(?!\d)"


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


@lru_cache(maxsize=4096)
def cardinal(number: int) -> str:
    """``342`` -> ``three hundred forty two``."""
    return spell_number(number).replace("-", " ").replace(",", "")


def ordinal(number: int) -> str:
    """``21`` -> ``twenty first``."""
    return spell_ordinal(cardinal(number))


def year(number: int) -> str:
    """``1905`` -> ``nineteen oh five``; outside of 1100 .. 2199 a plain number."""
    if not 1100 <= number < 2200 or 2000 <= number <= 2009:
        return cardinal(number)
    return by_hundreds(number)


def by_hundreds(number: int) -> str:
    """``343`` -> ``three forty three``, ``1026`` -> ``ten twenty six``, ``101`` -> ``one oh one``: rooms, old years."""
    high, low = divmod(number, 100)
    if not 1 <= high <= 99 or not low:
        return cardinal(number) if not high % 10 or high > 99 else f"{cardinal(high)} hundred"
    return f"{cardinal(high)} {'oh ' if low < 10 else ''}{cardinal(low)}"


def digits(text: str) -> str:
    """``407`` -> ``four zero seven``."""
    return " ".join(_ONES[int(c)] for c in text if c in "0123456789")


@lru_cache(maxsize=4096)
def figure(written: str, *, maybe_year: bool = False) -> str:
    """A figure as it is written, with or without commas and decimals."""
    whole, point, decimals = written.partition(".")
    plain = whole.replace(",", "")
    if len(plain) > LONGEST_AMOUNT or (len(plain) > 1 and plain[0] == "0"):
        words = digits(plain)
    elif maybe_year and not point and len(whole) == 4:
        words = year(int(plain))
    else:
        words = cardinal(int(plain)) if plain else ""
    return f"{words} point {digits(decimals)}".strip() if point else words


def fraction(above: int, below: int) -> str:
    """``3, 4`` -> ``three quarters``."""
    one, several = _FRACTIONS.get(below) or (ordinal(below), f"{ordinal(below)}s")
    return f"{cardinal(above)} {one if above == 1 else several}"


def mixed(whole: int, above: int, below: int) -> str:
    """``2, 1, 2`` -> ``two and a half``; a fraction alone where the whole is 0."""
    spoken = fraction(above, below)
    if not whole:
        return spoken
    return f"{cardinal(whole)} and {spoken.replace('one ', 'a ', 1) if above == 1 and below < 11 else spoken}"


def plural(words: str) -> str:
    """``twenty`` -> ``twenties``, ``ten`` -> ``tens``."""
    return f"{words[:-1]}ies" if words.endswith("y") else f"{words}s"
