"""Names that are likely misread: which, and how they are said."""

from __future__ import annotations

import sys
from pathlib import Path

import soundfile as sf

sys.path.insert(0, str(Path(__file__).parent))

from stand_in import takes  # noqa: E402

import chelys  # noqa: E402
from chelys.audiobook.book import Book, Chapter, Paragraph  # noqa: E402
from chelys.audiobook.names import find_names, speak_names  # noqa: E402
from chelys.audiobook.script import Script  # noqa: E402
from chelys.inference.options import SpeechOptions  # noqa: E402
from chelys.text.dictionary import Dictionary  # noqa: E402
from chelys.text.pronounce import english  # noqa: E402


def test_names_that_no_lexicon_has_are_found_and_spoken_in_two_ways(tmp_path: Path) -> None:
    tts = chelys.load("nano")
    text = "Queequeg met Mrozhko. “Queequeg’s harpoon,” said Ishmael, “is sharp.” The river was wide. Queequeg slept."
    book = Book("B", [Chapter("C", [Paragraph(text)])])
    script = Script(tts, [(1, book.chapters[0])], SpeechOptions())
    names = find_names(script)
    assert [name.text for name in names][0] == "Queequeg" and names[0].count == 3
    assert {name.text for name in names} >= {"Queequeg", "Mrozhko"} and "Ishmael" not in {name.text for name in names}
    assert all(len(set(name.pronunciations)) == 2 and 0 < name.doubt <= 0.5 for name in names)
    files = speak_names(script, names, takes, 0, tmp_path / "names")
    assert [file.name for file in files[:2]] == ["Queequeg-1.wav", "Queequeg-2.wav"]
    assert sf.info(files[0]).duration > 0.5
    pronouncer = tts.family.tokenizer.pronouncer
    assert pronouncer is not None
    script.dictionary = Dictionary.load(files[-1], pronouncer)
    assert find_names(script) == []  # they are known now


def test_readings_are_in_order_and_begin_with_the_usual_one() -> None:
    sounding = english().sounding_out
    for word in ("queequeg", "dostoevsky", "a", "mrozhko"):
        pronunciations = sounding.pronunciations(word, 4)
        assert pronunciations[0] == (sounding.sound_out(word), 0.0)
        assert [loss for _, loss in pronunciations] == sorted(loss for _, loss in pronunciations)
        assert len({phonemes for phonemes, _ in pronunciations}) == len(pronunciations)
    assert sounding.pronunciations("'", 3) == [("", 0.0)]
