"""Sounds in ordinary letters, syllable by syllable ("KAY-lee"), as dictionaries for readers write them."""

from __future__ import annotations

import re

_ONSET = {
    "b": "b", "c": "k", "ch": "ʧ", "d": "d", "dh": "ð", "f": "f", "g": "ɡ", "gh": "ɡ", "h": "h", "j": "ʤ", "k": "k",
    "kh": "k",
    "l": "l", "m": "m", "n": "n", "ng": "ŋ", "p": "p", "ph": "f", "q": "k", "r": "ɹ", "s": "s", "sh": "ʃ", "t": "t",
    "th": "θ",
    "v": "v", "w": "w", "wh": "w", "y": "j", "z": "z", "zh": "ʒ", "ts": "ts", "ck": "k", "ss": "s", "ll": "l",
    "tch": "ʧ", "x": "ks",
}  # fmt: skip
_NUCLEUS = {
    "a": "æ", "ah": "ɑ", "air": "ɛɹ", "ar": "ɑɹ", "aw": "ɔ", "ay": "A", "e": "ɛ", "ee": "i", "eer": "ɪɹ", "eh": "ɛ",
    "er": "ɜɹ",
    "ew": "u", "eye": "I", "i": "ɪ", "igh": "I", "ih": "ɪ", "o": "ɑ", "oh": "O", "oo": "u", "oor": "ʊɹ", "or": "ɔɹ",
    "ow": "W", "oy": "Y",
    "u": "ʌ", "uh": "ʌ", "ur": "ɜɹ", "uu": "ʊ", "ye": "I",
}  # fmt: skip
_UNSTRESSED = {"ʌ": "ə", "ɜɹ": "əɹ"}


def _any_of(pieces: dict[str, str]) -> str:
    return "|".join(sorted(pieces, key=len, reverse=True))


_SYLLABLE = re.compile(rf"((?:{_any_of(_ONSET)})*)({_any_of(_NUCLEUS)})((?:{_any_of(_ONSET)})*)")
_CONSONANT = re.compile(_any_of(_ONSET))


def syllable(respelled: str, stressed: bool) -> str | None:
    """Phonemes of a respelled syllable: "kay" is ``kA``, "nuh" ``nʌ``, or ``nə`` without stress; None if it is none."""
    match = _SYLLABLE.fullmatch(respelled.lower())
    if match is None:
        return None
    onset, nucleus, coda = match.groups()
    vowel = _NUCLEUS[nucleus]
    sound = f"ˈ{vowel}" if stressed else _UNSTRESSED.get(vowel, vowel)
    return _consonants(onset) + sound + _consonants(coda)


def _consonants(letters: str) -> str:
    return "".join(_ONSET[match.group()] for match in _CONSONANT.finditer(letters))
