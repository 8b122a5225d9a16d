"""A text becomes a document: sentences, words, phonemes, pauses, warnings."""

from __future__ import annotations

from string import ascii_uppercase

import pytest

from chelys.errors import TextError
from chelys.text.document import Document
from chelys.text.front_end import MOST_NAMED, read_text
from chelys.text.lexicon import Lexicon
from chelys.text.split import PARAGRAPH_PAUSE_S, SENTENCE_PAUSE_S
from chelys.text.tokenizer import Tokenizer, make_tokenizer

WORDS = {"the": "ðə", "canoe": "kənˈu", "hello": "həlˈO", "up": "ˌʌp", "is": "ɪz", "here": "hˈɪɹ"}
LETTERS = {letter: f"ˈ{letter.lower()}z" for letter in ascii_uppercase}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return make_tokenizer(Lexicon(WORDS | LETTERS))


def test_sentences_words_phonemes_and_pauses(tokenizer: Tokenizer) -> None:
    document = read_text("Hello,  the canoe! Is it\nup?\n\nHere.", tokenizer)
    assert document.as_json() == {
        "sentences": [
            {"text": "Hello, the canoe!", "spoken": "hello, the canoe!", "phonemes": "həlˈO, ðə kənˈu!",
             "pause": SENTENCE_PAUSE_S},
            {"text": "Is it up?", "spoken": "is it up?", "phonemes": "ɪz ｉｔ ˌʌp?", "pause": PARAGRAPH_PAUSE_S},
            {"text": "Here.", "spoken": "here.", "phonemes": "hˈɪɹ.", "pause": 0.0},
        ],
        "warnings": [],
    }  # fmt: skip


def test_plain_text_sounds_as_the_tokenizer_says(tokenizer: Tokenizer) -> None:
    for text in ("Hello, the canoe!", "It is 7:45, zqaz.", "A & B, c."):
        (sentence,) = read_text(text, tokenizer).sentences
        assert tokenizer.ids(sentence.phonemes) == tokenizer.encode(text)
        assert (sentence.rate, sentence.voice) == (1.0, None)


def test_what_is_dropped_is_named_once_and_not_without_end(tokenizer: Tokenizer) -> None:
    many = "".join(chr(0x4E00 + i) for i in range(100))
    (warning,) = read_text(f"Hello 😀 there. One 😀 two {many}.", tokenizer).warnings
    assert warning.startswith("dropped what cannot be spoken: 😀一") and warning.endswith("and 61 more")
    assert warning.count("😀") == 1 and MOST_NAMED == 40


@pytest.mark.parametrize("text", ["", " \n", "...", "😀"])
def test_nothing_to_say_is_refused(tokenizer: Tokenizer, text: str) -> None:
    with pytest.raises(TextError):
        read_text(text, tokenizer)


def test_a_document_is_a_plain_value(tokenizer: Tokenizer) -> None:
    assert read_text("Hello.", tokenizer) == read_text("Hello.", tokenizer) != Document("Hello.", [])
