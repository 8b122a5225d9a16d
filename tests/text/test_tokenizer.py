"""Text <-> ids, with a lexicon and without one."""

from __future__ import annotations

import json
import pickle
import random
from pathlib import Path
from string import ascii_uppercase

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from chelys.errors import ModelError, TextError
from chelys.text.lexicon import Lexicon
from chelys.text.tokenizer import (
    PUNCTUATION,
    SPACE,
    SPELLED_APOSTROPHE,
    SPELLED_LETTERS,
    STOP,
    UNKNOWN,
    Tokenizer,
    make_tokenizer,
)

WORDS = {"the": "ðə", "canoe": "kənˈu", "hello": "həlˈO", "up": "ˌʌp", "NATO": "nˈATO", "us": "ˌʌs", "US": "jˌuˈɛs"}
LETTERS = {letter: f"ˈ{letter.lower()}z" for letter in ascii_uppercase}


@pytest.fixture
def tokenizer() -> Tokenizer:
    return make_tokenizer(Lexicon(WORDS | LETTERS))


def spelled(word: str) -> str:
    return "".join(SPELLED_APOSTROPHE if c == "'" else SPELLED_LETTERS[ord(c) - ord("a")] for c in word)


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("Hello, the canoe!", "həlˈO, ðə kənˈu!"),
        ("The canoe's up.", "ðə kənˈuz ˌʌp."),
        ("Hello, Xylor.", f"həlˈO, {spelled('xylor')}."),
        ("o'er", spelled("o'er")),
        ("canoe-up", "kənˈu-ˌʌp"),
        ("NATO and US", f"nˈATO {spelled('and')} jˌuˈɛs"),
        ("US's", "jˌuˈɛsᵻz"),
        ("HELLO us", "həlˈO ˌʌs"),
        ("IBM", "ˈiz ˈbz ˈmz"),
        ("mp3", f"ˈmz ˈpz {spelled('three')}"),
        ("CDs", "ˈcz ˈdzz"),
        ("hmm", spelled("hmm")),
    ],
)
def test_symbols(tokenizer: Tokenizer, text: str, symbols: str) -> None:
    assert tokenizer.analyse(text).symbols == symbols


def test_ids_begin_with_stop_unknown_space_and_punctuation(tokenizer: Tokenizer) -> None:
    vocabulary = tokenizer.core.get_vocab()
    assert [vocabulary[s] for s in (STOP, UNKNOWN, " ", *PUNCTUATION)] == list(range(3 + len(PUNCTUATION)))
    assert sorted(vocabulary.values()) == list(range(tokenizer.vocabulary_size))
    assert tokenizer.stop_id == 0
    assert {*SPELLED_LETTERS, *"ðəkˈ"} <= vocabulary.keys()


