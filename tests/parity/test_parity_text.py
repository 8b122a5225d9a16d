"""Cleaner, tokenizer and splitter against what the original gave, case by case and exactly."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from chelys.text.tokenizer import Tokenizer
from chelys.tortoise.cleaner import basic, clean
from chelys.tortoise.splitter import cut, split_tortoise
from chelys.tortoise.tokenizer import TortoiseTokenizer, make_tortoise_tokenizer

HERE = Path(__file__).parent


def cases(name: str) -> list[dict[str, Any]]:
    """Of the folder that is asked for; the strings know no sizes, so it may lack them."""
    folder = Path(os.environ.get("CHELYS_PARITY_DIR") or HERE)
    path = folder / name if (folder / name).is_file() else HERE / name
    found = json.loads(path.read_text(encoding="utf8"))["cases"]
    assert found
    return found


TEXTS = cases("tokenizer_cases.json")
SPLITS = cases("split_cases.json")


def shown(case: dict[str, Any]) -> str:
    return ascii(case["text"][:40])


@pytest.fixture(scope="module", params=["made", "loaded"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    made = make_tortoise_tokenizer(reference=True)
    if request.param == "made":
        return made
    folder = tmp_path_factory.mktemp("model")
    made.save(folder)
    return TortoiseTokenizer(Tokenizer.load(folder, cleaner="tortoise").core, reference=True)


@pytest.mark.parametrize("case", TEXTS, ids=shown)
def test_cleaned(case: dict[str, Any]) -> None:
    assert clean(case["text"], reference=True) == case["cleaned"]
    assert basic(case["text"]) == case["basic_cleaned"]


@pytest.mark.parametrize("case", TEXTS, ids=shown)
def test_ids_and_back(tokenizer: Tokenizer, case: dict[str, Any]) -> None:
    encoding = tokenizer.analyse(case["text"])
    assert encoding.ids == case["ids"]
    assert encoding.symbols == case["cleaned"]
    assert tokenizer.decode(case["ids"]) == case["decoded"]


@pytest.mark.parametrize("case", TEXTS, ids=shown)
def test_ids_of_the_basic_cleaner(case: dict[str, Any]) -> None:
    assert make_tortoise_tokenizer(cleaner="basic", reference=True).encode(case["text"]) == case["basic_ids"]


@pytest.mark.parametrize("case", SPLITS, ids=lambda case: f"{case['desired_length']}-{shown(case)}")
def test_split(case: dict[str, Any]) -> None:
    desired, longest = case["desired_length"], case["max_length"]
    assert cut(case["text"], desired=desired, max_chars=longest, reference=True) == case["parts"]
    if "|" not in case["text"]:
        sentences = split_tortoise(case["text"], desired=desired, max_chars=longest, reference=True)
        assert [(s.text, s.pause_s) for s in sentences] == [(part, 0.0) for part in case["parts"]]


def test_vocabulary(tokenizer: Tokenizer) -> None:
    """Names of ids that the weights mean, from the original's own file."""
    vocabulary = tokenizer.core.get_vocab()
    assert sorted(vocabulary.values()) == list(range(255))
    known = {"[STOP]": 0, "[UNK]": 1, "[SPACE]": 2, "!": 3, "?": 13, "a": 14, "z": 39, "th": 40, "get": 254}
    assert {piece: vocabulary[piece] for piece in known} == known


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Hello, how are you?", "62 84 28 7 2 21 69 2 127 2 74 13"),
        (
            "[I am really sad,] Please feed me.",
            "1 22 2 122 2 46 195 2 32 68 7 1 2 29 64 55 18 2 132 49 2 80 9",
        ),
    ],
)
def test_ids_seen_in_the_original(tokenizer: Tokenizer, text: str, ids: str) -> None:
    assert tokenizer.encode(text) == [int(id_) for id_ in ids.split()]


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("$5.50", "five dollars, fifty cents"),
        ("3rd", "third"),
        ("1999", "nineteen ninety-nine"),
        ("12345", "twelve thousand, three hundred forty-five"),
        ("3.14", "three point fourteen"),
        (
            'Mr.Brown "quoted" it — naïve café… 100st 21st',
            "misterbrown quoted it -- naive cafe... one hundredth twenty-first",
        ),
        ("drs. mrs. capt.", "doctors misess captain"),
        ("101st", "one hundred and first"),
        ("1,5 and $1.5 and 0.05", "fifteen and one dollar, five cents and zero point five"),
        ("1905, 1001, 2010", "nineteen oh five, ten oh one, twenty ten"),
    ],
)
def test_text_seen_in_the_original(text: str, cleaned: str) -> None:
    assert clean(text, reference=True) == cleaned
