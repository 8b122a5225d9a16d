"""What earlier stages left, put in place for a later one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from chelys.data.pairs import Pairs
from chelys.deprecation import current_tensor_name
from chelys.errors import ConfigError
from chelys.training.loop import load_strictly

N = TypeVar("N", bound=torch.nn.Module)


def check_sizes(section: str, sizes: Any, pairs: Pairs) -> None:
    """Refuse data with more codes or text ids than a network knows.

    Args:
        section: Where its sizes stand in the configuration.
        sizes: Configuration of the network, or None.
        pairs: The data.

    Raises:
        ConfigError: If a code, a text id or a place in a row is beyond the network's tables.
    """
    codes, ids = pairs.codes.largest() + 1, pairs.tokenizer.vocabulary_size
    for key, needed, what in (
        ("codes", codes, f"codes in {pairs.codes.path}"),
        ("speech_tokens", codes, f"codes in {pairs.codes.path}"),
        ("text_tokens", ids, "ids of the tokenizer"),
    ):
        known = getattr(sizes, key, needed)
        if known < needed:
            raise ConfigError(f"{section}.{key} is {known}, fewer than the {needed} {what}: set it to {needed} or more")
    if getattr(sizes, "positions", None) == "learned":
        for key, limit, most in (
            ("longest", pairs.config.longest, sizes.code_positions - 1),
            ("longest_text", pairs.config.longest_text, sizes.text_positions - 2),
        ):
            if limit > most:
                raise ConfigError(
                    f"pairs.{key} is {limit}, but {section} has places for {most}: set it to {most} or less"
                )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Weights that an earlier stage left.

    Raises:
        ConfigError: If they are missing or damaged.
    """
    if not path.is_file():
        raise ConfigError(f"no weights at {path}: train that stage first")
    try:
        return {current_tensor_name(name): tensor for name, tensor in load_file(path).items()}
    except SafetensorError as error:
        raise ConfigError(f"{path} is damaged ({error}): train that stage again") from error


def load_trained(network: N, path: Path) -> N:
    """Put the weights of an earlier stage in place, frozen and in evaluation mode.

    Raises:
        ConfigError: If they are missing, damaged, or of a network of other sizes.
    """
    load_strictly(network, read_weights(path), str(path))
    return network.eval().requires_grad_(False)
