"""Figures as published TorToise reads them, and with its faults mended.

Betker (2022) took the rules from Keith Ito's Tacotron. They know commas, dollars, decimals, ordinals and years; times,
dates and measures are read as bare figures.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from chelys.text.numbers import CURRENCIES, digits, spell_number, spell_ordinal

#: Digits of the largest number that has a name; longer ones are read digit by digit.
LONGEST_NUMBER = 36

#: Sign of a currency -> one, many, one of its parts, many of its parts; no parts where few would know their name.
SIGNS = CURRENCIES | {
    "¢": ("cent", "cents", "", ""),
    "₹": ("rupee", "rupees", "paisa", "paise"),
    "₽": ("ruble", "rubles", "kopeck", "kopecks"),
    "₩": ("won", "won", "", ""),
    "₺": ("lira", "lira", "", ""),
    "₴": ("hryvnia", "hryvnias", "", ""),
    "₪": ("shekel", "shekels", "", ""),
    "₦": ("naira", "naira", "", ""),
    "₱": ("peso", "pesos", "", ""),
    "₫": ("dong", "dong", "", ""),
    "฿": ("baht", "baht", "", ""),
    "₿": ("bitcoin", "bitcoins", "", ""),
}
_SCALES = {"k": "thousand", "m": "million", "b": "billion", "bn": "billion"}

_Rules = tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...]


def speak_figures(text: str, *, reference: bool = False) -> str:
    """Replace figures by words.

    Args:
        text: Lower-case ASCII, and the `SIGNS` besides where ``reference`` is false.
        reference: As the original reads them: dollars alone have a name, $1.5 is one dollar and five cents, and 0.05
            is "zero point five". (It has a rule for pounds too, but transliteration takes the sign away first.)
    """
    for pattern, spoken in _PUBLISHED if reference else _REPAIRED:
        text = pattern.sub(spoken, text)
    return text


def apart(match: re.Match[str], said: str) -> str:
    """What is said in place of a match, with a space where a word would touch it."""
    before, after = match.string[match.start() - 1 : match.start()], match.string[match.end() : match.end() + 1]
    return f"{' ' if before.isalnum() else ''}{said}{' ' if after.isalnum() else ''}"


@lru_cache(maxsize=4096)
def _cardinal(figure: str) -> str:
    """``12345`` -> ``twelve thousand, three hundred forty-five``."""
    plain = _plain(figure)
    return digits(plain) if len(plain) > LONGEST_NUMBER else spell_number(int(plain))


def _ordinal(match: re.Match[str]) -> str:
    """``101st`` -> ``one hundred and first``."""
    return digits(match[1]) if len(match[1]) > LONGEST_NUMBER else _place(match[1])


@lru_cache(maxsize=4096)
def _place(figure: str) -> str:
    return spell_ordinal(spell_number(int(figure), and_=True))


@lru_cache(maxsize=4096)
def _number(figure: str) -> str:
    """A figure by itself; between 1000 and 3000 it is read as a year."""
    plain = _plain(figure)
    if len(plain) != 4 or not 1000 < int(plain) < 3000:
        return _cardinal(plain)
    if plain == "2000":
        return "two thousand"
    if "2000" < plain < "2010":
        return f"two thousand {_cardinal(plain[2:])}"
    if plain.endswith("00"):
        return f"{_cardinal(plain[:2])} hundred"
    last = f"oh {spell_number(int(plain[3]))}" if plain[2] == "0" else spell_number(int(plain[2:]))
    return f"{spell_number(int(plain[:2]))} {last}"


def _dollars(match: re.Match[str]) -> str:
    """Published: what stands after the point are cents, however many digits it has."""
    whole, *parts = match[1].split(".")
    if len(parts) > 1:
        return f"{match[1]} dollars"
    return _sum(_plain(whole.replace(",", "")), _plain("".join(parts).replace(",", "")), SIGNS["$"])


def _sum(main: str, parts: str, names: tuple[str, str, str, str]) -> str:
    one, many, one_part, many_parts = names
    said = [f"{main} {one if main == '1' else many}"] if main != "0" else []
    said += [f"{parts} {one_part if parts == '1' else many_parts}"] if parts != "0" else []
    return ", ".join(said) or f"zero {many}"


def _money(match: re.Match[str]) -> str:
    sign, figure, scale = match["sign"], match["figure"].replace(",", ""), (match["scale"] or "").strip()
    names = SIGNS[sign]
    whole, _, decimals = figure.partition(".")
    if scale or len(decimals) > 2 or (decimals and not names[2]):
        said = f"{_decimal(whole or '0', decimals)} {_SCALES.get(scale, scale)}".strip()
        return apart(match, f"{said} {names[1]}")
    main, parts = _plain(whole), _plain(decimals.ljust(2, "0"))
    words = re.sub("[0-9]+", lambda amount: _cardinal(amount.group()), _sum(main, parts, names))
    return apart(match, words)


def _decimals(match: re.Match[str]) -> str:
    whole, decimals, *more = match.group().split(".")
    if more:  # a version
        return " point ".join((whole, decimals, *more))
    return f"{whole} point {decimals}" if _reads_as_number(decimals) else _decimal(whole, decimals)


def _decimal(whole: str, decimals: str) -> str:
    said = _cardinal(decimals) if _reads_as_number(decimals) else digits(decimals)
    return f"{_cardinal(whole)} point {said}" if decimals else _cardinal(whole)


def _reads_as_number(decimals: str) -> bool:
    """Two decimals may be read as published ("three point fourteen"); more, or a zero in front, change the value."""
    return 0 < len(decimals) <= 2 and decimals[0] != "0"


def _plain(figure: str) -> str:
    """Without leading zeros; ``0`` for nothing. Never an int: Python refuses thousands of digits."""
    return figure.lstrip("0") or "0"


_COMMAS = re.compile(r"[0-9][0-9,]+[0-9]"), lambda m: m.group().replace(",", "")
_ORDINALS = re.compile(r"(?<![0-9])([0-9]+)(?:st|nd|rd|th)"), _ordinal
_NUMBERS = re.compile(r"[0-9]+"), lambda m: _number(m.group())

_FIGURE = r"(?P<figure>[0-9]+(?:,[0-9]+)*(?:\.[0-9]+)?|\.[0-9]+)"
_SIGN = rf"(?P<sign>[{''.join(SIGNS)}])"
_SCALE = r"(?P<scale> (?:thousand|million|billion|trillion)\b|(?:k|m|bn?)\b)?"

_PUBLISHED: _Rules = (
    _COMMAS,
    (re.compile(r"\$([0-9.,]*[0-9])"), _dollars),
    (re.compile(r"(?<![0-9])[0-9]+\.[0-9]+"), lambda m: m.group().replace(".", " point ")),
    _ORDINALS,
    _NUMBERS,
)
_REPAIRED: _Rules = (
    (re.compile(rf"{_SIGN} ?{_FIGURE}(?!\.?[0-9]){_SCALE}"), _money),
    (re.compile(rf"(?<![0-9.,]){_FIGURE}(?!\.?[0-9]){_SCALE} ?{_SIGN}(?! ?\.?[0-9])"), _money),
    (re.compile(r"#(?=[0-9])"), lambda m: apart(m, "number ")),
    (re.compile(rf"{_SIGN}([0-9.,]*[0-9])"), lambda m: apart(m, f"{m[2]} {SIGNS[m['sign']][1]}")),  # no amount
    (re.compile(f"[{''.join(SIGNS)}]"), lambda m: apart(m, SIGNS[m.group()][1])),
    _COMMAS,
    (re.compile(r"(?<![0-9.])[0-9]+(?:\.[0-9]+)+"), _decimals),
    (re.compile(r"(?<![\w.])\.(?=[0-9])"), lambda m: "point "),
    _ORDINALS,
    _NUMBERS,
)
