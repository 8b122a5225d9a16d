"""What spoils recordings, made by code: noises, music, rooms, telephones and recorders.

Every function draws from the generator it is given and from nothing else. Waves are mono float32 at 24 kHz. Levels
are those of whoever mixes: what is made here has a root mean square of about 1 unless it changes a given wave.

n samples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from chelys.audio.rates import OUTPUT_RATE, exact_div

TELEPHONE_RATE = 8_000  # Hz
_DOWN = exact_div(OUTPUT_RATE, TELEPHONE_RATE)
_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9), (0, 3, 5, 7, 10))  # semitones
_CHORDS = (0, 3, 4, 5)  # degrees of the scale that most songs stand on
_TABLE = 2048  # samples in one turn of an instrument


def decibels(level: float) -> float:
    """Factor of an amplitude."""
    return float(10.0 ** (level / 20.0))


def unit(wave: np.ndarray) -> np.ndarray:
    """The wave with a root mean square of 1; silence stays silence."""
    return (wave / max(float(np.sqrt(np.mean(np.square(wave)))), 1e-6)).astype(np.float32)


def shape(wave: np.ndarray, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Filter without phase: ``gain`` gives the factor of each frequency (Hz)."""
    padded = _fast_length(len(wave))
    frequencies = np.fft.rfftfreq(padded, 1 / OUTPUT_RATE).astype(np.float32)
    spectrum = np.fft.rfft(wave, padded) * gain(frequencies).astype(np.float32)
    return np.fft.irfft(spectrum, padded)[: len(wave)].astype(np.float32)


