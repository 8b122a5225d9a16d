"""Whether recordings are fit to make a voice of, in plain words.

The measurements are those of ``chelys data prepare``, the bounds those of its ``rules.yaml``. Who speaks is compared by
``acoustics.speaker_embedding`` and the median pitch: rough and untrained, so alike speakers pass for one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from chelys.audio.io import read, silent_ends
from chelys.audio.voice_pitch import median_pitch
from chelys.data.prepare import acoustics
from chelys.data.prepare.measure import Rules, read_rules

RATE = 24_000  # Hz, of what is measured
#: Seconds under which a clip is called short, and of speech in all under which a voice is.
SHORT_CLIP, SHORT_VOICE = 3.0, 6.0
MOST_SECONDS = 600.0  # of a recording; what follows is not looked at
_LONG_ENDS = 0.5  # seconds of silence at the ends that are worth a word
_SEVERAL = 0.15  # distance of two embeddings, and a tenth of the logarithm of the ratio of the pitches
_PART = 3.0  # seconds of the shortest part that is compared
_CUTS = 8  # at most, at which the parts of a recording are compared

#: Measurement of ``rules.yaml`` -> kind of fault, what it means (with the value), what to do.
_MEANINGS = {
    "loudness_db": ("loudness", "it is very quiet ({:.0f} dB)", "record nearer to the microphone"),
    "clipping": ("clipping", "its peaks are cut off", "record with less gain"),
    "bandwidth_hz": ("bandwidth", "it ends at {:.0f} Hz, like a telephone", "use a recording of 16 kHz or more"),
    "telephone": ("bandwidth", "it sounds like a telephone", "use a recording of 16 kHz or more"),
    "snr_db": ("noise", "its noise is only {:.0f} dB below the speech", "record in a quiet room"),
    "noise": ("noise", "noise is in it", "record in a quiet room"),
    "reverberation_s": ("reverberation", "the room echoes", "record nearer, among soft furniture"),
    "reverberation": ("reverberation", "the room echoes", "record nearer, among soft furniture"),
    "music": ("music", "music is in it, or no one speaks", "use speech alone"),
    "overlap": ("speakers", "several people speak at once", "use a recording of one speaker"),
}


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a clip, or with all of them together."""

    kind: str  # length, silence, speakers, or a kind of fault
    text: str  # what it is and what to do, in plain words
    serious: bool = True  # whether the voice suffers; else a hint


@dataclass(frozen=True)
class ClipCheck:
    """What was found in one recording."""

    name: str  # of the file
    seconds: float  # length
    measured: dict[str, float | None]  # by name, as in ``rules.yaml``
    findings: list[Finding]  # what is wrong

    @property
    def good(self) -> bool:
        """Whether nothing serious is wrong with it."""
        return not any(finding.serious for finding in self.findings)


