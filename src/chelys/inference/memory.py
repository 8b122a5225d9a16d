"""What speaking takes of the memory, and what that leaves for the keys and values of candidates."""

from __future__ import annotations

from pathlib import Path

import torch

from chelys.errors import UserError
from chelys.models.code_reader import Weights, linear_layers, row_bytes
from chelys.weights.checks import gigabytes, weights_size
from chelys.weights.folder import Model
from chelys.weights.tensor_file import let_go, read_head

#: Python, torch, and what a network computes with beside its weights.
OVERHEAD = 300_000_000
#: Columns that are read for the longest sentences, about.
COLUMNS = 600
_NETWORKS = ("autoregressive", "clvp", "diffusion", "vocoder")


class MemoryLimit:
    """Bytes that speaking with a model may take.

    Weights that are mapped from their files, as those of a processor are that are computed with as they lie there, are
    let go as soon as they have been used, so that those of one network are in memory at a time. All others stay.
    """

    def __init__(self, model: Model, most_bytes: int) -> None:
        self.model, self.most_bytes = model, most_bytes
        files = [self._file(name) for name in _NETWORKS]
        mapped = {entry.dtype for file in files[:3] for entry in read_head(file).values()} == {model.dtype}
        self._mapped = mapped and torch.device(model.device).type == "cpu"
        self._weights = weights_size(files[:1] if self._mapped else files, model.dtype)

    def room(self, weights: Weights) -> int:
        """Bytes for keys and values, if codes are sampled with such weights.

        Raises UserError if not even one candidate has room.
        """
        decoder, taken = self.model.autoregressive, OVERHEAD + self._weights
        if weights == "float16":  # beside the decoder's own
            taken += sum(2 * layer.weight.numel() for layer in linear_layers(decoder))
        row = row_bytes(decoder, COLUMNS)
        if taken + row > self.most_bytes:
            raise UserError(
                f"max_memory is {gigabytes(self.most_bytes)}, and {self.model.config.name} takes"
                f" {gigabytes(taken + row)} at least: allow more"
            )
        return self.most_bytes - taken

    def let_go(self, network: str) -> None:
        """Give back what the weights of a network take, if they are mapped."""
        if self._mapped:
            let_go(self._file(network))

    def _file(self, network: str) -> Path:
        return self.model.folder / f"{network}.safetensors"
