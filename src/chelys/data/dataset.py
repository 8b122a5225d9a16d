"""Corpora as training reads them: map-style datasets of clips, over memory-mapped features or over shards.

`ClipDataset` is the interface: a table of clips, and for each clip its log-mel, waveform and pitch. `Features` reads a
feature folder; `chelys.data.shards.ShardFeatures` reads clips where they lie in tar files. `Codes` and `ShardCodes`
are the same for speech codes. All of them can be pickled and handed to worker processes.

A feature folder holds ``mel.f16`` (all frames of all clips one after another, ``(frames, bands)`` float16),
``index.jsonl`` (a line for each clip: the manifest's entry, its first frame and its number of frames),
``statistics.json``, ``pitch.npy`` where a vocoder needs it and, where some clips cannot be used, ``bad_clips.jsonl``.
Clips are cut to whole codes: 4 frames are always one code.

There are two mel specs: ``shared``, 24 kHz and 100 bands, for nano's networks and the published diffusion decoder and
vocoder; and ``codes``, 22.05 kHz and 80 bands, each divided by its norm, for the published VQ-VAE, autoregressive
decoder and CVVP. A corpus for the published sizes is laid out in both.
"""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch

from chelys.audio.io import resample
from chelys.audio.mel import log_mel
from chelys.audio.rates import FRAMES_PER_CODE, HOP, MEL_22K, MEL_24K, OUTPUT_RATE, MelSpec
from chelys.audio.stream import open_audio
from chelys.data.arrays import map_npy
from chelys.data.loader import MIN_HELD_OUT, held_out
from chelys.data.manifest import BAD_CLIPS_FILE, MAX_POSITION, BadClips
from chelys.errors import AudioError, ManifestError, first_line
from chelys.files import open_regular
from chelys.parsing import read_json, read_json_lines

log = logging.getLogger(__name__)

MelSpecName = Literal["shared", "codes"]
MEL_SPECS: dict[MelSpecName, MelSpec] = {"shared": MEL_24K, "codes": MEL_22K}


def mel_of(waveform: torch.Tensor, mel_spec: MelSpecName) -> torch.Tensor:
    """Log-mel ``(b, f, 1 + n // 256)`` of waveforms ``(b, n)`` at the mel spec's rate."""
    if mel_spec == "codes":
        from chelys.tortoise.mel import code_mel

        return code_mel(waveform)
    return log_mel(waveform, MEL_SPECS[mel_spec])


@dataclass(frozen=True)
class Clip:
    """One clip of a dataset."""

    id: str  # of the manifest
    audio: str  # absolute path of the recording, or of the shard
    text: str  # transcript
    speaker: str  # name of the speaker
    first: int  # Its first frame in ``mel.f16``; in shards its number. Larger than that of the clip before.
    frames: int  # how many; a multiple of 4
    start: float = 0.0  # where the clip begins in the recording (seconds)

    @property
    def codes(self) -> int:
        return self.frames // FRAMES_PER_CODE


class TextColumn:
    """Strings in one block of bytes, found by number: worker processes share it, and would copy millions of strings."""

    def __init__(self, data: np.ndarray, ends: np.ndarray, numbers: np.ndarray | None = None) -> None:
        self.data, self.ends, self.numbers = data, ends, numbers

    @classmethod
    def of(cls, texts: Iterable[str], *, repeated: bool = False) -> TextColumn:
        """Pack strings; ``repeated`` ones are kept once."""
        data, ends, seen, numbers = bytearray(), [0], dict[str, int](), []
        for text in texts:
            if not repeated or text not in seen:
                data += text.encode("utf8", "surrogatepass")
                ends.append(len(data))
            if repeated:
                numbers.append(seen.setdefault(text, len(seen)))
        packed = np.frombuffer(bytes(data), np.uint8)
        return cls(packed, np.array(ends), np.array(numbers, np.int32) if repeated else None)

    def __len__(self) -> int:
        return len(self.ends) - 1 if self.numbers is None else len(self.numbers)

    def __getitem__(self, row: int) -> str:
        return self.value(row if self.numbers is None else int(self.numbers[row]))

    @property
    def is_whole(self) -> bool:
        """Whether every string lies within the block and is text."""
        steps, strings = np.diff(self.ends), len(self.ends) - 1
        if len(self.ends) < 1 or self.ends[0] != 0 or self.ends[-1] != len(self.data) or (steps < 0).any():
            return False
        if self.numbers is not None and len(self.numbers):
            return bool(0 <= self.numbers.min() <= self.numbers.max() < strings)
        return self.data.dtype == np.uint8

    def value(self, number: int) -> str:
        """A string by its own number."""
        return self.data[self.ends[number] : self.ends[number + 1]].tobytes().decode("utf8", "surrogatepass")


