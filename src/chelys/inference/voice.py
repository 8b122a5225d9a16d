"""A voice is a value: made from clips, saved, loaded, handed to synthesis, which never sees files.

A voice file is one safetensors file. It holds the two vectors that a model made of the clips (``autoregressive`` (d,)
and ``diffusion`` (2 d',)), a third, ``reading`` (d,), where another voice helps it to read, and up to twelve seconds of
the clips themselves (``clip.0`` .. int16 at 24 kHz), so that another model can make its own vectors of them. Metadata
is one JSON object under ``voice``.

What another model does not get: all after those seconds, and what 16 bits cannot hold. Clips of a voice that was made
with the published front end were read at 22.05 kHz, so that they end at 10.9 kHz.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from chelys import registry
from chelys.audio.rates import MEL_24K, OUTPUT_RATE
from chelys.errors import OutputError, VoiceError
from chelys.files import output_file
from chelys.inference.voice_vectors import at_rate
from chelys.weights.folder import ModelConfig

KEPT_SECONDS = 12.0


@dataclass(frozen=True)
class Voice:
    """Who speaks.

    A small model reads a voice that it never heard less clearly than one that it was trained on. How a voice reads and
    how it sounds can be parted: codes are sampled with ``reader``, the words; latents of these codes are then computed
    with ``autoregressive``, and rendered with ``diffusion``, the sound.

    Attributes:
        autoregressive: Voice vector of the autoregressive decoder, ``(d,)`` float32.
        diffusion: Voice vector of the diffusion decoder, ``(2 d',)`` float32.
        model: Fingerprint of the model that made the vectors.
        clips: Reference clips, int16 ``(n,)`` at 24 kHz; may be empty, then the voice serves its own model only.
        about: What the file says of itself: name, sources, seconds, licence.
        reading: What codes are sampled with, ``(d,)`` float32, if it is not ``autoregressive``; see ``borrow``.
    """

    autoregressive: Tensor
    diffusion: Tensor
    model: str
    clips: tuple[np.ndarray, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)
    reading: Tensor | None = None

    @property
    def reader(self) -> Tensor:
        """Voice vector that codes are sampled with, ``(d,)``."""
        return self.autoregressive if self.reading is None else self.reading

    @property
    def name(self) -> str:
        """Name of the voice, or ``unnamed``."""
        return str(self.about.get("name") or "unnamed")

    @property
    def waves(self) -> list[np.ndarray]:
        """The clips as float32 ``(n,)`` in [-1, 1] at 24 kHz."""
        return [clip.astype(np.float32) / 32767 for clip in self.clips]

    @property
    def info(self) -> dict[str, Any]:
        """What a person may want to know, ready for JSON."""
        kept = sum(map(len, self.clips)) / OUTPUT_RATE
        rest = {key: value for key, value in self.about.items() if key != "name"}
        return {"name": self.name, "model": self.model, **rest, "kept_seconds": round(kept, 2)}

    def save(self, path: str | Path) -> None:
        """Write the voice file, whole or not at all.

        Raises:
            OutputError: If it cannot be written, or the suffix is not ``.safetensors``.
        """
        path = Path(path)
        if path.suffix != ".safetensors":
            raise OutputError(f"cannot write {path}: a voice is a .safetensors file, give it that suffix")
        tensors = {"autoregressive": self.autoregressive.contiguous(), "diffusion": self.diffusion.contiguous()}
        if self.reading is not None:
            tensors["reading"] = self.reading.contiguous()
        tensors |= {f"clip.{i}": torch.from_numpy(np.ascontiguousarray(clip)) for i, clip in enumerate(self.clips)}
        about = json.dumps({**self.about, "model": self.model})
        with output_file(path) as file:
            file.write(save(tensors, metadata={"voice": about}))

    def borrow(self, other: Voice, share: float) -> Voice:
        """This voice, read by another for a share: words, pace and melody come from there, the sound stays.

        Args:
            other: A voice of the same model that reads well.
            share: 0 is this voice's own reading, 1 all of the other's.

        Raises:
            VoiceError: If the share is not 0 to 1, or the voices are of different models.
        """
        if not 0 <= share <= 1:
            raise VoiceError(f"a voice cannot borrow {share:g} of another's reading: the share must be 0 to 1")
        if self.model != other.model:
            raise VoiceError("voices of different models cannot read for each other: make them anew from recordings")
        if not share:
            return self
        about = {**self.about, "borrowed": {other.name: share}}
        return replace(self, reading=self.reader.lerp(other.reader, share), about=about)

    @classmethod
    def mix(cls, voices: Sequence[Voice], weights: Sequence[float]) -> Voice:
        """Weighted average of voices of one model; the weights are scaled to a sum of one.

        Raises:
            VoiceError: If the weights do not fit, or the voices are of different models.
        """
        total = sum(weights)
        if len(voices) != len(weights) or not voices or not (min(weights) >= 0 and 0 < total < math.inf):
            raise VoiceError("a mix needs a weight of 0 or more for each voice, and one above 0")
        if len({voice.model for voice in voices}) > 1:
            raise VoiceError("voices of different models cannot be mixed: make them anew from recordings")
        shares = [weight / total for weight in weights]

        def mean(vectors: Iterable[Tensor]) -> Tensor:
            return sum((share * vector for share, vector in zip(shares, vectors, strict=True)), torch.tensor(0.0))

        return cls(
            autoregressive=mean(v.autoregressive for v in voices),
            diffusion=mean(v.diffusion for v in voices),
            model=voices[0].model,
            reading=None if all(v.reading is None for v in voices) else mean(v.reader for v in voices),
            about={"name": "+".join(f"{v.name}:{s:g}" for s, v in zip(shares, voices, strict=True))},
        )

    @classmethod
    def load(cls, path: str | Path) -> Voice:
        """Read a voice file.

        Raises:
            VoiceError: If it is missing, damaged, or no voice file.
        """
        path = Path(path)
        if not path.is_file():
            raise VoiceError(f"no voice file at {path}")
        try:
            with safe_open(path, "pt") as file:
                about = json.loads((file.metadata() or {})["voice"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
            order = sorted(int(key.removeprefix("clip.")) for key in tensors if key.startswith("clip."))
            clips = tuple(tensors[f"clip.{number}"].numpy() for number in order)
            model = str(about.pop("model"))
            heard, rendered = tensors["autoregressive"].float(), tensors["diffusion"].float()
            reading = tensors["reading"].float() if "reading" in tensors else None
            voice = cls(heard, rendered, model, clips, about, reading)
            voice._check()
            return voice
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise VoiceError(
                f"{path} is no voice file, or is damaged: make one with 'chelys voices add NAME CLIP...'"
            ) from error

    @classmethod
    def from_tortoise(cls, path: str | Path, config: ModelConfig) -> Voice:
        """Read a voice of the original that is a pair of vectors, for a model whose weights are the original's.

        Args:
            path: A ``.pth`` with a tuple of two tensors, or a voice folder with nothing else in it.
            config: Of the model.

        Raises:
            VoiceError: If there is no such file, it holds something else, or its vectors are not of the model's sizes.
        """
        read: Callable[..., Voice] = registry.find("chelys.tortoise.voices.read_voice")
        return read(path, config)

    def _check(self) -> None:
        """Refuse what synthesis would stumble over."""
        vectors = (self.autoregressive, self.diffusion, self.reader)
        if not all(vector.ndim == 1 and vector.isfinite().all() for vector in vectors):
            raise ValueError("vectors must be rows of finite numbers")
        if self.reader.shape != self.autoregressive.shape:
            raise ValueError("both vectors of the autoregressive decoder must be of one size")
        if not all(clip.dtype == np.int16 and clip.ndim == 1 and len(clip) > MEL_24K.n_fft for clip in self.clips):
            raise ValueError("clips must be rows of 16-bit samples")


def make_voice(
    clips: Sequence[np.ndarray],
    rate: int,
    latents: tuple[Tensor, Tensor],
    *,
    model: str,
    about: dict[str, Any],
    kept_seconds: float = KEPT_SECONDS,
) -> Voice:
    """Make a voice of clips of one speaker.

    Args:
        clips: Waves ``(n,)`` float32, at least half a second each.
        rate: Theirs, Hz.
        latents: What a model made of them, ``(d,)`` and ``(2 d',)``; see ``Family.conditioning_latents``.
        model: Its fingerprint.
        about: Name and such, for the file.
        kept_seconds: How much of the clips the file shall carry; 0 is none.
    """
    heard, rendered = (vector.float().cpu() for vector in latents)
    seconds = round(sum(map(len, clips)) / rate, 2)
    return Voice(heard, rendered, model, _kept(clips, rate, kept_seconds), {**about, "seconds": seconds})


def _kept(clips: Sequence[np.ndarray], rate: int, seconds: float) -> tuple[np.ndarray, ...]:
    """The first seconds of the clips as a voice file carries them."""
    kept: list[np.ndarray] = []
    room = int(seconds * OUTPUT_RATE)
    for clip in clips:
        if room > OUTPUT_RATE // 2:
            wave = at_rate(clip, rate, OUTPUT_RATE)
            kept.append((np.clip(wave[:room], -1, 1) * 32767).astype(np.int16))
            room -= len(kept[-1])
    return tuple(kept)
