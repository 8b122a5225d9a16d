"""Trains what chooses among the variants of homographs: `src/chelys/assets/english/homographs.bin`.

    python tools/front_end/train_homographs.py homographs.tsv.gz [--out FOLDER] [--measure]

The labelled sentences are those of Gorman, Mazovetskiy and Nikolaev (2018), "Improving homograph disambiguation with
supervised machine learning": ``homograph, wordid, sentence, start, end``, tab-separated. A hash of the sentence sets a
tenth aside for the test and another for settings; the weights are made of the other eight. ``--measure`` prints the
accuracy on both beside the majority's, and for words whose own sentences are held out, which know of verbs and other
words alone. AdaGrad (Duchi et al. 2011) on the cross-entropy of each word's variants; weights are rounded to a byte.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np

from chelys.text.homographs import WEIGHTS_NAME, Homographs, Variant, features, places, tokens

ENGLISH = Path(__file__).parents[2] / "src" / "chelys" / "assets" / "english"
BITS, EPOCHS, RATE, DECAY = 17, 12, 0.1, 1e-2
TEST, DEV = 0, 1
EVERYDAY = Path(__file__).with_name("everyday.tsv")
#: An encyclopaedia gives no orders and asks nothing; these frames stand for everyday speech, one of each a word.
FRAMES = {
    "verb": (
        "{} the door.", "{} it!", "{} your eyes.", "Please {} the box.", "Please {} them now.", "Don't {} it.",
        "I {} it every day.", "You {} me.", "We {} the house.", "He {} to the plan.", "She {} them all.",
        "Can you {} it?", "I want to {} this.", "Let's {} it.", "They will {} her.", "Did you {} the book?",
        "{} it now.", "{} slowly.", "{} again tomorrow.", "{} with care.", "{} him out.", "{} up the old one.",
        "{} on that.", "Now {} it again.", "Go and {} it.",
    ),
    "other": (
        "The {} is here.", "My {} was old.", "That is no {}.", "It is a {} of mine.", "This {} ended.",
        "Where is the {}?", "Two {} are there.", "His {} and her {}", "The {} of the house", "with a new {}.",
        "He broke the {}.", "{} of what?", "{} fell.", "{} prices rose.", "{} rooms are free.", "{} workers met.",
        "{} and rain.",
    ),
}  # fmt: skip


class Example(NamedTuple):
    """A labelled sentence."""

    word: str
    label: str
    features: list[str]
    capital: bool
    part: int  # a tenth, by the sentence


def read(path: Path) -> list[Example]:
    """The labelled sentences with what is seen in them."""
    examples = []
    with gzip.open(path, "rt", encoding="utf8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            found = tokens(row["sentence"])
            start = len(row["sentence"].encode()[: int(row["start"])].decode(errors="ignore"))  # it counts bytes
            here = [i for i, (token, _) in enumerate(found) if token.lower() == row["homograph"]]
            place = min(here or range(len(found)), key=lambda i: abs(found[i][1] - start))
            part = crc32(f"split{row['sentence']}".encode()) % 10
            seen = features([token for token, _ in found], place)
            capital = found[place][0][0].isupper()
            examples.append(Example(row["homograph"], row["wordid"], seen, capital, part))
    return examples


def everyday(table: dict[str, tuple[Variant, ...]]) -> list[Example]:
    """Frames filled with each word that is a verb or another word, and the sentences of `everyday.tsv`."""
    examples = []
    written = [line.split("\t") for line in EVERYDAY.read_text(encoding="utf8").splitlines()]
    for word, variants in table.items():
        for label, kind in dict.fromkeys((r.label, r.kind) for r in variants if r.label.startswith(word)):
            sentences = [frame.format(word, word).capitalize() for frame in FRAMES.get(kind, ())]
            for sentence in sentences + [sentence for its, sentence in written if its == label]:
                found = [token for token, _ in tokens(sentence)]
                place = [token.lower() for token in found].index(word)
                examples.append(Example(word, label, features(found, place), found[place][0].isupper(), -1))
    return examples


def train(table: dict[str, tuple[Variant, ...]], examples: Iterable[Example]) -> bytes:
    """Weights, a byte each."""
    mask = (1 << BITS) - 1
    ready = []
    for example in [*examples, *everyday(table)]:
        variants = table[example.word]
        hashed = [np.fromiter((p & mask for p in places(r, example.features)), np.int64) for r in variants]
        ready.append((hashed, [r.label for r in variants].index(example.label)))
    weights, squares = np.zeros(1 << BITS, np.float64), np.full(1 << BITS, 1e-6)
    rng = random.Random(0)
    for _ in range(EPOCHS):
        rng.shuffle(ready)
        for hashed, right in ready:
            scores = np.array([weights[place].sum() for place in hashed])
            chances = np.exp(scores - scores.max())
            chances /= chances.sum()
            for i, place in enumerate(hashed):
                slope = chances[i] - (i == right)
                if abs(slope) > 1e-3:
                    gradient = slope + DECAY * weights[place]
                    squares[place] += gradient * gradient
                    weights[place] -= RATE * gradient / np.sqrt(squares[place])
    return np.round(weights * (127 / np.abs(weights).max())).astype(np.int8).tobytes()


def choose(chooser: Homographs, example: Example) -> Variant:
    return chooser.choose(example.word, example.features, capital=example.capital)


def accuracy(chooser: Homographs, examples: list[Example]) -> tuple[float, dict[str, float]]:
    """Share of right choices, in all and by word."""
    right = defaultdict(list)
    for example in examples:
        right[example.word].append(choose(chooser, example).label == example.label)
    return float(np.mean(sum(right.values(), []))), {word: float(np.mean(found)) for word, found in right.items()}


def majority(examples: list[Example], judged: list[Example]) -> float:
    """Accuracy of each word's commonest variant."""
    counts = defaultdict(Counter)
    for example in examples:
        counts[example.word][example.label] += 1
    return float(np.mean([counts[e.word].most_common(1)[0][0] == e.label for e in judged]))


