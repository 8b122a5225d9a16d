"""Clips with known faults, mixed on the fly from clean speech: what the clip classifier learns from.

A mix is a function of the seed and its index. Clean speech becomes a window of a wanted length; then, by chance, a
second speaker, a room, noise or babble, music, a telephone. Every mix, a clean one too, goes through a recorder of
random colour and gets a faint floor of noise, so that nothing can be told by the studio silence of the source.

n samples.
"""

from __future__ import annotations

import io
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile as sf
import sounds
import soxr
from sounds import decibels, record, reverberate, room, telephone, unit

from chelys.audio.io import read
from chelys.audio.rates import OUTPUT_RATE
from chelys.data.manifest import Utterance, read_manifest
from chelys.data.prepare.classifier import FAULTS
from chelys.errors import ConfigError, ManifestError

Range = tuple[float, float]
#: Number of samples and generator -> a wave of so many, root mean square of 1.
Source = Callable[[int, np.random.Generator], np.ndarray]


class Mix(NamedTuple):
    """A clip and what is wrong with it.

    Attributes:
        wave: ``(n,)`` float32 in [-1, 1] at 24 kHz.
        faults: Some of FAULTS; none where it is clean.
    """

    wave: np.ndarray
    faults: frozenset[str]


@dataclass(frozen=True)
class MixConfig:
    """How bad it gets. Ranges are drawn from evenly.

    Attributes:
        clean: Share of mixes without a fault.
        second_fault: Chance that a faulty mix gets one more, and so on.
        noise_db: Speech over noise or babble.
        music_db: Speech over music.
        overlap_db: First speaker over the second.
        babble: Share of noises that are many voices.
        alone: Share of noises and musics that are without speech.
        part: Share of noises, musics and second speakers that last for a part of the window, 60 % of it or more.
        rt60: Reverberation time of rooms that count as a fault, seconds.
        direct_db: Direct sound over the rest in such rooms.
        dry_rt60: Reverberation time of rooms that do not.
        dry_direct_db: Direct sound over the rest in those.
        floor_db: Speech over the recorder's own noise, which does not count as a fault.
        level_db: Level of the mix, dB of full scale.
        tempo: Factor by which speech is played faster or slower, which makes new voices of old ones.
        coded: Share of mixes that have been an MP3 of 32 to 128 kbit/s.
    """

    clean: float = 0.2
    second_fault: float = 0.25
    noise_db: Range = (-5.0, 20.0)
    music_db: Range = (-5.0, 20.0)
    overlap_db: Range = (-3.0, 10.0)
    babble: float = 0.2
    alone: float = 0.12
    part: float = 0.3
    rt60: Range = (0.4, 1.6)
    direct_db: Range = (-9.0, 4.0)
    dry_rt60: Range = (0.05, 0.25)
    dry_direct_db: Range = (8.0, 25.0)
    floor_db: Range = (34.0, 75.0)
    level_db: Range = (-35.0, -12.0)
    tempo: Range = (0.87, 1.15)
    coded: float = 0.1

    def __post_init__(self) -> None:
        for name in ("clean", "second_fault", "babble", "alone", "part", "coded"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"mixes: {name} is {getattr(self, name)}; it must lie between 0 and 1")
        for name, value in vars(self).items():
            if isinstance(value, tuple) and value[0] > value[1]:
                raise ConfigError(f"mixes: {name} is {list(value)}; the lower end comes first")


