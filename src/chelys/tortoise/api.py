"""The interface of the original ``tortoise-tts``, over chelys: change the imports of a program, and it runs.

::

    from chelys.tortoise.api import TextToSpeech, load_voice      # was: tortoise.api, tortoise.utils.audio

    tts = TextToSpeech()
    samples, latents = load_voice("me", extra_voice_dirs=["voices"])
    waveform = tts.tts_with_preset("Hello there.", preset="fast", voice_samples=samples, conditioning_latents=latents)

Names, defaults and shapes are the original's, the work is done by ``chelys.load`` and ``Synthesizer.speak``. What has
no meaning here is accepted, and a warning is logged. Random numbers are drawn in another order than in the original,
so that the same seed gives another candidate.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import platformdirs
import torch
from torch import Tensor

import chelys
from chelys.audio.rates import PUBLISHED_CODE_RATE
from chelys.errors import ModelError, UserError
from chelys.inference.options import SpeechOptions
from chelys.inference.voice import Voice
from chelys.text.tokenizer import read_core
from chelys.tortoise.speaking import PUBLISHED_PRESETS
from chelys.tortoise.tokenizer import TortoiseTokenizer
from chelys.tortoise.voices import Latents, get_voices, load_audio, load_voice, load_voices
from chelys.weights.checks import best_device

__all__ = ["TextToSpeech", "get_voices", "load_audio", "load_voice", "load_voices", "pick_best_batch_size_for_gpu"]

PRESETS = ("ultra_fast", "fast", "standard", "high_quality")
#: What every folder of published weights has; the older repository keeps its files in a folder of their own.
_MARKS = ("autoregressive.pth", ".models/autoregressive.pth")
_SEEDS = 2**32
_logger = logging.getLogger(__name__)


def resolve_model(models_dir: str | Path | None) -> str:
    """What to hand to ``chelys.load`` for the ``models_dir`` of ``TextToSpeech``; published files are converted once.

    Raises:
        ModelError: If a published file cannot be converted.
    """
    if models_dir is None:
        folder = Path(os.environ.get("TORTOISE_MODELS_DIR") or "~/.cache/tortoise/models")
        return _converted(folder) if _is_published(folder) else "tortoise-v2"
    return _converted(Path(models_dir)) if _is_published(Path(models_dir)) else str(models_dir)


def _is_published(folder: Path) -> bool:
    try:
        return any((folder.expanduser() / mark).is_file() for mark in _MARKS)
    except (OSError, RuntimeError, ValueError):  # longer than a name can be; an unknown home; a null character
        return False


def _converted(folder: Path) -> str:
    """A model folder of these weights in chelys' cache, made on first use."""
    from chelys.tortoise.convert import convert, find_checkpoints

    folder = folder.expanduser().resolve()
    files = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(folder.rglob("*.pth"))]
    digest = hashlib.sha256(repr((str(folder), files)).encode()).hexdigest()[:12]
    made = Path(platformdirs.user_cache_dir("chelys")) / "models" / f"tortoise-{digest}"
    if not (made / "config.json").is_file():
        made.parent.mkdir(parents=True, exist_ok=True)
        _logger.info("converting the weights in %s into %s, once", folder, made)
        convert(find_checkpoints(folder), made, origin=str(folder), spare=True)
    return str(made)


def pick_best_batch_size_for_gpu() -> int:
    """Candidates to sample at a time. chelys' sampling takes less memory than the original's: 16 everywhere."""
    return SpeechOptions().batch