def _fast_length(least: int) -> int:
    """Smallest number of at least this much that the Fourier transform is fast on."""
    power = 1 << max(3, (least - 1).bit_length() - 1)
    return next(power * eighths // 8 for eighths in (8, 9, 10, 12, 15, 16) if power * eighths // 8 >= least)


# ---- noise ----------------------------------------------------------------------------------------------------------


def noise(n: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of one of several kinds: coloured and steady, in gusts, hum of the mains, crackle, a rumbling room."""
    kind = rng.choice(["colour", "gusts", "hum", "crackle", "band"], p=[0.4, 0.2, 0.15, 0.1, 0.15])
    if kind == "hum":
        return unit(_hum(n, rng) + decibels(rng.uniform(-25, 0)) * _colour(n, rng))
    if kind == "crackle":
        return unit(_crackle(n, rng) + decibels(rng.uniform(-30, -5)) * _colour(n, rng))
    if kind == "band":
        centre, width = np.exp(rng.uniform(np.log(150), np.log(8000))), rng.uniform(0.2, 1.2)
        peak = decibels(rng.uniform(6, 25))
        wave = _colour(n, rng)
        return unit(shape(wave, lambda f: 1 + peak * np.exp(-0.5 * (np.log(np.maximum(f, 1) / centre) / width) ** 2)))
    wave = _colour(n, rng)
    return unit(wave * _swell(n, rng) if kind == "gusts" else wave)


def _colour(n: int, rng: np.random.Generator) -> np.ndarray:
    """Noise whose power falls with frequency to the power of -0.5 (blueish) to 2.2 (browner than brown)."""
    slope = rng.uniform(-0.5, 2.2)
    white = rng.standard_normal(n, dtype=np.float32)
    return unit(shape(white, lambda f: np.maximum(f, 40.0) ** (-0.5 * slope)))


def _swell(n: int, rng: np.random.Generator) -> np.ndarray:
    """A loudness that wanders, within about 20 dB, several times a second or slowly."""
    points = max(4, int(n / OUTPUT_RATE * rng.uniform(1, 8)) + 2)
    levels = rng.uniform(-20, 0, points)
    return (10 ** (np.interp(np.linspace(0, points - 1, n), np.arange(points), levels) / 20)).astype(np.float32)


def _hum(n: int, rng: np.random.Generator) -> np.ndarray:
    base = rng.choice([50.0, 60.0]) * rng.choice([1, 2])
    time = np.arange(n, dtype=np.float32) / OUTPUT_RATE
    strengths = rng.random(12) * np.arange(1, 13) ** -rng.uniform(0.3, 1.5)
    phases = rng.uniform(0, 2 * np.pi, 12)
    hum = np.zeros(n, np.float32)
    for k, (strength, phase) in enumerate(zip(strengths, phases, strict=True), 1):
        hum += strength * np.sin(2 * np.pi * base * k * time + phase)
    return unit(hum)


def _crackle(n: int, rng: np.random.Generator) -> np.ndarray:
    wave = np.zeros(n, np.float32)
    count = max(3, rng.poisson(n / OUTPUT_RATE * rng.uniform(5, 80)))
    wave[rng.integers(n, size=count)] = rng.standard_normal(count) * rng.exponential(1.0, count)
    cut = rng.uniform(1500, 10000)
    return unit(shape(wave, lambda f: 1 / (1 + (f / cut) ** 2)))


# ---- music ----------------------------------------------------------------------------------------------------------


def music(n: int, rng: np.random.Generator) -> np.ndarray:
    """A few bars of a piece: chords, and by chance a bass, an arpeggio, a tune and drums, each with its instrument."""
    beat = 60.0 / rng.uniform(60, 170) * OUTPUT_RATE  # samples
    scale = _SCALES[rng.integers(len(_SCALES))]
    root = int(rng.integers(40, 58))  # MIDI number
    bars = [int(rng.choice(_CHORDS)) for _ in range(int(n / (4 * beat)) + 2)]
    first = -int(rng.uniform(0, 4 * beat))  # the window opens anywhere in a bar
    parts = {"chords": 0.75, "bass": 0.5, "arpeggio": 0.5, "tune": 0.45, "drums": 0.5}
    chosen = [part for part, chance in parts.items() if rng.random() < chance] or ["arpeggio"]
    wave = np.zeros(n, np.float32)
    for part in chosen:
        line = np.zeros(n, np.float32)
        if part == "drums":
            _drums(line, first, beat, rng)
        else:
            player = _Instrument(rng)
            for start, length, degree, octave in _notes(part, bars, beat, len(scale), rng):
                pitch = root + 12 * octave + 12 * (degree // len(scale)) + scale[degree % len(scale)]
                _add(line, first + start, player.note(pitch, length))
        wave += decibels(rng.uniform(-9, 0)) * unit(line)
    if rng.random() < 0.5:
        wave = reverberate(wave, room(rng.uniform(0.4, 2.0), rng.uniform(-3, 8), rng))
    return unit(wave)


def _notes(
    part: str, bars: list[int], beat: float, degrees: int, rng: np.random.Generator
) -> list[tuple[int, int, int, int]]:
    """Start and length (samples), degree of the scale and octave of each note of a part."""
    made: list[tuple[int, int, int, int]] = []
    bar = 4 * beat
    step = beat / rng.choice([1, 2, 2, 4]) if part == "arpeggio" else beat
    pattern = rng.permutation([0, 2, 4, degrees])[: rng.integers(3, 5)]
    degree = 0
    for number, chord in enumerate(bars):
        start = number * bar
        if part == "chords":
            length = bar / rng.choice([1, 2, 4])
            for k in range(round(bar / length)):
                made += [(int(start + k * length), int(length), chord + note, 1) for note in (0, 2, 4)]
        elif part == "bass":
            beats = [k for k in range(4) if k == 0 or rng.random() < 0.6]
            made += [(int(start + k * beat), int(beat * 0.9), chord, 0) for k in beats]
        elif part == "arpeggio":
            for k in range(int(bar / step)):
                made.append((int(start + k * step), int(step * 1.5), chord + int(pattern[k % len(pattern)]), 1))
        else:
            at = 0.0
            while at < bar:
                length = beat * rng.choice([0.5, 1.0, 2.0])
                degree = int(np.clip(degree + rng.integers(-2, 3), -3, 9))
                if rng.random() < 0.85:
                    made.append((int(start + at), int(length), degree, 2))
                at += length
    return made


class _Instrument:
    """A sound of its own: harmonics, attack, decay, vibrato. Notes are kept, for pieces repeat them."""

    def __init__(self, rng: np.random.Generator) -> None:
        count = int(rng.integers(3, 24))
        harmonics = np.arange(1, count + 1)
        strengths = harmonics ** -rng.uniform(0.5, 2.0) * rng.uniform(0.3, 1.0, count)
        if rng.random() < 0.25:
            strengths[1::2] *= 0.1  # reeds and square waves
        turn = np.arange(_TABLE) / _TABLE
        waves = strengths[:, None] * np.sin(2 * np.pi * (harmonics[:, None] * turn + rng.random((count, 1))))
        self.harmonics = harmonics
        self.waves = waves.astype(np.float32)
        self.attack = rng.choice([0.004, 0.02, 0.12]) * OUTPUT_RATE
        self.decay = np.exp(rng.uniform(np.log(0.08), np.log(3.0))) * OUTPUT_RATE  # plucked to bowed
        self.brightness = rng.uniform(0.15, 1.0) * self.decay
        self.vibrato, self.speed = (rng.uniform(0.001, 0.008), rng.uniform(4, 7)) if rng.random() < 0.4 else (0.0, 5.0)
        self.kept: dict[tuple[int, int], np.ndarray] = {}

    def note(self, pitch: int, length: int) -> np.ndarray:
        """One note of a MIDI pitch."""
        if (pitch, length) in self.kept:
            return self.kept[pitch, length]
        hertz = 440.0 * 2 ** ((pitch - 69) / 12)
        audible = self.harmonics * hertz < 11_000
        dark, bright = self.waves[:2][audible[:2]].sum(0), self.waves[2:][audible[2:]].sum(0)
        total = int(length + min(0.3 * OUTPUT_RATE, self.decay))
        time = np.arange(total, dtype=np.float32)
        turns = hertz / OUTPUT_RATE * time
        if self.vibrato:
            turns = turns + self.vibrato * hertz / (2 * np.pi * self.speed) * np.sin(
                2 * np.pi * self.speed / OUTPUT_RATE * time
            )
        at = (turns * _TABLE).astype(np.int64) % _TABLE
        wave = np.take(dark, at)
        if self.harmonics[-1] > 2:
            wave = wave + np.take(bright, at) * np.exp(-time / self.brightness)
        shape_ = np.minimum(time / self.attack, 1) * np.exp(-time / self.decay)
        release = np.minimum((total - time) / max(1.0, total - length), 1)
        self.kept[pitch, length] = (wave * shape_ * release).astype(np.float32)
        return self.kept[pitch, length]


def _drums(line: np.ndarray, first: int, beat: float, rng: np.random.Generator) -> None:
    """Kick, snare and hat on a pattern of eighths."""
    time = np.arange(int(0.35 * OUTPUT_RATE), dtype=np.float32) / OUTPUT_RATE
    low = rng.uniform(40, 70)
    kick = np.sin(2 * np.pi * (low * time + 4 * (1 - np.exp(-time * 25)))) * np.exp(-time * rng.uniform(8, 20))
    burst = rng.standard_normal(len(time)).astype(np.float32)
    snare = (burst + np.sin(2 * np.pi * 190 * time)) * np.exp(-time * rng.uniform(12, 30))
    hat = np.diff(burst, prepend=0.0) * np.exp(-time * rng.uniform(30, 90))
    eighth = beat / 2
    hats, kicks = rng.random(8) < rng.uniform(0.3, 1.0), rng.random(8) < 0.25
    kicks[0] = True
    for k in range(int((len(line) - first) / eighth) + 1):
        at = first + int(k * eighth)
        if kicks[k % 8]:
            _add(line, at, 1.5 * kick)
        if k % 4 == 2:
            _add(line, at, 0.7 * snare)
        if hats[k % 8]:
            _add(line, at, 0.4 * hat)


def _add(line: np.ndarray, start: int, sound: np.ndarray) -> None:
    """Add a sound to a line at a place that may lie partly outside of it."""
    begin, end = max(0, start), min(len(line), start + len(sound))
    if begin < end:
        line[begin:end] += sound[begin - start : end - start]


# ---- rooms, telephones, recorders -----------------------------------------------------------------------------------


def room(rt60: float, direct: float, rng: np.random.Generator) -> np.ndarray:
    """Response of a room: the direct sound, a few early reflections, a tail of noise that dies away.

    Args:
        rt60: Seconds in which the tail falls by 60 dB; its treble dies faster.
        direct: Direct sound over all that follows, dB.
        rng: Of the room.

    Returns:
        ``(n,)``, beginning with a direct sound of 1.
    """
    n = int(max(rt60, 0.08) * OUTPUT_RATE)
    time = np.arange(n, dtype=np.float32) / OUTPUT_RATE
    onset = rng.uniform(0.002, 0.025)  # seconds until the first reflection
    white = rng.standard_normal(n, dtype=np.float32)
    edge = rng.uniform(600, 3000)
    low = shape(white, lambda f: 1 / (1 + (f / edge) ** 2))
    fall = -6.9078 / rt60 * time
    tail = low * np.exp(fall) + (white - low) * np.exp(fall / rng.uniform(0.4, 0.9))
    tail[: int(onset * OUTPUT_RATE)] = 0
    power = float(np.sqrt(np.mean(np.square(tail[int(onset * OUTPUT_RATE) :][: int(0.05 * OUTPUT_RATE)])))) + 1e-6
    for _ in range(int(rng.integers(4, 14))):
        at = onset + rng.exponential(0.02)
        if at * OUTPUT_RATE < n:
            tail[int(at * OUTPUT_RATE)] += rng.choice([-1, 1]) * power * rng.uniform(3, 15) * np.exp(-6.9 / rt60 * at)
    tail *= decibels(-direct) / max(float(np.sqrt(np.sum(np.square(tail)))), 1e-6)
    tail[0] = 1.0
    return tail


def reverberate(wave: np.ndarray, response: np.ndarray) -> np.ndarray:
    """The wave in a room, as long as before."""
    padded = _fast_length(len(wave) + len(response))
    spectrum = np.fft.rfft(wave, padded) * np.fft.rfft(response, padded)
    return np.fft.irfft(spectrum, padded)[: len(wave)].astype(np.float32)


def telephone(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The wave over a telephone: 300 to 3400 Hz or about that, 8 kHz, mu-law, packets lost."""
    low, high = rng.uniform(150, 400), rng.uniform(3000, 3700)
    whole = -(-len(wave) // (2 * _DOWN)) * 2 * _DOWN
    spectrum = np.fft.rfft(wave, whole)
    f = np.fft.rfftfreq(whole, 1 / OUTPUT_RATE)
    spectrum *= (1 / (1 + (low / np.maximum(f, 1)) ** 8)) * (1 / (1 + (f / high) ** 40))
    narrow = np.fft.irfft(spectrum[: whole // (2 * _DOWN) + 1], whole // _DOWN) / _DOWN
    loudest = max(float(np.abs(narrow).max()), 1e-6)
    steps = 2.0 ** rng.integers(5, 8)  # on each side of zero; 128 is the standard's
    squeezed = np.sign(narrow) * np.log1p(255 * np.abs(narrow / loudest)) / np.log(256)
    squeezed = np.round(squeezed * steps) / steps
    narrow = np.sign(squeezed) * (256 ** np.abs(squeezed) - 1) / 255 * loudest
    if rng.random() < 0.4:
        _lose_packets(narrow, rng)
    spectrum = np.zeros(whole // 2 + 1, np.complex128)
    spectrum[: whole // (2 * _DOWN) + 1] = np.fft.rfft(narrow) * _DOWN
    return np.fft.irfft(spectrum, whole)[: len(wave)].astype(np.float32)


def _lose_packets(narrow: np.ndarray, rng: np.random.Generator) -> None:
    packet = TELEPHONE_RATE // 50  # 20 ms
    repeats, share = rng.random() < 0.5, rng.uniform(0.01, 0.1)
    for start in range(packet, len(narrow) - packet, packet):
        if rng.random() < share:
            narrow[start : start + packet] = narrow[start - packet : start] if repeats else 0.0


def record(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What any recorder does, a good one too: colour, a lower edge, now and then an upper one from 6.5 kHz on."""
    points = np.log(np.array([60, 200, 600, 1800, 5000, 12000]))
    gains = rng.normal(0, rng.uniform(0.5, 4.0), len(points))
    lower = rng.uniform(15, 100)
    upper = rng.uniform(6500, 11800) if rng.random() < 0.45 else 24_000.0
    steep = rng.choice([8, 20, 80])

    def gain(f: np.ndarray) -> np.ndarray:
        coloured = 10 ** (np.interp(np.log(np.maximum(f, 1)), points, gains) / 20)
        return coloured / (1 + (lower / np.maximum(f, 1)) ** 4) / (1 + np.minimum(f / upper, 2) ** steep)

    return shape(wave, gain)