def measure(table: dict[str, tuple[Variant, ...]], weights: bytes, examples: list[Example]) -> None:
    """Print the accuracies."""
    learned = [e for e in examples if e.part not in (TEST, DEV)]
    for name, part in (("settings", DEV), ("test", TEST)):
        judged = [e for e in examples if e.part == part]
        micro, words = accuracy(Homographs(table, weights), judged)
        macro, first = float(np.mean(list(words.values()))), majority(learned, judged)
        print(f"{name}: {len(judged)} sentences, micro {micro:.4f}, by word {macro:.4f}, majority {first:.4f}")
        print("  worst:", ", ".join(f"{w} {a:.2f}" for w, a in sorted(words.items(), key=lambda t: t[1])[:15]))
    verbs = {w: r for w, r in table.items() if r[0].kind in ("verb", "other") and r[0].label.startswith(w)}
    right = []
    for fold in range(5):
        out = {word for word in verbs if crc32(word.encode()) % 5 == fold}
        without = {w: tuple(replace(r, weights="") for r in rs) if w in out else rs for w, rs in table.items()}
        chooser = Homographs(without, train(table, [e for e in learned if e.word not in out]))
        for e in examples:
            if e.word in out and e.part == DEV:
                chosen = choose(chooser, e)
                right.append(chosen.phonemes == next(r.phonemes for r in table[e.word] if r.label == e.label))
    print(f"words without examples, verb or other: {len(right)} sentences, {np.mean(right):.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sentences", type=Path)
    parser.add_argument("--out", type=Path, default=ENGLISH)
    parser.add_argument("--measure", action="store_true")
    arguments = parser.parse_args()
    if not (ENGLISH / WEIGHTS_NAME).exists():
        (ENGLISH / WEIGHTS_NAME).write_bytes(b"\0")
    table = dict(Homographs.load(ENGLISH).variants)
    examples = read(arguments.sentences)
    weights = train(table, [e for e in examples if e.part not in (TEST, DEV)])
    (arguments.out / WEIGHTS_NAME).write_bytes(weights)
    if arguments.measure:
        measure(table, weights, examples)


if __name__ == "__main__":
    main()
