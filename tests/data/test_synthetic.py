"""The synthetic corpus: what is said, who says it, and the same clips however often the work is broken off.

The teacher is a stand-in that hums: as long as the text, at a pitch that its seed sets.
"""

from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
import os
import re
import signal
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile as sf

from chelys.data.manifest import read_manifest
from chelys.data.recipes import synthetic
from chelys.data.recipes.synthetic import (
    DISTINCT_SPEAKERS,
    HELD_OUT_SPEAKERS,
    KOKORO_SPEAKERS,
    TEACHERS,
    VOICE_SIZES,
    HibariTeacher,
    SyntheticRecipe,
    check_installed,
    clip_text,
    kokoro_speakers,
    make,
    parse_voices,
    trim,
    wordnet_sentences,
)
from chelys.errors import MissingExtra, UserError

RATE = 24_000
LICENCE = '  1 This software and database is being provided "to you all here" | by Princeton University today  \n'
#: Glosses of each part of WordNet: a definition, then examples in quotes.
GLOSSES = {
    "noun": [
        'a small green bird of the woods; "the bird sang all day long"; "birds fly south"',
        'short gloss; "it rained the whole night"',
        'a vessel that holds hot water; "the kettle is boiling"',
        "someone who maps",
    ],
    "verb": [
        'move along on foot at ease; "we walked home together"; "walk!"',
        'be 3 feet tall; "the 2 of them fell"; "a (bracket) stands here"',
        'do harm to; "he was killed by the nazis there"',
    ],
    "adj": ['like grass; "her eyes were green, he said"; "why was it green?"'],
    "adv": ['in a slow manner that takes time; "they spoke slowly to us"', 'x; "the bird sang all day long"'],
}


@pytest.fixture
def wordnet(tmp_path: Path) -> Path:
    """A WordNet of a few lines, in its files' format."""
    folder = tmp_path / "wordnet"
    folder.mkdir()
    for part, glosses in GLOSSES.items():
        lines = [f"{i:08d} 03 {part[0]} 01 word 0 001 @ 00001740 n 0000 | {g}  \n" for i, g in enumerate(glosses)]
        (folder / f"data.{part}").write_text(LICENCE + "".join(lines), encoding="latin1")
    return folder


