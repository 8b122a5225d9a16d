"""A tokenizer of spelling by byte-pair encoding (Sennrich et al. 2016), learned from texts, as TorToise's is."""

from __future__ import annotations

from collections.abc import Iterable
from string import ascii_lowercase

import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from chelys.errors import ConfigError, TextError
from chelys.text.tokenizer import SPACE, STOP, UNKNOWN, Cleaner, Tokenizer
from chelys.tortoise.merges import MARKS

PUBLISHED_SIZE = 255


def train_tokenizer(texts: Iterable[str], size: int = PUBLISHED_SIZE, *, cleaner: Cleaner = "tortoise") -> Tokenizer:
    """Learn a vocabulary.

    Args:
        texts: Raw ones, as a manifest has them; those that cannot be spoken are passed over.
        size: Ids in all: stop, unknown and space, marks and letters, then the commonest pairs, pair by pair.
        cleaner: What makes words of a text; who loads the tokenizer must name it again.

    Returns:
        The tokenizer; it has fewer ids than asked for where the texts have no more pairs.

    Raises:
        ConfigError: If the size is too small for the letters, or no text can be spoken.
    """
    symbols = [*MARKS, *ascii_lowercase]
    least = len(symbols) + 3
    if size < least:
        raise ConfigError(f"a vocabulary of {size} is too small: marks and letters alone take {least}")
    core = tokenizers.Tokenizer(models.BPE(unk_token=UNKNOWN, fuse_unk=False))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    cleaned = _cleaned(texts, Tokenizer(core, cleaner=cleaner))
    if not cleaned:
        raise ConfigError("no text can be spoken: a vocabulary is learned from the texts of a corpus")
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[STOP, UNKNOWN, SPACE], initial_alphabet=symbols,
        limit_alphabet=len(symbols), min_frequency=2, show_progress=False,
    )  # fmt: skip
    core.train_from_iterator(cleaned, trainer)
    return Tokenizer(core, cleaner=cleaner)


def _cleaned(texts: Iterable[str], tokenizer: Tokenizer) -> list[str]:
    found = []
    for text in texts:
        try:
            found.append(tokenizer.clean(text).lower())
        except TextError:
            continue
    return found
