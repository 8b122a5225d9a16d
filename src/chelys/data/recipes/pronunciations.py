"""The lexicon of nano: WordNet's words and misaki's, each as hibari pronounces it: ``chelys data lexicon``.

A word gets the form that is most frequent in running text, because many words sound different in a sentence than alone
("the", "to", "have") or by their part of speech ("record", "live"). Words that are in no sentence get the form that
they have alone.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from string import ascii_uppercase

from chelys.data.recipes.synthetic import WORDNET, wordnet_glosses, wordnet_sentences
from chelys.errors import MissingExtra
from chelys.text.lexicon import Lexicon

LONGEST_WORD = 20

COMMENT = """\
English words in the phoneme alphabet of misaki, American English.
Words: WordNet 3.0 (WordNet licence, Princeton University) and misaki's us_gold dictionary (Apache-2.0, hexgrad).
Phonemes: hibari-tts (Apache-2.0, Maureese Williams), the form most frequent in running text."""

_WORD = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*")
_PHONEMES = re.compile(r"[ˈˌ\w]+")

#: Acronyms that look like a word are kept if WordNet has them this often ("AIDS"); the others would only turn emphasis
#: ("AND") into letters.
_MIN_ACRONYM = 5
_ALWAYS_ACRONYMS = ("AM", "PM", "US", "UK", "IT", "TV", "ID", "OK")


def make_lexicon(
    out: Path, wordnet: Path = WORDNET, *, min_count: int = 1, progress: Callable[[int, int], None] | None = None
) -> Lexicon:
    """Compile the lexicon and write it, ``lexicon.txt.gz``; ``progress`` gets (words and sentences done, all of them).

    A word that misaki's dictionary lacks must occur ``min_count`` times in WordNet. Raises UserError if WordNet is
    missing; MissingExtra if hibari-tts is not installed.
    """
    try:
        from hibari import Hibari
    except ImportError as error:
        raise MissingExtra("corpus", error) from error
    sentences = wordnet_sentences(wordnet)
    surfaces = _surfaces(wordnet)
    gold = _gold_words()
    g2p = Hibari().g2p
    words = {key for key, forms in surfaces.items() if key.lower() in gold or forms.total() >= min_count} | set(gold)
    words |= set(_ALWAYS_ACRONYMS)
    words = {word for word in words if len(word) <= LONGEST_WORD and not _only_emphasis(word, surfaces, words)}

    total = len(sentences) + len(words)
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for number, sentence in enumerate(sentences):
        for token in g2p.phonemize_tokens(g2p.tokenize(sentence)):
            if _WORD.fullmatch(token.text) and token.phonemes:
                votes[_key(token.text)][token.phonemes] += 1
        if progress and number % 1000 == 0:
            progress(number, total)

    entries: dict[str, str] = {}
    for number, word in enumerate(sorted(words)):
        if word in votes:
            phonemes = _most_frequent(votes[word])
        else:
            phonemes = g2p(_most_frequent(surfaces[word]) if word in surfaces else gold.get(word, word))
        if phonemes and _PHONEMES.fullmatch(phonemes):
            entries[word] = phonemes
        if progress and number % 1000 == 0:
            progress(len(sentences) + number, total)
    for letter in ascii_uppercase:  # "A" is the name of the letter, "a" the article
        entries[letter] = g2p(f"{letter}.").rstrip(".")
        if letter not in "AI":
            entries[letter.lower()] = entries[letter]
    lexicon = Lexicon(entries, COMMENT)
    lexicon.save(out)
    return lexicon


def _key(word: str) -> str:
    """Acronyms keep their capitals, every other word loses them."""
    return word if len(word) > 1 and word.isupper() else word.lower()


def _only_emphasis(word: str, surfaces: dict[str, Counter[str]], words: set[str]) -> bool:
    return (
        word.isupper()
        and word.lower() in words
        and word not in _ALWAYS_ACRONYMS
        and (word not in surfaces or surfaces[word].total() < _MIN_ACRONYM)
    )


def _surfaces(wordnet: Path) -> dict[str, Counter[str]]:
    """Key of every word in WordNet's glosses -> how often it is written how."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for gloss in wordnet_glosses(wordnet):
        for word in _WORD.findall(gloss):
            found[_key(word)][word] += 1
    return found


def _gold_words() -> dict[str, str]:
    """Key -> spelling of the entries in misaki's dictionary, as hibari ships it; lower case wins."""
    from importlib.resources import files

    data = (files("hibari") / "assets" / "lexicon_us_gold.json.gz").read_bytes()
    spellings: Iterable[str] = json.loads(gzip.decompress(data))
    return {_key(w): w for w in sorted(spellings) if _WORD.fullmatch(w)}


def _most_frequent(counts: Counter[str]) -> str:
    return min(counts, key=lambda form: (-counts[form], form))
