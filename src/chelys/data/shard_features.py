"""Shards in place of a feature folder and its codes: what a training stage asks of those, read where it lies in a tar.

Mels are made of the sound when they are asked for, which takes a thousandth of the time that the sound lasts. The list
of clips is held in memory, about 600 bytes each; for more than some ten thousand hours use ``ShardLoader``.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import soxr
import torch

from chelys.audio.mel import log_mel
from chelys.audio.rates import FRAMES_PER_CODE, HOP, MEL_22K, MEL_24K, OUTPUT_RATE, SAMPLES_PER_CODE
from chelys.data.bad_clips import BadClips
from chelys.data.dataset import Clip, Codes, Features, FrontEnd, fitted
from chelys.data.shard_index import ShardIndex, descriptions, open_shards, speaker_of
from chelys.data.shards import Reader, Sample
from chelys.errors import ManifestError
from chelys.tortoise.mel import code_mel

_REMEMBERED = 64  # clips: those of a batch are asked for more than once
_MARGIN = 2  # frames to either side that a window reaches into
_ROUNDING = 0.001  # seconds are written to the millisecond; a code that may not be whole is left out


def holds_shards(path: Path) -> bool:
    """Whether a path is a folder of shards, or one that ``chelys data prepare`` wrote."""
    return path.is_dir() and any(next(folder.glob("*.tar"), None) for folder in (path, path / "shards"))


class _Source:
    """Samples of an index by number, the latest ones remembered; each process opens files of its own."""

    def __init__(self, index: ShardIndex, wanted: str) -> None:
        self.index, self.wanted = index, frozenset({wanted})
        self._owner = -1

    def sample(self, number: int) -> Sample:
        if self._owner != os.getpid():  # after a fork the files' positions would be shared
            self._reader, self._owner = Reader(self.index, self.wanted), os.getpid()
            self._read = lru_cache(_REMEMBERED)(self._reader.read)
        return self._read(number)

    def __getstate__(self) -> dict[str, object]:
        return {"index": self.index, "wanted": self.wanted, "_owner": -1}


class ShardFeatures(Features):
    """Mels of the clips in shards.

    Args:
        folder: Of the shards, or one that ``chelys data prepare`` wrote.
        front_end: Whose mels; None: of what the clips were encoded with, shared if they were not.

    Raises:
        ManifestError: If there are no shards, or no clip of two codes or more.
    """

    def __init__(self, folder: Path, front_end: FrontEnd | None = None) -> None:
        index = open_shards(folder)
        front_end = front_end or _front_end_of_codes(index)
        self.folder, self.front_end, self.bad_clips = folder, front_end, BadClips()
        self._source = _Source(index, "flac")
        spec = MEL_22K if front_end == "codes" else MEL_24K
        self.clips = []
        for number, about in enumerate(descriptions(index)):
            codes = int((about["seconds"] - _ROUNDING) * spec.sample_rate / SAMPLES_PER_CODE)
            if codes < 2:
                self.bad_clips.add(about["id"], "too short", f"{about['seconds']:.2f} s")
                continue
            where = str(index.folder / index.shard_of(number).name)
            text, frames = about.get("text") or "", codes * FRAMES_PER_CODE
            self.clips.append(Clip(about["id"], where, text, speaker_of(about), number, frames))
        if not self.clips:
            raise ManifestError(f"no clip in the shards of {index.folder} is as long as two codes")
        seconds = sum(clip.frames for clip in self.clips) * HOP / spec.sample_rate
        self.statistics = {"hours": seconds / 3600, "bands": spec.bands}

    def mel(self, clip: Clip, start: int = 0, frames: int | None = None) -> torch.Tensor:
        """Log-mel ``(f, s)`` float32 of a clip, or of ``frames`` frames from ``start`` on."""
        (wave, rate), spec = self._sound(clip), self.spec
        if rate != spec.sample_rate:
            wave = soxr.resample(wave, rate, spec.sample_rate)
        if 1 + len(wave) // HOP < clip.frames:
            raise ManifestError(f"{clip.audio}: {clip.id} is shorter than its description says; check the shards")
        end = clip.frames if frames is None else min(clip.frames, start + frames)
        first = max(0, start - _MARGIN)
        piece = np.ascontiguousarray(wave[first * HOP : (end + _MARGIN) * HOP], dtype=np.float32)
        samples = torch.from_numpy(piece)[None]
        made = (code_mel(samples) if self.front_end == "codes" else log_mel(samples, spec))[0]
        return made[:, start - first : end - first]

    def wave(self, clip: Clip, first: int, frames: int) -> torch.Tensor:
        """Samples of a clip at 24 kHz, ``(256 frames,)``, from mel frame ``first`` on; silence beyond its end."""
        wave, rate = self._sound(clip)
        start = first * HOP * rate // OUTPUT_RATE
        return fitted(wave[start : start - (-frames * HOP * rate // OUTPUT_RATE)], rate, frames * HOP)

    def _sound(self, clip: Clip) -> tuple[np.ndarray, int]:
        sample = self._source.sample(clip.first)
        if sample.audio is None:
            raise ManifestError(f"{clip.audio} holds no sound of {clip.id}: pack it with pack.contents=both")
        return sample.audio, sample.rate


class ShardCodes(Codes):
    """Codes of the clips in shards, which ``chelys data prepare`` has encoded."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self._source = _Source(open_shards(folder), "codes.npy")
        self._largest: int | None = None

    def largest(self) -> int:
        """The largest code of all; every clip is read, once."""
        if self._largest is None:
            self._largest = max(int(self._codes(number).max(initial=0)) for number in range(len(self._source.index)))
        return self._largest

    def of(self, clip: Clip) -> torch.Tensor:
        """Codes ``(m,)`` of a clip, int64."""
        codes = self._codes(clip.first)[: clip.codes]
        if len(codes) < clip.codes:
            raise ManifestError(f"{clip.audio} lacks codes of {clip.id}: prepare it anew with encode.model")
        return torch.from_numpy(codes.astype(np.int64))

    def _codes(self, number: int) -> np.ndarray:
        codes = self._source.sample(number).codes
        if codes is None or codes.ndim != 1:
            raise ManifestError(f"{self.path} holds no codes: prepare it with encode.model, pack.contents=both")
        return codes


def _front_end_of_codes(index: ShardIndex) -> FrontEnd:
    """A second has 23.4 codes of the shared front end, 21.5 of the published one: the longest clip tells."""
    longest = int(np.argmax(index.entries["seconds"]))
    codes = Reader(index, frozenset({"codes.npy"})).read(longest).codes
    if codes is None or codes.ndim != 1:
        return "shared"
    per_second = len(codes) * SAMPLES_PER_CODE / float(index.entries["seconds"][longest])
    return "codes" if abs(per_second - MEL_22K.sample_rate) < abs(per_second - MEL_24K.sample_rate) else "shared"


def open_features(path: Path, front_end: FrontEnd | None = None) -> Features:
    """A feature folder, or shards in its place; ``front_end`` is of the latter, see ``ShardFeatures``."""
    return ShardFeatures(path, front_end) if holds_shards(path) else Features(path)


def open_codes(path: Path) -> Codes:
    """A file of codes, or shards in its place."""
    return ShardCodes(path) if holds_shards(path) else Codes(path)
