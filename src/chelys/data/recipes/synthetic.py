"""The synthetic corpus that nano learns from, made offline from packages alone.

Text is WordNet 3.0's example sentences and glosses (Debian ``wordnet-base``, WordNet licence); ``teachers`` says who
speaks it.

Clip ``i`` depends on the recipe's seed and on ``i`` alone, so any number of workers writes the same
corpus, and an interrupted run goes on where it stopped: work is done in blocks of clips, and a block
counts once its list of clips has been renamed into place.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from chelys.data.manifest import Utterance, read_manifest, write_manifest
from chelys.data.recipes.teachers import (
    DISTINCT_SPEAKERS,
    HELD_OUT_SPEAKERS,
    SAMPLE_RATE,
    SIZES,
    TEACHERS,
    Teacher,
    check_installed,
    known_voices,
)
from chelys.errors import UserError

CLIPS_PER_BLOCK = 200
WORDNET = Path("/usr/share/wordnet")

_PARTS = ("noun", "verb", "adj", "adv")
_UNFIT = re.compile(r"sex|rape|nigg|fuck|shit|whore|slut|porn|penis|vagin|nazi|kike|faggot|genital|prostitut", re.I)
_SPEAKABLE = re.compile(r"[A-Za-z][A-Za-z',\- ]*[A-Za-z][.?!]?")


def wordnet_sentences(folder: Path = WORDNET, seed: int = 7) -> list[str]:
    """Speakable English sentences, shuffled once: every usable example, and a gloss
    of five words or more after every second.

    Args:
        folder: Where ``data.noun`` and its three sisters lie.
        seed: Of the one shuffle.

    Returns:
        Sentences of 12 to 100 characters, capitalised, with a closing mark.

    Raises:
        UserError: If WordNet is not installed there.
    """
    if not all((folder / f"data.{part}").is_file() for part in _PARTS):
        raise UserError(f"no WordNet in {folder}: install it with 'apt-get install wordnet-base'")
    examples: set[str] = set()
    glosses: set[str] = set()
    for part in _PARTS:
        for line in (folder / f"data.{part}").read_text(encoding="latin1").splitlines():
            _, bar, gloss = line.partition(" | ")
            if not bar or line.startswith("  "):
                continue
            examples.update(re.findall(r'"([^"]+)"', gloss))
            glosses.add(gloss.split('"')[0].split(";")[0].strip(" ;:"))
    rng = np.random.default_rng(seed)
    spoken = rng.permutation(sorted(filter(_usable, examples)))
    written = rng.permutation(sorted(g for g in glosses - examples if _usable(g) and g.count(" ") >= 4))
    # Examples are how people speak and come first; a gloss after every two brings the rarer words.
    mixed = [
        s for i, s in enumerate(spoken) for s in ((s, written[i // 2]) if i % 2 and i // 2 < len(written) else (s,))
    ]
    return [_as_sentence(str(s)) for s in mixed]


def read_sentences(path: Path) -> list[str]:
    """Sentences of a text file, one a line, blank lines left out.

    Raises:
        UserError: If the file cannot be read or holds none.
    """
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
    """What clip ``index`` says: mostly one sentence, sometimes two or three, now and then a word or two.

    Every sentence is used once before any is used again.
    """
    rng = np.random.default_rng([seed, index, 1])
    first = sentences[index % len(sentences)]
    kind = rng.random()
    words = re.findall(r"[A-Za-z']+", first)
    if kind < 0.06 and words:  # autoregressive speech stumbles over lone words it never met alone
        at = int(rng.integers(len(words)))
        few = " ".join(words[at : at + int(rng.integers(1, 3))]).capitalize()
        return _as_sentence(few + str(rng.choice([".", ".", "!", "?"])))
    if kind < 0.76:
        return first
    others = [sentences[int(i)] for i in rng.integers(len(sentences), size=1 if kind < 0.93 else 2)]
    return " ".join([first, *others])


def trim(audio: np.ndarray, lead_s: float = 0.05, tail_s: float = 0.12, threshold: float = 0.008) -> np.ndarray:
    """Cut the silence around speech down to a fixed lead and tail."""
    loud = np.flatnonzero(np.abs(audio) > threshold)
    if not len(loud):
        return audio[:0]
    return audio[max(0, loud[0] - int(lead_s * SAMPLE_RATE)) : loud[-1] + int(tail_s * SAMPLE_RATE)]


def level(audio: np.ndarray, rms: float = 0.08, peak: float = 0.95) -> np.ndarray:
    """Bring a clip to one loudness without clipping it."""
    gain = min(rms / (float(np.sqrt(np.mean(audio**2))) + 1e-6), peak / (float(np.abs(audio).max()) + 1e-6))
    return audio * gain


@dataclass(frozen=True)
class SyntheticRecipe:
    """What corpus to make.

    Attributes:
        out: Folder of the corpus: ``audio/VOICE/ID.flac`` and ``manifest.jsonl``.
        clips: How many; about 3.6 s each.
        teacher: ``hibari`` (heart and its sizes), ``kokoro`` (blends of five styles, fifty times slower) or
            ``kokoro-bf16`` (the same, fifteen times slower than hibari).
        seed: Of everything random in the corpus.
        voices: Of the teacher, in equal shares. None are all of hibari's, in the shares that it has for them, or
            Kokoro's first 64.
        first: Number of the first clip. A second corpus with other numbers says other sentences under other names, so
            that both can be used together.
        wordnet: Folder of WordNet's data files.
        text: A file with a sentence a line, in place of WordNet's.
    """

    out: Path
    clips: int
    teacher: str = "hibari"
    seed: int = 1
    voices: tuple[str, ...] = ()
    first: int = 0
    wordnet: Path = WORDNET
    text: Path | None = None

    @property
    def end(self) -> int:
        """Number behind that of the last clip."""
        return self.first + self.clips


def make(recipe: SyntheticRecipe, *, workers: int = 2, progress: Callable[[int, int], None] | None = None) -> Path:
    """Make the corpus, or what is still missing of it.

    Args:
        recipe: What to make.
        workers: Processes.
        progress: Called with (blocks done, blocks in all).

    Returns:
        Path of the manifest, its clips in the order of their numbers; ``train.jsonl`` beside it leaves out
        HELD_OUT_SPEAKERS.

    Raises:
        UserError: If the teacher or one of the voices is unknown, WordNet is missing or the folder holds the corpus of
            another recipe.
        MissingExtra: If the teacher's packages are not installed.
    """
    known = known_voices(recipe.teacher)
    if strangers := [name for name in recipe.voices if name not in known]:
        raise UserError(f"{recipe.teacher} has no voice {strangers[0]!r}: choose from {', '.join(known)}")
    check_installed(recipe.teacher)
    sentences = wordnet_sentences(recipe.wordnet) if recipe.text is None else read_sentences(recipe.text)
    (recipe.out / "blocks").mkdir(parents=True, exist_ok=True)
    _claim(recipe)
    starts = list(range(recipe.first, recipe.end, CLIPS_PER_BLOCK))
    todo = [s for s in starts if not _block_list(recipe, s).exists()]
    done = len(starts) - len(todo)
    with ProcessPoolExecutor(workers) as pool:
        futures = [pool.submit(_make_block, recipe, sentences, start) for start in todo]
        try:
            for future in as_completed(futures):
                future.result()
                done += 1
                if progress:
                    progress(done, len(starts))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # a fault is told now, not after hours of other blocks
            raise
    manifest = recipe.out / "manifest.jsonl"
    utterances = [u for s in starts for u in read_manifest(_block_list(recipe, s), root=recipe.out)]
    write_manifest(manifest, utterances)
    write_manifest(recipe.out / "train.jsonl", (u for u in utterances if u.speaker not in HELD_OUT_SPEAKERS))
    return manifest


def _claim(recipe: SyntheticRecipe) -> None:
    """Note whose corpus the folder holds: finished blocks of another seed must not pass for this one's."""
    path = recipe.out / "recipe.json"
    ours: dict[str, Any] = {"teacher": recipe.teacher, "seed": recipe.seed, "text": recipe.text and recipe.text.name}
    if recipe.voices:
        ours["voices"] = list(recipe.voices)
    if recipe.first:
        ours["first"] = recipe.first
    if path.exists():
        theirs = json.loads(path.read_text(encoding="utf8"))
        if theirs != ours:
            raise UserError(
                f"{recipe.out} holds the corpus of {json.dumps(theirs)}: give another folder for {json.dumps(ours)}"
            )
    else:
        partial = path.with_suffix(".part")
        partial.write_text(json.dumps(ours) + "\n", encoding="utf8")
        partial.replace(path)


