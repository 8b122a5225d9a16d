"""Numbers in words: how they are joined, and that threads do not disturb each other."""

from __future__ import annotations

import random
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from chelys.text.normalize import normalize
from chelys.text.numbers import cardinal, ordinal, spell_number, spell_ordinal, year
from chelys.tortoise.cleaner import clean


@pytest.mark.parametrize(
    ("number", "plain", "british"),
    [
        (0, "zero", "zero"),
        (13, "thirteen", "thirteen"),
        (40, "forty", "forty"),
        (99, "ninety-nine", "ninety-nine"),
        (100, "one hundred", "one hundred"),
        (101, "one hundred one", "one hundred and one"),
        (1000, "one thousand", "one thousand"),
        (1001, "one thousand one", "one thousand and one"),
        (1100, "one thousand, one hundred", "one thousand, one hundred"),
        (12345, "twelve thousand, three hundred forty-five", "twelve thousand, three hundred and forty-five"),
        (1_001_000, "one million, one thousand", "one million, one thousand"),
        (1_001_001, "one million, one thousand one", "one million, one thousand and one"),
        (10**33, "one decillion", "one decillion"),
        (10**31 + 1, "ten nonillion one", "ten nonillion and one"),
    ],
)
def test_spelled(number: int, plain: str, british: str) -> None:
    assert spell_number(number) == plain and spell_number(number, and_=True) == british


def test_every_number_has_a_name_of_its_own() -> None:
    rng = random.Random(0)
    numbers = {*range(20_000), *(rng.randrange(10 ** rng.randrange(1, 37)) for _ in range(5000)), 10**36 - 1}
    assert len({spell_number(n) for n in numbers}) == len({cardinal(n) for n in numbers}) == len(numbers)
    for number in (-1, 10**36):
        with pytest.raises(ValueError, match="has no name here"):
            spell_number(number)


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "zeroth"), (1, "first"), (2, "second"), (3, "third"), (5, "fifth"), (8, "eighth"), (9, "ninth"),
     (12, "twelfth"), (14, "fourteenth"), (20, "twentieth"), (21, "twenty first"), (100, "one hundredth"),
     (342, "three hundred forty second"), (10**6, "one millionth")],
)  # fmt: skip
def test_ordinals(number: int, words: str) -> None:
    assert ordinal(number) == words
    assert spell_ordinal("twenty-one") == "twenty-first"


def test_years() -> None:
    assert [year(n) for n in (1066, 1100, 1905, 1984, 2000, 2009, 2010, 2100)] == [
        "one thousand sixty six", "eleven hundred", "nineteen oh five", "nineteen eighty four", "two thousand",
        "two thousand nine", "twenty ten", "twenty one hundred",
    ]  # fmt: skip


def test_threads_do_not_disturb_each_other() -> None:
    texts = [
        f"On the {n % 28 + 1}th of May {1900 + n} we paid $1,{n:03d},567.{n % 90 + 10}, or {n}01%." for n in range(60)
    ]
    expected = [(normalize(text).text, clean(text), clean(text, reference=True)) for text in texts]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            for _ in range(5):
                found = list(
                    pool.map(lambda text: (normalize(text).text, clean(text), clean(text, reference=True)), texts)
                )
                assert found == expected
    finally:
        sys.setswitchinterval(interval)
