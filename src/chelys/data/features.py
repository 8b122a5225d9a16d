"""Makes a feature folder: the log-mels of a corpus, as `chelys.data.dataset` reads them."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from chelys.audio.io import centered, decode, resample
from chelys.audio.mel import MelRange
from chelys.audio.rates import FRAMES_PER_CODE, HOP, SAMPLES_PER_CODE
from chelys.data.dataset import MEL_SPECS, Clip, Features, MelSpecName, mel_of
from chelys.data.manifest import BAD_CLIPS_FILE, BadClip, BadClips, Utterance, read_manifest
from chelys.errors import AudioError, ManifestError
from chelys.files import atomic_file, write_json, write_json_lines
from chelys.machine import available_cores, worker_pool
from chelys.models.dvae import DVAE

log = logging.getLogger(__name__)

#: A clip whose every sample is below this (-60 dB) holds no speech.
SILENCE = 1e-3
#: Clips that a worker reads at a time.
CHUNK = 64


def extract(
    manifests: list[Path],
    out: Path,
    *,
    mel_spec: MelSpecName = "shared",
    workers: int | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Make a feature folder of corpora, in this order; one that is complete is left as it is.

    A CPU computes mels in the workers (default one for each core), a GPU in this process. ``progress`` gets (clips
    done, clips in all). Raises ManifestError if a manifest cannot be read or no clip is usable.
    """
    if (out / "statistics.json").exists():
        return
    utterances = [u for manifest in manifests for u in read_manifest(manifest)]
    out.mkdir(parents=True, exist_ok=True)
    first, total, squares = 0, 0.0, 0.0
    clips: list[Clip] = []
    bad, seen = BadClips(), dict[bytes, str]()  # the latter: from the hash of a mel to the clip that has it
    with (out / "mel.f16").open("wb") as frames, worker_pool(workers) as pool:
        mels = _mels(pool, utterances, mel_spec, torch.device(device))
        for done, (u, mel) in enumerate(zip(utterances, mels, strict=True), 1):
            sound = b"" if isinstance(mel, BadClip) else hashlib.blake2b(mel.data, digest_size=16).digest()
            if isinstance(mel, BadClip):
                bad.extend([mel])
            elif sound in seen:
                bad.add(u.id, "duplicate", f"sounds as {seen[sound]} does")
            else:
                seen[sound] = u.id
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
    spec = MEL_SPECS[mel_spec]
    count = first * spec.bands
    mean = total / count
    statistics = {
        "mean": mean,
        "std": (squares / count - mean**2) ** 0.5,
        "hours": first * HOP / spec.sample_rate / 3600,
        "bands": spec.bands,
    }
    write_json(out / "statistics.json", statistics, indent=None)


def _mels(
    pool: ProcessPoolExecutor, utterances: list[Utterance], mel_spec: MelSpecName, device: torch.device
) -> Iterator[np.ndarray | BadClip]:
    """``(s, f)`` float16 of each clip, or what is wrong with it; on a GPU a chunk at a time."""
    chunks = [utterances[i : i + CHUNK] for i in range(0, len(utterances), CHUNK)]
    if device.type == "cpu":
        for made in pool.map(functools.partial(_read_and_compute, mel_spec=mel_spec), chunks):
            yield from made
        return
    for waveforms in pool.map(functools.partial(_read, mel_spec=mel_spec), chunks):
        yield from _compute(waveforms, mel_spec, device)


def _read_and_compute(utterances: list[Utterance], mel_spec: MelSpecName) -> list[np.ndarray | BadClip]:
    torch.set_num_threads(1)
    return _compute(_read(utterances, mel_spec), mel_spec, torch.device("cpu"))


def _compute(
    waveforms: list[np.ndarray | BadClip], mel_spec: MelSpecName, device: torch.device
) -> list[np.ndarray | BadClip]:
    """Mels of waveforms: sent to the device one by one, without padding, and fetched together."""
    lengths, mels = [], []
    for waveform in waveforms:
        if not isinstance(waveform, BadClip):
            frames = len(waveform) // SAMPLES_PER_CODE * FRAMES_PER_CODE
            samples = torch.from_numpy(waveform).to(device, non_blocking=True)
            mels.append(mel_of(samples[None], mel_spec)[0, :, :frames].T.half())
            lengths.append(frames)
    fetched = iter(torch.cat(mels).cpu().split(lengths) if mels else ())
    return [waveform if isinstance(waveform, BadClip) else next(fetched).numpy() for waveform in waveforms]