@dataclass(frozen=True)
class VoiceCheck:
    """What was found in recordings that are to make a voice."""

    clips: list[ClipCheck]  # in the order given
    findings: list[Finding]  # about all of them together

    @property
    def good(self) -> bool:
        """Whether nothing serious is wrong with any of them."""
        return all(clip.good for clip in self.clips) and not any(finding.serious for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        clips = [{**asdict(clip), "good": clip.good} for clip in self.clips]
        return {"good": self.good, "clips": clips, "findings": [asdict(finding) for finding in self.findings]}

    def lines(self) -> list[str]:
        """All of it in words, a line a finding."""
        good = [f"{clip.name}: {clip.seconds:.1f} s, good" for clip in self.clips if not clip.findings]
        return [*good, *self.faults()]

    def faults(self) -> list[str]:
        """What is wrong, in words, a line a finding."""
        of_clips = [f"{clip.name}: {finding.text}" for clip in self.clips for finding in clip.findings]
        return [*of_clips, *(finding.text for finding in self.findings)]


def check_files(paths: Sequence[Path]) -> VoiceCheck:
    """Check recordings. Raises AudioError if one cannot be read, or holds nothing; it is named."""
    return check_clips([(path.name, read(path, RATE, end=MOST_SECONDS)) for path in paths])


def check_clips(clips: Sequence[tuple[str, np.ndarray]]) -> VoiceCheck:
    """Check recordings that are at hand: a name and a waveform ``(n,)`` at 24 kHz, n > 0, for each."""
    rules, classify = _tools()
    checked, voices = [], []
    for name, audio in clips:
        check, voice = _check(name, audio, rules, classify)
        checked.append(check)
        voices.append(voice)
    findings = []
    seconds = sum(len(audio) - sum(silent_ends(audio, RATE)) for _, audio in clips) / RATE
    if seconds < SHORT_VOICE:
        findings.append(Finding("length", f"{seconds:.1f} s of speech in all: 6 to 15 s make a steadier voice", False))
    strangers = _strangers(voices)
    if strangers and 2 * len(strangers) >= len(voices):
        text = "the recordings do not sound like one speaker: leave out those of others"
        findings.append(Finding("speakers", text))
    else:
        for place in strangers:
            text = "it does not sound like the speaker of the others: leave it out if it is another"
            checked[place].findings.append(Finding("speakers", text))
    return VoiceCheck(checked, findings)


def _check(
    name: str, audio: np.ndarray, rules: Rules, classify: Callable[[np.ndarray, int], dict[str, float]]
) -> tuple[ClipCheck, _Timbre | None]:
    seconds, ends = len(audio) / RATE, sum(silent_ends(audio, RATE)) / RATE
    findings = []
    if seconds - ends < SHORT_CLIP:
        text = f"only {seconds - ends:.1f} s of speech: clips of 3 to 15 s are better"
        findings.append(Finding("length", text, seconds - ends < 1.0))
    if ends > _LONG_ENDS:
        findings.append(Finding("silence", f"{ends:.1f} s of silence at its ends, which are cut off", False))
    measured: dict[str, float | None] = {**acoustics.measure(audio, RATE), **classify(audio, RATE)}
    found: dict[str, Finding] = {}
    for measurement, (kind, meaning, advice) in _MEANINGS.items():
        value, bounds = measured.get(measurement), rules.get(measurement)
        if value is not None and measurement == "snr_db" and value < 3:
            meaning = "its noise is as loud as the speech"
        if value is None or bounds is None or kind in found:
            continue
        if (bounds.min is not None and value < bounds.min) or (bounds.max is not None and value > bounds.max):
            found[kind] = Finding(kind, f"{meaning.format(value)}: {advice}")
    if "speakers" not in found and _change(audio) > _SEVERAL:
        found["speakers"] = Finding("speakers", "several people seem to speak in it: use a recording of one")
    rounded = {key: None if value is None else round(value, 4) for key, value in measured.items()}
    timbre = _Timbre.of(audio) if seconds - ends >= _PART else None
    return ClipCheck(name, round(seconds, 2), rounded, [*findings, *found.values()]), timbre


@dataclass(frozen=True)
class _Timbre:
    """What speakers are compared by."""

    embedding: np.ndarray
    pitch: float | None

    @classmethod
    def of(cls, audio: np.ndarray) -> _Timbre:
        return cls(acoustics.speaker_embedding(audio, RATE), median_pitch(audio, RATE))


def _change(audio: np.ndarray) -> float:
    """How far apart the voices before and behind a cut are, at the cut where they are farthest apart."""
    spare = len(audio) - 2 * int(_PART * RATE)
    if spare < 0:
        return 0.0
    cuts = int(_PART * RATE) + np.linspace(0, spare, min(_CUTS, 1 + spare // RATE)).astype(int)
    return max(_apart(_Timbre.of(audio[:cut]), _Timbre.of(audio[cut:])) for cut in cuts)


def _apart(one: _Timbre, other: _Timbre) -> float:
    ratio = abs(math.log(one.pitch / other.pitch)) if one.pitch and other.pitch else 0.0
    return 1.0 - float(one.embedding @ other.embedding) + 0.1 * ratio


def _strangers(voices: Sequence[_Timbre | None]) -> list[int]:
    """Places of the recordings that are far from the one that is nearest to all."""
    there = [(place, voice) for place, voice in enumerate(voices) if voice is not None]
    if len(there) < 2:
        return []
    middle = min(there, key=lambda one: sum(min(_apart(one[1], other[1]), 2 * _SEVERAL) for other in there))
    return [place for place, voice in there if _apart(voice, middle[1]) > _SEVERAL]


@cache
def _tools() -> tuple[Rules, Callable[[np.ndarray, int], dict[str, float]]]:
    from chelys.data.prepare.classifier import load_classifier  # late: torch

    return read_rules(), load_classifier()
