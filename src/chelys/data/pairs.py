"""Text, codes and a reference clip of the same speaker: batches of all stages but the VQ-VAE's and the vocoder's.

A batch is a ``Batch``; b rows, t text ids, m codes, f bands, s mel frames, r frames of the reference clip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from chelys.audio.mel import MelRange, mel_band_edges
from chelys.audio.rates import HOP
from chelys.data.dataset import Clip, ClipDataset, ClipTable, Codes
from chelys.data.loader import LengthBucketSampler
from chelys.data.shards import open_codes, open_features
from chelys.deprecation import renamed_arguments
from chelys.errors import TextError
from chelys.text.tokenizer import Cleaner, Tokenizer

#: The fastest speech; the slack is for short clips.
MOST_CHARACTERS_A_SECOND, SLACK = 35, 10
#: Where the band of a narrow reference ends.
LOWPASS_HZ = (6000.0, 9000.0)


class Batch(NamedTuple):
    """One batch of pairs."""

    text: Tensor  # ids ``(b, t)``, zero beyond each row's length
    text_lengths: Tensor  # ``(b,)``
    codes: Tensor  # ``(b, m)``, zero beyond each row's length
    code_lengths: Tensor  # ``(b,)``
    reference: Tensor  # mel of other clips of the speaker, ``(b, f, r)`` in network units


@renamed_arguments(spelled="grapheme_probability", longest="max_codes", longest_text="max_text_ids")
@dataclass(frozen=True)
class PairConfig:
    """What makes a batch.

    Attributes:
        budget: Codes in a batch, padding included.
        reference_frames: Mel frames r of the reference: a crop of another clip, or several of them where it is shorter.
        reference_lowpass: Share of references whose upper bands are emptied, as those of a recording of 16 kHz are: a
            voice made of such a recording then speaks in full band all the same.
        grapheme_probability: Share of words spelled though the lexicon knows them, so that unknown words can be read.
        max_codes: Codes of the longest clip used.
        max_text_ids: Ids of the longest text used.
        voices: How often clips of a speaker come, against once: ``{"heart": 0.5}``; ``other`` stands for the rest.
            A name may be a pattern, ``ls*``, for speakers not named themselves; of several patterns the first holds.
    """

    budget: int = 2000
    reference_frames: int = 256
    reference_lowpass: float = 0.0
    grapheme_probability: float = 0.08
    max_codes: int = 400
    max_text_ids: int = 400
    voices: dict[str, float] | None = None

    RENAMED: ClassVar[dict[str, str | None]] = {
        "spelled": "grapheme_probability", "longest": "max_codes", "longest_text": "max_text_ids",
    }  # fmt: skip


class Pairs:
    """Batches of a corpus, each a function of the seed and the step.

    Before there are codes, which is where the VQ-VAE is trained, ``codes`` is None: then there are ``clips`` of a step,
    and no ``batch``.
    """

    def __init__(
        self,
        features: ClipDataset,
        codes: Codes | None,
        tokenizer: Tokenizer,
        mel_range: MelRange,
        config: PairConfig,
        seed: int,
    ) -> None:
        self.features, self.known_codes, self.tokenizer = features, codes, tokenizer
        self.mel_range, self.config, self.seed = mel_range, config, seed
        self.bad_clips = features.bad_clips
        usable = np.ones(len(features.clips), bool)
        for i, clip in enumerate(features.clips):
            if fault := self._fault(clip):
                self.bad_clips.add(clip.id, *fault)
                usable[i] = False
        self.train, self.test = features.split(features.clips.take(usable))
        weights = speaker_weights(self.train, config.voices)
        self.sampler = LengthBucketSampler(self.train.codes, config.budget, seed, weights)
        #: Of each speaker: indices of their training clips, and the first frames of those.
        self.by_speaker = {name: (rows, self.train.take(rows).first) for name, rows in self.train.per_speaker().items()}

    @property
    def codes(self) -> Codes:
        """Codes of the features' clips."""
        assert self.known_codes is not None, "there are no codes yet"
        return self.known_codes

    def _fault(self, clip: Clip) -> tuple[str, str] | None:
        """What is wrong with a clip, in a few words and in particular."""
        config, text = self.config, clip.text.strip()
        if clip.codes > config.max_codes:
            return "too long", f"{clip.codes} codes; pairs.max_codes is {config.max_codes}"
        seconds = clip.frames * HOP / self.features.spec.sample_rate
        if len(text) > MOST_CHARACTERS_A_SECOND * seconds + SLACK:
            return "text too long for its clip", f"{len(text)} characters in {seconds:.1f} s"
        try:
            if self.tokenizer.quick_check:
                self.tokenizer.check(text)
            # few characters are read as more than two ids
            if not self.tokenizer.quick_check or len(text) > config.max_text_ids / 2:
                ids = len(
                    self.tokenizer.encode(text, spelled=(lambda _: True) if config.grapheme_probability else None)
                )
                if ids > config.max_text_ids:
                    return "text too long", f"{ids} ids; pairs.max_text_ids is {config.max_text_ids}"
        except TextError as error:
            return "text cannot be spoken", str(error)
        return None

    def batch(self, step: int, rows: slice = slice(None)) -> Batch:
        """The batch of a step, or some of its rows; what is drawn for a row is its own."""
        clips = self.clips(step)
        numbers = range(len(clips))[rows]
        rngs = [np.random.default_rng([self.seed, step, row]) for row in numbers]
        return self.collate([clips[row] for row in numbers], rngs, graphemes=self.config.grapheme_probability)

    def clips(self, step: int) -> list[Clip]:
        return [self.train[i] for i in self.sampler.at(step)]

    def collate(
        self, clips: Sequence[Clip], rng: np.random.Generator | list[np.random.Generator], *, graphemes: float = 0.0
    ) -> Batch:
        """Batch of the given clips; ``rng``, or one for each row, draws reference clips and spelled words."""
        rngs = rng if isinstance(rng, list) else [rng] * len(clips)
        encode = self.tokenizer.encode
        texts = [encode(c.text, spelled=spelling(graphemes, own)) for c, own in zip(clips, rngs, strict=True)]
        codes = [self.codes.of(c) for c in clips]
        return Batch(
            text=_pad([torch.tensor(t) for t in texts]),
            text_lengths=torch.tensor([len(t) for t in texts]),
            codes=_pad(codes),
            code_lengths=torch.tensor([len(c) for c in codes]),
            reference=torch.stack([self.reference(c, own) for c, own in zip(clips, rngs, strict=True)]),
        )

    def reference(self, clip: Clip, rng: np.random.Generator) -> Tensor:
        """Mel ``(f, r)`` of other clips of the speaker, in network units.

        A crop of one of them, drawn; where that is too short, whole others follow. The clip itself is heard only where
        nothing else of the speaker is in training.
        """
        wanted = self.config.reference_frames
        pieces: list[Tensor] = []
        had = 0
        for other in self._others(clip, rng):
            start = int(rng.integers(max(0, other.frames - wanted) + 1)) if not pieces else 0
            pieces.append(self.features.mel(other, start, min(wanted - had, other.frames)))
            had += pieces[-1].shape[1]
            if had >= wanted:
                break
        mel = self.mel_range.normalize(repeat_to(torch.cat(pieces, dim=1), wanted))
        if self.config.reference_lowpass and rng.random() < self.config.reference_lowpass:
            bands = mel_band_edges(self.features.spec)
            mel[int((bands < rng.uniform(*LOWPASS_HZ)).sum()) :] = self.mel_range.bounds[0]
        return mel

    def _others(self, clip: Clip, rng: np.random.Generator) -> Iterator[Clip]:
        """Other training clips of the speaker in a drawn order, each once; the clip itself where there are none."""
        mine, first = self.by_speaker.get(clip.speaker, (np.zeros(0, int), np.zeros(0, int)))
        own = int(np.searchsorted(first, clip.first))  # its own place among them, behind all if it is not there
        own = own if own < len(mine) and first[own] == clip.first else len(mine)
        count = len(mine) - (own < len(mine))
        if not count:
            yield clip
            return
        seen: set[int] = set()
        while len(seen) < count:
            at = int(rng.integers(count))
            if at not in seen:
                seen.add(at)
                yield self.train[int(mine[at + (at >= own)])]

    def other_clip(self, clip: Clip, rng: np.random.Generator) -> Clip:
        """Another training clip of the speaker; the clip itself where there is none."""
        return next(self._others(clip, rng))


