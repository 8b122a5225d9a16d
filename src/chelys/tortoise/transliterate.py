"""Any Unicode text -> ASCII, character by character, as published TorToise was trained to see it.

The original asked the package Unidecode, which is under the GPL. The tables here are those of text-unidecode,
another port of Text::Unidecode (Burke 2001) under the Artistic licence; what Unidecode changed since, as far as an
English text may hold it, is in the table below.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

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
    "\u204a": "&",
    "\u2057": "''''",
    "\u205f": " ",
    "⅟": " 1/",
    "№": "No. ",
    "℗": "(p)",
    "℠": "(sm)",
    "™": "(tm)",
    "\u2126": "ohm",
    "℮": "e",
    "Є": "Ie",
    "Ъ": "'",
    "ъ": "'",
    "\u2e3a": "----",
    "\u2e3b": "------",
}  # fmt: skip

#: Blocks of letters and figures in another dress, which text-unidecode does not know: first and last character.
_DRESSED = (
    ("\u1d2c", "\u1d6a"),  # raised and lowered letters
    ("\u2071", "\u209c"),
    ("\u2100", "\u218f"),  # letter-like signs and Roman figures
    ("\u2460", "\u24ff"),  # in circles
    ("\U0001d400", "\U0001d7ff"),  # bold, italic, script, double-struck
)


def transliterate(text: str, *, keep: str = "") -> str:
    """Spell every character in ASCII; one that has no reading vanishes.

    Args:
        text: Anything, lone surrogates too.
        keep: Characters that stay as they are.
    """
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