class ClipTable(Sequence[Clip]):
    """Clips in columns, some 50 bytes and its text each; a part of a table shares them, and has its ``rows`` of the
    whole.
    """

    def __init__(
        self,
        texts: dict[str, TextColumn],
        first: np.ndarray,
        frames: np.ndarray,
        start: np.ndarray,
        rows: np.ndarray | None = None,
    ) -> None:
        self._texts, self._first, self._frames, self._start = texts, first, frames, start
        self.rows = np.arange(len(first)) if rows is None else rows

    @classmethod
    def of(cls, clips: Iterable[Clip]) -> ClipTable:
        clips = list(clips)
        repeated = {"id": False, "audio": True, "text": False, "speaker": True}
        texts = {key: TextColumn.of((getattr(c, key) for c in clips), repeated=r) for key, r in repeated.items()}
        first, frames = (np.array([getattr(c, key) for c in clips], np.int64) for key in ("first", "frames"))
        return cls(texts, first, frames, np.array([c.start for c in clips], np.float64))

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Clip: ...

    @overload
    def __getitem__(self, index: slice) -> ClipTable: ...

    def __getitem__(self, index: int | slice) -> Clip | ClipTable:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        row = int(self.rows[index])
        texts = self._texts
        return Clip(
            texts["id"][row], texts["audio"][row], texts["text"][row], texts["speaker"][row],
            int(self._first[row]), int(self._frames[row]), float(self._start[row]),
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClipTable) and len(self) == len(other) and all(map(Clip.__eq__, self, other))

    __hash__ = None  # type: ignore[assignment]

    def take(self, which: np.ndarray) -> ClipTable:
        """Some of the clips: indices, or True for each that is wanted."""
        return ClipTable(self._texts, self._first, self._frames, self._start, self.rows[which])

    def ids(self) -> Iterator[str]:
        return (self._texts["id"][int(row)] for row in self.rows)

    @property
    def first(self) -> np.ndarray:
        return self._first[self.rows]

    @property
    def frames(self) -> np.ndarray:
        return self._frames[self.rows]

    @property
    def codes(self) -> np.ndarray:
        return self._frames[self.rows] // FRAMES_PER_CODE

    def per_speaker(self) -> dict[str, np.ndarray]:
        """Speaker -> indices of their clips, in order."""
        return self._grouped("speaker")

    def per_recording(self) -> dict[str, np.ndarray]:
        """Path of a recording -> indices of its clips, in order."""
        return self._grouped("audio")

    def _grouped(self, key: str) -> dict[str, np.ndarray]:
        column = self._texts[key]
        assert column.numbers is not None
        numbers = column.numbers[self.rows]
        order = np.argsort(numbers, kind="stable")
        names, starts = np.unique(numbers[order], return_index=True)
        parts = np.split(order, starts[1:])
        return {column.value(int(name)): part for name, part in zip(names, parts, strict=len(names) > 0)}


class ClipDataset(ABC):
    """Clips, and what training wants of each."""

    folder: Path  # where they lie
    mel_spec: MelSpecName  # of the mels
    clips: ClipTable  # in order
    statistics: dict[str, float]  # mean and standard deviation of the mels where they are known, hours
    bad_clips: BadClips  # clips that are left out; code that finds an unusable clip adds it

    @property
    def spec(self) -> MelSpec:
        """Rate and bands of its mels."""
        return MEL_SPECS[self.mel_spec]

    @abstractmethod
    def mel(self, clip: Clip, start: int = 0, frames: int | None = None) -> torch.Tensor:
        """Log-mel ``(f, s)`` float32 of a clip, or of ``frames`` frames from ``start`` on."""

    @abstractmethod
    def waveform(self, clip: Clip, first: int, frames: int) -> torch.Tensor:
        """Samples of a clip at 24 kHz, ``(256 frames,)``, from mel frame ``first`` on; silence beyond its end."""

    def split(self, clips: ClipTable) -> tuple[ClipTable, ClipTable]:
        """Clips to train on, and clips held out; decided over all clips of the dataset, so that all stages agree."""
        kept = self._held_out[clips.rows]
        if len(clips) and not kept.any():
            log.warning("%s: no clip is held out, so there is no evaluation: use a larger corpus", self.folder)
        return clips.take(~kept), clips.take(kept)

    @cached_property
    def _held_out(self) -> np.ndarray:
        return held_out(self.clips.ids(), least=int(self.statistics.get("min_held_out", MIN_HELD_OUT)))

    def at_least(self, frames: int) -> ClipTable:
        """Clips of so many frames or more; the others are noted as bad."""
        enough = self.clips.frames >= frames
        for clip in self.clips.take(~enough):
            self.bad_clips.add(clip.id, "too short", f"{clip.frames} mel frames; a crop has {frames}")
        return self.clips.take(enough)

    def with_audio(self, clips: ClipTable) -> ClipTable:
        """Clips whose recordings are still there; the others are noted as bad."""
        there = np.ones(len(clips), bool)
        for audio, rows in clips.per_recording().items():
            there[rows] = os.path.isfile(audio)
        for clip in clips.take(~there):
            self.bad_clips.add(clip.id, "missing", clip.audio)
        return clips.take(there)


