"""The tools that made the package's words and the weights of its homographs."""

from __future__ import annotations

from cmudict_words import converted, held_out, one_main_stress, units
from train_homographs import everyday, train

from chelys.text.homographs import Homographs, features, tokens
from chelys.text.pronounce import ENGLISH

LEXICON = {"butter": "bˈʌTəɹ", "better": "bˈɛTəɹ", "matter": "mˈæTəɹ", "letter": "lˈɛTəɹ", "tan": "tˈæn"}
CMUDICT = {
    "butter": [["B", "AH1", "T", "ER0"]],
    "better": [["B", "EH1", "T", "ER0"]],
    "matter": [["M", "AE1", "T", "ER0"]],
    "letter": [["L", "EH1", "T", "ER0"]],
    "tan": [["T", "AE1", "N"]],
    "mutter": [["M", "AH1", "T", "ER0"]],
    "a.": [["EY1"]],
}


def test_new_words_are_written_in_the_lexicons_manner() -> None:
    words = converted(CMUDICT, LEXICON)
    assert words["mutter"] == ["mˈʌTəɹ"]  # with its flap
    assert "a." not in words


def test_a_word_has_one_main_stress() -> None:
    assert [one_main_stress(p) for p in ("kˈOˈɛd", "kˌOɛd", "kOɛd")] == ["kˌOˈɛd", "kˈOɛd", "kˈOɛd"]
    assert units("kˈOɹ") == ["k", "ˈO", "ɹ"]


def test_words_held_out_are_the_same_whatever_the_order() -> None:
    words = ["zebra", "mutter", "don't", "an", "letter"]
    assert held_out(words) == held_out(reversed(words)) == ({"zebra", "mutter", "letter"}, set())


def test_the_classifier_learns_and_the_same_examples_give_the_same_bytes() -> None:
    table = {word: Homographs.load(ENGLISH).variants[word] for word in ("close", "record")}
    weights = train(table, [])
    chooser = Homographs(table, weights)
    found = [token for token, _ in tokens("Please record the song.")]
    assert chooser.choose("record", features(found, 1), capital=False).label == "record_vrb"
    assert len(everyday(table)) > 50 and train(table, []) == weights
