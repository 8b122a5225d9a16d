"""SSML: the elements that people use, and what is refused."""

from __future__ import annotations

import pytest

from chelys.errors import TextError
from chelys.text.document import Document
from chelys.text.front_end import read_text
from chelys.text.lexicon import NANO_LEXICON
from chelys.text.split import CLAUSE_PAUSE_S, PARAGRAPH_PAUSE_S, SENTENCE_PAUSE_S
from chelys.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.load(NANO_LEXICON.parent)


def read(inner: str, **options: object) -> Document:
    return read_text(f"<speak>{inner}</speak>", TOKENIZER, **options)  # type: ignore[arg-type]


def pauses(inner: str) -> list[tuple[str, float]]:
    return [(one.spoken, one.pause_s) for one in read(inner).sentences]


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ('One <break time="500ms"/> two', [("one", 0.5), ("two", 0.0)]),
        ('One. <break time="1.25s"/> Two.', [("one.", 1.25), ("two.", 0.0)]),
        ("One <break/> two", [("one", SENTENCE_PAUSE_S), ("two", 0.0)]),
        ('One. <break strength="none"/> two', [("one.", 0.0), ("two", 0.0)]),
        ('One <break strength="weak"/> two', [("one", CLAUSE_PAUSE_S), ("two", 0.0)]),
        ("<s>One</s><s>two</s>", [("one", SENTENCE_PAUSE_S), ("two", 0.0)]),
        ("<p><s>One</s></p>\n<p>Two</p>", [("one", PARAGRAPH_PAUSE_S), ("two", 0.0)]),
        ('<p>One</p><break time="2s"/><p>Two</p>', [("one", 2.0), ("two", 0.0)]),
        ("One\n  line.", [("one line.", 0.0)]),
    ],
)
def test_pauses(inner: str, expected: list[tuple[str, float]]) -> None:
    assert pauses(inner) == expected


@pytest.mark.parametrize(
    ("kind", "text", "spoken"),
    [
        ('interpret-as="characters"', "abc1", "a b c one"),
        ('interpret-as="spell-out"', "NASA", "n a s a"),
        ('interpret-as="digits"', "1984", "one nine eight four"),
        ('interpret-as="cardinal"', "1984", "one thousand nine hundred eighty four"),
        ('interpret-as="ordinal"', "21", "twenty first"),
        ('interpret-as="date" format="dmy"', "3/5/2024", "may third, twenty twenty four"),
        ('interpret-as="date" format="mdy"', "3/5/2024", "march fifth, twenty twenty four"),
        ('interpret-as="date" format="yyyymmdd"', "20240305", "march fifth, twenty twenty four"),
        ('interpret-as="date" format="dmy"', "soon", "soon"),
        ('interpret-as="date" format="my"', "5.2024", "may twenty twenty four"),
        ('interpret-as="telephone"', "(212) 555-1212", "two one two, five five five, one two one two"),
        ('interpret-as="expletive"', "darn", ""),
    ],
)
def test_say_as(kind: str, text: str, spoken: str) -> None:
    (one,) = read(f"So <say-as {kind}>{text}</say-as> it is").sentences
    assert one.spoken == " ".join(f"so {spoken} it is".split())


def test_characters_sound_as_letters_not_words() -> None:
    (one,) = read('Vitamin <say-as interpret-as="characters">a</say-as> is it.').sentences
    assert one.phonemes.split()[1] == TOKENIZER.symbols("A") and one.text == "Vitamin a is it."


def test_sub_and_phoneme() -> None:
    (one,) = read(
        '<sub alias="World Wide Web">W3</sub> of <phoneme alphabet="ipa" ph="təˈmeɪtoʊ">tomato</phoneme>, '
        '<phoneme alphabet="x-sampa" ph="t@&quot;mAtoU">tomato</phoneme>.'
    ).sentences
    assert one.spoken == "world wide web of tomato, tomato."
    assert one.phonemes.endswith("təmˈAtO, təmˈɑtO.")


def test_rates_multiply_and_stay_within_bounds() -> None:
    document = read(
        'One <prosody rate="slow">two <prosody rate="120%">three</prosody></prosody> '
        '<prosody rate="-10%">four</prosody> <prosody rate="900%" pitch="high">five</prosody> six'
    )
    assert [one.rate for one in document.sentences] == pytest.approx([1.0, 0.75, 0.9, 0.9, 2.0, 1.0])
    assert len(document.warnings) == 2 and "pitch is ignored" in document.warnings[0]


def test_voices() -> None:
    document = read('One. <voice name="rowan">Two. <voice>Three.</voice></voice> Four.')
    assert [one.voice for one in document.sentences] == [None, "rowan", "rowan", None]


def test_what_has_no_meaning_here_is_told() -> None:
    document = read(
        '<emphasis level="strong">One</emphasis> <mark name="x"/> <lang xml:lang="fr">two</lang> '
        '<audio src="http://example.com/a.wav">three</audio> <metadata>no</metadata> '
        '<say-as interpret-as="song">four</say-as> <break strength="huge"/> <amazon:effect xmlns:amazon="a">five'
        "</amazon:effect>"
    )
    assert " ".join(one.spoken for one in document.sentences) == "one two three four five"
    for word in ("emphasis", "mark", "lang", "audio", "metadata", "song", "huge", "effect"):
        assert sum(word in warning for warning in document.warnings) == 1


BILLION_LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol">'
    + "".join(f'<!ENTITY lol{n + 1} "{f"&lol{n or str()};" * 10}">' for n in range(9))
    + "]><speak>&lol9;</speak>"
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BILLION_LAUGHS, "document type or entities"),
        ('<!DOCTYPE speak SYSTEM "file:///etc/passwd"><speak>Hi</speak>', "document type or entities"),
        ("<speak>Hi <break></speak>", "not well formed: mismatched tag"),
        ("<speak>Hi", "not well formed: no element found"),
        ("<speak>Tea & cake</speak>", "not well formed"),
        ("<speak>&nbsp;Hi</speak>", "undefined entity"),
        ("<speak/>", "can be spoken|empty"),
        ('<speak><break time="1s"/></speak>', "can be spoken|empty"),
        ("<speak>" + "<s>" * 100_000, "deep"),
        ("<speak>" * 65 + "Hi", "deep"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    with pytest.raises(TextError, match=said) as raised:
        read_text(text, TOKENIZER)
    assert len(str(raised.value)) < 200 and "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["Hello", "<p>Hello</p>", ""])
def test_ssml_that_is_asked_for_must_be_ssml(text: str) -> None:
    with pytest.raises(TextError, match="SSML"):
        read_text(text, TOKENIZER, format="ssml")


def test_a_long_document_is_read_at_once() -> None:
    document = read("<s>Hello there.</s> " * 2_000)
    assert len(document.sentences) == 2_000


def test_what_is_said_as_something_stands_apart() -> None:
    inner = '<say-as interpret-as="unit">5 kg</say-as><say-as interpret-as="digits">40</say-as>x'
    assert read(inner).sentences[0].spoken == "five kilograms four zero x"
