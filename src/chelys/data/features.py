"""Log-mels of a corpus, laid out once so that training reads them without touching audio.

A feature folder holds ``mel.f16`` (all frames of all clips one after another, ``(frames, bands)`` float16),
``index.jsonl`` (a line for each clip: the manifest's entry, its first frame and its number of frames) and
``statistics.json``. Clips are cut to whole codes, so that 4 frames are always one code. A manifest of another
corpus can be added by naming both.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import soxr
import torch

from chelys.audio.mel import log_mel
from chelys.audio.rates import FRAMES_PER_CODE, HOP, MEL_24K, SAMPLES_PER_CODE
from chelys.data.manifest import Utterance, read_manifest
from chelys.errors import ManifestError

log = logging.getLogger(__name__)


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
    """A feature folder, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        if not (folder / "statistics.json").is_file():  # the last file of a folder that is complete
            raise ManifestError(
                f"no features in {folder}: make them with 'chelys data features MANIFEST --out {folder}'"
            )
        self.folder = folder
        with (folder / "index.jsonl").open(encoding="utf8") as lines:
            self.clips = [Clip(**json.loads(line)) for line in lines]
        self.frames: np.ndarray = np.memmap(folder / "mel.f16", dtype=np.float16, mode="r").reshape(-1, MEL_24K.bands)
        self.statistics: dict[str, float] = json.loads((folder / "statistics.json").read_text())

    def mel(self, clip: Clip, start: int = 0, frames: int | None = None) -> torch.Tensor:
        """Log-mel ``(f, s)`` float32 of a clip, or of ``frames`` frames from ``start`` on."""
        length = clip.frames - start if frames is None else frames
        piece = self.frames[clip.first + start : clip.first + start + length]
        return torch.from_numpy(piece.astype(np.float32)).T


def extract(
    manifests: list[Path], out: Path, *, workers: int = 2, progress: Callable[[int, int], None] | None = None
) -> None:
    """Make a feature folder.

    Args:
        manifests: Corpora, in this order.
        out: Folder to write; one that is complete is left as it is.
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
    with (out / "mel.f16").open("wb") as frames, ProcessPoolExecutor(workers) as pool:
        for done, (utterance, mel) in enumerate(
            zip(utterances, pool.map(_mel, utterances, chunksize=64), strict=True), 1
        ):
            if len(mel):
                u = utterance
                clips.append(Clip(u.id, u.audio, u.text, u.speaker, first, len(mel), u.start))
                frames.write(mel.tobytes())
                first += len(mel)
                wide = mel.astype(np.float64)
                total, squares = total + wide.sum(), squares + (wide**2).sum()
            if progress and done % 200 == 0:
                progress(done, len(utterances))
    if not clips:
        raise ManifestError(f"no usable clip in {', '.join(map(str, manifests))}")
    if len(clips) < len(utterances):
        log.warning("%d of %d clips are too short or cannot be read", len(utterances) - len(clips), len(utterances))
    _write_lines(out / "index.jsonl", (asdict(c) for c in clips))
    count = first * MEL_24K.bands
    mean = total / count
    statistics = {
        "mean": mean,
        "std": (squares / count - mean**2) ** 0.5,
        "hours": first * HOP / MEL_24K.sample_rate / 3600,
    }
    partial = out / "statistics.part"
    partial.write_text(json.dumps(statistics))
    partial.replace(out / "statistics.json")


def _write_lines(path: Path, entries: Iterator[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(e, ensure_ascii=False) + "\n" for e in entries), encoding="utf8")


def _mel(utterance: Utterance) -> np.ndarray:
    """``(s, f)`` float16; empty where the clip is shorter than two codes or cannot be read."""
    torch.set_num_threads(1)
    try:
        wave, rate = sf.read(utterance.audio, dtype="float32", always_2d=True)
    except sf.SoundFileError:
        return np.zeros((0, MEL_24K.bands), np.float16)
    end = len(wave) if utterance.end is None else round(utterance.end * rate)
    mono = wave[round(utterance.start * rate) : end].mean(1)
    if rate != MEL_24K.sample_rate:
        mono = soxr.resample(mono, rate, MEL_24K.sample_rate)
    codes = len(mono) // SAMPLES_PER_CODE
    if codes < 2 or not np.isfinite(mono).all():
        return np.zeros((0, MEL_24K.bands), np.float16)
    mel = log_mel(torch.from_numpy(np.ascontiguousarray(mono))[None], MEL_24K)[0, :, : codes * FRAMES_PER_CODE]
    return mel.T.contiguous().numpy().astype(np.float16)
