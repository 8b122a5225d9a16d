"""Text as published TorToise is asked to read it: Betker (2022), whose rules are those of Keith Ito's Tacotron.

Everything becomes lower-case ASCII; figures and some abbreviations become words. Whatever the tokenizer does not know
(brackets, ``%``) is left to it.

To make ASCII of any Unicode text the original asked the package Unidecode, which is under the GPL. The tables here are
those of text-unidecode, another port of Text::Unidecode (Burke 2001) under the Artistic licence; what Unidecode changed
since, as far as an English text may hold it, is in the table below.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

from chelys.text.abbreviations import SAINT_OR_STREET, saint_or_street
from chelys.text.normalize import SYMBOLS
from chelys.text.numbers import CURRENCIES, digits, spell_number, spell_ordinal

#: What text-unidecode writes for a character without a reading; Unidecode writes nothing.
_NO_READING = "[?]"

_CHANGED = {
    **{chr(0xBC + n): f" {fraction}" for n, fraction in enumerate(("1/4", "1/2", "3/4"))},
    **dict(zip("⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞↉", (
        f" {fraction} " for fraction in "1/7 1/9 1/10 1/3 2/3 1/5 2/5 3/5 4/5 1/6 5/6 1/8 3/8 5/8 7/8 0/3".split()
    ), strict=True)),
    **dict(zip("₰₱₲₳₴₵₶₷₸₹₺₻₼₽₾₿", "Pf P G A UAH C| L Sm T Rs L M m R l BTC".split(), strict=True)),
    **dict(zip("⁇⁎⁒⁓−∕∖∗∣∶∼≤≥≦≧", "?? * % ~ - / \\ * | : ~ <= >= <= >=".split(), strict=True)),
    **dict(zip("しちっつシチッツ・ー゠", "shi chi tsu tsu shi chi tsu tsu * - =".split(), strict=True)),
    "\u204a": "&", "\u2057": "''''", "\u205f": " ", "⅟": " 1/", "№": "No. ", "℗": "(p)", "℠": "(sm)", "™": "(tm)",
    "\u2126": "ohm", "℮": "e", "Є": "Ie", "Ъ": "'", "ъ": "'", "\u2e3a": "----", "\u2e3b": "------",
}  # fmt: skip

#: Blocks of letters and figures in another dress, which text-unidecode does not know: first and last character.
_DRESSED = (  # raised and lowered letters; letter-like signs and Roman figures; in circles; bold, italic, script
    ("\u1d2c", "\u1d6a"), ("\u2071", "\u209c"), ("\u2100", "\u218f"), ("\u2460", "\u24ff"),
    ("\U0001d400", "\U0001d7ff"),
)  # fmt: skip


def transliterate(text: str, *, keep: str = "") -> str:
    """Spell every character in ASCII, but for those to keep; one that has no reading vanishes."""
    if text.isascii():
        return text
    return "".join(c if c.isascii() or c in keep else reading(c) for c in text)


@lru_cache(maxsize=8192)
def reading(character: str) -> str:
    """One character in ASCII; empty if it has no reading."""
    from text_unidecode import unidecode  # its tables are read on import, and most texts are ASCII

    if character in _CHANGED:
        return _CHANGED[character]
    if any(first <= character <= last for first, last in _DRESSED):
        character = unicodedata.normalize("NFKD", character)
    return "".join(spelled for c in character if (spelled := unidecode(c)).strip() != _NO_READING)


#: Digits of the largest number that has a name; longer ones are read digit by digit.
LONGEST_NUMBER = 36

#: Sign of a currency -> one, many, one of its parts, many of its parts; no parts where few would know their name.
SIGNS = CURRENCIES | {
    "¢": ("cent", "cents", "", ""), "₹": ("rupee", "rupees", "paisa", "paise"),
    "₽": ("ruble", "rubles", "kopeck", "kopecks"), "₩": ("won", "won", "", ""), "₺": ("lira", "lira", "", ""),
    "₴": ("hryvnia", "hryvnias", "", ""), "₪": ("shekel", "shekels", "", ""), "₦": ("naira", "naira", "", ""),
    "₱": ("peso", "pesos", "", ""), "₫": ("dong", "dong", "", ""), "฿": ("baht", "baht", "", ""),
    "₿": ("bitcoin", "bitcoins", "", ""),
}  # fmt: skip
_SCALES = {"k": "thousand", "m": "million", "b": "billion", "bn": "billion"}

_Rules = tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...]


def speak_figures(text: str, *, reference: bool = False) -> str:
    """Replace figures by words in lower-case ASCII (and the `SIGNS` besides where ``reference`` is false).

    With ``reference`` as the original reads them: dollars alone have a name, $1.5 is one dollar and five cents, and
    0.05 is "zero point five". (It has a rule for pounds too, but transliteration takes the sign away first.)
    """
    for pattern, spoken in _PUBLISHED if reference else _REPAIRED:
        text = pattern.sub(spoken, text)
    return text


def apart(match: re.Match[str], words: str) -> str:
    """What is words in place of a match, with a space where a word would touch it."""
    before, after = match.string[match.start() - 1 : match.start()], match.string[match.end() : match.end() + 1]
    return f"{' ' if before.isalnum() else ''}{words}{' ' if after.isalnum() else ''}"


@lru_cache(maxsize=4096)
def _cardinal(figure: str) -> str:
    """``12345`` -> ``twelve thousand, three hundred forty-five``."""
    plain = _plain(figure)
    return digits(plain) if len(plain) > LONGEST_NUMBER else spell_number(int(plain))


def _ordinal(match: re.Match[str]) -> str:
    """``101st`` -> ``one hundred and first``."""
    figure = match[1]
    return digits(figure) if len(figure) > LONGEST_NUMBER else spell_ordinal(spell_number(int(figure), and_=True))


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
    words = [f"{main} {one if main == '1' else many}"] if main != "0" else []
    words += [f"{parts} {one_part if parts == '1' else many_parts}"] if parts != "0" else []
    return ", ".join(words) or f"zero {many}"


def _money(match: re.Match[str]) -> str:
    sign, figure, scale = match["sign"], match["figure"].replace(",", ""), (match["scale"] or "").strip()
    names = SIGNS[sign]
    whole, _, decimals = figure.partition(".")
    if scale or len(decimals) > 2 or (decimals and not names[2]):
        words = f"{_decimal(whole or '0', decimals)} {_SCALES.get(scale, scale)}".strip()
        return apart(match, f"{words} {names[1]}")
    main, parts = _plain(whole), _plain(decimals.ljust(2, "0"))
    words = re.sub("[0-9]+", lambda amount: _cardinal(amount.group()), _sum(main, parts, names))
    return apart(match, words)


def _decimals(match: re.Match[str]) -> str:
    whole, decimals, *more = match.group().split(".")
    if more:  # a version
        return " point ".join((whole, decimals, *more))
    return f"{whole} point {decimals}" if _reads_as_number(decimals) else _decimal(whole, decimals)


def _decimal(whole: str, decimals: str) -> str:
    words = _cardinal(decimals) if _reads_as_number(decimals) else digits(decimals)
    return f"{_cardinal(whole)} point {words}" if decimals else _cardinal(whole)


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


#: Applied one after the other, in this order.
ABBREVIATIONS = {
    "mrs": "misess", "mr": "mister", "dr": "doctor", "st": "saint", "co": "company", "jr": "junior", "maj": "major",
    "gen": "general", "drs": "doctors", "rev": "reverend", "lt": "lieutenant", "hon": "honorable", "sgt": "sergeant",
    "capt": "captain", "esq": "esquire", "ltd": "limited", "col": "colonel", "ft": "fort",
}  # fmt: skip
#: Their full stop may end a sentence as well.
_MAY_END = frozenset(("co", "jr", "esq", "ltd"))

_PUBLISHED_ABBREVIATIONS = tuple((re.compile(rf"\b{short}\."), long) for short, long in ABBREVIATIONS.items())

_SHORT = rf"(?i:{'|'.join(sorted(ABBREVIATIONS, key=len, reverse=True))})"
_TOUCHING = re.compile(rf"(?<![\w.])({_SHORT})\.(?=[A-Za-z])")
_ABBREVIATION = re.compile(rf"(?<![\w.])({_SHORT})\.(?=['\")\]]{{0,9}}( ?)['\"(\[]{{0,9}}([A-Za-z]{{0,20}})(\Z)?)")

_NAMED = {sign: name for sign, name in SYMBOLS.items() if sign not in SIGNS and sign != "/"}
_NAMED_SIGN = re.compile(rf"[{re.escape(''.join(_NAMED))}]")
#: Signs of money in full width, and quotation marks that transliteration makes commas and angles of.
_MENDED = str.maketrans("＄￡￥￠￦«»„‟‹›", '$£¥¢₩""""\'\'')
_SPACES = re.compile(r"\s+")
_SURROGATES = re.compile("[\ud800-\udfff]")


