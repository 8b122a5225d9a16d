"""What a model is adapted with: clips of the voice, and speech of the base model, laid out together.

Lengths are counted once, from samples at the front end's own rate. (Forks of the original counted samples as if they
were codes; nothing was then cut off, and padding was learned as silence up to the longest clip.) Silence before and
after a clip's speech is cut as well, all but a tenth of a second: a reader's pause between clips is no part of a
sentence.

n samples.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chelys.audio.io import MIN_CLIP_PEAK, MIN_CLIP_SECONDS, read, write
from chelys.audio.rates import OUTPUT_RATE
from chelys.data.bad_clips import BadClips
from chelys.data.codes import encode
from chelys.data.dataset import Codes, Features
from chelys.data.features import extract
from chelys.data.manifest import Utterance, read_manifest, write_manifest
from chelys.data.pairs import PairConfig, Pairs
from chelys.data.recipes.corpora import make_manifest
from chelys.data.sampler import is_held_out
from chelys.errors import AudioError, ManifestError
from chelys.models.dvae import DVAE
from chelys.training.finetuning.config import FinetuneConfig
from chelys.weights.folder import Model

log = logging.getLogger(__name__)

#: The voice in the corpus that is made here; speakers of the base's speech are called ``base:NAME``.
VOICE = "voice"
LEAST_SECONDS, LEAST_CLIPS, LEAST_HELD_OUT = 10.0, 8, 4
#: What is silence at a clip's ends, against its loudest 20 ms (-40 dB), and how much of it stays.
QUIET, MARGIN_SECONDS, FRAME_SECONDS = 0.01, 0.1, 0.02

#: Speaks a text in a built-in voice of the base: ``(text, voice, seed)`` to a wave ``(n,)`` at 24 kHz.
Speak = Callable[[str, str, int], np.ndarray]
#: Brings a wave ``(n,)`` to the loudness that the model hears voices at.
Level = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Material:
    """A corpus of two kinds of clips, in features and codes.

    Attributes:
        manifest: Of all clips.
        features: Feature folder.
        codes: ``codes.npy``.
        clips: Recordings of the voice that are not held out: what its voice file is made of.
        bad_clips: What was left out.
    """

    manifest: Path
    features: Path
    codes: Path
    clips: tuple[Path, ...]
    bad_clips: BadClips


def read_source(source: Path, folder: Path) -> list[Utterance]:
    """Clips of a folder (LJSpeech's layout, another table, or transcripts beside clips), or of a manifest.

    Args:
        source: Folder or ``*.jsonl``.
        folder: Where the manifest of a folder is written.

    Raises:
        ManifestError: If there is no such thing, or no clip with a transcript in it.
    """
    if source.is_file():
        utterances = list(read_manifest(source))
    elif not source.is_dir():
        raise ManifestError(f"no folder or manifest at {source}: give a folder of clips with transcripts, or a .jsonl")
    elif (source / "manifest.jsonl").is_file():
        utterances = list(read_manifest(source / "manifest.jsonl"))
    else:
        layout = "ljspeech" if (source / "metadata.csv").is_file() and (source / "wavs").is_dir() else "folder"
        try:
            made = make_manifest(layout, source, folder / "source.jsonl")
        except ManifestError as error:
            raise ManifestError(
                f"{error}; transcripts go into {source / 'metadata.csv'} as NAME|TEXT, or into a .txt beside each clip"
            ) from error
        utterances = list(read_manifest(made.manifest))
    if not utterances:
        raise ManifestError(f"{source} names no clips: give minutes of speech of one voice, with transcripts")
    speakers = {utterance.speaker for utterance in utterances}
    if len(speakers) > 1:
        log.warning("%s has %d speakers; all are taken for one voice", source, len(speakers))
    return utterances


def named(stem: str, *, held_out: bool) -> str:
    """A clip's name that tells every stage whether the clip is held out."""
    return next(
        name for number in range(10**6) if is_held_out(name := f"{stem}.{number}") == held_out
    )


def lay_out_voice(
    utterances: Sequence[Utterance], folder: Path, level: Level, config: FinetuneConfig
) -> tuple[list[Utterance], BadClips]:
    """Copy the voice's clips at one rate and loudness, without the silence at their ends.

    Args:
        utterances: Of the source.
        folder: Where the copies go.
        level: Brings them to one loudness.
        config: How many to hold out.

    Raises:
        ManifestError: If too few of them are of use.
    """
    bad, waves = BadClips(), list[tuple[Utterance, np.ndarray]]()
    for utterance in utterances:
        try:
            wave = trimmed(_read_piece(utterance))
        except AudioError as error:
            bad.add(utterance.id, "unreadable", str(error))
            continue
        if len(wave) < MIN_CLIP_SECONDS * OUTPUT_RATE:
            bad.add(utterance.id, "too short or silent", f"{len(wave) / OUTPUT_RATE:.2f} s of sound")
        else:
            waves.append((utterance, level(wave)))
    seconds = sum(len(wave) for _, wave in waves) / OUTPUT_RATE
    if seconds < LEAST_SECONDS or len(waves) < LEAST_CLIPS:
        left = f" ({len(bad)} left out: {bad.summary()})" if len(bad) else ""
        raise ManifestError(
            f"{len(waves)} usable clips of {seconds:.1f} s in all{left}: adapting to a voice takes {LEAST_CLIPS} clips "
            f"and {LEAST_SECONDS:g} s at the least, and some minutes to be good"
        )
    held_out = _held_out(len(waves), max(LEAST_HELD_OUT, round(config.held_out * len(waves))), config.seed)
    rows = (
        (named(f"voice-{index:05d}", held_out=index in held_out), utterance.text, VOICE, wave)
        for index, (utterance, wave) in enumerate(waves)
    )
    return _write(rows, folder), bad


def lay_out_base(
    speak: Speak, voices: Sequence[str], sentences: Sequence[str], folder: Path, config: FinetuneConfig
) -> list[Utterance]:
    """Let the base model speak in its own voices, in turn; what was spoken before is kept.

    Its speech stands for the corpus that it was trained on, which a user does not have: of a model that forgets, the
    loss on it rises.
    """
    held_out = _held_out(config.sentences, max(LEAST_HELD_OUT, config.sentences // 4), config.seed)
    utterances = []
    for index in range(config.sentences):
        voice, text = voices[index % len(voices)], sentences[index % len(sentences)]
        path = folder / f"{named(f'base-{index:05d}', held_out=index in held_out)}.wav"
        if not path.is_file():
            write(path, speak(text, voice, config.seed * 1000 + index), OUTPUT_RATE)
        utterances.append(_utterance(path, text, f"base:{voice}"))
    return utterances


def borrow_base(manifest: Path, folder: Path, level: Level, config: FinetuneConfig) -> list[Utterance]:
    """Take so many clips of a corpus in place of the base's own speech, evenly spread."""
    found = list(read_manifest(manifest))
    if len(found) < 8:
        raise ManifestError(f"{manifest} has {len(found)} clips: to watch the base takes 8 or more")
    picked = [found[i] for i in np.linspace(0, len(found) - 1, min(config.sentences, len(found))).round().astype(int)]
    held_out = _held_out(len(picked), max(LEAST_HELD_OUT, len(picked) // 4), config.seed)
    rows = (
        (named(f"base-{i:05d}", held_out=i in held_out), u.text, f"base:{u.speaker}", level(_read_piece(u)))
        for i, u in enumerate(picked)
    )
    return _write(rows, folder)


def lay_out(utterances: Iterable[Utterance], folder: Path, dvae: DVAE, model: Model, bad: BadClips) -> Material:
    """Features and codes of all clips; what is there is left as it is."""
    utterances = list(utterances)
    manifest, features, codes = folder / "manifest.jsonl", folder / "features", folder / "codes.npy"
    write_manifest(manifest, utterances)
    extract([manifest], features, workers=1)
    laid_out = Features(features)
    encode(laid_out, dvae, model.config.mel_range, codes)
    clips = tuple(Path(clip.audio) for clip in laid_out.split(laid_out.clips)[0] if clip.speaker == VOICE)
    bad.extend(laid_out.bad_clips.all())
    return Material(manifest, features, codes, clips, bad)


def pairs_of(material: Material, model: Model, budget: int, config: FinetuneConfig) -> Pairs:
    """Batches of the voice with the base's speech mixed in.

    Raises:
        ManifestError: If too few clips of the voice are left, or none of the base.
    """
    features = Features(material.features)
    frames = {True: 0, False: 0}
    for clip in features.split(features.clips)[0]:
        frames[clip.speaker == VOICE] += clip.frames
    weight = config.replay / (1 - config.replay) * frames[True] / max(1, frames[False])
    sizes = PairConfig(budget=max(budget, config.longest), longest=config.longest, voices={VOICE: 1.0, "other": weight})
    pairs = Pairs(
        features, Codes(material.codes), model.tokenizer, model.config.mel_range, sizes, config.seed, mels=False
    )
    learned, kept = (sum(c.speaker == VOICE for c in clips) for clips in (pairs.train, pairs.test))
    if learned < LEAST_CLIPS - LEAST_HELD_OUT or not kept:
        raise ManifestError(
            f"{learned} clips of the voice are left to learn from and {kept} to judge by "
            f"({pairs.bad_clips.summary()}): give more clips of 1 to 15 s with their transcripts"
        )
    if len(pairs.test) == kept:
        raise ManifestError(
            f"no clip of the base is left to judge by ({pairs.bad_clips.summary()}): raise sentences, or give --base"
        )
    return pairs


def trimmed(wave: np.ndarray) -> np.ndarray:
    """A wave ``(n,)`` at 24 kHz without the silence at its ends; nothing of one that is silent."""
    size = int(FRAME_SECONDS * OUTPUT_RATE)
    count = len(wave) // size
    if not count or np.abs(wave).max() < MIN_CLIP_PEAK:
        return wave[:0]
    loudness = np.sqrt((wave[: count * size].reshape(count, size).astype(np.float64) ** 2).mean(1))
    sounding = np.flatnonzero(loudness > QUIET * loudness.max())
    margin = int(MARGIN_SECONDS * OUTPUT_RATE)
    return wave[max(0, sounding[0] * size - margin) : (sounding[-1] + 1) * size + margin]


def _read_piece(utterance: Utterance) -> np.ndarray:
    return read(utterance.audio, OUTPUT_RATE, start=utterance.start, end=utterance.end)


def _held_out(count: int, kept: int, seed: int) -> set[int]:
    return set(np.random.default_rng([seed, count]).permutation(count)[:kept].tolist())


def _write(rows: Iterator[tuple[str, str, str, np.ndarray]], folder: Path) -> list[Utterance]:
    utterances = []
    for name, text, speaker, wave in rows:
        path = folder / f"{name}.wav"
        if not path.is_file():
            write(path, wave, OUTPUT_RATE)
        utterances.append(_utterance(path, text, speaker, len(wave) / OUTPUT_RATE))
    return utterances


def _utterance(path: Path, text: str, speaker: str, seconds: float = 0.0) -> Utterance:
    return Utterance(path.stem, f"clips/{path.name}", text, speaker, round(seconds, 3))