def test_decode_gives_the_symbols_with_plain_letters(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("Hello, the xylor's canoe-up!")
    assert tokenizer.decode(ids) == "həlˈO, ðə xylor's kənˈu-ˌʌp!"
    assert tokenizer.decode([]) == ""


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("the (canoe) up", "ðə, kənˈu, ˌʌp"),
        ("the canoe; hello: up", "ðə kənˈu, həlˈO, ˌʌp"),
        ('"The canoe," the "up".', "ðə kənˈu, ðə ˌʌp."),
        ("The canoe — hello", "ðə kənˈu, həlˈO"),
        ("(Hello.) The", "həlˈO. ðə"),
        ("Up (the canoe).", "ˌʌp, ðə kənˈu."),
    ],
)
def test_marks_that_no_training_met_are_read_as_commas(tokenizer: Tokenizer, text: str, read: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == read


def test_spelled_chooses_words_to_spell(tokenizer: Tokenizer) -> None:
    asked: list[str] = []

    def spell_canoe(word: str) -> bool:
        asked.append(word)
        return word == "canoe"

    assert tokenizer.analyse("The canoe, hello", spelled=spell_canoe).symbols == f"ðə {spelled('canoe')}, həlˈO"
    assert asked == ["the", "canoe", "hello"]
    assert tokenizer.encode("The canoe") == tokenizer.encode("The canoe", spelled=lambda word: False)


def test_normalised_text_needs_no_second_normalising(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode_normalized("hello, NATO!") == tokenizer.encode("Hello, NATO!")


def test_dropped_characters_are_told(tokenizer: Tokenizer) -> None:
    encoding = tokenizer.analyse("hello 😀")
    assert (encoding.dropped, encoding.symbols) == ("😀", "həlˈO")
    assert encoding.ids == tokenizer.encode("hello")


def test_nothing_normalised_is_ever_unknown(tokenizer: Tokenizer) -> None:
    rng = random.Random(3)
    characters = [*map(chr, range(32, 0x180)), *"“”—…½²€ABCabc  .,'\"()-;:"]
    characters += [chr(rng.randrange(0x10FFFF)) for _ in range(200)]
    unknown = tokenizer.core.token_to_id(UNKNOWN)
    spoken = 0
    for _ in range(1500):
        text = "".join(rng.choices(characters, k=rng.randrange(1, 60)))
        try:
            ids = tokenizer.encode(text, spelled=lambda word: rng.random() < 0.3)
        except TextError:
            continue
        spoken += 1
        assert unknown not in ids, repr(text)
        assert tokenizer.stop_id not in ids and len(ids) > 0, repr(text)
    assert spoken > 1000


def test_a_word_of_ten_thousand_letters(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode("b" * 10_000)) == 10_000


@pytest.mark.parametrize("text", ["", "  ", "😀", "你好"])
def test_unspeakable_text_is_refused(tokenizer: Tokenizer, text: str) -> None:
    with pytest.raises(TextError):
        tokenizer.encode(text)


def test_folder_round_trip(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "model")
    again = Tokenizer.load(tmp_path / "model")
    text = "Hello: the canoe's (xylor) 5 up!"
    assert again.analyse(text) == tokenizer.analyse(text)
    assert again.vocabulary_size == tokenizer.vocabulary_size
    again.save(tmp_path / "copy")
    for name in ("tokenizer.json", "lexicon.txt.gz"):
        assert (tmp_path / "copy" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()


def test_a_tokenizer_can_be_sent_to_a_worker(tokenizer: Tokenizer) -> None:
    tokenizer.encode("warm up the canoe")
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.analyse("The canoe, xylor!") == tokenizer.analyse("The canoe, xylor!")


def test_two_tokenizers_of_one_lexicon_agree() -> None:
    one, two = make_tokenizer(Lexicon(WORDS)), make_tokenizer(Lexicon(dict(reversed(WORDS.items()))))
    assert one.core.get_vocab() == two.core.get_vocab()


def test_pieces_of_spelling_without_a_lexicon(tmp_path: Path) -> None:
    vocabulary = {t: i for i, t in enumerate([STOP, UNKNOWN, SPACE, "!", "h", "e", "l", "o", "t", "he"])}
    core = tokenizers.Tokenizer(models.BPE(vocabulary, [("h", "e")], unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.add_special_tokens([STOP, UNKNOWN, SPACE])
    Tokenizer(core).save(tmp_path)
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.lexicon is None
    assert tokenizer.encode("Hello TO the!") == [9, 6, 6, 7, 2, 8, 7, 2, 8, 9, 3]
    assert tokenizer.analyse("Hello").symbols == "hello"
    assert not (tmp_path / "lexicon.txt.gz").exists()


def test_missing_and_broken_files_are_named(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no tokenizer.json in"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="tokenizer.json is not a tokenizer"):
        Tokenizer.load(tmp_path)
    tokenizer.save(tmp_path)
    (tmp_path / "lexicon.txt.gz").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="lexicon.txt.gz"):
        Tokenizer.load(tmp_path)


def test_a_tokenizer_without_a_stop_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    description = json.loads(path.read_text())
    del description["model"]["vocab"][STOP]
    path.write_text(json.dumps(description))
    with pytest.raises(ModelError, match=r"\[STOP\]"):
        Tokenizer.load(tmp_path)
