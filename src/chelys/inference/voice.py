"""A voice: a value that is made from recordings, saved, loaded and given to synthesis.

It holds the conditioning latents that the networks compute from clips of a speaker: ``autoregressive`` (d,) and
``diffusion`` (2 d',), or several rows (n, d) and (2 + n', d') where the networks have tokens, and up to twelve seconds
of the clips themselves, so that another model can compute its own.

A voice file is one safetensors file: the latents under these names, ``blended`` where there is one, the clips as
``clip.0`` .. (int16 at 24 kHz), and one JSON object in the metadata under ``voice``. What another model does not get:
everything but the kept seconds, and what 16 bits cannot hold.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from chelys import registry
from chelys.audio.mel import MelRange, log_mel
from chelys.audio.rates import MEL_24K, OUTPUT_RATE
from chelys.deprecation import warn_renamed
from chelys.errors import AudioError, OutputError, VoiceError
from chelys.files import digest, output_file
from chelys.inference.options import whole_number
from chelys.models.autoregressive import Autoregressive
from chelys.models.diffusion import Diffusion
from chelys.parsing import parse_json
from chelys.weights.folder import Model
from chelys.weights.tensor_file import tensor_head

#: Seconds of the clips that a voice carries.
KEPT_SECONDS = 12.0
#: Mel frames of the clips that nano's networks are trained to be conditioned on.
CLIP_FRAMES = 256

#: Bytes of a voice file: with ten minutes of clips.
MAX_FILE = 1 << 25

#: Recordings of one speaker: files, folders of files, or waveforms ``(n,)``, also in pairs of a name and a waveform.
Clips = Sequence["str | Path | np.ndarray | Tensor | tuple[str, np.ndarray]"] | str | Path | np.ndarray | Tensor


class VoiceEncoder(Protocol):
    """What computes conditioning latents of clips: ``Family`` in ``chelys.inference.family``."""

    model: Model
    clip_rate: int

    def read_clips(self, paths: Sequence[Path]) -> list[np.ndarray]:
        """Read files as waveforms ``(n,)`` at ``clip_rate``."""

    def conditioning_latents(self, clips: Sequence[np.ndarray], rate: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
        """``(d,)`` and ``(2 d',)`` of waveforms ``(n,)`` at a rate in Hz."""


@dataclass(frozen=True, repr=False)
class Voice:
    """Who speaks.

    A small model pronounces less clearly in a voice that it was not trained on. So the two jobs of the autoregressive
    latent can be split: codes are sampled with ``sampling_latent``, which may be blended with a voice that the model
    knows; the latents of these codes are computed with ``autoregressive`` and rendered with ``diffusion``.
    """

    autoregressive: Tensor  # conditioning latent of the autoregressive decoder, ``(d,)`` float32
    diffusion: Tensor  # conditioning latent of the diffusion decoder, ``(2 d',)`` float32
    model: str  # fingerprint of the model that computed the latents
    #: reference clips, int16 ``(n,)`` at 24 kHz; may be empty, then the voice works with its own model only
    clips: tuple[np.ndarray, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)  # metadata: name, sources, seconds, licence
    #: what codes are sampled with, ``(d,)`` float32, if it is not ``autoregressive``; see ``blend``
    blended: Tensor | None = None

    @property
    def sampling_latent(self) -> Tensor:
        """Conditioning latent that codes are sampled with, ``(d,)``."""
        return self.autoregressive if self.blended is None else self.blended

    @property
    def name(self) -> str:
        """Name of the voice, or ``unnamed``."""
        return str(self.about.get("name") or "unnamed")

    @property
    def waveforms(self) -> list[np.ndarray]:
        """The clips as float32 ``(n,)`` in [-1, 1] at 24 kHz."""
        return [clip.astype(np.float32) / 32767 for clip in self.clips]

    @property
    def info(self) -> dict[str, Any]:
        """Metadata, ready for JSON."""
        kept = sum(map(len, self.clips)) / OUTPUT_RATE
        rest = {key: value for key, value in self.about.items() if key != "name"}
        return {"name": self.name, "model": self.model, **rest, "kept_seconds": round(kept, 2)}

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with what the voice sounds like."""
        latents = (self.autoregressive, self.diffusion, self.sampling_latent)
        return digest(*(latent.numpy().tobytes() for latent in latents), *(clip.tobytes() for clip in self.clips))

    def __repr__(self) -> str:
        kept = sum(map(len, self.clips)) / OUTPUT_RATE
        return f"<Voice {self.name!r}: {kept:.1f} s of clips, model {self.model[:12]}>"

    # ---- from recordings --------------------------------------------------------------------------------------------

    @classmethod
    @torch.inference_mode()
    def from_audio(
        cls, clips: Clips, encoder: VoiceEncoder, *, sample_rate: int = OUTPUT_RATE, name: str = "",
        kept_seconds: float = KEPT_SECONDS, seed: int = 0,
    ) -> Voice:  # fmt: skip
        """Make a voice from recordings of one speaker.

        Raises AudioError if a clip is missing, no audio, too short or silent; it is named; VoiceError if there are no
        clips.

        Args:
            clips: Audio files, folders of them, or waveforms ``(n,)``: floats in [-1, 1] or 16-bit integers; also
                pairs of a name and a waveform.
            encoder: ``Synthesizer.family``, or what else computes conditioning latents.
            sample_rate: Of the waveforms, Hz. Files know their own.
            name: For the metadata.
            kept_seconds: How much of the clips the voice carries, for other models; 0 is none.
            seed: Of the random choice of excerpts, where the family of models makes one.
        """
        from chelys.audio.io import clip_paths

        listed = list(clips) if isinstance(clips, (list, tuple)) else [clips]
        rate = encoder.clip_rate
        waveforms: list[np.ndarray] = []
        sources: list[str] = []
        paths = [clip for clip in listed if isinstance(clip, (str, Path))]
        if paths or not listed:
            files = clip_paths(paths)
            waveforms += encoder.read_clips(files)
            sources += [file.name for file in files]
        for clip in listed:
            if not isinstance(clip, (str, Path)):
                called, clip = clip if isinstance(clip, tuple) else (f"clip {len(sources) + 1}", clip)
                sources.append(called)
                waveforms.append(_array(clip, sample_rate, rate, called))
        about = {"name": name, "sources": sources}
        return cls.from_waveforms(waveforms, rate, encoder, about=about, kept_seconds=kept_seconds, seed=seed)

    @classmethod
    @torch.inference_mode()
    def from_waveforms(
        cls, waveforms: Sequence[np.ndarray], rate: int, encoder: VoiceEncoder, *, about: dict[str, Any],
        kept_seconds: float = KEPT_SECONDS, seed: int = 0,
    ) -> Voice:  # fmt: skip
        """The same from waveforms ``(n,)`` float32 at ``rate``, each at least half a second, which are not checked."""
        latents = encoder.conditioning_latents(waveforms, rate, seed=seed)
        autoregressive, diffusion = (latent.float().cpu() for latent in latents)
        from chelys.audio.voice_pitch import median_pitch  # late: speaking in an existing voice reads no audio

        about = {**about, "seconds": round(sum(map(len, waveforms)) / rate, 2)}
        if pitch := median_pitch(np.concatenate([waveform[: 30 * rate] for waveform in waveforms]), rate):
            about["pitch"] = round(pitch)
        return cls(
            autoregressive, diffusion, encoder.model.config.fingerprint, _kept(waveforms, rate, kept_seconds), about
        )

    # ---- from other voices ------------------------------------------------------------------------------------------

    def blend(self, other: Voice, share: float) -> Voice:
        """This voice, sampling its codes in part as another: words, pace and melody come from there, the sound stays.

        ``other``: a voice of the same model that it pronounces well; ``share``: 0 is this voice alone, 1 all of the
        other's. Raises VoiceError if the share is not 0 to 1, or the voices are of different models.
        """
        if not 0 <= share <= 1:
            raise VoiceError(f"speaker_blend is {share:g}: the share must be 0 to 1")
        if self.model != other.model:
            raise VoiceError("voices of different models cannot be blended: make them again from recordings")
        if not share:
            return self
        about = {**self.about, "speaker_blend": {other.name: share}}
        return replace(self, blended=self.sampling_latent.lerp(other.sampling_latent, share), about=about)

    @classmethod
    def interpolate(cls, voices: Sequence[Voice], weights: Sequence[float]) -> Voice:
        """Weighted average of voices of one model; the weights are scaled to a sum of one.

        Raises VoiceError if the weights do not fit, or the voices are of different models.
        """
        total = sum(weights)
        if len(voices) != len(weights) or not voices or not (min(weights) >= 0 and 0 < total < math.inf):
            raise VoiceError("a mix needs a weight of 0 or more for each voice, and one above 0")
        if len({voice.model for voice in voices}) > 1:
            raise VoiceError("voices of different models cannot be mixed: make them again from recordings")
        shares = [weight / total for weight in weights]

        def mean(latents: Iterable[Tensor]) -> Tensor:
            return sum((share * latent for share, latent in zip(shares, latents, strict=True)), torch.tensor(0.0))

        blended = any(voice.blended is not None for voice in voices)
        return cls(
            autoregressive=mean(v.autoregressive for v in voices),
            diffusion=mean(v.diffusion for v in voices),
            model=voices[0].model,
            blended=mean(v.sampling_latent for v in voices) if blended else None,
            about={"name": "+".join(f"{v.name}:{s:g}" for s, v in zip(shares, voices, strict=True))},
        )

    # ---- files ------------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write the voice file, whole or not at all.

        Raises OutputError if it cannot be written, or the suffix is not ``.safetensors``.
        """
        path = Path(path)
        if path.suffix != ".safetensors":
            raise OutputError(f"cannot write {path}: a voice is a .safetensors file, give it that suffix")
        tensors = {"autoregressive": self.autoregressive.contiguous(), "diffusion": self.diffusion.contiguous()}
        if self.blended is not None:
            tensors["blended"] = self.blended.contiguous()
        tensors |= {f"clip.{i}": torch.from_numpy(np.ascontiguousarray(clip)) for i, clip in enumerate(self.clips)}
        about = json.dumps({**self.about, "model": self.model})
        with output_file(path) as file:
            file.write(save(tensors, metadata={"voice": about}))

    @classmethod
    def load(cls, path: str | Path) -> Voice:
        """Read a voice file. Raises VoiceError if it is missing, damaged, or no voice file."""
        path = Path(path)
        if not path.is_file():
            raise VoiceError(f"no voice file at {path}")
        try:
            if path.stat().st_size > MAX_FILE:
                raise ValueError("it is too large")
            _, metadata = tensor_head(path)
            about = parse_json(metadata["voice"])
            with safe_open(path, "pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
            order = sorted(int(key.removeprefix("clip.")) for key in tensors if key.startswith("clip."))
            clips = tuple(tensors[f"clip.{number}"].numpy() for number in order)
            model = str(about.pop("model"))
            about = {_RENAMED_KEYS.get(key, key): value for key, value in about.items()}
            latents = {_RENAMED_KEYS.get(key, key): tensor for key, tensor in tensors.items()}
            blended = latents["blended"].float() if "blended" in latents else None
            voice = cls(latents["autoregressive"].float(), latents["diffusion"].float(), model, clips, about, blended)
            voice._check()
            return voice
        except (SafetensorError, OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise VoiceError(
                f"{path} is no voice file, or is damaged: make one with 'chelys voices add NAME CLIP...'"
            ) from error

    def _check(self) -> None:
        """Refuse what synthesis would fail on."""
        latents = (self.autoregressive, self.diffusion, self.sampling_latent)
        if not all(latent.ndim in (1, 2) and latent.isfinite().all() for latent in latents):
            raise ValueError("latents must be one or several rows of finite numbers")
        if self.sampling_latent.shape != self.autoregressive.shape:
            raise ValueError("both latents of the autoregressive decoder must be of one size")
        if not all(clip.dtype == np.int16 and clip.ndim == 1 and len(clip) > MEL_24K.n_fft for clip in self.clips):
            raise ValueError("clips must be rows of 16-bit samples")

    def __getattr__(self, name: str) -> Any:
        if name not in _RENAMED_NAMES:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        warn_renamed(f"Voice.{name}", f"Voice.{_RENAMED_NAMES[name]}")
        return getattr(self, _RENAMED_NAMES[name])

    @classmethod
    def mix(cls, voices: Sequence[Voice], weights: Sequence[float]) -> Voice:
        """Old name of ``interpolate``."""
        warn_renamed("Voice.mix", "Voice.interpolate")
        return cls.interpolate(voices, weights)

    @classmethod
    def from_tortoise(cls, path: str | Path, config: Any) -> Voice:
        """Old name of ``chelys.tortoise.voices.read_voice``."""
        warn_renamed("Voice.from_tortoise", registry.READ_TORTOISE_VOICE)
        made: Voice = registry.find(registry.READ_TORTOISE_VOICE)(Path(path), config)
        return made


#: Whatever stands for a voice: the voice, its name, a file, a mix, or clips.
AnyVoice = Voice | Clips

#: Old attributes, and old names in voice files, which older versions wrote.
_RENAMED_NAMES = {"reader": "sampling_latent", "reading": "blended", "borrow": "blend", "waves": "waveforms"}
_RENAMED_KEYS = {"reading": "blended", "borrowed": "speaker_blend"}


def _array(clip: Any, sample_rate: int, rate: int, name: str) -> np.ndarray:
    """A waveform as ``(n,)`` float32 at ``rate``, checked like a file."""
    from chelys.audio.io import centered, check_clip, resample, trimmed

    if not isinstance(clip, (Tensor, np.ndarray)):
        raise VoiceError(f"{name} is {type(clip).__name__}: give a path, or a waveform as an array or a tensor")
    waveform = clip.detach().cpu().float().numpy() if isinstance(clip, Tensor) else clip
    if waveform.ndim == 2 and 1 in waveform.shape:
        waveform = waveform.reshape(-1)
    if waveform.ndim != 1 or not len(waveform):
        raise AudioError(f"{name} has shape {waveform.shape}: give one channel, (n,), with sound in it")
    if waveform.dtype == np.int16:
        waveform = waveform / 32768
    elif not np.issubdtype(waveform.dtype, np.floating):
        raise AudioError(f"{name} holds {waveform.dtype}: give floats in [-1, 1] or 16-bit integers")
    waveform = waveform.astype(np.float32)
    if not np.isfinite(waveform).all():
        raise AudioError(f"{name} holds samples that are not finite numbers (NaN or infinity)")
    sample_rate = whole_number("sample_rate", sample_rate)
    if not 1_000 <= sample_rate <= 1_000_000:
        raise AudioError(f"sample_rate is {sample_rate} Hz: 1000 to 1000000 Hz can be used")
    if sample_rate != rate:
        waveform = resample(waveform, sample_rate, rate)
    check_clip(waveform := trimmed(centered(waveform), rate), rate, name)
    return waveform


def _kept(waveforms: Sequence[np.ndarray], rate: int, seconds: float) -> tuple[np.ndarray, ...]:
    """Seconds of the clips as a voice file carries them: the first clips, of one that is too long its loudest part."""
    kept: list[np.ndarray] = []
    room = int(seconds * OUTPUT_RATE)
    for waveform in waveforms:
        if room > OUTPUT_RATE // 2:
            waveform = at_rate(waveform, rate, OUTPUT_RATE)
            first = _loudest(waveform, room)
            kept.append((np.clip(waveform[first : first + room], -1, 1) * 32767).astype(np.int16))
            room -= len(kept[-1])
    return tuple(kept)


def _loudest(waveform: np.ndarray, length: int) -> int:
    """Where the loudest part of a length begins in a waveform ``(n,)``, to a tenth of a second."""
    energy = np.concatenate(([0.0], np.cumsum(np.square(waveform, dtype=np.float64))))
    starts = np.arange(0, max(1, len(waveform) - length), OUTPUT_RATE // 10)
    return int(starts[(energy[np.minimum(starts + length, len(waveform))] - energy[starts]).argmax()])


# ---- nano's conditioning latents ------------------------------------------------------------------------------------


def conditioning_latents(
    clips: Sequence[np.ndarray], autoregressive: Autoregressive, diffusion: Diffusion, mel_range: MelRange
) -> tuple[Tensor, Tensor]:
    """Latents ``(d,)`` and ``(2 d',)`` of waveforms ``(n,)`` at 24 kHz: means over all of the leveled recordings."""
    from chelys.audio.io import normalize_loudness

    parameter = next(autoregressive.parameters())
    mels: list[Tensor] = []
    for clip in clips:
        waveform = torch.from_numpy(np.ascontiguousarray(normalize_loudness(clip)))
        mels += trained_mels(mel_range.normalize(log_mel(waveform[None], MEL_24K)).to(parameter))
    if autoregressive.config.conditioning_tokens:
        return autoregressive.condition(torch.stack(mels, 1))[0], diffusion.voice(mels)[0]
    return torch.cat([autoregressive.condition(mel) for mel in mels]).mean(0), diffusion.voice(mels)[0]


def trained_mels(mel: Tensor) -> list[Tensor]:
    """Cut a mel ``(1, f, s)`` into pieces of the trained length, overlapping where it is no multiple of that."""
    frames = mel.shape[2]
    if frames <= CLIP_FRAMES:
        return [mel.repeat(1, 1, -(-CLIP_FRAMES // frames))[:, :, :CLIP_FRAMES]]
    count = max(1, round(frames / CLIP_FRAMES))
    starts = torch.linspace(0, frames - CLIP_FRAMES, count).round().int().tolist()
    return [mel[:, :, s : s + CLIP_FRAMES] for s in starts]


def at_rate(clip: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """A waveform ``(n,)`` at another rate, Hz."""
    if rate == wanted:
        return clip
    from chelys.audio.resample import sinc_resample

    return sinc_resample(torch.from_numpy(np.ascontiguousarray(clip, dtype=np.float32))[None], rate, wanted)[0].numpy()
