"""Tags in brackets: sounds, pauses, voices; anything else in brackets is told of."""

from __future__ import annotations

from string import ascii_uppercase

import pytest

from chelys.errors import UserError
from chelys.text.document import Document, Sentence
from chelys.text.front_end import read_text
from chelys.text.lexicon import Lexicon
from chelys.text.markup import LONGEST_PAUSE_S
from chelys.text.split import SENTENCE_PAUSE_S
from chelys.text.tokenizer import Tokenizer, make_tokenizer

WORDS = {"the": "ðə", "canoe": "kənˈu", "hello": "həlˈO", "up": "ˌʌp", "is": "ɪz", "judge": "ʤˈʌʤ", "fin": "fˈɪn"}
WORDS |= {"church": "ʧˈɜɹʧ", "tea": "tˈi", "zoo": "zˈu", "ate": "ˈAt", "eel": "ˈil", "man": "mˈæn", "let": "lˈɛt"}
LETTERS = {letter: f"ˈ{letter.lower()}z" for letter in ascii_uppercase if letter.lower() not in "cgqrxy"}
TOKENIZER = make_tokenizer(Lexicon(WORDS | LETTERS))


def read(text: str, **options: object) -> Document:
    return read_text(text, TOKENIZER, **options)  # type: ignore[arg-type]


def spoken(text: str, **options: object) -> list[tuple[str, float]]:
    return [(one.spoken, one.pause_s) for one in read(text, **options).sentences]


def test_a_word_sounds_as_its_author_says() -> None:
    (one,) = read("The [phonetics](/fənˈɛtɪks/) of [Canoe](/kəˈnuː/)'s.").sentences
    assert one.text == "The phonetics of Canoe's." and one.spoken == "the phonetics of canoe's."
    assert one.phonemes.startswith("ðə fənˈɛtɪks ") and one.phonemes.endswith(" kənˈuz.")
    (one,) = read("The [canoe](/kəˈnuː/)s, up[canoe](/kəˈnuː/)up").sentences
    assert one.phonemes == "ðə kənˈuz, ˌʌp kənˈu ˌʌp"


def test_a_word_with_a_sound_ends_and_begins_sentences_like_any_other() -> None:
    assert spoken("The [tea](/tˈi/). [Canoe](/kənˈu/) is [up](/ˈʌp/)! [1984](/zˈu/) is.") == [
        ("the tea.", SENTENCE_PAUSE_S), ("canoe is up!", SENTENCE_PAUSE_S),
        ("nineteen eighty four is.", 0.0),
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["zqaz", "zqaaz ZQBaz", "zqq zqqaz"])
def test_names_of_words_with_sounds_are_not_in_the_text(text: str) -> None:
    (one,) = read(f"[tea](/tˈi/) {text} [zoo](/zˈu/)").sentences
    assert (
        one.spoken == f"tea {text.lower()} zoo"
        and one.phonemes.startswith("tˈi ｚｑ")
        and one.phonemes.endswith("ｚ zˈu")
    )


def test_many_words_with_sounds() -> None:
    document = read(" ".join(f"[tea](/{'tˈi' if i % 2 else 'zˈu'}/)" for i in range(300)))
    words = " ".join(one.phonemes for one in document.sentences).split()
    assert words == ["tˈi" if i % 2 else "zˈu" for i in range(300)] and document.warnings == []


def test_a_phoneme_that_the_model_lacks_is_told() -> None:
    document = read("[tea](/tʘˈi/) [up](/ʘ/)")
    assert document.sentences[0].phonemes == "tˈi ˌʌp"
    assert document.warnings == [
        "the model has no sound for ʘ in /tʘˈi/: left out", "the model has no sound for ʘ in /ʘ/: left out"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The tea [pause:0.8] is up.", [("the tea", 0.8), ("is up.", 0.0)]),
        ("The tea. [pause:0.8s] Up.", [("the tea.", 0.8), ("up.", 0.0)]),
        ("The tea. [pause:0] Up.", [("the tea.", 0.0), ("up.", 0.0)]),
        ("Tea [pause:800ms][pause: .2] up", [("tea", 1.0), ("up", 0.0)]),
        ("Tea.\n\n[pause:0.1]\n\nUp. [pause:2.5]", [("tea.", 0.1), ("up.", 2.5)]),
        ("Tea [pause:1] ... [pause:1] up", [("tea", 2.0), ("up", 0.0)]),
    ],
)
def test_pauses(text: str, expected: list[tuple[str, float]]) -> None:
    assert spoken(text) == expected


def test_a_text_may_begin_with_a_pause() -> None:
    document = read("[pause:0.5] Tea.")
    assert document.sentences == [Sentence("Tea.", 0.0, "tea.", "tˈi.", lead_s=0.5)]
    assert document.as_json()["sentences"][0] == {"text": "", "spoken": "", "phonemes": "", "pause": 0.5}


def test_pauses_that_are_none_and_pauses_without_end() -> None:
    document = read("Tea [pause:soon] up. [pause:1000000] Up.")
    assert [one.pause_s for one in document.sentences] == [LONGEST_PAUSE_S, 0.0]
    assert len(document.warnings) == 2 and "names no time" in document.warnings[0]


def test_voices_change_and_go_back() -> None:
    document = read("Tea. [voice:rowan] Up. Hello. [voice:] Tea.")
    assert [(one.spoken, one.voice, one.pause_s) for one in document.sentences] == [
        ("tea.", None, SENTENCE_PAUSE_S), ("up.", "rowan", SENTENCE_PAUSE_S), ("hello.", "rowan", SENTENCE_PAUSE_S),
        ("tea.", None, 0.0),
    ]  # fmt: skip


def test_other_brackets_are_read_or_left_out_and_told_of() -> None:
    document = read("[laugh] The tea [rate:1.2] is [12] up.")
    assert document.sentences[0].spoken == "(laugh) the tea is (twelve) up."
    assert document.warnings == [
        "brackets mean nothing to this model, what they hold is read: [laugh]",
        "[rate:1.2] is no tag that this model knows: left out",
    ]


def test_a_model_with_brackets_of_its_own_reads_no_tags() -> None:
    document = read("[pause:0.8] **Tea** <b>up</b>.", tags=False)
    assert document.sentences[0].text == "[pause:0.8] **Tea** <b>up</b>." and document.warnings == []


def test_warnings_show_no_control_characters() -> None:
    document = read("Tea [\x1b\x9d\u202eup] is.")
    assert len(document.warnings) == 1 and document.warnings[0].isprintable()


def test_a_format_must_be_known() -> None:
    with pytest.raises(UserError, match="choose from auto, text, markdown, html, ssml"):
        read("Tea.", format="rtf")


def test_a_tokenizer_without_sounds_reads_the_words() -> None:
    plain = Tokenizer(TOKENIZER.core)
    document = read_text("[Tea](/zˈu/) up.", plain)
    assert document.sentences[0].phonemes == "tea up." and "knows no phonemes" in document.warnings[0]
