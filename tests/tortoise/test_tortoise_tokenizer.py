"""The tokenizer of the published system."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import toy

from chelys.errors import ConfigError, TextError
from chelys.text.tokenizer import UNKNOWN, Tokenizer, tokenizer_with
from chelys.tortoise.tokenizer import TortoiseTokenizer, make_tortoise_tokenizer


def loaded(folder: Path, cleaner: str, reference: bool) -> Tokenizer:
    plain = Tokenizer.load(folder, cleaner=cleaner)
    return (
        TortoiseTokenizer(plain.core, cleaner=cleaner, reference=True) if reference and cleaner != "chelys" else plain
    )


def test_published_tokenizer_reads_repaired_text_by_default() -> None:
    tokenizer = make_tortoise_tokenizer()
    encoding = tokenizer.analyse("[sadly,] It is £5 😀_")
    assert encoding.symbols == "[sadly,] it is five pounds _"
    assert encoding.ids == tokenizer.encode_normalized("[sadly,] it is five pounds _")
    assert encoding.ids.count(tokenizer.core.token_to_id(UNKNOWN)) == 3  # brackets, and what has no piece
    assert encoding.dropped == "😀_"  # but brackets are read on purpose
    assert tokenizer.decode(encoding.ids) == "sadly, it is five pounds "
    assert tokenizer.encode("$5") == make_tortoise_tokenizer(reference=True).encode("$5")


def test_the_cleaner_is_chosen_on_loading(tmp_path: Path) -> None:
    make_tortoise_tokenizer().save(tmp_path)
    symbols = {
        (cleaner, reference): loaded(tmp_path, cleaner, reference).analyse("Mr.X £2").symbols
        for cleaner in ("chelys", "tortoise", "basic")
        for reference in (False, True)
    }
    assert symbols == {
        ("chelys", False): "mister x two pounds",
        ("chelys", True): "mister x two pounds",
        ("tortoise", False): "mister x two pounds",
        ("tortoise", True): "misterx pstwo",
        ("basic", False): "mr.x £2",
        ("basic", True): "mr.x £2",
    }


def test_an_unknown_or_unfitting_cleaner_is_refused() -> None:
    with pytest.raises(ConfigError, match="^cleaner is 'english'; choose from chelys, tortoise, basic$"):
        make_tortoise_tokenizer(cleaner="english")
    with pytest.raises(ConfigError, match="lexicon"):
        TortoiseTokenizer(toy.tokenizer().core, toy.tokenizer().lexicon, cleaner="tortoise")
    with pytest.raises(ConfigError, match="lexicon"):
        tokenizer_with("tortoise", toy.tokenizer().core, toy.tokenizer().lexicon)
    with pytest.raises(ConfigError, match="^cleaner is 'english'; choose from chelys, tortoise, basic$"):
        tokenizer_with("english", toy.tokenizer().core)


@pytest.mark.parametrize("cleaner", ["tortoise", "basic"])
@pytest.mark.parametrize("text", ["", " \n", "?!", "[]", "😀", "_", "\ud800", "\x00"])
def test_published_tokenizer_refuses_what_has_no_word(cleaner: str, text: str) -> None:
    with pytest.raises(TextError) as caught:
        make_tortoise_tokenizer(cleaner=cleaner).encode(text)
    assert "\n" not in str(caught.value) and str(caught.value).isprintable()


@pytest.mark.parametrize("cleaner", ["tortoise", "basic"])
def test_the_original_refuses_nothing(cleaner: str) -> None:
    tokenizer = make_tortoise_tokenizer(cleaner=cleaner, reference=True)
    assert tokenizer.encode("") == []
    assert tokenizer.encode(" ") == [2]
    assert tokenizer.encode("[]") == [1, 1]
    assert tokenizer.encode("a\ud800") in ([14], [14, 1])
    assert len(tokenizer.encode("z" * 10_000)) == 10_000


def test_a_published_tokenizer_can_be_sent_to_a_worker() -> None:
    tokenizer = make_tortoise_tokenizer(reference=True)
    assert pickle.loads(pickle.dumps(tokenizer)).analyse("Mr.X £2") == tokenizer.analyse("Mr.X £2")
