"""Any Unicode text -> the characters that English can be read from: ASCII and four signs of money and degree.

Letters lose their accents ("café" becomes "cafe"), typographic marks become typewriter marks, a few symbols
become words. What is left - emoji, other scripts - is dropped, and reported.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

_KEPT = frozenset("£€¥°")

_FOLDED = {
    **dict.fromkeys("‘’‚‛′´ʼʹʻ`", "'"),
    **dict.fromkeys("“”„‟″«»‹›", '"'),
    **dict.fromkeys("‐‑\u00ad", "-"),
    **dict.fromkeys("–—―‒⸺⸻", " - "),
    "−": "-",
    "…": "...",
    "•": ",",
    "·": " ",
    "™": "",
    "®": "",
    "©": " copyright ",
    "×": " times ",
    "÷": " divided by ",
    "±": " plus or minus ",
    "≈": " about ",
    "≠": " is not equal to ",
    "≤": " at most ",
    "≥": " at least ",
    "²": " squared ",
    "³": " cubed ",
    "§": " section ",
    "№": " number ",
    "¢": " cents ",
    "µ": "micro",
    "⁄": "/",
    "ß": "ss",
    "æ": "ae",
    "Æ": "Ae",
    "œ": "oe",
    "Œ": "Oe",
    "ø": "o",
    "Ø": "O",
    "ł": "l",
    "Ł": "L",
    "đ": "d",
    "Đ": "D",
    "ð": "th",
    "Ð": "Th",
    "þ": "th",
    "Þ": "Th",
    "ı": "i",
    "¿": "",
    "¡": "",
}
_FOLDED["\u00ad"] = ""  # the soft hyphen only says where a line may break

#: Control, format and unassigned characters and combining marks vanish without a word.
_SILENT_CATEGORIES = ("C", "M")


def to_ascii(text: str) -> tuple[str, str]:
    """Fold every character by itself, so that the work is linear in the text.

    Args:
        text: Anything.

    Returns:
        The folded text, and the distinct visible characters that have no reading, in order of appearance.
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
