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

import functools
import hashlib
import json
import logging
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile as sf
import soxr
import torch

from chelys.audio.mel import log_mel
from chelys.audio.rates import FRAMES_PER_CODE, HOP, MEL_22K, MEL_24K, OUTPUT_RATE, SAMPLES_PER_CODE, MelSpec
from chelys.data.bad_clips import FILE_NAME as BAD_CLIPS_FILE
from chelys.data.bad_clips import BadClip, BadClips
from chelys.data.manifest import Utterance, read_manifest
from chelys.errors import ManifestError
from chelys.files import write_json, write_json_lines
from chelys.tortoise.mel import code_mel

log = logging.getLogger(__name__)

#: A clip whose every sample is below this (-60 dB) holds no speech.
SILENCE = 1e-3

FrontEnd = Literal["shared", "codes"]
_SPECS: dict[FrontEnd, MelSpec] = {"shared": MEL_24K, "codes": MEL_22K}


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
        return _SPECS[self.front_end]

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
        with sf.SoundFile(clip.audio) as file:
            rate = file.samplerate
            start = round(clip.start * rate) + first * HOP * rate // OUTPUT_RATE
            file.seek(min(start, file.frames))
            wave = file.read(-(-wanted * rate // OUTPUT_RATE), dtype="float32", always_2d=True).mean(1)
    except (sf.SoundFileError, OSError) as error:
        raise ManifestError(f"{clip.audio} cannot be read ({error}); lay out the features anew") from error
    return fitted(wave, rate, wanted)


def fitted(wave: np.ndarray, rate: int, wanted: int) -> torch.Tensor:
    """So many samples ``(wanted,)`` at 24 kHz of a wave ``(n,)`` at another rate; silence beyond its end."""
    if rate != OUTPUT_RATE:
        wave = soxr.resample(wave, rate, OUTPUT_RATE)
    padded = np.zeros(wanted, np.float32)
    padded[: min(wanted, len(wave))] = wave[:wanted]
    return torch.from_numpy(padded)


def extract(
    manifests: list[Path],
    out: Path,
    *,
    front_end: FrontEnd = "shared",
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Make a feature folder.

    Args:
        manifests: Corpora, in this order.
        out: Folder to write; one that is complete is left as it is.
        front_end: Whose mels they are.
        workers: Processes.
        progress: Called with (clips done, clips in all).

    Raises:
        ManifestError: If a manifest cannot be read or no clip is usable.
    """
    if (out / "statistics.json").exists():
        return
    utterances = [u for manifest in manifests for u in read_manifest(manifest)]
    out.mkdir(parents=True, exist_ok=True)
    first, total, squares = 0, 0.0, 0.0
    clips: list[Clip] = []
    bad, heard = BadClips(), dict[bytes, str]()  # the latter: from the hash of a mel to the clip that has it
    read = functools.partial(_mel, front_end=front_end)
    with (out / "mel.f16").open("wb") as frames, ProcessPoolExecutor(workers) as pool:
        for done, (u, mel) in enumerate(zip(utterances, pool.map(read, utterances, chunksize=64), strict=True), 1):
            sound = b"" if isinstance(mel, BadClip) else hashlib.blake2b(mel.data, digest_size=16).digest()
            if isinstance(mel, BadClip):
                bad.extend([mel])
            elif sound in heard:
                bad.add(u.id, "duplicate", f"sounds as {heard[sound]} does")
            else:
                heard[sound] = u.id
                clips.append(Clip(u.id, u.audio, u.text, u.speaker, first, len(mel), u.start))
                frames.write(mel.tobytes())
                first += len(mel)
                wide = mel.astype(np.float64)
                total, squares = total + wide.sum(), squares + (wide**2).sum()
            if progress and done % 200 == 0:
                progress(done, len(utterances))
    if not clips:
        raise ManifestError(f"no usable clip in {', '.join(map(str, manifests))}: {bad.summary() or 'it is empty'}")
    bad.write(out / BAD_CLIPS_FILE)
    if len(clips) < len(utterances):
        log.warning(
            "%d of %d clips are left out (%s): see %s",
            len(utterances) - len(clips), len(utterances), bad.summary(), out / BAD_CLIPS_FILE,
        )  # fmt: skip
    write_json_lines(out / "index.jsonl", (asdict(c) for c in clips))
    spec = _SPECS[front_end]
    count = first * spec.bands
    mean = total / count
    statistics = {
        "mean": mean,
        "std": (squares / count - mean**2) ** 0.5,
        "hours": first * HOP / spec.sample_rate / 3600,
        "bands": spec.bands,
    }
    write_json(out / "statistics.json", statistics, indent=None)


def _mel(utterance: Utterance, front_end: FrontEnd) -> np.ndarray | BadClip:
    """``(s, f)`` float16, or what is wrong with the clip."""
    torch.set_num_threads(1)
    spec = _SPECS[front_end]
    try:
        wave, rate = _read_piece(utterance)
    except (sf.SoundFileError, OSError) as error:
        reason = "corrupt" if Path(utterance.audio).is_file() else "missing"
        return BadClip(utterance.id, reason, f"{utterance.audio}: {error}" if reason == "corrupt" else utterance.audio)
    mono = wave.mean(1)
    if not np.isfinite(mono).all():
        return BadClip(utterance.id, "corrupt", f"{utterance.audio}: samples that are no numbers")
    if rate != spec.sample_rate:
        mono = soxr.resample(mono, rate, spec.sample_rate)
    codes = len(mono) // SAMPLES_PER_CODE
    if codes < 2:
        return BadClip(utterance.id, "too short", f"{len(mono) / spec.sample_rate:.3f} s")
    if np.abs(mono).max() < SILENCE:
        return BadClip(utterance.id, "silent", f"no sample above {SILENCE:g}")
    samples = torch.from_numpy(np.ascontiguousarray(mono, dtype=np.float32))[None]
    made = code_mel(samples) if front_end == "codes" else log_mel(samples, spec)
    mel = made[0, :, : codes * FRAMES_PER_CODE]
    return mel.T.contiguous().numpy().astype(np.float16)


def _read_piece(utterance: Utterance) -> tuple[np.ndarray, int]:
    """``(n, channels)`` float32 and its rate; of a long recording nothing beside the clip is read."""
    with sf.SoundFile(utterance.audio) as file:
        first = min(round(utterance.start * file.samplerate), file.frames)
        count = -1 if utterance.end is None else max(0, round(utterance.end * file.samplerate) - first)
        if first:
            file.seek(first)
        return file.read(count, dtype="float32", always_2d=True), file.samplerate
