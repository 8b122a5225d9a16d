"""Texts and codes made wrong in one place."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from chelys.data.corruptions import END, STRETCH, corrupt_codes, corrupt_text

TEXT = "the moon, calm and slow, rose well-nigh at seven."
OTHER = "polo? (three) men's hats!"


def texts(text: str, other: str = "", draws: int = 300) -> list[str]:
    return [corrupt_text(text, other, np.random.default_rng(seed)) for seed in range(draws)]


def words(text: str) -> list[str]:
    return text.translate(str.maketrans("", "", ",.?!()")).replace("-", " ").split()


def fault(right: list[str], wrong: list[str]) -> str:
    """What was done to the words."""
    n = len(right)
    for size in (1, 2, 3):
        for i in range(n - size + 1):
            if wrong == right[: i + size] + right[i:]:
                return f"said twice, {size}"
            if wrong == right[:i] + right[i + size :] and (i + size == n or size == 1):
                return "cut" if i + size == n else "left out"
    if len(wrong) == n:
        at = [i for i in range(n) if right[i] != wrong[i]]
        if len(at) == 1:
            return "replaced"
        if at == [at[0], at[0] + 1] and wrong[at[0]] == right[at[1]] and wrong[at[1]] == right[at[0]]:
            return "swapped"
    raise AssertionError(f"{wrong} is of no kind")


# ---- texts ----------------------------------------------------------------------------------------------------------


def test_every_fault_of_a_text_occurs() -> None:
    right = words(TEXT)
    found = Counter(fault(right, words(wrong)) for wrong in texts(TEXT, OTHER))
    twice = {f"said twice, {size}" for size in (1, 2, 3)}
    assert found.keys() == {"left out", "swapped", "replaced", "cut", *twice}
    assert min(found.values()) > 10


def test_marks_stay_in_their_places() -> None:
    for wrong in texts(TEXT, OTHER):
        assert wrong.endswith(".") and wrong.count(".") == 1 and not wrong.startswith((" ", ","))
        assert "  " not in wrong and " ," not in wrong and " ." not in wrong and not set(wrong) & set("?!()")


def test_a_corrupted_text_sounds_otherwise() -> None:
    sounds = {"two": "tu", "too": "tu", "to": "tu"}
    heard = lambda word: sounds.get(word, word)  # noqa: E731
    for seed in range(200):
        wrong = corrupt_text("two to too two.", "too to two", np.random.default_rng(seed), heard)
        assert len(words(wrong)) != 4, "neither swapped nor replaced: nobody would hear it"
    assert set(texts("calm.")) == {"calm calm."}
    assert {len(words(wrong)) for wrong in texts("a a")} == {1, 3, 4}
    for wrong in texts("calm calm", "calm Calm"):
        assert len(words(wrong)) != 2


def test_strange_words_come_whole() -> None:
    strange = {word for wrong in texts(TEXT, OTHER) for word in words(wrong)} - set(words(TEXT))
    assert strange == {"polo", "three", "men's", "hats"}


def test_a_corruption_is_a_function_of_the_generator() -> None:
    assert texts(TEXT, OTHER) == texts(TEXT, OTHER) and len(set(texts(TEXT, OTHER))) > 40
    with pytest.raises(ValueError, match="no word in ', .'"):
        corrupt_text(", .", "", np.random.default_rng(0))


# ---- codes ----------------------------------------------------------------------------------------------------------

CODES, FOREIGN = torch.arange(60), torch.arange(100, 150)


def damage(codes: list[int], wrong: list[int]) -> tuple[str, int]:
    """What was done to codes that are all different, and to how many."""
    more = len(wrong) - len(codes)
    same = next((i for i, (a, b) in enumerate(zip(codes, wrong, strict=False)) if a != b), min(len(codes), len(wrong)))
    if more < 0:
        assert wrong == codes[:same] + codes[same - more :]
        return ("cut" if same == len(wrong) and same - more == len(codes) else "removed"), -more
    foreign = [code for code in wrong if code >= 100]
    assert foreign == list(range(foreign[0], foreign[0] + len(foreign))) if foreign else True
    if more == 0:
        assert wrong == codes[:same] + foreign + codes[same + len(foreign) :]
        return "replaced", len(foreign)
    if foreign:
        assert wrong == codes + foreign
        return "continued", more
    assert wrong == codes[:same] + codes[same - more : same] + codes[same:]
    return "repeated", more


def test_every_fault_of_codes_occurs() -> None:
    found: dict[str, set[int]] = {}
    lengths = []
    for seed in range(600):
        wrong = corrupt_codes(CODES, FOREIGN, np.random.default_rng(seed))
        kind, size = damage(CODES.tolist(), wrong.tolist())
        found.setdefault(kind, set()).add(size)
        lengths.append(len(wrong))
    stretch, end = set(range(STRETCH[0], STRETCH[1] + 1)), set(range(END[0], END[1] + 1))
    assert found["repeated"] == found["replaced"] == stretch and found["continued"] == end
    assert found["removed"] >= stretch and found["cut"] >= end, "what is removed at the end reads as a cut"
    assert abs(np.mean(lengths) - 60) < 1, "no shorter and no longer on the whole"


@pytest.mark.parametrize("length", [1, 2, 3, 7])
@pytest.mark.parametrize("other", [0, 1, 50])
def test_short_clips(length: int, other: int) -> None:
    for seed in range(100):
        wrong = corrupt_codes(CODES[:length], FOREIGN[:other], np.random.default_rng(seed))
        assert len(wrong) >= max(1, length - length // 2) and not torch.equal(wrong, CODES[:length])
        assert wrong.dtype == CODES.dtype


def test_silence_comes_out_of_another_length() -> None:
    silence = torch.zeros(20, dtype=torch.long)
    lengths = {len(corrupt_codes(silence, silence, np.random.default_rng(seed))) for seed in range(300)}
    assert 20 not in lengths and min(lengths) >= 10 and max(lengths) <= 20 + END[1]
