"""A voice is a value: made from clips, saved, loaded, handed to synthesis, which never sees files.

A voice file is one safetensors file. It holds the two vectors that a model made of the clips (``autoregressive`` (d,)
and ``diffusion`` (2 d',)), and up to twelve seconds of the clips themselves (``clip.0`` .. int16 at 24 kHz), so that
another model can make its own vectors of them. Metadata is one JSON object under ``voice``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from chelys.audio.mel import MelRange, log_mel
from chelys.audio.output import WholeFile
from chelys.audio.rates import MEL_24K, OUTPUT_RATE
from chelys.errors import OutputError, VoiceError
from chelys.models.autoregressive import Autoregressive
from chelys.models.diffusion import Diffusion

KEPT_SECONDS = 12.0
#: A reference is read in pieces as long as the clips that the networks were trained to be conditioned on.
PIECE_FRAMES = 256


@dataclass(frozen=True)
class Voice:
    """Who speaks.

    Attributes:
        autoregressive: Voice vector of the autoregressive decoder, ``(d,)`` float32.
        diffusion: Voice vector of the diffusion decoder, ``(2 d',)`` float32.
        model: Fingerprint of the model that made the vectors.
        clips: Reference clips, int16 ``(n,)`` at 24 kHz; may be empty, then the voice serves its own model only.
        about: What the file says of itself: name, sources, seconds, licence.
    """

    autoregressive: Tensor
    diffusion: Tensor
    model: str
    clips: tuple[np.ndarray, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the voice, or ``unnamed``."""
        return str(self.about.get("name") or "unnamed")

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
        tensors |= {f"clip.{i}": torch.from_numpy(np.ascontiguousarray(clip)) for i, clip in enumerate(self.clips)}
        about = json.dumps({**self.about, "model": self.model})
        with WholeFile(path) as file:
            file.write(save(tensors, metadata={"voice": about}))

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
        return cls(
            autoregressive=sum((s * v.autoregressive for s, v in zip(shares, voices, strict=True)), torch.tensor(0.0)),
            diffusion=sum((s * v.diffusion for s, v in zip(shares, voices, strict=True)), torch.tensor(0.0)),
            model=voices[0].model,
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
            voice = cls(tensors["autoregressive"].float(), tensors["diffusion"].float(), model, clips, about)
            voice._check()
            return voice
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise VoiceError(
                f"{path} is no voice file, or is damaged: make one with 'chelys voices add NAME CLIP...'"
            ) from error

    def _check(self) -> None:
        """Refuse what synthesis would stumble over."""
        if not all(vector.ndim == 1 and vector.isfinite().all() for vector in (self.autoregressive, self.diffusion)):
            raise ValueError("vectors must be rows of finite numbers")
        if not all(clip.dtype == np.int16 and clip.ndim == 1 and len(clip) > MEL_24K.n_fft for clip in self.clips):
            raise ValueError("clips must be rows of 16-bit samples")


@torch.inference_mode()
def make_voice(
    clips: Sequence[np.ndarray],
    autoregressive: Autoregressive,
    diffusion: Diffusion,
    mel_range: MelRange,
    *,
    model: str,
    about: dict[str, Any],
    kept_seconds: float = KEPT_SECONDS,
) -> Voice:
    """Make a voice of clips of one speaker.

    Args:
        clips: Waves ``(n,)`` float32 at 24 kHz, at least half a second each.
        autoregressive: Decoder whose conditioning encoder listens.
        diffusion: Decoder whose contextual embedder listens.
        mel_range: Of the model.
        model: Its fingerprint.
        about: Name and such, for the file.
        kept_seconds: How much of the clips the file shall carry; 0 is none.
    """
    device = next(autoregressive.parameters()).device
    dtype = next(autoregressive.parameters()).dtype
    pieces: list[Tensor] = []
    for clip in clips:
        mel = mel_range.normalize(log_mel(torch.from_numpy(np.ascontiguousarray(leveled(clip)))[None], MEL_24K))
        pieces += pieces_of(mel.to(device=device, dtype=dtype))
    heard = torch.cat([autoregressive.condition(piece) for piece in pieces]).mean(0)
    rendered = diffusion.voice(pieces)[0]
    kept: list[np.ndarray] = []
    room = int(kept_seconds * OUTPUT_RATE)
    for clip in clips:
        if room > OUTPUT_RATE // 2:
            kept.append((np.clip(clip[:room], -1, 1) * 32767).astype(np.int16))
            room -= len(kept[-1])
    seconds = round(sum(map(len, clips)) / OUTPUT_RATE, 2)
    return Voice(heard.float().cpu(), rendered.float().cpu(), model, tuple(kept), {**about, "seconds": seconds})


def pieces_of(mel: Tensor) -> list[Tensor]:
    """Cut a mel ``(1, f, s)`` into pieces of the trained length, which overlap where it is no multiple of that."""
    frames = mel.shape[2]
    if frames <= PIECE_FRAMES:
        return [mel.repeat(1, 1, -(-PIECE_FRAMES // frames))[:, :, :PIECE_FRAMES]]
    count = max(1, round(frames / PIECE_FRAMES))
    starts = torch.linspace(0, frames - PIECE_FRAMES, count).round().int().tolist()
    return [mel[:, :, s : s + PIECE_FRAMES] for s in starts]


def leveled(clip: np.ndarray, rms: float = 0.08) -> np.ndarray:
    """A clip at the loudness of the training corpus, so that a quiet recording does not make a quiet voice."""
    gain = rms / (float(np.sqrt(np.mean(clip.astype(np.float64) ** 2))) + 1e-9)
    return (clip * min(gain, 0.95 / (float(np.abs(clip).max()) + 1e-9))).astype(np.float32)
