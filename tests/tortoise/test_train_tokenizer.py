"""A vocabulary learned from texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from chelys.errors import ConfigError
from chelys.text.tokenizer import Tokenizer
from chelys.tortoise.tokenizer import train_tokenizer

TEXTS = ["The tortoise crossed the road.", "Dr. Smith has 12 tortoises; they cross it.", "The road, the tortoise!"]


def test_ids_begin_like_the_published_ones() -> None:
    core = train_tokenizer(TEXTS, 60).core
    assert [core.token_to_id(token) for token in ("[STOP]", "[UNK]", "[SPACE]", "!", "a", "z")] == [0, 1, 2, 3, 14, 39]


def test_common_pairs_become_one_id() -> None:
    small, large = train_tokenizer(TEXTS, 40), train_tokenizer(TEXTS, 60)
    assert small.vocabulary_size == 40 and 40 < large.vocabulary_size <= 60
    text = "the tortoise"
    assert len(large.encode(text)) < len(small.encode(text)) == len(text)
    for tokenizer in (small, large):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_numbers_and_titles_are_learned_as_they_are_spoken() -> None:
    tokenizer = train_tokenizer(TEXTS, 60)
    assert tokenizer.decode(tokenizer.encode("Dr. 12")) == "doctor twelve"


def test_the_same_each_time_and_from_its_folder(tmp_path: Path) -> None:
    first = train_tokenizer(TEXTS, 60)
    assert first.core.to_str() == train_tokenizer(TEXTS, 60).core.to_str()
    first.save(tmp_path)
    loaded = Tokenizer.load(tmp_path, cleaner="tortoise")
    assert loaded.encode(TEXTS[1]) == first.encode(TEXTS[1]) and loaded.stop_id == 0


def test_what_cannot_be_spoken_is_passed_over() -> None:
    assert train_tokenizer([*TEXTS, "", "..."], 60).core.to_str() == train_tokenizer([*TEXTS, "..."], 60).core.to_str()
    with pytest.raises(ConfigError, match="no text can be spoken"):
        train_tokenizer(["", " "], 60, cleaner="chelys")
    with pytest.raises(ConfigError, match="a vocabulary of 20 is too small: marks and letters alone take 40"):
        train_tokenizer(TEXTS, 20)
