"""Phonemes as people write them, in IPA, X-SAMPA or ARPAbet, in the alphabet of nano's lexicon.

That alphabet has one character a sound: capitals for diphthongs, ``ʤ`` and ``ʧ``, and the stress mark before the vowel.
People write ``təˈmeɪtoʊ``, the mark before the syllable, with lengths, ties and the sounds of their own English or of
other languages; each becomes the nearest that the model knows. A text in the alphabet itself stays as it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

ALPHABETS = ("ipa", "x-sampa", "cmu-arpabet")

STRESS = "ˈˌ"
_VOWELS = "AIOWYiuæɐɑɔəɛɜɪʊʌᵊᵻ"

#: IPA to the alphabet, longest first; what the model lacks becomes the nearest that it has.
_FROM_IPA = {
    "eɪ": "A", "ei": "A", "aɪ": "I", "ai": "I", "oʊ": "O", "ou": "O", "əʊ": "O", "əu": "O", "aʊ": "W", "au": "W",
    "ɑʊ": "W", "ɔɪ": "Y", "ɔi": "Y", "oi": "Y", "dʒ": "ʤ", "tʃ": "ʧ", "ɔɪŋ": "ɔɪŋ", "ɜːɹ": "ɜɹ", "ɜːr": "ɜɹ",
    "ɚ": "əɹ", "ɝ": "ɜɹ", "˞": "ɹ", "g": "ɡ", "r": "ɹ", "ɻ": "ɹ", "ʁ": "ɹ", "ʀ": "ɹ", "ɾ": "T", "a": "ɑ", "ɒ": "ɑ",
    "e": "ɛ", "o": "O", "ɨ": "ᵻ", "ɘ": "ə", "ɵ": "ə", "ɤ": "ʌ", "œ": "ɜ", "ø": "ɜ", "y": "u", "ʉ": "u", "ɯ": "u",
    "ʏ": "ʊ", "Q": "O", "x": "k", "χ": "k", "q": "k", "c": "k", "ç": "h", "ħ": "h", "ɦ": "h", "ʔ": "t", "ɫ": "l",
    "ʎ": "lj", "ɲ": "nj", "ɱ": "m", "β": "v", "ʋ": "v", "ɸ": "f", "ɣ": "ɡ", "ɟ": "ɡ", "ɕ": "ʃ", "ʂ": "ʃ", "ʑ": "ʒ",
    "ʐ": "ʒ", "ʍ": "hw", "ɬ": "l", "ʷ": "w", "ʲ": "j", "'": "ˈ", "’": "ˈ", "ʼ": "ˈ", ",": "ˌ", "ʦ": "ts", "ʣ": "dz",
}  # fmt: skip
_SILENT = frozenset(".ːˑ͜͡‿-|‖()/ʰ\u200b")
_SYLLABIC = "\u0329"

_FROM_X_SAMPA = {
    "r\\": "ɹ", "r\\`": "ɻ", "@`": "ɚ", "3`": "ɝ", "h\\": "ɦ", "{": "æ", "A": "ɑ", "Q": "ɒ", "O": "ɔ", "E": "ɛ",
    "I": "ɪ", "U": "ʊ", "V": "ʌ", "@": "ə", "3": "ɜ", "T": "θ", "D": "ð", "S": "ʃ", "Z": "ʒ", "N": "ŋ", "J": "ɲ",
    "L": "ʎ", "R": "ʁ", "4": "ɾ", "?": "ʔ", "C": "ç", "B": "β", "G": "ɣ", "2": "ø", "9": "œ", "1": "ɨ", "5": "ɫ",
    "l=": "ᵊl", "n=": "ᵊn", "m=": "ᵊm", '"': "ˈ", "%": "ˌ", ":": "ː", "_": "",
}  # fmt: skip
_FROM_ARPABET = {
    "AA": "ɑ", "AE": "æ", "AH": "ʌ", "AO": "ɔ", "AW": "W", "AX": "ə", "AXR": "əɹ", "AY": "I", "B": "b", "CH": "ʧ",
    "D": "d", "DH": "ð", "DX": "T", "EH": "ɛ", "EL": "ᵊl", "EM": "ᵊm", "EN": "ᵊn", "ER": "ɜɹ", "EY": "A", "F": "f",
    "G": "ɡ", "HH": "h", "IH": "ɪ", "IX": "ᵻ", "IY": "i", "JH": "ʤ", "K": "k", "L": "l", "M": "m", "N": "n", "NG": "ŋ",
    "OW": "O", "OY": "Y", "P": "p", "R": "ɹ", "S": "s", "SH": "ʃ", "T": "t", "TH": "θ", "UH": "ʊ", "UW": "u", "V": "v",
    "W": "w", "Y": "j", "Z": "z", "ZH": "ʒ",
}  # fmt: skip
_UNSTRESSED = {"AH": "ə", "ER": "əɹ"}
_ARPABET_PHONE = re.compile(r"([A-Z]{1,3})([012]?)")


def _longest_first(table: Collection[str]) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(key) for key in sorted(table, key=len, reverse=True)))


_IPA, _X_SAMPA = _longest_first(_FROM_IPA), _longest_first(_FROM_X_SAMPA)


def read_phonemes(written: str, known: Collection[str], alphabet: str = "ipa") -> tuple[str, str]:
    """Phonemes in the lexicon's alphabet, and the characters that it has nothing for, each once.

    Args:
        written: In the alphabet named, words parted by spaces.
        known: Characters of the lexicon's alphabet (``Lexicon.phonemes``).
        alphabet: One of `ALPHABETS`.
    """
    unknown: dict[str, None] = {}
    if alphabet == "cmu-arpabet":
        sounds, unknown = _from_arpabet(written)
    else:
        if alphabet == "x-sampa":
            written = _X_SAMPA.sub(lambda match: _FROM_X_SAMPA[match.group()], written)
        sounds = _from_ipa(unicodedata.normalize("NFD", written.strip()), known)
    kept = []
    for sound in sounds:
        if sound in known or sound in STRESS or sound == " ":
            kept.append(sound)
        elif sound not in _SILENT and not unicodedata.combining(sound):
            unknown[sound] = None
    return _stress_before_vowels(" ".join("".join(kept).split())), "".join(unknown)


def _from_ipa(written: str, known: Collection[str]) -> str:
    written = re.sub(f"([lmnɹr]){_SYLLABIC}", r"ᵊ\1", written.replace("c\u0327", "ç"))  # which NFD has parted
    written = re.sub("[\u035c\u0361]", "", written)
    if not re.search("[AIOWYʤʧ]", written):  # the alphabet itself writes "ɔɪ" for two vowels
        return _IPA.sub(lambda match: _FROM_IPA[match.group()], written)
    return "".join(sound if sound in known else _FROM_IPA.get(sound, sound) for sound in written)


def _from_arpabet(written: str) -> tuple[str, dict[str, None]]:
    sounds = ""
    unknown: dict[str, None] = {}
    for phone in written.upper().split():
        match = _ARPABET_PHONE.fullmatch(phone)
        if not match or match[1] not in _FROM_ARPABET:
            unknown[f" {phone}"] = None
            continue
        sound = _UNSTRESSED.get(match[1], "") if match[2] == "0" else ""
        sounds += {"1": "ˈ", "2": "ˌ"}.get(match[2], "") + (sound or _FROM_ARPABET[match[1]])
    return sounds, unknown


def _stress_before_vowels(sounds: str) -> str:
    """Marks before a syllable move behind its consonants; marks without a vowel go."""
    moved = re.sub(rf"([{STRESS}])[{STRESS}]*([^{_VOWELS}{STRESS} ]+)(?=[{_VOWELS}])", r"\2\1", sounds)
    return re.sub(rf"[{STRESS}](?![{_VOWELS}])", "", moved)
