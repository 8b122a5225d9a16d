"""Any Unicode text in the few characters that the rules of reading know."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

#: Not ASCII, and read by the rules: signs of money, degrees, micro, ohm.
KEPT = frozenset("£€¥°₹₽₩₺₴₪₦₱₫฿₿¢µΩ‰")

_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma sigma tau "
    "upsilon phi "
    "chi psi omega"
).split()
_RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹"
_FOLDED = {
    **dict.fromkeys("‘’‚‛′´ʼʹʻ`", "'"),
    **dict.fromkeys("“”„‟″«»‹›", '"'),
    **dict.fromkeys("‐‑", "-"),
    **dict.fromkeys("–—―‒⸺⸻", " - "),
    **{letter: f" {name} " for letter, name in zip(map(chr, range(0x3B1, 0x3CA)), _GREEK, strict=True)},
    **{letter: f" {name} " for letter, name in zip("ΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡ", _GREEK, strict=False)},
    **dict(zip("ΣΤΥΦΧΨ", (f" {name} " for name in _GREEK[18:]), strict=False)),
    **{raised: f"^{digit}" for digit, raised in enumerate(_RAISED)},
    **{chr(0x2080 + digit): str(digit) for digit in range(10)},
    "ϕ": " phi ", "ϵ": " epsilon ", "ϑ": " theta ", "⁻": "^-", "ⁿ": "^n",
    "−": " minus ", "…": "...", "•": ",", "·": " ", "™": "", "®": "", "©": " copyright ", "×": " times ",
    "÷": " divided by ",
    "±": " plus or minus ", "≈": " about ", "≠": " is not equal to ", "≤": " at most ", "≥": " at least ",
    "→": " to ", "∞": " infinity ", "√": " square root of ", "∆": " delta ", "∑": " sum ", "∏": " product ",
    "§": " section ", "№": " number ", "⁄": "/", "μ": "µ", "Ω": "Ω", "ℓ": "l", "º": "°", "♯": " sharp ", "♭": " flat ",
    "ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D",
    "ð": "th", "Ð": "Th", "þ": "th", "Þ": "Th", "ı": "i", "¿": "", "¡": "", "ħ": "h",
    "\u00ad": "",  # the soft hyphen only says where a line may break
}  # fmt: skip

#: Control, format and unassigned characters and combining marks vanish without a word.
_SILENT_CATEGORIES = ("C", "M")
_TIGHT_DASH = re.compile(
    r"(?<=[\w%°.])[–‒](?=[$£€¥~.]?\d)|(?<=[a-z])[–‒](?=[A-Z])|(?<=[IVXL])[–‒](?=[IVXL])|(?<=[a-z]\.)[–‒](?=[A-Z][a-z]{2}\b)"
)
_GREEK_HYPHEN = re.compile("(?<=[α-ω])-(?=[a-z])|(?<=[a-z])-(?=[α-ω])")
_TIGHT_CROSS = re.compile(r"(?<=\d)×(?=\d)")
_RAISED_FIGURES = re.compile(r"\^(-?)\^?(\d)((?:\^\d){0,20})")


def to_ascii(text: str) -> tuple[str, str]:
    """Fold every character by itself, so that the work is linear in the text.

    Gives the folded text, in ASCII and `KEPT`, and the distinct visible characters that have no reading, in order of
    appearance.
    """
    if text.isascii():
        return text.replace("`", "'"), ""
    pieces: list[str] = []
    dropped: dict[str, None] = {}
    for character in _TIGHT_CROSS.sub("x", _GREEK_HYPHEN.sub(" ", _TIGHT_DASH.sub("-", text))):
        folded = character if character.isascii() and character != "`" else _fold(character)
        if folded is None:
            dropped[character] = None
            folded = " "
        pieces.append(folded)
    folded_text = "".join(pieces)
    if "^" in folded_text:
        folded_text = _RAISED_FIGURES.sub(
            lambda match: f"^{match[1]}{match[2]}{match[3].replace('^', '')}", folded_text
        )
    return folded_text, "".join(dropped)


@lru_cache(maxsize=4096)
def _fold(character: str) -> str | None:
    if character in _FOLDED:
        return _FOLDED[character]
    if character in KEPT:
        return character
    if character in "\u2028\u2029\x85":
        return "\n"
    category = unicodedata.category(character)
    if category.startswith("Z"):
        return " "
    decomposed = unicodedata.normalize("NFKD", character)
    folded = "".join(_FOLDED.get(c, c) for c in decomposed if not unicodedata.combining(c))
    if folded and all(c.isascii() or c in KEPT for c in folded):
        # A ready-made fraction or a circled number stands apart from the figure before it ("2½").
        return f" {folded}" if category == "No" else folded
    return "" if category[0] in _SILENT_CATEGORIES else None


#: A figure takes about five letters to say ("2024", "twenty twenty four").
LETTERS_PER_DIGIT = 5
_LETTERS_OF = dict.fromkeys("0123456789", LETTERS_PER_DIGIT) | dict(zip("%$&@#+=", (7, 7, 3, 2, 4, 4, 6), strict=True))


@lru_cache(maxsize=4096)
def spoken_letters(character: str) -> int:
    """How many letters a character takes to be said, about: 1, and more for figures and signs."""
    if character.isascii():
        return _LETTERS_OF.get(character, 1)
    return max(1, sum(_LETTERS_OF.get(c, 1) for c in (_fold(character) or "").strip()))