class Speech:
    """Clean speech, by speaker.

    Args:
        manifests: Corpora.
        held_out: Take what is held out, the rest otherwise.
        held_out_speakers: Names; all their clips are held out. Where no manifest has one of them, every hundredth clip
            or so is, by a hash of its name.
        clips_per_speaker: The first so many of each speaker; 0 takes all. What was read once stays in memory, about
            150 kB for a clip of three seconds.

    Raises:
        ManifestError: If there is no clip.
    """

    def __init__(
        self,
        manifests: Sequence[Path],
        *,
        held_out: bool = False,
        held_out_speakers: Sequence[str] = (),
        clips_per_speaker: int = 0,
    ) -> None:
        utterances = [u for manifest in manifests for u in read_manifest(manifest)]
        by_name = not any(u.speaker in held_out_speakers for u in utterances)
        self.clips: dict[str, list[Utterance]] = defaultdict(list)
        for u in utterances:
            kept_back = _is_held_out(u) if by_name else u.speaker in held_out_speakers
            if kept_back == held_out and not 0 < clips_per_speaker <= len(self.clips[u.speaker]):
                self.clips[u.speaker].append(u)
        self.speakers = sorted(speaker for speaker, clips in self.clips.items() if clips)
        self._read = lru_cache(maxsize=None)(_read)
        if not self.speakers:
            raise ManifestError(f"no {'held-out ' * held_out}speech to mix in {', '.join(map(str, manifests))}")

    def window(self, n: int, rng: np.random.Generator, *, speaker: str = "", tempo: float = 1.0) -> np.ndarray:
        """Speech of one speaker, now and then two in turns, with pauses; ``(n,)``, root mean square of 1.

        Args:
            n: Samples.
            rng: Draws the clips.
            speaker: Whose; drawn where none is named.
            tempo: Factor of speed and pitch.
        """
        speaker = speaker or self.draw(rng)
        turns = rng.random() < 0.12
        wave = np.zeros(n, np.float32)
        start = -int(rng.uniform(0, 0.4) * OUTPUT_RATE)
        while start < n - 0.2 * OUTPUT_RATE:
            clips = self.clips[speaker]
            clip = self._read(clips[int(rng.integers(len(clips)))])
            needed = int((n + OUTPUT_RATE) * tempo)
            if len(clip) > needed:  # a long clip may be entered anywhere
                clip = clip[int(rng.integers(len(clip) - needed + 1)) :][:needed]
            clip = unit(soxr.resample(clip, OUTPUT_RATE * tempo, OUTPUT_RATE, quality="LQ").astype(np.float32))
            begin, end = max(0, start), min(n, start + len(clip))
            if end > begin:
                wave[begin:end] = clip[begin - start : end - start]
            start += len(clip) + int(rng.uniform(0.05, 0.5) * OUTPUT_RATE)
            speaker = self.draw(rng) if turns else speaker
        return unit(wave)

    def draw(self, rng: np.random.Generator, *, but: str = "") -> str:
        """A speaker, another one than ``but`` where there is one."""
        others = [s for s in self.speakers if s != but] or self.speakers
        return others[int(rng.integers(len(others)))]


def _is_held_out(utterance: Utterance) -> bool:
    return zlib.crc32(utterance.id.encode()) % 100 == 0


def _read(utterance: Utterance) -> np.ndarray:
    """Samples of a clip, ``(n,)`` int16 at 24 kHz."""
    mono = read(utterance.audio, OUTPUT_RATE, start=utterance.start, end=utterance.end)
    return (np.clip(mono, -1, 1) * 32767).astype(np.int16)


