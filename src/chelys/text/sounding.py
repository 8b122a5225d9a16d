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
        letters = np.array([ord(c) - 96 for c in word if "a" <= c <= "z"])
        if not len(letters):
            return ""
        scores = self._scores(letters)
        plain = np.where(self._main, -np.inf, scores)
        stressed = np.where(self._main, scores, -np.inf)
        place = int((stressed.max(1) - plain.max(1)).argmax())
        best = plain.argmax(1)
        best[place] = stressed[place].argmax()
        return "".join(self._chunks[i] for i in best)

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
