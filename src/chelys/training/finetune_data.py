"""What a model is adapted with: the settings, clips of the voice, and speech of the base model.

Lengths are counted once, from samples at the mel spec's own rate. (Forks of the original counted samples as if they
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
from typing import ClassVar, Literal

import numpy as np

from chelys.audio.io import MIN_CLIP_PEAK, MIN_CLIP_SECONDS, read, write
from chelys.audio.rates import OUTPUT_RATE
from chelys.data.dataset import Codes, Features
from chelys.data.features import encode, extract
from chelys.data.loader import is_held_out
from chelys.data.manifest import BadClips, Utterance, read_manifest, write_manifest
from chelys.data.pairs import PairConfig, Pairs
from chelys.data.recipes.corpora import make_manifest
from chelys.errors import AudioError, ConfigError, ManifestError
from chelys.models.dvae import DVAE
from chelys.training.config import EarlyStopping, LoopConfig, require
from chelys.weights.folder import Model

log = logging.getLogger(__name__)

#: Speaker of the voice's clips in the corpus; those of the base's speech are called ``base:NAME``.
VOICE = "voice"
MIN_SECONDS, MIN_CLIPS, MIN_HELD_OUT = 10.0, 8, 4
#: What is silence at a clip's ends, against its loudest 20 ms (-40 dB), and how much of it stays.
QUIET, MARGIN_SECONDS, FRAME_SECONDS = 0.01, 0.1, 0.02

#: Short plain sentences that the base model speaks, to measure whether it forgets.
SENTENCES = tuple((Path(__file__).parents[1] / "assets" / "finetune_sentences.txt").read_text("utf8").splitlines())
#: Speaks a text in a built-in voice of the base: ``(text, voice, seed)`` to a waveform ``(n,)`` at 24 kHz.
Speak = Callable[[str, str, int], np.ndarray]
#: Brings a waveform ``(n,)`` to the loudness that reference clips have.
Level = Callable[[np.ndarray], np.ndarray]
#: Share of the nearest voice by default: with more the words are no clearer, and the voice is less like the clips.
DEFAULT_BLEND = 0.7


# ---- configuration --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Adaptation:
    """How one of the two decoders is adapted."""

    RENAMED: ClassVar[dict[str, str | None]] = {"average": "ema_decay"}

    steps: int  # at most; 0 leaves the decoder as it is
    rank: int  # of the LoRA adapters beside its layers, merged at the end; 0 trains the layers themselves
    learning_rate: float  # peak, after ``warmup`` steps; it falls to a tenth on half a cosine
    budget: int  # codes in a batch, padding included
    base_rise: float  # how much the held-out loss on the base's own speech may rise, as a share of its first value
    warmup: int = 20  # steps of the rate's rise
    evaluate_every: int = 25  # steps between evaluations on held-out clips
    patience: int = 4  # evaluations without a new best on the voice that end it
    ema_decay: float = 0.95  # decay of the moving average of the weights that is evaluated and kept

    def __post_init__(self) -> None:
        for name in ("steps", "rank"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        for name in ("budget", "patience"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        require(self.base_rise > 0, "base_rise", self.base_rise, "above 0")

    def stopping(self, metric: str) -> EarlyStopping:
        """Stop when the voice's metric no longer falls, or the base's rises."""
        return EarlyStopping(f"held_out/voice_{metric}", self.patience, {f"held_out/base_{metric}": self.base_rise})


@dataclass(frozen=True)
class FinetuneConfig:
    """How a model is adapted to a voice."""

    RENAMED: ClassVar[dict[str, str | None]] = {"borrowed": "speaker_blend", "longest": "max_codes"}

    #: How the autoregressive decoder is, which decides pronunciation and pace. It is left alone by default: on minutes
    #: of speech the small decoder overfits the reader's codes and loses the text.
    autoregressive: Adaptation = Adaptation(steps=0, rank=32, learning_rate=1e-3, budget=1200, base_rise=0.25)
    #: how the diffusion decoder is, on the adapted decoder's latents, which decides the sound
    diffusion: Adaptation = Adaptation(steps=120, rank=0, learning_rate=3e-4, budget=600, base_rise=0.5)
    held_out: float = 0.1  # share of the voice's clips that is kept for evaluation, four at least
    sentences: int = 64  # how many the base model speaks in its own voices; a quarter of them is kept for evaluation
    replay: float = 0.25  # share of the base's speech in the training data
    #: Share of the nearest built-in voice in the voice's autoregressive conditioning latents: words are clearer in a
    #: voice that the decoder was trained on, and the sound is up to the diffusion decoder. By default most of it, or
    #: nothing where that decoder is adapted.
    speaker_blend: float | None = None
    #: how far the voice's diffusion conditioning latents go beyond the clips, away from the blended voice, whose codes
    #: pull the sound towards it
    emphasis: float = 1.2
    max_codes: int = 400  # codes of the longest clip used
    #: what the networks compute in; ``auto`` is bfloat16 where the hardware multiplies it, else float32
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"  # ``auto`` (a GPU where there is one), ``cpu``, ``mps``, ``cuda`` or ``cuda:N``
    threads: int = 0  # CPU threads of ``chelys finetune``; 0 is the cores that the process may use
    seed: int = 1  # of all that is random

    def __post_init__(self) -> None:
        require(0 < self.held_out <= 0.5, "held_out", self.held_out, "above 0 and 0.5 at most")
        require(0 <= self.replay < 1, "replay", self.replay, "0 or more and below 1")
        require(0 <= self.blend <= 1, "speaker_blend", self.speaker_blend, "0 to 1")
        require(0 <= self.emphasis <= 2, "emphasis", self.emphasis, "0 to 2")
        if not (self.autoregressive.steps or self.diffusion.steps):
            raise ConfigError("autoregressive.steps and diffusion.steps are both 0; let one decoder take some steps")
        require(self.sentences >= 8, "sentences", self.sentences, "8 or more, to measure what the base forgets")
        self.loop(self.diffusion)  # refuse a device that is none

    @property
    def blend(self) -> float:
        """The value of ``speaker_blend`` in force."""
        if self.speaker_blend is None:
            return 0.0 if self.autoregressive.steps else DEFAULT_BLEND
        return self.speaker_blend

    def loop(self, adaptation: Adaptation) -> LoopConfig:
        """The training loop's settings for one decoder."""
        return LoopConfig(
            steps=max(1, adaptation.steps), learning_rate=adaptation.learning_rate, warmup=adaptation.warmup,
            min_lr_ratio=0.1, ema_decay=adaptation.ema_decay, precision=self.precision, device=self.device, log_every=5,
            evaluate_every=adaptation.evaluate_every, checkpoint_every=adaptation.evaluate_every, save_total_limit=1,
            pictures=False, tensorboard=False, seed=self.seed, threads=self.threads,
        )  # fmt: skip