class Recordings:
    """Recordings to draw from, of music for example, in place of what is made by code.

    Args:
        paths: Sound files.

    Raises:
        AudioError: If one cannot be read.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.waves = [read(path, OUTPUT_RATE) for path in paths]

    def __call__(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """A piece of one of them, ``(n,)``, root mean square of 1; what is too short is repeated."""
        wave = self.waves[int(rng.integers(len(self.waves)))]
        start = int(rng.integers(max(0, len(wave) - n) + 1))
        return unit(np.resize(wave[start:], n))


class Mixes:
    """All mixes of a seed.

    Args:
        speech: What to mix.
        config: How.
        seed: Of everything drawn.
        music: Makes n samples of music.
        noise: Makes n samples of noise that is no babble.
    """

    def __init__(
        self,
        speech: Speech,
        config: MixConfig,
        seed: int,
        *,
        music: Source = sounds.music,
        noise: Source = sounds.noise,
    ) -> None:
        self.speech, self.config, self.seed = speech, config, seed
        self.music, self.noise = music, noise

    def mix(self, index: int, n: int, faults: frozenset[str] | None = None) -> Mix:
        """A mix.

        Args:
            index: Which one.
            n: Samples.
            faults: What shall be wrong with it; drawn where it is None.
        """
        rng = np.random.default_rng([self.seed, index])
        drawn = self._faults(rng)
        faults = drawn if faults is None else faults
        wave, faults = self._scene(n, faults, rng)
        if "telephone" in faults:
            wave = telephone(wave, rng)
        wave = self._recorder(wave, rng)
        level = decibels(rng.uniform(*self.config.level_db))
        wave = unit(wave) * min(level, 0.99 / max(float(np.abs(unit(wave)).max()), 1e-6))
        if rng.random() < self.config.coded:
            wave = _mp3(wave, rng)
        return Mix(wave.astype(np.float32), faults)

    def _faults(self, rng: np.random.Generator) -> frozenset[str]:
        order = rng.permutation(len(FAULTS))
        if rng.random() < self.config.clean:
            return frozenset()
        count = 1
        while count < len(FAULTS) and rng.random() < self.config.second_fault:
            count += 1
        return frozenset(FAULTS[i] for i in order[:count])

    def _scene(self, n: int, faults: frozenset[str], rng: np.random.Generator) -> tuple[np.ndarray, frozenset[str]]:
        """What goes on in front of the recorder. A noise or music alone leaves no other fault but the telephone."""
        config = self.config
        lone = rng.random() < config.alone
        for kind in ("noise", "music"):
            if lone and kind in faults:
                wave = self._noise(n, rng) if kind == "noise" else self.music(n, rng)
                return wave, faults & {kind, "telephone"}
        speaker = self.speech.draw(rng)
        wave = self.speech.window(n, rng, speaker=speaker, tempo=rng.uniform(*config.tempo))
        if "overlap" in faults:
            other = self.speech.draw(rng, but=speaker)
            second = self.speech.window(n, rng, speaker=other, tempo=rng.uniform(*config.tempo))
            wave = wave + self._partly(second, rng) * decibels(-rng.uniform(*config.overlap_db))
        if "reverberation" in faults:
            wave = reverberate(wave, room(rng.uniform(*config.rt60), rng.uniform(*config.direct_db), rng))
        elif rng.random() < 0.6:
            wave = reverberate(wave, room(rng.uniform(*config.dry_rt60), rng.uniform(*config.dry_direct_db), rng))
        wave = unit(wave)
        if "noise" in faults:
            wave = wave + self._partly(self._noise(n, rng), rng) * decibels(-rng.uniform(*config.noise_db))
        if "music" in faults:
            wave = wave + self._partly(self.music(n, rng), rng) * decibels(-rng.uniform(*config.music_db))
        return wave, faults

    def _noise(self, n: int, rng: np.random.Generator) -> np.ndarray:
        if rng.random() >= self.config.babble:
            return self.noise(n, rng)
        voices = [self.speech.window(n, rng, tempo=rng.uniform(*self.config.tempo)) for _ in range(rng.integers(4, 8))]
        babble = sum(voice * decibels(rng.uniform(-6, 0)) for voice in voices)
        return unit(reverberate(np.asarray(babble), room(rng.uniform(0.3, 1.5), rng.uniform(-10, 0), rng)))

    def _partly(self, wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """By chance only a part of it, faded in and out."""
        if rng.random() >= self.config.part:
            return wave
        n = len(wave)
        length = int(n * rng.uniform(0.6, 1.0))
        start = int(rng.integers(n - length + 1))
        at = np.arange(n)
        fade = 0.05 * OUTPUT_RATE
        return wave * np.clip(np.minimum((at - start) / fade, (start + length - at) / fade), 0, 1).astype(np.float32)

    def _recorder(self, wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        floor = unit(np.cumsum(rng.standard_normal(len(wave), dtype=np.float32))) if rng.random() < 0.2 else 0.0
        floor = unit(rng.standard_normal(len(wave), dtype=np.float32) + 2.0 * floor)
        return record(unit(wave) + floor * decibels(-rng.uniform(*self.config.floor_db)), rng)


def _mp3(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The wave after a turn as an MP3, as long as before."""
    file = io.BytesIO()
    sf.write(file, wave, OUTPUT_RATE, format="MP3", compression_level=float(rng.uniform(0.2, 0.9)))
    file.seek(0)
    decoded = sf.read(file, dtype="float32")[0][: len(wave)]
    return np.pad(decoded, (0, len(wave) - len(decoded)))
