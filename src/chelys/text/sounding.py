"""Sounds out words that no lexicon has: letters to phonemes by a small convolutional network, without torch.

Every letter of a word gets the sounds that it stands for: none, one, or up to three ("x" in "taxi" has two). The
network sees seventeen letters around each. Of what it finds likeliest, a word keeps exactly one main stress. It was
trained on words of CMUdict and of nano's lexicon (`tools/front_end`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from chelys.errors import ModelError, first_line

FILE_NAME = "sounds.safetensors"
_EPSILON = 1e-5
_WIDTH = 5  # letters that a layer sees
#: What the ear hardly tells apart.
_ALIKE = str.maketrans({"ᵻ": "ə", "ɪ": "ə", "ʌ": "ə", "ˌ": "", "ɔ": "ɑ"})


class SoundingOut:
    """Letters to phonemes.

    Attributes:
        phonemes: Every phoneme character that a word can get.
    """

    def __init__(self, tensors: dict[str, np.ndarray], chunks: list[str]) -> None:
        """``chunks`` are the sounds of a letter; tensors as `tools/front_end/train_sounds.py` names them."""
        self._chunks = chunks
        self.phonemes = "".join(sorted(set("".join(chunks))))
        self._main = np.array(["ˈ" in chunk for chunk in chunks])
        weights: dict[str, np.ndarray] = {}
        for name, tensor in tensors.items():
            if not name.endswith(".scale"):
                scale = tensors.get(f"{name}.scale")
                weights[name] = tensor.astype(np.float32) * (1 if scale is None else scale.astype(np.float32))
        self._weights = weights
        self._layers = sum(name.startswith("layer") and name.endswith("weight") for name in weights)

    @classmethod
    def load(cls, folder: Path) -> SoundingOut:
        """Read the file of the package."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(folder / FILE_NAME, framework="numpy") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return cls(tensors, file.metadata()["chunks"].split(" "))
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            raise ModelError(
                f"the package is incomplete: {FILE_NAME}: {first_line(error)}; install chelys again"
            ) from None

    def sound_out(self, word: str) -> str:
        """Phonemes of a word of lower-case letters; other characters are silent."""
        return self.pronunciations(word, 1)[0][0]

    def pronunciations(self, word: str, most: int) -> list[tuple[str, float]]:
        """The likeliest sounds of a word, best first, each with how much unlikelier it is than the best, in nats.

        Others than the best have the stress on another letter, or another sound for one. Of those that the ear hardly
        tells apart (weak vowels, secondary stress) the likeliest is given.
        """
        letters = np.array([ord(c) - 96 for c in word if "a" <= c <= "z"])
        if not len(letters):
            return [("", 0.0)]
        scores = self._scores(letters)
        plain = np.where(self._main, -np.inf, scores)
        stressed = np.where(self._main, scores, -np.inf)
        gains = stressed.max(1) - plain.max(1)
        place = int(gains.argmax())
        best = plain.argmax(1)
        best[place] = stressed[place].argmax()
        sounds = [(0.0, best)]
        if most > 1:
            for other in range(len(letters)):
                allowed = stressed if other == place else plain
                for chunk in allowed[other].argsort()[::-1][1:4]:
                    changed = best.copy()
                    changed[other] = chunk
                    sounds.append((float(allowed[other].max() - allowed[other][chunk]), changed))
                if other != place:
                    changed = best.copy()
                    changed[place], changed[other] = plain[place].argmax(), stressed[other].argmax()
                    sounds.append((float(gains[place] - gains[other]), changed))
            sounds[1:] = sorted((one for one in sounds[1:] if np.isfinite(one[0])), key=lambda one: one[0])
        found: dict[str, tuple[str, float]] = {}
        for loss, chosen in sounds:
            phonemes = "".join(self._chunks[i] for i in chosen)
            found.setdefault(phonemes.translate(_ALIKE), (phonemes, loss))
        return list(found.values())[:most]

    def _scores(self, letters: np.ndarray) -> np.ndarray:
        """Letters ``(n,)`` to the scores ``(n, chunks)`` of what each stands for."""
        weights = self._weights
        x = weights["letters"][letters]  # (n, d)
        n, edge = len(x), _WIDTH // 2
        for i in range(self._layers):
            padded = np.pad(_norm(x, weights, f"norm{i}"), ((edge, edge), (0, 0)))
            kernel = weights[f"layer{i}.weight"].reshape(_WIDTH, -1, x.shape[1])  # (5, d, d)
            # One product for each place of the kernel: so small that no BLAS wakes its threads for it.
            seen = sum(padded[k : k + n] @ kernel[k] for k in range(_WIDTH))
            x = x + np.maximum(seen + weights[f"layer{i}.bias"], 0)
        scores: Any = _norm(x, weights, "norm") @ weights["out.weight"] + weights["out.bias"]
        return scores


def _norm(x: np.ndarray, weights: dict[str, np.ndarray], name: str) -> Any:
    """Layer norm over the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    spread = np.sqrt((centred * centred).mean(-1, keepdims=True) + _EPSILON)
    return centred / spread * weights[f"{name}.weight"] + weights[f"{name}.bias"]
