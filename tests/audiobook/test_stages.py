"""Takes: the samples of ``speak``, nothing computed twice, and no sentence that hangs on its neighbours."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chelys.audiobook.stages import RENDERING, SAMPLING, SentenceRenderer, SentenceRequest, Take, numbered
from chelys.audiobook.store import StageStore
from chelys.inference.options import SpeechOptions
from chelys.inference.synthesizer import Synthesizer
from chelys.text.document import Document, Sentence

OPTIONS = SpeechOptions(candidates=3, batch=9, steps=3)
TEXT = "Hello there. One, two, three. A hello. Three two one. Hello there. One."


def requests(tts: Synthesizer, text: str = TEXT, options: SpeechOptions = OPTIONS) -> Iterator[SentenceRequest]:
    return numbered(SentenceRequest(one, seed=5, options=options) for one in tts.read_text(text).sentences)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StageStore]:
    with StageStore(tmp_path / "store") as made:
        yield made


def render(tts: Synthesizer, store: StageStore | None, **more: object) -> list[Take]:
    return list(SentenceRenderer(tts, store).takes(requests(tts, **more)))  # type: ignore[arg-type]


def computed(takes: list[Take]) -> list[tuple[str, ...]]:
    return [take.computed for take in takes]


def same(one: list[Take], other: list[Take]) -> bool:
    return all(np.array_equal(a.audio, b.audio) and a.key == b.key for a, b in zip(one, other, strict=True))


def test_takes_are_what_speak_says(tts: Synthesizer, store: StageStore) -> None:
    asked = list(requests(tts))
    takes = render(tts, store)
    assert len({request.draw for request in asked}) == len(asked)  # "Hello there." twice, drawn anew
    for request, take in zip(asked, takes, strict=True):
        alone = Document("", [Sentence(request.sentence.text, phonemes=request.sentence.phonemes)])
        speech = tts.speak(alone, seed=request.draw, options=OPTIONS)
        np.testing.assert_array_equal(take.audio, speech.audio)
        assert [take.codes] == speech.candidates[0].codes and take.score == speech.candidates[0].score


def test_all_comes_from_the_store_the_second_time(tts: Synthesizer, store: StageStore) -> None:
    first = render(tts, store)
    assert computed(first) == [("codes", "wave")] * 6
    again = render(tts, store)
    assert computed(again) == [()] * 6 and same(first, again)
    assert set(store.computed().values()) == {1} and len(store.computed()) == 12
    assert [take.spent_s for take in again] == [take.spent_s for take in first] and first[0].spent_s > 0


def test_without_a_store_the_samples_are_the_same(tts: Synthesizer, store: StageStore) -> None:
    assert same(render(tts, store), render(tts, None))


def test_waves_come_anew_from_kept_codes_to_the_bit(tts: Synthesizer, store: StageStore) -> None:
    first = render(tts, store)
    for take in first:
        store._path(take.key).unlink()
    again = render(tts, store)
    assert computed(again) == [("wave",)] * 6 and same(first, again)


def test_one_word_changed_computes_one_sentence(tts: Synthesizer, store: StageStore) -> None:
    first = render(tts, store)
    changed = render(tts, store, text=TEXT.replace("A hello", "A three"))
    assert computed(changed) == [("codes", "wave") if place == 2 else () for place in range(6)]
    assert same(first[:2] + first[3:], changed[:2] + changed[3:])


def test_a_line_put_in_changes_no_other(tts: Synthesizer, store: StageStore) -> None:
    first = render(tts, store)
    longer = render(tts, store, text="Two. Hello there. " + TEXT)
    # the third "Hello there." is the only one that was not said before
    assert sum(bool(take.computed) for take in longer) == 2
    assert same(first[:4], [longer[1], *longer[3:6]]) and same(first[5:], longer[7:])


@pytest.mark.parametrize(
    ("change", "expected"),
    [({"steps": 5}, ("wave",)), ({"guidance": 1.0}, ("wave",)), ({"speed": 1.25}, ("wave",)), ({"batch": 4}, ()),
     ({"temperature": 0.5}, ("codes", "wave")), ({"candidates": 2}, ("codes", "wave"))],
)  # fmt: skip
def test_options_compute_what_hangs_on_them(
    tts: Synthesizer, store: StageStore, change: dict[str, float], expected: tuple[str, ...]
) -> None:
    render(tts, store, text="One, two, three.")
    [take] = render(tts, store, text="One, two, three.", options=replace(OPTIONS, **change))
    assert take.computed == expected


def test_every_option_belongs_to_a_stage() -> None:
    of_texts = {"batch", "splitting", "max_chars", "early"}  # these change no sample of a sentence in a book
    assert {one.name for one in fields(SpeechOptions)} == {*SAMPLING, *RENDERING, *of_texts}


def test_voices_and_seeds_have_takes_of_their_own(tts: Synthesizer, store: StageStore) -> None:
    [sentence] = tts.read_text("One, two, three.").sentences
    renderer = SentenceRenderer(tts, store)
    asked = [
        SentenceRequest(sentence, options=OPTIONS), SentenceRequest(sentence, seed=1, options=OPTIONS),
        SentenceRequest(sentence, "high", options=OPTIONS),
        SentenceRequest(replace(sentence, voice="high"), options=OPTIONS),
        SentenceRequest(replace(sentence, pause_s=1.0, lead_s=1.0), options=OPTIONS),
    ]  # fmt: skip
    takes = list(renderer.takes(asked))
    assert len({take.key for take in takes[:3]}) == 3
    assert takes[2].key == takes[3].key and takes[0].key == takes[4].key  # pauses are not part of a take


def test_reading_can_be_left_and_taken_up(tts: Synthesizer, store: StageStore) -> None:
    renderer = SentenceRenderer(tts, store)
    begun = renderer.takes(requests(tts))
    first = [next(begun), next(begun)]
    begun.close()
    assert renderer._sampler.rows == 0
    rest = list(renderer.takes(requests(tts)))
    assert same(first, rest[:2]) and same(rest, render(tts, None))
    assert set(store.computed().values()) == {1}


READER = """
import sys, time
from pathlib import Path
sys.path[:0] = [{tests!r}, {here!r}]
import test_stages
from chelys import load
from chelys.audiobook.stages import SentenceRenderer
from chelys.audiobook.store import StageStore
from chelys.inference.generation import CodeSampler
step = CodeSampler.step
CodeSampler.step = lambda self: (time.sleep(0.003), step(self))[1]  # so that both are at work at once
tts = load(sys.argv[1], device="cpu")
with StageStore(sys.argv[2]) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    takes = list(SentenceRenderer(tts, store).takes(test_stages.requests(tts, test_stages.TEXT * 3)))
    print(sum("codes" in take.computed for take in takes), sum("wave" in take.computed for take in takes))
    print(*[take.key for take in takes])
"""


def test_two_processes_that_read_one_book_compute_each_stage_once(toy_folder: Path, tmp_path: Path) -> None:
    here = Path(__file__).parent
    script = READER.format(tests=str(here.parent), here=str(here))
    command = [sys.executable, "-c", script, str(toy_folder), str(tmp_path / "store")]
    with ExitStack() as stack:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        readers = [stack.enter_context(subprocess.Popen(command, **pipes)) for _ in range(2)]
        for reader in readers:
            assert reader.stdout.readline() == "ready\n"
        for reader in readers:  # both have imported all
            reader.stdin.write("\n")
            reader.stdin.flush()
        counts, keys = zip(*(reader.communicate(timeout=100)[0].splitlines() for reader in readers), strict=True)
    assert keys[0] == keys[1] and len(keys[0].split()) == 18
    codes, waves = zip(*(map(int, line.split()) for line in counts), strict=True)
    assert sum(codes) == sum(waves) == 18 and min(codes) > 0
    with StageStore(tmp_path / "store") as store:
        assert len(store.computed()) == 36 and set(store.computed().values()) == {1}
