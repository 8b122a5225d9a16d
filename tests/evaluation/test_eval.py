"""``chelys eval`` on a model made by code and a recogniser that knows what it hears: speak, measure, compare, show."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from chelys.audio.io import write
from chelys.cli.main import app
from chelys.errors import ManifestError, OutputError, UserError
from chelys.evaluation import listening, words
from chelys.evaluation.measures import Settings, choose, comparisons, figures, measure
from chelys.evaluation.sets import SETS, read_texts
from chelys.evaluation.speaking import JudgedClip, kept_lines, read_clips

TEXTS = ("hello there", "one two three", "hello one")


class Parrot:
    """Hears the words it is told to, clip after clip."""

    def __init__(self, *heard: str) -> None:
        self.heard = list(heard)

    def transcribe(self, audio: np.ndarray, **options: Any) -> tuple[list[Any], None]:
        assert audio.dtype == np.float32 and options["beam_size"] == 1
        return [SimpleNamespace(text=self.heard.pop(0))], None


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whisper's rules need a package; these tests are not about them."""
    monkeypatch.setattr(words, "_spelling", lambda: str.lower)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(TEXTS))
    return file


def evaluate(*arguments: str | Path) -> None:
    app(["eval", *map(str, arguments)], standalone_mode=False)


def test_sets_are_what_their_card_says() -> None:
    found = {name: read_texts(name) for name in SETS}
    assert {name: len(some) for name, some in found.items()} == {"harvard": 20, "hard": 200, "long": 2}
    assert len({text.kind for text in found["hard"]}) == 9
    assert [len(text.text.split()) for text in found["long"]] == [60, 622]
    with pytest.raises(UserError, match="harvard, hard, long"):
        read_texts("nothing")


def test_a_model_is_spoken_judged_compared_and_shown(
    toy_folder: Path, texts: Path, tmp_path: Path, plain: None, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(
        listening, "load_recogniser", lambda name: Parrot("hello there", "one free", "hello one", *TEXTS)
    )
    asked = [toy_folder, "--texts", texts, "-v", "low", "-v", "high", "--device", "cpu", "--measures", "words"]
    asked += ["--set", "candidates=1", "--set", "steps=1", "--set", "max_new_tokens=8"]
    evaluate(*asked, "-o", tmp_path / "one")
    rows = kept_lines(tmp_path / "one" / "clips.jsonl")
    assert [(row["text"], row["voice"]) for row in rows] == [
        (text, voice) for text in TEXTS for voice in ("low", "high")
    ]
    assert [row["errors"] for row in rows] == [0, 2, 3, 3, 3, 0]
    summary = json.loads((tmp_path / "one" / "summary.json").read_text())
    assert summary["figures"]["wer"]["value"] == pytest.approx(11 / 14, abs=1e-6)
    assert summary["figures"]["real_time_factor"]["value"] > 0 and set(summary["voices"]) == {"low", "high"}
    assert "word error rate" in capsys.readouterr().out

    monkeypatch.setattr(listening, "load_recogniser", lambda name: Parrot(*(t for t in TEXTS for _ in range(2))))
    evaluate(*asked, "--seed", 7, "-o", tmp_path / "two", "--against", tmp_path / "one")
    against = json.loads((tmp_path / "two" / "summary.json").read_text())["against"]
    assert against["wer"]["verdict"] == "lower, better" and against["wer"]["second"] == 0
    assert "lower, better" in capsys.readouterr().out
    page = (tmp_path / "two" / "report.html").read_text()
    assert page.count("data:audio/") == 6 and not re.search(r'(src|href)="(?!data:)|<script|https?:', page)

    evaluate(*asked, "-o", tmp_path / "one")  # all is there: nothing is spoken or heard again
    assert kept_lines(tmp_path / "one" / "clips.jsonl") == rows
    with pytest.raises(UserError, match="no clips.jsonl of an earlier run"):
        evaluate(*asked, "-o", tmp_path / "three", "--against", tmp_path)
    with pytest.raises(OutputError, match="--force"):
        evaluate(*asked, "--seed", 3, "-o", tmp_path / "one")


def test_a_folder_of_audio_does_not_take_the_name_of_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from chelys.cli.evaluate import _is_audio

    monkeypatch.chdir(tmp_path)
    for name in ("nano", "takes"):
        (tmp_path / name).mkdir()
    assert [_is_audio(name) for name in ("nano", "takes", "gone", "takes/list.jsonl")] == [False, True, False, True]


def test_what_was_stopped_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "clips.jsonl"
    file.write_text('{"audio": "a"}\n{"audio": "b"}\n{"aud')
    assert kept_lines(file) == [{"audio": "a"}, {"audio": "b"}]
    assert file.read_text() == '{"audio": "a"}\n{"audio": "b"}\n'


def test_finished_audio_is_listed_or_has_texts_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", np.zeros(2400, np.float32), 24_000)
    (tmp_path / "a.txt").write_text("Hello\nthere.")
    assert read_clips(tmp_path) == [JudgedClip(tmp_path / "a.wav", "Hello there.")]
    (tmp_path / "list.jsonl").write_text('{"audio": "a.wav", "text": "Hello.", "reference": "b.wav"}\n')
    assert read_clips(tmp_path) == [JudgedClip(tmp_path / "a.wav", "Hello.", reference=tmp_path / "b.wav")]
    for bad in ('{"audio": "a.wav"}', '{"audio": 1, "text": "x"}', '{"audio": "a.wav", "text": " "}', "[]", "{"):
        (tmp_path / "list.jsonl").write_text(bad + "\n")
        with pytest.raises(ManifestError, match="list.jsonl:1"):
            read_clips(tmp_path)


def test_measures_that_cannot_be_taken_say_why(tmp_path: Path) -> None:
    chosen, left_out = choose(None, Settings(recogniser=Parrot()), [JudgedClip(tmp_path / "a.wav", "x")])
    assert "reference" in left_out["voice"] and "original" in left_out["copy"] and "clvp" in chosen
    with pytest.raises(UserError, match="copy cannot be measured: no clip has an original"):
        choose(["copy"], Settings(), [JudgedClip(tmp_path / "a.wav", "x")])
    with pytest.raises(UserError, match="no measure 'taste'"):
        choose(["taste"], Settings(), [])


def test_a_silent_kind_of_clip_has_no_figure_and_voices_are_paired(tmp_path: Path) -> None:
    rows = [{"text": t, "voice": "a", "errors": e, "words": 4} for t, e in (("x", 1), ("y", 0), ("z", 2))]
    assert figures(rows)["wer"][0].value == 0.25 and "mos" not in figures(rows)
    other = [{**row, "voice": "b", "errors": 0} for row in rows]
    assert comparisons(rows, other)["wer"].second == 0  # no voice in common: texts are paired
    both = comparisons(rows, [*other, {**rows[0], "errors": 4}])["wer"]
    assert (both.first, both.second, both.texts) == (0.25, 1, 1)
    with pytest.raises(UserError, match="no text in common"):
        comparisons(rows, [{**rows[0], "text": "w"}])


def test_swapped_words_are_heard_as_errors(tmp_path: Path, plain: None) -> None:
    write(tmp_path / "a.wav", np.zeros(48_000, np.float32), 24_000)
    chosen, _ = choose(["words"], Settings(recogniser=Parrot("a b c d", "a c b d", "a b")), [])
    rows = [measure(JudgedClip(tmp_path / "a.wav", "A B C D"), chosen) for _ in range(3)]
    assert [row["errors"] for row in rows] == [0, 2, 2] and [row["deleted"] for row in rows][2] == 2