# ---- the corpus -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Material:
    """A corpus of two kinds of clips, in features and codes."""

    manifest: Path  # of all clips
    features: Path  # feature folder
    codes: Path  # ``codes.npy``
    clips: tuple[Path, ...]  # recordings of the voice that are not held out, of which its voice file is made
    bad_clips: BadClips  # what was left out


def read_source(source: Path, folder: Path) -> list[Utterance]:
    """Clips of a folder (LJSpeech's layout, another table, or transcripts beside clips), or of a manifest.

    ``source``: folder or ``*.jsonl``; ``folder``: where the manifest of a folder is written. Raises ManifestError if
    there is no such thing, or no clip with a transcript in it.
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


def held_out_name(stem: str, *, held_out: bool) -> str:
    """A clip's name by which every stage knows whether the clip is held out."""
    return next(name for number in range(10**6) if is_held_out(name := f"{stem}.{number}") == held_out)


def copy_voice(
    utterances: Sequence[Utterance], folder: Path, level: Level, config: FinetuneConfig
) -> tuple[list[Utterance], BadClips]:
    """Copy the voice's clips at one rate and loudness, without the silence at their ends.

    ``folder``: where the copies go; ``level``: brings them to one loudness; ``config``: how many to hold out. Raises
    ManifestError if too few of them are of use.
    """
    bad, waveforms = BadClips(), list[tuple[Utterance, np.ndarray]]()
    for utterance in utterances:
        try:
            waveform = trim(_read_piece(utterance))
        except AudioError as error:
            bad.add(utterance.id, "unreadable", str(error))
            continue
        if len(waveform) < MIN_CLIP_SECONDS * OUTPUT_RATE:
            bad.add(utterance.id, "too short or silent", f"{len(waveform) / OUTPUT_RATE:.2f} s of sound")
        else:
            waveforms.append((utterance, level(waveform)))
    seconds = sum(len(waveform) for _, waveform in waveforms) / OUTPUT_RATE
    if seconds < MIN_SECONDS or len(waveforms) < MIN_CLIPS:
        left = f" ({len(bad)} left out: {bad.summary()})" if len(bad) else ""
        raise ManifestError(
            f"{len(waveforms)} usable clips of {seconds:.1f} s in all{left}: adapting to a voice takes {MIN_CLIPS} "
            f"clips and {MIN_SECONDS:g} s at the least, and some minutes to be good"
        )
    held_out = _held_out(len(waveforms), max(MIN_HELD_OUT, round(config.held_out * len(waveforms))), config.seed)
    rows = (
        (held_out_name(f"voice-{index:05d}", held_out=index in held_out), utterance.text, VOICE, waveform)
        for index, (utterance, waveform) in enumerate(waveforms)
    )
    return _write(rows, folder), bad


