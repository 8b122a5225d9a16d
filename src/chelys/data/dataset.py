"""Log-mels of a corpus, laid out once so that training reads them without touching audio.

A feature folder holds ``mel.f16`` (all frames of all clips one after another, ``(frames, bands)`` float16),
``index.jsonl`` (a line for each clip: the manifest's entry, its first frame and its number of frames),
``statistics.json`` and, where some could not be used, ``bad_clips.jsonl``. Clips are cut to whole codes, so that 4
frames are always one code. A manifest of another corpus can be added by naming both.

There are two front ends: ``shared``, 24 kHz and 100 bands, which nano's networks share and the published diffusion
decoder and vocoder hear; and ``codes``, 22.05 kHz and 80 bands, each divided by its norm, which the published VQ-VAE,
autoregressive decoder and CVVP hear. A corpus for the published sizes is laid out in both.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from chelys.audio.io import resample
from chelys.audio.rates import FRAMES_PER_CODE, HOP, MEL_22K, MEL_24K, OUTPUT_RATE, MelSpec
from chelys.audio.stream import open_audio
from chelys.data.bad_clips import FILE_NAME as BAD_CLIPS_FILE
from chelys.data.bad_clips import BadClips
from chelys.errors import AudioError, ManifestError

FrontEnd = Literal["shared", "codes"]
MEL_SPECS: dict[FrontEnd, MelSpec] = {"shared": MEL_24K, "codes": MEL_22K}


@dataclass(frozen=True)
class Clip:
    """One clip of a feature folder.

    Attributes:
        id: Of the manifest.
        audio: Absolute path of the recording.
        text: What is said.
        speaker: Who says it.
        first: Its first frame in ``mel.f16``.
        frames: How many; a multiple of 4.
        start: Where the clip begins in the recording (seconds).
    """

    id: str
    audio: str
    text: str
    speaker: str
    first: int
    frames: int
    start: float = 0.0

    @property
    def codes(self) -> int:
        """Length in codes."""
        return self.frames // FRAMES_PER_CODE


class Features:
    """A feature folder, memory-mapped.

    Attributes:
        front_end: Of its mels.
        clips: In order.
        statistics: Mean and standard deviation of the mels, hours.
        bad_clips: Clips of the manifests that are not here; whoever finds one that cannot be used adds it.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / "statistics.json").is_file():  # the last file of a folder that is complete
            raise ManifestError(
                f"no features in {folder}: make them with 'chelys data features MANIFEST --out {folder}'"
            )
        self.folder = folder
        with (folder / "index.jsonl").open(encoding="utf8") as lines:
            self.clips = [Clip(**json.loads(line)) for line in lines]
        self.statistics: dict[str, float] = json.loads((folder / "statistics.json").read_text())
        self.front_end: FrontEnd = "codes" if self.statistics.get("bands") == MEL_22K.bands else "shared"
        self.frames: np.ndarray = np.memmap(folder / "mel.f16", dtype=np.float16, mode="r").reshape(-1, self.spec.bands)
        self.bad_clips = BadClips.read(folder / BAD_CLIPS_FILE)

    @property
    def spec(self) -> MelSpec:
        """Rate and bands of its mels."""
        return MEL_SPECS[self.front_end]

    def at_least(self, frames: int) -> list[Clip]:
        """Clips of so many frames or more; the others are noted as bad."""
        for clip in self.clips:
            if clip.frames < frames:
                self.bad_clips.add(clip.id, "too short", f"{clip.frames} mel frames; a crop has {frames}")
        return [clip for clip in self.clips if clip.frames >= frames]

    def with_audio(self, clips: list[Clip]) -> list[Clip]:
        """Clips whose recordings are still there; the others are noted as bad."""
        there = {audio: Path(audio).is_file() for audio in {clip.audio for clip in clips}}
        for clip in clips:
            if not there[clip.audio]:
                self.bad_clips.add(clip.id, "missing", clip.audio)
        return [clip for clip in clips if there[clip.audio]]

    def mel(self, clip: Clip, start: int = 0, frames: int | None = None) -> torch.Tensor:
        """Log-mel ``(f, s)`` float32 of a clip, or of ``frames`` frames from ``start`` on."""
        length = clip.frames - start if frames is None else frames
        piece = self.frames[clip.first + start : clip.first + start + length]
        return torch.from_numpy(piece.astype(np.float32)).T

    def wave(self, clip: Clip, first: int, frames: int) -> torch.Tensor:
        """Samples of a clip at 24 kHz, ``(256 frames,)``, from mel frame ``first`` on; silence beyond its end."""
        return read_wave(clip, first, frames)


def read_wave(clip: Clip, first: int, frames: int) -> torch.Tensor:
    """`Features.wave` of a clip whose recording is a file.

    Raises:
        ManifestError: If the recording cannot be read.
    """
    wanted = frames * HOP
    try:
        with open_audio(clip.audio) as stream:
            rate = stream.sample_rate
            start = round(clip.start * rate) + first * HOP * rate // OUTPUT_RATE
            wave = stream.read(start, start + -(-wanted * rate // OUTPUT_RATE))
    except (AudioError, OSError) as error:
        raise ManifestError(f"{clip.audio} cannot be read ({error}); lay out the features anew") from error
    return fitted(wave, rate, wanted)


def fitted(wave: np.ndarray, rate: int, wanted: int) -> torch.Tensor:
    """So many samples ``(wanted,)`` at 24 kHz of a wave ``(n,)`` at another rate; silence beyond its end."""
    wave = resample(wave, rate, OUTPUT_RATE)
    padded = np.zeros(wanted, np.float32)
    padded[: min(wanted, len(wave))] = wave[:wanted]
    return torch.from_numpy(padded)


class Codes:
    """Codes laid out like the frames of a feature folder, four frames to a code."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise ManifestError(f"no codes at {path}: write them with 'chelys data codes'")
        self.path = path
        self.all: np.ndarray = np.load(path, mmap_mode="r")

    def largest(self) -> int:
        """The largest code of all."""
        return max((int(self.all[i : i + 2**24].max()) for i in range(0, len(self.all), 2**24)), default=0)

    def of(self, clip: Clip) -> torch.Tensor:
        """Codes ``(m,)`` of a clip, int64."""
        first = clip.first // FRAMES_PER_CODE
        codes = self.all[first : first + clip.codes].astype(np.int64)
        if len(codes) < clip.codes:
            raise ManifestError(f"{self.path} lacks codes of {clip.id}: it is of other features; write it anew")
        return torch.from_numpy(codes)
