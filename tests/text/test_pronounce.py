"""How words of nano sound, and how that was found."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

from chelys.text.lexicon import NANO_LEXICON, Lexicon
from chelys.text.pronounce import Pronouncer
from chelys.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def pronouncer() -> Pronouncer:
    return Pronouncer(Lexicon.load(NANO_LEXICON))


@pytest.fixture(scope="module")
def nano() -> Tokenizer:
    return Tokenizer.load(NANO_LEXICON.parent)


def sounds(pronouncer: Pronouncer, sentence: str, written: str = "") -> dict[str, str]:
    return {word.text: word.phonemes for word in pronouncer.pronounce(sentence, written=written)}


@pytest.mark.parametrize(
    ("word", "phonemes"),
    [
        # names
        ("kevin", "kˈɛvən"), ("laura", "lˈɔɹə"), ("amanda", "əmˈændə"), ("nicole", "nəkˈOl"), ("ryan", "ɹˈIən"),
        ("beth", "bˈɛθ"), ("simon", "sˈImən"), ("leonard", "lˈɛnəɹd"), ("donald", "dˈɑnᵊld"), ("chanel", "ʃənˈɛl"),
        ("cruz", "kɹˈuz"), ("reynolds", "ɹˈɛnᵊldz"), ("maria", "məɹˈiə"), ("jerome", "ʤəɹˈOm"), ("meyer", "mˈIəɹ"),
        ("O'Neil", "Onˈil"), ("mercedes", "məɹsˈAdiz"), ("angeles", "ˈænʤələs"), ("kevin's", "kˈɛvənz"),
        # titles, decades
        ("miz", "mˈɪz"), ("cetera", "sˈɛTəɹə"), ("forties", "fˈɔɹTiz"),
        # contractions and dialect
        ("should've", "ʃˈʊdəv"), ("would've", "wˈʊdəv"), ("there'd", "ðˈɛɹd"), ("who've", "hˈuv"), ("how'd", "hˈWd"),
        ("runnin", "ɹˈʌnɪn"), ("runnin'", "ɹˈʌnɪn"), ("movin'", "mˈuvɪn"),
        # ordinary words that were wrong
        ("drawing", "dɹˈɔɪŋ"), ("thawing", "θˈɔɪŋ"), ("nah", "nˈɑ"), ("tours", "tˈʊɹz"), ("houses", "hˈWzᵻz"),
        ("eighteenth", "ˌAtˈinθ"), ("ragged", "ɹˈæɡɪd"), ("banged", "bˈæŋd"), ("massage", "məsˈɑʒ"),
        # acronyms by their letters, and as words
        ("UN", "jˌuˈɛn"), ("LA", "ˌɛlˈA"), ("EST", "ˌiˌɛstˈi"), ("NATO", "nˈATO"),
    ],
)  # fmt: skip
def test_words_that_were_missing_or_wrong(pronouncer: Pronouncer, word: str, phonemes: str) -> None:
    assert pronouncer.sound(word) == (phonemes, "lexicon")


@pytest.mark.parametrize(
    ("sentence", "word", "phonemes"),
    [
        ("excuse me, please.", "excuse", "ɪkskjˈuz"),
        ("that is no excuse.", "excuse", "ɪkskjˈus"),
        ("close the door.", "close", "klˈOz"),
        ("they live close to the sea.", "close", "klˈOs"),
        ("i read it last year.", "read", "ɹˈɛd"),
        ("i want to read it.", "read", "ɹˈid"),
        ("read it now.", "read", "ɹˈid"),
        ("they've read it.", "read", "ɹˈɛd"),
        ("lead him out.", "lead", "lˈid"),
        ("elaborate on that.", "elaborate", "əlˈæbəɹˌAt"),
        ("records fell.", "records", "ɹˈɛkəɹdz"),
        ("they played live music.", "live", "lˈIv"),
        ("we live here.", "live", "lˈɪv"),
        ("she will record the song.", "record", "ɹəkˈɔɹd"),
        ("he broke the record.", "record", "ɹˈɛkəɹd"),
        ("he objects to the plan.", "objects", "əbʤˈɛkts"),
        ("the objects are old.", "objects", "ˈɑbʤəkts"),
    ],
)
def test_homographs_by_their_context(pronouncer: Pronouncer, sentence: str, word: str, phonemes: str) -> None:
    assert sounds(pronouncer, sentence)[word] == phonemes


def test_a_lone_surrogate_beside_a_homograph_is_no_word(pronouncer: Pronouncer) -> None:
    assert sounds(pronouncer, "they live \ud800 here", "They live \ud800 here")["live"] == "lˈɪv"


def test_capitals_of_what_was_written_tell_homographs_apart(pronouncer: Pronouncer) -> None:
    written = "We like the Polish people, who polish the floor."
    found = [w.phonemes for w in pronouncer.pronounce(written.lower(), written=written) if w.text == "polish"]
    assert found == ["pˈOlɪʃ", "pˈɑlɪʃ"]


def test_how_a_word_was_found_is_told(pronouncer: Pronouncer) -> None:
    words = pronouncer.pronounce("the XKCD brumbleton will read it.", given={"it": "ˈɪt"})
    assert [word.found for word in words] == ["lexicon", "letters", "sounded", "lexicon", "context", "given"]
    assert [word.text for word in words] == ["the", "XKCD", "brumbleton", "will", "read", "it"]
    assert words[2].phonemes == "bɹˈʌmbᵊltᵊn"


def test_unknown_words_have_one_main_stress_and_known_sounds(pronouncer: Pronouncer) -> None:
    for word in ("zorbify", "qwertopia", "tchaikovskian", "aeiou", "grblx", "o'zorbify", "a" * 100):
        phonemes, found = pronouncer.sound(word)
        assert found == "sounded", word
        assert phonemes.count("ˈ") == 1 and set(phonemes) <= set(pronouncer.lexicon.phonemes), word


def test_a_lexicon_in_another_alphabet_gets_none_of_this() -> None:
    other = Pronouncer(Lexicon({"read": "ʁeːt", "z": "ts"}))
    assert [w.found for w in other.pronounce("read kevin")] == ["lexicon", "spelled"]


def test_the_alphabet_of_nano_stays(nano: Tokenizer) -> None:
    assert nano.lexicon is not None
    unknown = nano.core.token_to_id("[UNK]")
    text = "Siobhan objected: the UN's record in Los Angeles, thawing, was brumbleton."
    assert unknown not in nano.encode(text) and nano.vocabulary_size == 86


def test_threads_share_a_pronouncer(pronouncer: Pronouncer) -> None:
    sentences = [f"close the zorb{'aeiou'[i % 5]}ly record, kevin." for i in range(40)]
    alone = [Pronouncer(pronouncer.lexicon).pronounce(sentence) for sentence in sentences]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(pronouncer.pronounce, sentences)) == alone


def test_a_pronouncer_can_be_sent_to_a_worker(pronouncer: Pronouncer) -> None:
    again = pickle.loads(pickle.dumps(pronouncer))
    assert again.pronounce("kevin brumbleton") == pronouncer.pronounce("kevin brumbleton")