def _read(utterances: list[Utterance], mel_spec: MelSpecName) -> list[np.ndarray | BadClip]:
    return [_waveform(utterance, MEL_SPECS[mel_spec].sample_rate) for utterance in utterances]


def _waveform(utterance: Utterance, sample_rate: int) -> np.ndarray | BadClip:
    """``(n,)`` float32, or what is wrong with the clip."""
    try:
        mono, rate = decode(utterance.audio, start=utterance.start, end=utterance.end)
    except (AudioError, OSError) as error:
        reason = "corrupt" if os.path.exists(utterance.audio) else "missing"
        return BadClip(utterance.id, reason, f"{utterance.audio}: {error}" if reason == "corrupt" else utterance.audio)
    except MemoryError:
        return BadClip(utterance.id, "too long", "it takes more memory than is free")
    mono = resample(mono, rate, sample_rate)
    if len(mono) < 2 * SAMPLES_PER_CODE:
        return BadClip(utterance.id, "too short", f"{len(mono) / sample_rate:.3f} s")
    mono = centered(mono)
    if np.abs(mono).max() < SILENCE:
        return BadClip(utterance.id, "silent", f"no sample above {SILENCE:g}")
    return np.ascontiguousarray(mono, dtype=np.float32)


# ---- codes ----------------------------------------------------------------------------------------------------------

#: Mel frames of a batch, padding included: 0.5 GB of activations at the published size.
BATCH_FRAMES = 16_384


def encode(
    features: Features,
    dvae: DVAE,
    mel_range: MelRange,
    out: Path,
    *,
    workers: int | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the codes of all clips, uint16, with a trained VQ-VAE and its mel range; a file that exists is left alone.

    On a CPU ``workers`` processes encode, by default one for each core. ``progress`` gets (clips done, clips in all).
    """
    if out.exists():
        return
    codes = np.zeros(len(features.frames) // FRAMES_PER_CODE, dtype=np.uint16)
    batches = list(_batches(features))
    done = 0
    parts = (features, dvae.to(device).eval(), mel_range)
    with ExitStack() as stack:
        made: Iterator[list[np.ndarray]] = map(_ClipEncoder(*parts), batches)
        workers = min(workers or available_cores(), len(batches))
        if workers > 1 and torch.device(device).type == "cpu":
            pool = stack.enter_context(worker_pool(workers, initializer=_set_up, initargs=parts))
            made = pool.map(_encode, batches)
        for clips, codes_of_clips in zip(batches, made, strict=True):
            for clip, found in zip(clips, codes_of_clips, strict=True):
                first = clip.first // FRAMES_PER_CODE
                codes[first : first + clip.codes] = found
            done += len(clips)
            if progress:
                progress(done, len(features.clips))
    with atomic_file(out) as file:
        np.save(file, codes)


def _batches(features: Features) -> Iterator[list[Clip]]:
    """Clips of like length, the longest first: what does not fit is seen at once."""
    batch: list[Clip] = []
    for index in np.argsort(-features.clips.frames, kind="stable"):
        clip = features.clips[int(index)]
        if batch and batch[0].frames * (len(batch) + 1) > BATCH_FRAMES:
            yield batch
            batch = []
        batch.append(clip)
    if batch:
        yield batch


class _ClipEncoder:
    """Encodes batches; made once in each process."""

    def __init__(self, features: Features, dvae: DVAE, mel_range: MelRange) -> None:
        self.features, self.dvae, self.mel_range = features, dvae, mel_range
        self.device = next(dvae.parameters()).device

    @torch.inference_mode()
    def __call__(self, clips: list[Clip]) -> list[np.ndarray]:
        mels = [self.mel_range.normalize(self.features.mel(clip).to(self.device)) for clip in clips]
        return [codes.to(torch.int32).cpu().numpy() for codes in self.dvae.encode_clips(mels)]


_encoder: _ClipEncoder | None = None  # of a worker process


def _set_up(features: Features, dvae: DVAE, mel_range: MelRange) -> None:
    global _encoder
    torch.set_num_threads(1)
    _encoder = _ClipEncoder(features, dvae, mel_range)


def _encode(clips: list[Clip]) -> list[np.ndarray]:
    assert _encoder is not None
    return _encoder(clips)