def clean(text: str, *, reference: bool = False) -> str:
    """Write a text as the published networks were trained to read it: lower-case ASCII, perhaps empty.

    Args:
        text: English; other scripts are transliterated.
        reference: Exactly as the original does, which says "psfive" for £5, "misterbrown" for "Mr.Brown" and "saint"
            for every "St.", swallows the full stop of a sentence that ends in "Co.", and leaves ``%`` unspoken.
    """
    if reference:
        text = speak_figures(transliterate(text).lower(), reference=True)
        for pattern, spoken in _PUBLISHED_ABBREVIATIONS:
            text = pattern.sub(spoken, text)
        return _SPACES.sub(" ", text).replace('"', "")
    text = _SPACES.sub(" ", transliterate(text.translate(_MENDED), keep="".join(SIGNS) + "°")).strip()
    # Capitals tell where a sentence begins.
    text = SAINT_OR_STREET.sub(saint_or_street, _TOUCHING.sub(r"\1. ", text))  # "Mr.Brown"
    text = speak_figures(_ABBREVIATION.sub(_spoken, text).lower())
    text = _NAMED_SIGN.sub(lambda match: apart(match, _NAMED[match.group()]), text)
    return _SPACES.sub(" ", text.replace('"', "")).strip()


def basic(text: str) -> str:
    """Lower case and single spaces, nothing else; half a surrogate pair becomes the sign for a broken character."""
    return _SPACES.sub(" ", _SURROGATES.sub("\ufffd", text).lower())


def _spoken(match: re.Match[str]) -> str:
    short, space, following, at_end = match[1].lower(), match[2], match[3], match[4] is not None and not match[3]
    spoken, may_end = ABBREVIATIONS[short], short in _MAY_END
    if short == "ft" and match.string[max(0, match.start() - 2) : match.start()].strip().isdigit():
        spoken, may_end = "feet", True
    elif short == "st" and not following:
        spoken = "street"
    # A capital behind a title belongs to a name ("Dr. No"); behind "Co." it begins a sentence, but for "Co. Ltd.".
    begins = space and following[:1].isupper() and following.lower() not in ABBREVIATIONS
    return spoken + ("." if at_end or (may_end and begins) else "")