class FakeHibari:
    """Hums a text: seconds by its length, pitch by the seed."""

    def phonemize(self, text: str) -> list[str]:
        return text.lower().split(". ")

    def from_phonemes(self, phonemes: str, speed: float, *, seed: int) -> np.ndarray:
        time = np.arange(int(0.03 * len(phonemes) / speed * RATE)) / RATE
        hum = np.sin(2 * np.pi * (100 + seed % 200) * time).astype(np.float32)
        return np.concatenate([np.zeros(5000, np.float32), 0.3 * hum, np.zeros(9000, np.float32)])


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of eight clips, spoken by the stand-in in forked workers, which inherit all of this."""
    hibari = ModuleType("hibari")
    hibari.Hibari = FakeHibari  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "hibari", hibari)
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))
    monkeypatch.setattr(synthetic, "CLIPS_PER_BLOCK", 8)
    monkeypatch.setattr(synthetic, "_teacher", None)
    fork = multiprocessing.get_context("fork")
    monkeypatch.setattr(
        concurrent.futures, "ProcessPoolExecutor", lambda n, _, *begin: ProcessPoolExecutor(n, fork, *begin)
    )


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# ---- what is said ---------------------------------------------------------------------------------------------------


def test_sentences_are_the_speakable_examples_and_long_glosses(wordnet: Path) -> None:
    assert sorted(wordnet_sentences(wordnet)) == [
        "A small green bird of the woods.",
        "A vessel that holds hot water.",
        "Birds fly south.",
        "Her eyes were green, he said.",
        "In a slow manner that takes time.",
        "It rained the whole night.",
        "Move along on foot at ease.",
        "The bird sang all day long.",
        "The kettle is boiling.",
        "They spoke slowly to us.",
        "We walked home together.",
        "Why was it green?",
    ]


def test_a_gloss_follows_every_second_example(wordnet: Path) -> None:
    glosses = [bool(re.match("A small|A vessel|Move along|In a slow", s)) for s in wordnet_sentences(wordnet)]
    assert glosses == [False, False, True] * 4


def test_the_shuffle_hangs_on_the_seed_alone(wordnet: Path) -> None:
    assert wordnet_sentences(wordnet) == wordnet_sentences(wordnet)
    assert wordnet_sentences(wordnet) != wordnet_sentences(wordnet, seed=8)


def test_no_wordnet(wordnet: Path) -> None:
    (wordnet / "data.adj").unlink()
    with pytest.raises(UserError, match="no WordNet in .*apt-get install wordnet-base"):
        wordnet_sentences(wordnet)


def test_texts_of_clips() -> None:
    sentences = [f"Sentence number {chr(97 + i % 26)}{chr(97 + i // 26)} it is." for i in range(500)]
    texts = [clip_text(sentences, i, seed=1) for i in range(500)]
    assert texts == [clip_text(sentences, i, seed=1) for i in range(500)]
    assert texts != [clip_text(sentences, i, seed=2) for i in range(500)]
    kinds = Counter()
    for index, text in enumerate(texts):
        if text.startswith(sentences[index]):
            kinds[1 + (len(text) - len(sentences[index])) // len(sentences[0])] += 1
        else:
            assert re.fullmatch(r"[A-Z][a-z]*( [a-z]+)?[.!?]", text), text
            kinds["words"] += 1
    shares = {kind: count / 500 for kind, count in kinds.items()}
    assert shares == {"words": pytest.approx(0.06, abs=0.03), 1: pytest.approx(0.7, abs=0.06),
                      2: pytest.approx(0.17, abs=0.05), 3: pytest.approx(0.07, abs=0.03)}  # fmt: skip


def test_each_sentence_begins_one_clip_before_any_begins_two() -> None:
    sentences = [f"Number {chr(97 + i)} is here." for i in range(20)]
    firsts = Counter(s for i in range(20) for s in sentences if clip_text(sentences, i, 1).startswith(s))
    assert max(firsts.values()) == 1 and len(firsts) >= 15


def test_a_sentence_without_letters_is_said_as_it_is() -> None:
    assert {clip_text(["1984."], i, seed=1)[:5] for i in range(100)} == {"1984."}


# ---- who says it and how --------------------------------------------------------------------------------------------


def test_cast_is_the_same_every_time_and_everyone_differs() -> None:
    speakers = kokoro_speakers()
    assert list(speakers) == [f"s{i:02d}" for i in range(KOKORO_SPEAKERS)] and set(speakers) >= HELD_OUT_SPEAKERS
    for name, weights in kokoro_speakers().items():
        assert np.array_equal(weights, speakers[name])
        assert weights.sum() == pytest.approx(1)
    voices = np.stack(list(speakers.values()))
    apart = np.abs(voices[:, None] - voices[None]).sum(2) + 9 * np.eye(KOKORO_SPEAKERS)
    assert apart[:DISTINCT_SPEAKERS, :DISTINCT_SPEAKERS].min() > 0.3
    kept_out = [list(speakers).index(name) for name in HELD_OUT_SPEAKERS]
    assert apart[DISTINCT_SPEAKERS:, kept_out].min() > 0.5
    assert np.array_equal(voices[:5], np.eye(5))


def test_shares_of_the_sizes() -> None:
    assert sum(share for _, share in VOICE_SIZES.values()) == pytest.approx(1)
    recipe = SyntheticRecipe(Path("unused"), 0)
    voices = Counter(synthetic._clip_voice(recipe, i, np.random.default_rng([1, i, 0])) for i in range(2000))
    for voice, (_, share) in VOICE_SIZES.items():
        assert voices[voice] / 2000 == pytest.approx(share, abs=0.03)


def test_other_sizes_move_the_pitch_and_keep_the_tempo() -> None:
    speak = HibariTeacher(FakeHibari())

    def said(voice: str) -> tuple[float, float]:
        audio = trim(speak(voice, "n" * 60, np.random.default_rng(3)), lead_s=0.0, tail_s=0.0)
        spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio))))
        return len(audio) / RATE, spectrum.argmax() * RATE / len(audio)

    seconds, pitch = said("heart")
    for voice in ("bronze", "wren"):
        its_seconds, its_pitch = said(voice)
        assert its_seconds == pytest.approx(seconds, rel=0.01)
        assert its_pitch == pytest.approx(pitch * VOICE_SIZES[voice][0], rel=0.02)


def test_trim_leaves_a_fixed_lead_and_tail() -> None:
    audio = np.zeros(RATE, np.float32)
    audio[9_000:12_000] = 0.5
    assert len(trim(audio)) == 1_200 + 3_000 + 2_880 - 1
    assert trim(audio)[1_200] == 0.5 and trim(audio)[1_199] == 0.0
    assert len(trim(audio[9_500:11_000])) == 1_500, "nothing is added where nothing is"
    assert len(trim(np.full(100, 0.001, np.float32))) == 0


def test_voices_by_name_and_in_spans() -> None:
    assert parse_voices("hibari", "") == ()
    assert parse_voices("hibari", "heart, wren") == ("heart", "wren")
    crowd = parse_voices("kokoro", "s04,s64-s319")
    assert crowd[:2] == ("s04", "s64") and len(crowd) == 257 and crowd[-1] == "s319"
    for names in ("s320", "s10-s999", "heart"):
        with pytest.raises(UserError, match=r"kokoro has no voice '.*': choose from s00, s01 .. s319"):
            parse_voices("kokoro", names)
    with pytest.raises(UserError, match="unknown teacher 'parrot'"):
        parse_voices("parrot", "polly")
    if "kokoro-bf16" not in TEACHERS:  # the tests of the tools add it
        with pytest.raises(UserError, match="tools/kokoro_bfloat16.py"):
            parse_voices("kokoro-bf16", "s04")


def test_what_a_teacher_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hibari", ModuleType("hibari"))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r"onnxruntime is not installed: pip install 'chelys\[corpus\]'"):
        check_installed("kokoro")


# ---- making it ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("teacher")
def test_the_corpus_is_the_same_for_any_number_of_workers(wordnet: Path, tmp_path: Path) -> None:
    made = {}
    for workers in (1, 2):
        recipe = SyntheticRecipe(tmp_path / str(workers), clips=20, wordnet=wordnet)
        calls: list[tuple[int, int]] = []
        manifest = make(recipe, workers=workers, progress=lambda *done: calls.append(done))  # noqa: B023
        assert manifest == recipe.out / "manifest.jsonl" and calls == [(1, 3), (2, 3), (3, 3)]
        made[workers] = files(recipe.out)
    assert made[1] == made[2]
    utterances = list(read_manifest(manifest))
    assert [u.id for u in utterances] == sorted(u.id for u in utterances) and 15 < len(utterances) <= 20
    for utterance in utterances:
        audio, rate = sf.read(utterance.audio)
        assert rate == RATE and len(audio) / rate == pytest.approx(utterance.seconds, abs=1e-3)
        assert 0.3 <= utterance.seconds <= 16.0
        assert utterance.speaker in VOICE_SIZES and f"/audio/{utterance.speaker}/" in utterance.audio
    assert not list(recipe.out.rglob("*.part"))


@pytest.mark.usefixtures("teacher")
def test_a_clip_hangs_on_its_number_alone(wordnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for size in (8, 5):
        monkeypatch.setattr(synthetic, "CLIPS_PER_BLOCK", size)
        folder = make(SyntheticRecipe(tmp_path / str(size), clips=12, wordnet=wordnet)).parent
        made.append((files(folder / "audio"), (folder / "manifest.jsonl").read_text()))
    assert made[0] == made[1]


@pytest.mark.usefixtures("teacher")
def test_another_seed_is_another_corpus(wordnet: Path, tmp_path: Path) -> None:
    texts = [
        [u.text for u in read_manifest(make(SyntheticRecipe(tmp_path / str(seed), 8, seed=seed, wordnet=wordnet)))]
        for seed in (1, 2)
    ]
    assert texts[0] != texts[1]


@pytest.mark.usefixtures("teacher")
def test_a_broken_off_corpus_goes_on_and_finished_blocks_stay(wordnet: Path, tmp_path: Path) -> None:
    recipe = SyntheticRecipe(tmp_path / "corpus", clips=20, wordnet=wordnet)
    make(recipe, workers=1)
    whole = files(recipe.out)
    (recipe.out / "blocks" / "0000008-0000016.jsonl").unlink()
    (recipe.out / "manifest.jsonl").unlink()
    stamps = {p: p.stat().st_mtime_ns for p in recipe.out.rglob("*.flac")}
    torn = next(p for p in stamps if p.stem == "0000010")
    torn.write_bytes(b"torn")
    torn.with_name(".chelys-0.part").write_bytes(b"half a clip")
    make(recipe, workers=2)
    assert files(recipe.out) == whole
    for path, stamp in stamps.items():
        remade = path.stat().st_mtime_ns != stamp
        assert remade == (8 <= int(path.stem) < 16), path


def work_on(pids: Connection) -> None:
    pids.send(os.getpid())
    while True:
        synthetic._leave_if_orphaned()
        time.sleep(0.02)


def hire_and_die(pids: Connection) -> None:
    multiprocessing.get_context("fork").Process(target=work_on, args=(pids,)).start()
    os.kill(os.getpid(), signal.SIGKILL)


def test_workers_of_a_killed_run_leave() -> None:
    fork = multiprocessing.get_context("fork")
    theirs, ours = fork.Pipe()
    run = fork.Process(target=hire_and_die, args=(ours,))
    run.start()
    run.join()
    assert run.exitcode == -signal.SIGKILL
    ours.close()
    assert theirs.poll(10)
    theirs.recv()
    # the worker holds the other end of the pipe as long as it lives
    assert theirs.poll(10), "the worker goes on without its run"
    with pytest.raises(EOFError):
        theirs.recv()


@pytest.mark.usefixtures("teacher")
def test_a_finished_corpus_is_not_spoken_again(wordnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = SyntheticRecipe(tmp_path / "corpus", clips=12, wordnet=wordnet)
    make(recipe, workers=1)
    whole = files(recipe.out)

    def refuse(*_: object) -> None:
        raise AssertionError("spoken again")

    monkeypatch.setattr(synthetic, "_speak_block", refuse)
    make(recipe, workers=1)
    assert files(recipe.out) == whole


@pytest.mark.usefixtures("teacher")
def test_more_clips_keep_the_first_ones(wordnet: Path, tmp_path: Path) -> None:
    few = files(make(SyntheticRecipe(tmp_path / "corpus", clips=8, wordnet=wordnet)).parent / "audio")
    more = files(make(SyntheticRecipe(tmp_path / "corpus", clips=16, wordnet=wordnet)).parent / "audio")
    assert few.items() < more.items()


@pytest.mark.usefixtures("teacher")
def test_a_folder_holds_one_recipe(wordnet: Path, tmp_path: Path) -> None:
    make(SyntheticRecipe(tmp_path / "corpus", clips=8, wordnet=wordnet))
    with pytest.raises(UserError, match='holds the corpus of .*"seed": 1.*give another folder') as caught:
        make(SyntheticRecipe(tmp_path / "corpus", clips=8, seed=2, wordnet=wordnet))
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("teacher")
def test_a_second_corpus_of_a_few_voices_has_names_of_its_own(wordnet: Path, tmp_path: Path) -> None:
    everyone = list(read_manifest(make(SyntheticRecipe(tmp_path / "all", clips=8, wordnet=wordnet))))
    recipe = SyntheticRecipe(tmp_path / "few", clips=8, voices=("wren", "bronze"), first=8, wordnet=wordnet)
    few = list(read_manifest(make(recipe)))
    assert [u.speaker for u in few] == ["wren", "bronze"] * 4
    assert not {u.id for u in few} & {u.id for u in everyone}
    with pytest.raises(UserError, match="holds the corpus of"):
        make(SyntheticRecipe(tmp_path / "few", clips=8, wordnet=wordnet))
    with pytest.raises(UserError, match="hibari has no voice 's04': choose from heart, bronze"):
        make(SyntheticRecipe(tmp_path / "other", clips=8, voices=("heart", "s04"), wordnet=wordnet))


@pytest.mark.usefixtures("teacher")
def test_a_fault_of_the_teacher_ends_the_run_at_once(
    wordnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hoarse(self: FakeHibari, phonemes: str, speed: float, *, seed: int) -> np.ndarray:
        raise RuntimeError("hoarse")

    monkeypatch.setattr(FakeHibari, "from_phonemes", hoarse)
    with pytest.raises(RuntimeError, match="hoarse"):
        make(SyntheticRecipe(tmp_path / "corpus", clips=16, wordnet=wordnet), workers=1)
    assert not list((tmp_path / "corpus" / "blocks").glob("*.jsonl"))


@pytest.mark.usefixtures("teacher")
def test_sentences_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "said.txt").write_text("\nThe first sentence is long.\n  \nThe second is longer still.\n")
    recipe = SyntheticRecipe(tmp_path / "corpus", clips=8, text=tmp_path / "said.txt")
    said = " ".join(u.text for u in read_manifest(make(recipe, workers=1)))
    assert "The first sentence is long." in said and "The second is longer still." in said
    for content, complaint in (("\n \n", "holds no sentence"), (None, "cannot read sentences")):
        path = tmp_path / "other.txt"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_text(content)
        with pytest.raises(UserError, match=complaint):
            make(SyntheticRecipe(tmp_path / "other", clips=8, text=path))


def test_unknown_teacher(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown teacher 'parrot': choose from hibari, kokoro"):
        make(SyntheticRecipe(tmp_path / "corpus", clips=8, teacher="parrot"))


def test_missing_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hibari", None)
    with pytest.raises(MissingExtra, match=r"pip install 'chelys\[corpus\]'"):
        make(SyntheticRecipe(tmp_path / "corpus", clips=8))
    assert not (tmp_path / "corpus").exists()


def test_recipe_is_noted(teacher: None, wordnet: Path, tmp_path: Path) -> None:
    make(SyntheticRecipe(tmp_path / "corpus", clips=8, wordnet=wordnet))
    assert json.loads((tmp_path / "corpus" / "recipe.json").read_text()) == {
        "teacher": "hibari", "seed": 1, "text": None
    }  # fmt: skip
