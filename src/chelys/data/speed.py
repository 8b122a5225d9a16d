"""New speakers of those that there are: speed perturbation (Ko et al. 2015, "Audio augmentation for speech
recognition").

A clip played faster or slower has its pitch and its formants moved together, as those of a smaller or larger person:
the words stay, the voice is another one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from chelys.audio.io import MIN_CLIP_SECONDS, decode, resample, write
from chelys.data.manifest import BAD_CLIPS_FILE, BadClips, Utterance, read_manifest
from chelys.errors import AudioError, ConfigError, ManifestError
from chelys.files import digest, write_json_lines
from chelys.machine import worker_pool

#: How many times as fast. Beyond 0.85 and 1.2 words are lost (docs/research/nano.md, sizes of ``heart``).
FACTORS = (0.86, 0.9, 0.94, 1.07, 1.12, 1.18)
#: Clips that a new speaker has, where there are so many: each needs others of its speaker as references.
LEAST_CLIPS = 25


class Perturbed(NamedTuple):
    """What was made."""

    manifest: Path
    clips: int
    speakers: int
    bad_clips: BadClips


def perturb_speed(
    manifest: Path, out: Path, *, factors: Sequence[float] = FACTORS, seed: int = 1, workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Perturbed:  # fmt: skip
    """Write ``OUT/audio/*.flac`` of each clip, played at one of the factors, and ``OUT/manifest.jsonl``.

    A speaker becomes as many new ones, ``NAME@FACTOR``, as have 25 clips each; one with fewer becomes one. Files that
    are there are kept. ``progress`` gets (clips done, clips in all). Raises ConfigError if a factor is not 0.5 to 2, or
    is 1; ManifestError if the manifest cannot be read or no clip is usable.
    """
    if not factors or not all(0.5 <= factor <= 2 and factor != 1 for factor in factors):
        raise ConfigError(f"factors are {', '.join(f'{f:g}' for f in factors)}: each must be 0.5 to 2, and not 1")
    utterances = list(read_manifest(manifest))
    (out / "audio").mkdir(parents=True, exist_ok=True)
    chosen = _factors(utterances, sorted(factors), seed)
    made, bad = list[Utterance](), BadClips()
    with worker_pool(workers) as pool:
        results = pool.map(partial(_play, folder=out), utterances, chosen, chunksize=16)
        for done, (utterance, result) in enumerate(zip(utterances, results, strict=True), 1):
            if isinstance(result, str):
                bad.add(utterance.id, "unreadable", result)
            else:
                made.append(result)
            if progress:
                progress(done, len(utterances))
    if not made:
        raise ManifestError(f"no usable clip in {manifest}: {bad.summary() or 'it is empty'}")
    bad.write(out / BAD_CLIPS_FILE)
    entries = ({k: v for k, v in asdict(u).items() if k not in ("start", "end")} for u in made)
    write_json_lines(out / "manifest.jsonl", entries)
    return Perturbed(out / "manifest.jsonl", len(made), len({u.speaker for u in made}), bad)


def _factors(utterances: Sequence[Utterance], factors: Sequence[float], seed: int) -> list[float]:
    """A factor for each clip: of its speaker's own few factors, dealt in turn."""
    clips: dict[str, list[int]] = {}
    for index, utterance in enumerate(utterances):
        clips.setdefault(utterance.speaker, []).append(index)
    chosen = [0.0] * len(utterances)
    for number, speaker in enumerate(sorted(clips)):
        indices = clips[speaker]
        count = min(len(factors), max(1, len(indices) // LEAST_CLIPS))
        own = np.random.default_rng([seed, number]).permutation(len(factors))[:count]
        for place, index in enumerate(indices):
            chosen[index] = factors[int(own[place % count])]
    return chosen


def _play(utterance: Utterance, factor: float, *, folder: Path) -> Utterance | str:
    """The clip at another speed, or what is wrong with it. The sample rate stays."""
    path = folder / "audio" / f"{digest(repr((utterance, factor)).encode())}.flac"
    if not path.is_file():
        try:
            audio, rate = decode(utterance.audio, start=utterance.start, end=utterance.end)
        except (AudioError, OSError) as error:
            return f"{utterance.audio}: {error}"
        if len(audio) < MIN_CLIP_SECONDS * rate:
            return f"{utterance.audio}: {len(audio) / rate:.2f} s"
        write(path, resample(audio, rate * factor, rate), rate)
    name = f"@{factor:g}"
    return replace(
        utterance, id=utterance.id + name, audio=f"audio/{path.name}", speaker=utterance.speaker + name,
        seconds=round(utterance.seconds / factor, 3), start=0.0, end=None,
    )  # fmt: skip