def speaker_weights(clips: ClipTable, voices: dict[str, float] | None) -> np.ndarray:
    """How often each clip comes, against once: by its speaker's name or pattern; ``other`` stands for all others."""
    shares = voices or {}
    patterns = [key for key in shares if any(sign in key for sign in "*?[")]
    weights = np.full(len(clips), shares.get("other", 1.0))
    for name, rows in clips.per_speaker().items() if voices else ():
        key = name if name in shares else next((p for p in patterns if fnmatchcase(name, p)), "other")
        weights[rows] = shares.get(key, 1.0)
    return weights


def spelling(share: float, rng: np.random.Generator) -> Callable[[str], bool] | None:
    """Which words of a text are spelled though the lexicon knows them: a share, drawn word by word."""
    return (lambda _: bool(rng.random() < share)) if share else None


def repeat_to(mel: Tensor, frames: int) -> Tensor:
    """Repeat a mel ``(f, s)`` until it has ``frames`` frames, and cut it there."""
    return mel.repeat(1, -(-frames // mel.shape[1]))[:, :frames]


def _pad(rows: list[Tensor]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def load_pairs(
    features: Path,
    codes: Path | None,
    text: Path,
    mel_range: MelRange,
    config: PairConfig,
    seed: int,
    *,
    cleaner: Cleaner = "chelys",
) -> Pairs:
    """Pairs from their files: a feature folder, ``codes.npy`` (shards for both) and a folder with the tokenizer."""
    tokenizer = Tokenizer.load(text, cleaner=cleaner)
    return Pairs(open_features(features), open_codes(codes) if codes else None, tokenizer, mel_range, config, seed)
