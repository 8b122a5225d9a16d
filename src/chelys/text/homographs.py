"""Words that are written alike and sound differently ("read", "live", "close"): which one a sentence means.

A linear classifier over the words around. A variant's score is the sum of one weight for each feature; weights lie in
one table, found by a hash of the variant and the feature (Weinberger et al. 2009, arXiv 0902.2206). Each feature counts
twice: for this variant of this word, and for the kind of variant (a verb, or another word) whatever the word, so that
words with few examples, or none, learn from the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from chelys.errors import ModelError

TABLE_NAME, WEIGHTS_NAME = "homographs.tsv", "homographs.bin"
#: By so much another variant of a word without weights of its own must be likelier than its first.
UNLABELLED_MARGIN = 80

_TOKEN = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*|\d+|[^\w\s]")
_PAD = 3
#: Words of the closed classes, and those that numbers are written with.
_CLASSES: dict[str, str] = {
    word: name
    for name, words in {
        "NUM": "one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty hundred "
        "thousand",
        "CONJ": "and or but nor",
        "PRON": "i you he she it we they who which what that there him me us them",
        "PREP": "of in on at by for with from into about against between through during before after over under as "
        "than like upon within without towards toward onto off near",
        "DET": "the a an this these those his her its their my our your any some every each no another both all such "
        "many few several more most",
        "DO": "do does did",
        "HAVE": "has have had having 've",
        "BE": "is are was were be been being am 's 're",
        "MODAL": "will would can could may might must shall should not n't 'll cannot won't don't didn't doesn't can't "
        "wouldn't couldn't shouldn't let please",
        "TO": "to",
    }.items()
    for word in words.split()
}
_ENDINGS = ("ing", "ed", "ly", "tion", "ness", "ment", "ity", "ous", "ive", "al", "er", "s'", "'s", "ic", "s")
_LEANS_ON = frozenset(("DET", "TO", "MODAL", "PREP", "PRON", "BE", "HAVE", "DO"))


@dataclass(frozen=True)
class Variant:
    """One of the sounds of a homograph."""

    label: str  # "record_vrb": what labelled sentences call it; empty where there are none
    phonemes: str
    kind: str = ""  # "verb" or "other" where a verb sounds unlike the other word; "name", which has a capital; or empty
    weights: str = ""  # "own" if there are labelled sentences enough for weights of its own


class Homographs:
    """Chooses among the variants of a word by the words around it."""

    def __init__(self, variants: Mapping[str, tuple[Variant, ...]], weights: bytes) -> None:
        self.variants = variants
        self._weights = memoryview(weights).cast("b")
        self._mask = len(weights) - 1

    @classmethod
    def load(cls, folder: Path) -> Homographs:
        """Read the table of variants, ``word, label, phonemes, kind, weights``, and the weights, a signed byte each."""
        try:
            lines = (folder / TABLE_NAME).read_text(encoding="utf8").splitlines()
            weights = (folder / WEIGHTS_NAME).read_bytes()
        except OSError as error:
            raise ModelError(f"the package is incomplete: {error}; install chelys again") from None
        variants: dict[str, tuple[Variant, ...]] = {}
        for line in lines[1:]:
            word, *variant = line.split("\t")
            variants[word] = (*variants.get(word, ()), Variant(*variant))
        return cls(variants, weights)

    def choose(self, word: str, features: list[str], *, capital: bool) -> Variant:
        """The likeliest variant; the table's first one where nothing tells them apart.

        A word with no capital is no name. One with few labelled sentences leaves its first variant, the commoner one,
        for clear reasons only.
        """
        variants = self.variants[word]
        if not capital:
            variants = tuple(variant for variant in variants if variant.kind != "name") or variants
        scores = [self.score(variant, features) for variant in variants]
        best = scores.index(max(scores))
        if not variants[0].weights and scores[best] - scores[0] < UNLABELLED_MARGIN:
            best = 0
        return variants[best]

    def score(self, variant: Variant, features: list[str]) -> int:
        """What speaks for a variant, in the unit of the weights."""
        weights, mask = self._weights, self._mask
        return sum(weights[place & mask] for place in places(variant, features))


def places(variant: Variant, features: list[str]) -> Iterator[int]:
    """Hashes of what speaks for a variant; the table's size is a power of two, of which the low bits are taken."""
    own = crc32(f"{variant.label}|".encode()) if variant.weights else None
    shared = crc32(f"{variant.kind}||".encode()) if variant.kind else None
    for feature in features:
        coded = feature.encode("utf8", "surrogatepass")
        if own is not None:
            yield crc32(coded, own)
        if shared is not None and not feature.startswith("b="):  # which words are near tells of this word alone
            yield crc32(coded, shared)


def tokens(sentence: str) -> list[tuple[str, int]]:
    """Words, figures and marks of a sentence, and where each begins."""
    return [(match.group(), match.start()) for match in _TOKEN.finditer(sentence)]


def features(written: list[str], place: int) -> list[str]:
    """What is seen around the word at a place in a sentence's tokens: words, their classes and endings, capitals."""
    me = written[place]
    pad_left, pad_right = ["^"] * _PAD, ["$"] * _PAD
    word = [*pad_left, *("0" if t[0].isdigit() else t.lower() for t in written), *pad_right]
    kind = [_class(w) if max(0, place - 3) <= i <= place + 6 else "" for i, w in enumerate(word)]
    i = place + _PAD
    l2, l1, r1, r2 = word[i - 2], word[i - 1], word[i + 1], word[i + 2]
    k3, k2, k1, q1, q2 = kind[i - 3], kind[i - 2], kind[i - 1], kind[i + 1], kind[i + 2]
    found = [
        "bias", f"l1={l1}", f"l2={l2}", f"r1={r1}", f"r2={r2}", f"l12={l2} {l1}", f"lr={l1} {r1}", f"r12={r1} {r2}",
        f"kl1={k1}", f"kl2={k2}", f"kr1={q1}", f"kr2={q2}", f"kl12={k2} {k1}", f"klr={k1} {q1}", f"kr12={q1} {q2}",
        f"kl123={k3} {k2} {k1}", f"kl12r={k2} {k1} {q1}", f"klr12={k1} {q1} {q2}",
        f"el1={l1[-3:]}", f"er1={r1[-3:]}", f"el2={l2[-3:]}", f"fl1={l1[-2:]}", f"fr1={r1[-2:]}",
        f"capital={'A' if me.isupper() else 'C' if me[0].isupper() else 'l'}{place > 0}",
        f"right={place + 1 < len(written) and written[place + 1][0].isupper()}",
        f"left={place > 1 and written[place - 1][0].isupper()}",
    ]  # fmt: skip
    leans_on = next((kind[j] for j in range(i - 1, max(i - 5, _PAD - 1), -1) if kind[j] in _LEANS_ON), "")
    found.append(f"near={leans_on}")
    around = range(max(_PAD, i - 6), min(len(word) - _PAD, i + 7))
    found += [f"b={word[j]}" for j in around if j != i and word[j][0].isalpha()]
    return found


def _class(word: str) -> str:
    known = _CLASSES.get(word)
    if known is not None:
        return known
    if not word[0].isalpha():
        return "NUM" if word == "0" else word
    return next((ending for ending in _ENDINGS if word.endswith(ending) and len(word) > len(ending) + 2), "W")