def _block_list(recipe: SyntheticRecipe, start: int) -> Path:
    end = min(start + CLIPS_PER_BLOCK, recipe.end)
    return recipe.out / "blocks" / f"{start:07d}-{end:07d}.jsonl"


_teacher: tuple[str, Any, Teacher] | None = None  # one in each worker process: loading takes a second


def _load_teacher(name: str) -> tuple[Any, Teacher]:
    global _teacher
    if _teacher is None or _teacher[0] != name:
        from hibari import Hibari

        hibari = Hibari()
        _teacher = (name, hibari, TEACHERS[name](hibari))
    return _teacher[1], _teacher[2]


def _make_block(recipe: SyntheticRecipe, sentences: list[str], start: int) -> None:
    target = _block_list(recipe, start)
    write_manifest(target, _speak_block(recipe, sentences, start))


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
        partial = recipe.out / path.with_suffix(".part")
        sf.write(partial, level(audio), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        partial.replace(recipe.out / path)
        yield Utterance(
            id=f"{recipe.teacher}-{index:07d}", audio=str(path), text=text, speaker=voice, seconds=round(seconds, 3)
        )


def _leave_if_orphaned() -> None:
    """End a worker whose run was killed: it would write into files of the run that goes on."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(1)  # nobody is left to be told


def _clip_voice(recipe: SyntheticRecipe, index: int, rng: np.random.Generator) -> str:
    if recipe.voices:
        return recipe.voices[index % len(recipe.voices)]
    if recipe.teacher != "hibari":
        return f"s{index % DISTINCT_SPEAKERS:02d}"
    names = list(SIZES)
    return names[int(rng.choice(len(names), p=[share for _, share in SIZES.values()]))]