class Features(ClipDataset):
    """A feature folder, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        if not (folder / "statistics.json").is_file():  # the last file of a folder that is complete
            how = f"'chelys data features MANIFEST --out {folder}'"
            raise ManifestError(f"no features in {folder}: make them with {how}")
        self.folder = folder
        self.bad_clips = BadClips.read(folder / BAD_CLIPS_FILE)
        try:
            self.statistics = _statistics(read_json(folder / "statistics.json"))
            self.mel_spec = "codes" if self.statistics.get("bands") == MEL_22K.bands else "shared"
            self.clips = ClipTable.of(map(_clip, read_json_lines(folder / "index.jsonl")))
            self.frames = self._map()
            if not _in_a_row(self.clips, len(self.frames)):
                raise ValueError("mel.f16 does not have the frames of index.jsonl")
        except (OSError, ValueError, TypeError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise ManifestError(f"the features in {folder} are damaged ({reason}): write them again") from error

    def _map(self) -> np.ndarray:
        path = self.folder / "mel.f16"
        open_regular(path).close()
        return np.memmap(path, dtype=np.float16, mode="r").reshape(-1, self.spec.bands)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "frames"}  # not its contents

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.frames = self._map()

    def mel(self, clip: Clip, start: int = 0, frames: int | None = None) -> torch.Tensor:
        length = clip.frames - start if frames is None else frames
        piece = self.frames[clip.first + start : clip.first + start + length]
        return torch.from_numpy(piece.astype(np.float32)).T

    def waveform(self, clip: Clip, first: int, frames: int) -> torch.Tensor:
        return read_waveform(clip, first, frames)


def _statistics(values: Any) -> dict[str, float]:
    if not isinstance(values, dict) or not all(isinstance(value, int | float) for value in values.values()):
        raise ValueError("statistics.json holds other things than numbers")
    return values


def _clip(entry: Any) -> Clip:
    """A line of ``index.jsonl``."""
    clip = Clip(**entry)
    texts = (clip.id, clip.audio, clip.text, clip.speaker)
    if not all(isinstance(text, str) for text in texts) or not (type(clip.first) is type(clip.frames) is int):
        raise ValueError("index.jsonl has a line of other kinds of values")
    if clip.frames < FRAMES_PER_CODE or clip.frames % FRAMES_PER_CODE or not 0 <= clip.start <= MAX_POSITION:
        raise ValueError("index.jsonl has a clip of an impossible length")
    return clip


def _in_a_row(clips: ClipTable, frames: int) -> bool:
    """Whether clips lie one after another and are all of the frames."""
    ends = np.cumsum(clips.frames)
    return bool(len(ends) and ends[-1] == frames and (clips.first[1:] == ends[:-1]).all() and clips.first[0] == 0)


def read_waveform(clip: Clip, first: int, frames: int) -> torch.Tensor:
    """`ClipDataset.waveform` of a clip whose recording is a file. Raises ManifestError if it cannot be read."""
    wanted = frames * HOP
    try:
        with open_audio(clip.audio) as stream:
            rate = stream.sample_rate
            start = round(clip.start * rate) + first * HOP * rate // OUTPUT_RATE
            waveform = stream.read(start, start + -(-wanted * rate // OUTPUT_RATE))
    except (AudioError, OSError) as error:
        raise ManifestError(f"{clip.audio} cannot be read ({error}); write the features again") from error
    return fitted(waveform, rate, wanted)


def fitted(waveform: np.ndarray, rate: int, wanted: int) -> torch.Tensor:
    """So many samples ``(wanted,)`` at 24 kHz of a waveform ``(n,)`` at another rate; silence beyond its end."""
    waveform = resample(waveform, rate, OUTPUT_RATE)
    padded = np.zeros(wanted, np.float32)
    padded[: min(wanted, len(waveform))] = waveform[:wanted]
    return torch.from_numpy(padded)


class Codes:
    """Codes laid out like the frames of a feature folder, four frames to a code."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise ManifestError(f"no codes at {path}: write them with 'chelys data codes'")
        self.path = path
        try:
            self.all = map_npy(path)
        except (OSError, ValueError) as error:
            raise ManifestError(f"{path} is damaged ({first_line(error)}): write it again") from error
        if self.all.ndim != 1 or self.all.dtype.kind not in "iu":
            raise ManifestError(f"{path} holds no codes, which are one row of whole numbers: write it again")

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path = state["path"]
        self.all = map_npy(self.path)

    def largest(self) -> int:
        return max((int(self.all[i : i + 2**24].max()) for i in range(0, len(self.all), 2**24)), default=0)

    def of(self, clip: Clip) -> torch.Tensor:
        first = clip.first // FRAMES_PER_CODE
        codes = self.all[first : first + clip.codes].astype(np.int64)
        if len(codes) < clip.codes:
            raise ManifestError(f"{self.path} lacks codes of {clip.id}: it is of other features; write it again")
        return torch.from_numpy(codes)
