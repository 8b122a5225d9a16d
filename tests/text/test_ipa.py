"""Phonemes as people write them become those of the lexicon."""

from __future__ import annotations

import pytest

from chelys.text.ipa import read_phonemes
from chelys.text.lexicon import NANO_LEXICON, Lexicon

KNOWN = Lexicon.load(NANO_LEXICON).phonemes


@pytest.mark.parametrize(
    ("written", "phonemes"),
    [
        ("fənˈɛtɪks", "fənˈɛtɪks"),
        ("təˈmeɪtoʊ", "təmˈAtO"),
        ("ˈtʃɜːtʃ", "ʧˈɜʧ"),
        ("ˈd͡ʒɝːni", "ʤˈɜɹni"),
        ("ˈdrɔːɪŋ", "dɹˈɔɪŋ"),
        ("dɹˈɔɪŋ", "dɹˈɔɪŋ"),
        ("ˈbɔɪ", "bˈY"),
        ("mˌɪsəsˈɪpi", "mˌɪsəsˈɪpi"),
        ("ˈstɹeɪndʒəɹ", "stɹˈAnʤəɹ"),
        ("ˈbɒtl̩", "bˈɑtᵊl"),
        ("gəʊ", "ɡO"),
        ("ˈfa.sa.ðə", "fˈɑsɑðə"),
        ("nˈOvə", "nˈOvə"),
        ("lˈɔs ˈænʤələs", "lˈɔs ˈænʤələs"),
    ],
)
def test_ipa(written: str, phonemes: str) -> None:
    assert read_phonemes(written, KNOWN) == (phonemes, "")


def test_the_alphabet_itself_stays_as_it_is() -> None:
    words = Lexicon.load(NANO_LEXICON)
    entries = [words[word] for word in ("strange", "church", "tomato", "canoe", "US", "boy", "judge", "about")]
    assert [read_phonemes(entry, KNOWN) for entry in entries] == [(entry, "") for entry in entries]


@pytest.mark.parametrize(
    ("alphabet", "written", "phonemes"),
    [
        ("x-sampa", 't@"meItoU', "təmˈAtO"),
        ("x-sampa", '"SV4@`', "ʃˈʌTəɹ"),
        ("cmu-arpabet", "T AH0 M EY1 T OW2", "təmˈAtˌO"),
        ("cmu-arpabet", "B ER1 D", "bˈɜɹd"),
    ],
)
def test_other_alphabets(alphabet: str, written: str, phonemes: str) -> None:
    assert read_phonemes(written, KNOWN, alphabet) == (phonemes, "")


def test_what_the_model_lacks_is_named_once() -> None:
    assert read_phonemes("ʘaʘbˈ", KNOWN) == ("ɑb", "ʘ")
    assert read_phonemes("B ER1 QQ QQ", KNOWN, "cmu-arpabet") == ("bˈɜɹ", " QQ")
    assert read_phonemes("", KNOWN) == ("", "")