def speak_base(
    speak: Speak, voices: Sequence[str], sentences: Sequence[str], folder: Path, config: FinetuneConfig
) -> list[Utterance]:
    """Speak sentences with the base model in its own voices, in turn; clips that are there are kept.

    Its speech stands for the corpus that it was trained on, which a user does not have: the loss on it rises if the
    model forgets.
    """
    held_out = _held_out(config.sentences, max(MIN_HELD_OUT, config.sentences // 4), config.seed)
    utterances = []
    for index in range(config.sentences):
        voice, text = voices[index % len(voices)], sentences[index % len(sentences)]
        path = folder / f"{held_out_name(f'base-{index:05d}', held_out=index in held_out)}.wav"
        if not path.is_file():
            write(path, speak(text, voice, config.seed * 1000 + index), OUTPUT_RATE)
        utterances.append(_utterance(path, text, f"base:{voice}"))
    return utterances


def copy_base(manifest: Path, folder: Path, level: Level, config: FinetuneConfig) -> list[Utterance]:
    """Copy clips of a corpus, evenly spread, in place of the base's own speech."""
    found = list(read_manifest(manifest))
    if len(found) < 8:
        raise ManifestError(f"{manifest} has {len(found)} clips: to measure what is forgotten takes 8 or more")
    picked = [found[i] for i in np.linspace(0, len(found) - 1, min(config.sentences, len(found))).round().astype(int)]
    held_out = _held_out(len(picked), max(MIN_HELD_OUT, len(picked) // 4), config.seed)
    rows = (
        (held_out_name(f"base-{i:05d}", held_out=i in held_out), u.text, f"base:{u.speaker}", level(_read_piece(u)))
        for i, u in enumerate(picked)
    )
    return _write(rows, folder)


def extract_material(
    utterances: Iterable[Utterance], folder: Path, dvae: DVAE, model: Model, bad: BadClips
) -> Material:
    """Extract features and codes of all clips; what is there is left as it is."""
    utterances = list(utterances)
    manifest, features, codes = folder / "manifest.jsonl", folder / "features", folder / "codes.npy"
    write_manifest(manifest, utterances)
    extract([manifest], features, workers=1)
    corpus = Features(features)
    encode(corpus, dvae, model.config.mel_range, codes)
    clips = tuple(Path(clip.audio) for clip in corpus.split(corpus.clips)[0] if clip.speaker == VOICE)
    bad.extend(corpus.bad_clips.all())
    return Material(manifest, features, codes, clips, bad)


def pairs_of(material: Material, model: Model, budget: int, config: FinetuneConfig) -> Pairs:
    """Batches of the voice with the base's speech mixed in.

    Raises ManifestError if too few clips of the voice are left, or none of the base.
    """
    features = Features(material.features)
    frames = {True: 0, False: 0}
    for clip in features.split(features.clips)[0]:
        frames[clip.speaker == VOICE] += clip.frames
    weight = config.replay / (1 - config.replay) * frames[True] / max(1, frames[False])
    sizes = PairConfig(
        budget=max(budget, config.max_codes), max_codes=config.max_codes, voices={VOICE: 1.0, "other": weight}
    )
    pairs = Pairs(features, Codes(material.codes), model.tokenizer, model.config.mel_range, sizes, config.seed)
    trained, kept = (sum(c.speaker == VOICE for c in clips) for clips in (pairs.train, pairs.test))
    if trained < MIN_CLIPS - MIN_HELD_OUT or not kept:
        raise ManifestError(
            f"{trained} clips of the voice are left to train on and {kept} to evaluate on "
            f"({pairs.bad_clips.summary()}): give more clips of 1 to 15 s with their transcripts"
        )
    if len(pairs.test) == kept:
        raise ManifestError(
            f"no clip of the base is left to evaluate on ({pairs.bad_clips.summary()}): raise sentences, or give --base"
        )
    return pairs


def trim(waveform: np.ndarray) -> np.ndarray:
    """A waveform ``(n,)`` at 24 kHz without the silence at its ends; empty for one that is silent."""
    size = int(FRAME_SECONDS * OUTPUT_RATE)
    count = len(waveform) // size
    if not count or np.abs(waveform).max() < MIN_CLIP_PEAK:
        return waveform[:0]
    loudness = np.sqrt((waveform[: count * size].reshape(count, size).astype(np.float64) ** 2).mean(1))
    sounding = np.flatnonzero(loudness > QUIET * loudness.max())
    margin = int(MARGIN_SECONDS * OUTPUT_RATE)
    return waveform[max(0, sounding[0] * size - margin) : (sounding[-1] + 1) * size + margin]


def _read_piece(utterance: Utterance) -> np.ndarray:
    return read(utterance.audio, OUTPUT_RATE, start=utterance.start, end=utterance.end)


def _held_out(count: int, kept: int, seed: int) -> set[int]:
    return set(np.random.default_rng([seed, count]).permutation(count)[:kept].tolist())


def _write(rows: Iterator[tuple[str, str, str, np.ndarray]], folder: Path) -> list[Utterance]:
    utterances = []
    for name, text, speaker, waveform in rows:
        path = folder / f"{name}.wav"
        if not path.is_file():
            write(path, waveform, OUTPUT_RATE)
        utterances.append(_utterance(path, text, speaker, len(waveform) / OUTPUT_RATE))
    return utterances


def _utterance(path: Path, text: str, speaker: str, seconds: float = 0.0) -> Utterance:
    return Utterance(path.stem, f"clips/{path.name}", text, speaker, round(seconds, 3))