class TextToSpeech:
    """The original's class of that name.

    Args:
        autoregressive_batch_size: Candidates sampled at a time; it bounds the memory and changes none of them.
        models_dir: A folder of published ``.pth`` files, which is converted into chelys' cache once; a chelys model
            folder; or a name that ``chelys.load`` knows, such as ``nano``. None is where the original kept its files
            (``TORTOISE_MODELS_DIR``, or ``~/.cache/tortoise/models``), if they are there, else ``tortoise-v2``.
        enable_redaction: Cut [bracketed] words out of the audio; the aligner is loaded when it is first needed.
        kv_cache: Ignored: there always is one.
        use_deepspeed: Ignored.
        half: Compute in float16; on a GPU alone, as in the original.
        device: As torch names it; None is the best that there is.
        tokenizer_vocab_file: Another ``tokenizer.json``.
        tokenizer_basic: Clean texts by lower-casing alone.

    Raises:
        ModelError: If there is no such model, or it is damaged.
        UserError: If the device or the tokenizer cannot be used.
    """

    def __init__(
        self, autoregressive_batch_size: int | None = None, models_dir: str | Path | None = None,
        enable_redaction: bool = True, kv_cache: bool = False, use_deepspeed: bool = False, half: bool = False,
        device: str | torch.device | None = None, tokenizer_vocab_file: str | Path | None = None,
        tokenizer_basic: bool = False,
    ) -> None:  # fmt: skip
        _tell_ignored(use_deepspeed=use_deepspeed)
        chosen = torch.device(best_device() if device is None else device)
        dtype = "float16" if half and chosen.type == "cuda" else None
        self.synthesizer = chelys.load(resolve_model(models_dir), device=str(chosen), dtype=dtype)
        self.device = chosen
        self.enable_redaction = enable_redaction
        self.autoregressive_batch_size = autoregressive_batch_size or pick_best_batch_size_for_gpu()
        if tokenizer_vocab_file is not None or tokenizer_basic:
            self._change_tokenizer(tokenizer_vocab_file, tokenizer_basic)

    def get_conditioning_latents(
        self, voice_samples: Sequence[Tensor] | Tensor, return_mels: bool = False
    ) -> tuple[Tensor, Tensor]:
        """The two vectors ``(1, d)`` and ``(1, 2 d')`` of clips ``(1, n)`` at 22.05 kHz, float32.

        Raises:
            AudioError: If a clip is silent or shorter than half a second.
            UserError: If mels are asked for.
        """
        if return_mels:
            raise UserError("return_mels=True: chelys keeps the clips of a voice, not their mels; leave it out")
        return _latents(self._voice_of(voice_samples))

    def get_random_conditioning_latents(self, seed: int | None = None) -> tuple[Tensor, Tensor]:
        """The two vectors of a random voice; as in ``get_conditioning_latents``."""
        return _latents(self.synthesizer.resolve_voice("random" if seed is None else f"random:{seed % _SEEDS}"))

    def tts_with_preset(self, text: str, preset: str = "fast", **kwargs: Any) -> Any:
        """``tts`` with the published settings of a preset, which keywords override."""
        if preset not in PRESETS:
            raise UserError(f"unknown preset {preset!r}: choose from {', '.join(PRESETS)}")
        options = PUBLISHED_PRESETS[preset]
        settings = {"num_autoregressive_samples": options.candidates, "diffusion_iterations": options.steps}
        return self.tts(text, **{**settings, "cond_free": options.guidance > 0, **kwargs})

    def tts(
        self, text: str, voice_samples: Sequence[Tensor] | Tensor | None = None,
        conditioning_latents: Latents | Voice | None = None, k: int = 1, verbose: bool = True,
        use_deterministic_seed: int | None = None, return_deterministic_state: bool = False,
        num_autoregressive_samples: int = 512, temperature: float = 0.8, length_penalty: float = 1,
        repetition_penalty: float = 2.0, top_p: float = 0.8, max_mel_tokens: int = 500, cvvp_amount: float = 0.0,
        diffusion_iterations: int = 100, cond_free: bool = True, cond_free_k: float = 2,
        diffusion_temperature: float = 1.0, **hf_generate_kwargs: Any,
    ) -> Any:  # fmt: skip
        """Speak.

        Args:
            text: Of any length.
            voice_samples: Clips ``(1, n)`` at 22.05 kHz; they go before latents.
            conditioning_latents: What ``get_conditioning_latents`` gave; without either the voice is drawn at random.
            k: Candidates to give back, best first.
            verbose: Log each step of the work.
            use_deterministic_seed: Of everything random; None is the time.
            return_deterministic_state: Give back the seed, text and voice besides.
            num_autoregressive_samples: Candidates to sample.
            temperature: Of sampling.
            length_penalty: Ignored, as it was in the original.
            repetition_penalty: Of codes already sampled.
            top_p: Nucleus of sampling.
            max_mel_tokens: Limit of the codes of a candidate.
            cvvp_amount: Weight of CVVP against CLVP, 0 to 1; above 0 it needs voice_samples.
            diffusion_iterations: Steps.
            cond_free: Guide the diffusion.
            cond_free_k: By how much.
            diffusion_temperature: Of the noise that the diffusion starts from.
            hf_generate_kwargs: ``top_k``, ``typical_sampling`` and ``typical_mass``; others are ignored.

        Returns:
            A waveform ``(1, 1, n)`` at 24 kHz, or a list of k of them; with return_deterministic_state a pair of that
            and ``(seed, text, voice_samples, conditioning_latents)``.

        Raises:
            UserError: If the text cannot be spoken, the voice not used, or a value is out of range.
        """
        options = self._options(
            hf_generate_kwargs, candidates=num_autoregressive_samples, temperature=temperature, top_p=top_p,
            repetition_penalty=repetition_penalty, max_new_tokens=max_mel_tokens, cvvp=cvvp_amount,
            steps=diffusion_iterations, guidance=cond_free_k if cond_free else 0.0,
            diffusion_temperature=diffusion_temperature,
        )  # fmt: skip
        _tell_ignored(length_penalty=length_penalty != 1)
        seed = int(time.time()) if use_deterministic_seed is None else use_deterministic_seed
        voice = self._voice(voice_samples, conditioning_latents, seed)
        speech = self.synthesizer.speak(
            text, voice=voice, seed=seed % _SEEDS, keep=k, options=options, progress=_log_progress if verbose else None
        )
        for warning in speech.warnings:
            _logger.warning("%s", warning)
        waveforms = [torch.from_numpy(candidate.audio)[None, None] for candidate in speech.candidates]
        given = waveforms if len(waveforms) > 1 else waveforms[0]
        if return_deterministic_state:
            return given, (seed, text, voice_samples, conditioning_latents)
        return given

    def tts_stream(
        self, text: str, voice_samples: Sequence[Tensor] | Tensor | None = None,
        conditioning_latents: Latents | Voice | None = None, use_deterministic_seed: int | None = None,
        temperature: float = 0.8, repetition_penalty: float = 2.0, top_p: float = 0.8, max_mel_tokens: int = 500,
        **kwargs: Any,
    ) -> Iterator[Tensor]:  # fmt: skip
        """Speak piece by piece, as the original's ``api_fast`` did: one candidate, by HiFi-GAN where there is one.

        As ``tts``; gives waveforms ``(n,)`` at 24 kHz. Sizes of pieces and overlaps are ignored: pieces join without a
        seam.
        """
        decoder = {"decoder": "hifigan"} if self.synthesizer.model.has("hifigan") else {}
        options = self._options(
            kwargs, candidates=1, temperature=temperature, top_p=top_p, repetition_penalty=repetition_penalty,
            max_new_tokens=max_mel_tokens, **decoder,
        )  # fmt: skip
        seed = int(time.time()) if use_deterministic_seed is None else use_deterministic_seed
        voice = self._voice(voice_samples, conditioning_latents, seed)
        chunks = self.synthesizer.stream(text, voice=voice, seed=seed % _SEEDS, options=options)
        return (torch.from_numpy(chunk.audio) for chunk in chunks)

    def _options(self, extra: dict[str, Any], **changes: Any) -> SpeechOptions:
        """Options of the original as ours; the sampler of the diffusion and its ramp are the model's own."""
        extra = dict(extra)
        top_k = extra.pop("top_k", None)
        mass = extra.pop("typical_mass", 0.9)  # the original's default
        if extra.pop("typical_sampling", False):
            changes["typical_mass"] = mass
        _tell_ignored(**dict.fromkeys(extra, True))
        batch, redact = self.autoregressive_batch_size, self.enable_redaction
        published = self.synthesizer.model.config.family == "tortoise-v2"  # its own sampler, whatever our presets take
        base = PUBLISHED_PRESETS["fast"] if published else self.synthesizer.family.presets["fast"]
        return replace(base, batch=batch, redact=redact, top_k=50 if top_k is None else top_k, **changes)

    def _voice(self, samples: Any, latents: Latents | Voice | None, seed: int) -> Voice:
        if samples is not None:
            return self._voice_of(samples)
        if isinstance(latents, Voice):
            return latents
        if latents is None:
            return self.synthesizer.resolve_voice(f"random:{seed % _SEEDS}")
        autoregressive, diffusion = (vector.detach().float().cpu().flatten() for vector in latents)
        return Voice(autoregressive, diffusion, self.synthesizer.model.config.fingerprint, about={"name": "latents"})

    def _voice_of(self, samples: Sequence[Tensor] | Tensor) -> Voice:
        """A voice of clips. It blends with no other, as the original's do: a pair of latents could not carry that."""
        clips = samples if isinstance(samples, (list, tuple)) else [samples]
        waveforms = [torch.as_tensor(clip).detach().float().cpu().flatten() for clip in clips]
        rate = PUBLISHED_CODE_RATE
        return self.synthesizer.voice(waveforms, sample_rate=rate, name="voice_samples", speaker_blend=0.0)

    def _change_tokenizer(self, file: str | Path | None, basic: bool) -> None:
        model = self.synthesizer.model
        if model.tokenizer.lexicon is not None:
            raise UserError(
                f"model {model.config.name!r} reads phonemes: tokenizer_vocab_file and tokenizer_basic go with "
                "TorToise v2 alone, leave them out"
            )
        core = model.tokenizer.core
        if file is not None:
            try:
                core = read_core(Path(file))
            except ModelError as error:
                raise UserError(f"cannot read the tokenizer: {error}") from error
        assert isinstance(model.tokenizer, TortoiseTokenizer)
        tokenizer = TortoiseTokenizer(core, cleaner="basic" if basic else model.tokenizer.cleaner)
        most = model.config.autoregressive.text_tokens
        if tokenizer.vocabulary_size > most:
            raise UserError(f"the tokenizer {file} has {tokenizer.vocabulary_size} ids, the model only {most}")
        model.tokenizer = tokenizer


def _latents(voice: Voice) -> tuple[Tensor, Tensor]:
    return voice.autoregressive[None], voice.diffusion[None]


def _tell_ignored(**given: bool) -> None:
    if names := [name for name, ignored in given.items() if ignored]:
        _logger.warning("ignored, because it has no meaning in chelys: %s", ", ".join(names))


def _log_progress(stage: str, done: int, total: int) -> None:
    if done == total:
        _logger.info("%s: done", stage)
