"""Makes a feature folder: the log-mels of a corpus, as `chelys.data.dataset` reads them."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from chelys.audio.io import decode, resample
from chelys.audio.rates import FRAMES_PER_CODE, HOP, SAMPLES_PER_CODE
from chelys.data.bad_clips import FILE_NAME as BAD_CLIPS_FILE
from chelys.data.bad_clips import BadClip, BadClips
from chelys.data.dataset import MEL_SPECS, Clip, FrontEnd, mel_of
from chelys.data.manifest import Utterance, read_manifest
from chelys.errors import AudioError, ManifestError
from chelys.files import write_json, write_json_lines

log = logging.getLogger(__name__)

#: A clip whose every sample is below this (-60 dB) holds no speech.
SILENCE = 1e-3


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
    spec = MEL_SPECS[front_end]
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
    spec = MEL_SPECS[front_end]
    try:
        mono, rate = decode(utterance.audio, start=utterance.start, end=utterance.end)
    except (AudioError, OSError) as error:
        reason = "corrupt" if Path(utterance.audio).is_file() else "missing"
        return BadClip(utterance.id, reason, f"{utterance.audio}: {error}" if reason == "corrupt" else utterance.audio)
    mono = resample(mono, rate, spec.sample_rate)
    codes = len(mono) // SAMPLES_PER_CODE
    if codes < 2:
        return BadClip(utterance.id, "too short", f"{len(mono) / spec.sample_rate:.3f} s")
    if np.abs(mono).max() < SILENCE:
        return BadClip(utterance.id, "silent", f"no sample above {SILENCE:g}")
    samples = torch.from_numpy(np.ascontiguousarray(mono, dtype=np.float32))[None]
    mel = mel_of(samples, front_end)[0, :, : codes * FRAMES_PER_CODE]
    return mel.T.contiguous().numpy().astype(np.float16)
