"""The sound of sentences: where speech begins and ends, how loud it is, and what peaks are allowed.

Loudness is that of ITU-R BS.1770-4 (K-weighting from pyloudnorm), read block by block, so that a book of any length
takes no memory; decibels are relative to full scale.

n samples.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np

from chelys.audio.rates import OUTPUT_RATE

#: Loudness of a book (LUFS), and its highest sample (dB), from which AAC was seen to stray by 0.6.
TARGET_LUFS, CEILING_DB = -18.0, -4.5
#: Limits of ACX for audiobooks: highest peak, range of RMS, noise floor (dB).
ACX_PEAK_DB, ACX_RMS_DB, ACX_NOISE_DB = -3.0, (-23.0, -18.0), -60.0
#: Of BS.1770: blocks of 400 ms every 100 ms, and its gates.
_HOP, _HOPS = OUTPUT_RATE // 10, 4
_ABSOLUTE_LUFS, _RELATIVE_LU, _OFFSET_LUFS = -70.0, -10.0, -0.691
#: Speech is what is louder than this, relative to the loudest 5 ms, and at all (dB).
_FRAME, _SPEECH_DB, _SILENCE_DB = OUTPUT_RATE // 200, -45.0, -62.0
#: Samples around a peak over which it is turned down.
_ATTACK = OUTPUT_RATE // 125
_NOISE_WINDOW = OUTPUT_RATE // 2


def decibels(ratio: float) -> float:
    """An amplitude in dB; minus infinity for none."""
    return 20 * math.log10(ratio) if ratio > 0 else -math.inf


def speech_span(audio: np.ndarray) -> tuple[int, int]:
    """First and last sample of speech in ``(n,)``, to 5 ms; all of it if there is none."""
    frames = len(audio) // _FRAME
    if not frames:
        return 0, len(audio)
    power = np.square(audio[: frames * _FRAME], dtype=np.float64).reshape(frames, _FRAME).mean(axis=1)
    level = 10 * np.log10(power + 1e-12)
    loud = np.flatnonzero(level > max(level.max() + _SPEECH_DB, _SILENCE_DB))
    if not len(loud):
        return 0, len(audio)
    end = len(audio) if loud[-1] == frames - 1 else int(loud[-1] + 1) * _FRAME
    return int(loud[0]) * _FRAME, end


class Weighting:
    """The K-weighting of BS.1770, which goes on from block to block."""

    def __init__(self) -> None:
        from pyloudnorm import IIRfilter
        from scipy.signal import lfilter

        shelf = IIRfilter(4.0, 1 / math.sqrt(2), 1500.0, OUTPUT_RATE, "high_shelf")
        high_pass = IIRfilter(0.0, 0.5, 38.0, OUTPUT_RATE, "high_pass")
        self._stages: list[Any] = [[shelf.b, shelf.a, np.zeros(2)], [high_pass.b, high_pass.a, np.zeros(2)]]
        self._lfilter: Any = lfilter

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        """Weight the next samples ``(n,)``."""
        for stage in self._stages:
            b, a, state = stage
            audio, stage[2] = self._lfilter(b, a, audio, zi=state)
        return audio


def loudness(audio: np.ndarray) -> float:
    """Integrated loudness of a whole sound ``(n,)``, LUFS; of less than 400 ms the mean, ungated."""
    meter = LoudnessMeter()
    meter.feed(audio)
    return meter.loudness


class LoudnessMeter:
    """Loudness, peak, RMS and noise floor of a sound that comes block by block."""

    def __init__(self) -> None:
        self.peak = 0.0
        self.samples = 0
        self._squares = 0.0
        self._weighting = Weighting()
        self._rest = np.zeros(0)
        self._hops = array("d")  # weighted energy of each 100 ms
        self._weighted = 0.0
        self._quiet_rest = np.zeros(0, np.float32)
        self._quietest = math.inf  # mean square of the quietest half second

    def feed(self, audio: np.ndarray) -> None:
        """Take the next samples ``(n,)``."""
        if not len(audio):
            return
        self.samples += len(audio)
        self.peak = max(self.peak, float(np.abs(audio).max()))
        self._squares += float(np.square(audio, dtype=np.float64).sum())
        weighted = np.concatenate((self._rest, np.square(self._weighting(audio.astype(np.float64)))))
        self._weighted += float(weighted[len(self._rest) :].sum())
        whole = len(weighted) // _HOP * _HOP
        self._hops.extend(weighted[:whole].reshape(-1, _HOP).sum(axis=1))
        self._rest = weighted[whole:]
        waiting = np.concatenate((self._quiet_rest, audio))
        whole = len(waiting) // _NOISE_WINDOW * _NOISE_WINDOW
        if whole:
            means = np.square(waiting[:whole], dtype=np.float64).reshape(-1, _NOISE_WINDOW).mean(axis=1)
            self._quietest = min(self._quietest, float(means.min()))
        self._quiet_rest = waiting[whole:]

    @property
    def loudness(self) -> float:
        """LUFS; minus infinity for silence."""
        hops = np.frombuffer(self._hops) if self._hops else np.zeros(0)
        if len(hops) < _HOPS:
            return _lufs(self._weighted / self.samples) if self.samples else -math.inf
        sums = np.convolve(hops, np.ones(_HOPS), "valid") / (_HOP * _HOPS)
        levels = _OFFSET_LUFS + 10 * np.log10(sums + 1e-30)
        kept = sums[levels >= _ABSOLUTE_LUFS]
        if not len(kept):
            return -math.inf
        threshold = _lufs(float(kept.mean())) + _RELATIVE_LU
        return _lufs(float(sums[(levels >= _ABSOLUTE_LUFS) & (levels > threshold)].mean()))

    def report(self) -> Levels:
        """What was measured."""
        rms = math.sqrt(self._squares / self.samples) if self.samples else 0.0
        noise = math.sqrt(self._quietest) if math.isfinite(self._quietest) else 0.0
        return Levels(self.loudness, decibels(self.peak), decibels(rms), decibels(noise))


@dataclass(frozen=True)
class Levels:
    """Levels of a file."""

    loudness: float  # LUFS
    peak: float  # dB
    rms: float  # dB
    noise_floor: float  # dB, of the quietest half second

    def beyond_acx(self) -> list[str]:
        """Limits of ACX that are not kept, a phrase each."""
        low, high = ACX_RMS_DB
        found = []
        if self.peak > ACX_PEAK_DB:
            found.append(f"peak {self.peak:.1f} dB is above {ACX_PEAK_DB:g}")
        if not low <= self.rms <= high:
            found.append(f"RMS {self.rms:.1f} dB is not within {low:g} to {high:g}")
        if self.noise_floor > ACX_NOISE_DB:
            found.append(f"noise floor {self.noise_floor:.1f} dB is above {ACX_NOISE_DB:g}")
        return found


def _lufs(power: float) -> float:
    return _OFFSET_LUFS + 10 * math.log10(power) if power > 0 else -math.inf


def leveled(audio: np.ndarray, target: float) -> np.ndarray:
    """A sentence ``(n,)`` at a loudness (LUFS), or as near as no sample goes beyond full scale; silence stays."""
    missing = target - loudness(audio)
    if not math.isfinite(missing):
        return audio
    return np.asarray(audio * np.float32(min(10 ** (missing / 20), 1 / np.abs(audio).max())), np.float32)


class Limiter:
    """Turns a sound down around the peaks above a ceiling, smoothly; it comes and goes block by block."""

    def __init__(self, ceiling: float) -> None:
        from scipy.ndimage import minimum_filter1d, uniform_filter1d

        self._ceiling = ceiling
        self._least: Any = minimum_filter1d
        self._mean: Any = uniform_filter1d
        self._waiting = np.zeros(_ATTACK, np.float32)  # what was given back last, and what is not yet
        self._given = _ATTACK

    def feed(self, audio: np.ndarray) -> np.ndarray:
        """Take the next samples ``(n,)``; give back what no later one can change."""
        self._waiting = np.concatenate((self._waiting, audio))
        return self._until(max(self._given, len(self._waiting) - _ATTACK))

    def finish(self) -> np.ndarray:
        """The rest."""
        self._waiting = np.concatenate((self._waiting, np.zeros(_ATTACK, np.float32)))
        return self._until(len(self._waiting) - _ATTACK)

    def _until(self, end: int) -> np.ndarray:
        part = self._waiting[self._given : end]
        peaks = np.abs(self._waiting)
        if len(part) and peaks.max() > self._ceiling:
            gain = np.minimum(1.0, self._ceiling / np.maximum(peaks, 1e-9))
            gain = self._mean(self._least(gain, _ATTACK | 1, mode="nearest"), _ATTACK | 1, mode="nearest")
            part = part * gain[self._given : end].astype(np.float32)
        start = max(0, end - _ATTACK)
        self._waiting, self._given = self._waiting[start:], end - start
        return part
