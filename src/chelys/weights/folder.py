"""A model is a folder: ``config.json``, one safetensors file for each network, ``tokenizer.json``, ``voices/``, a card.

Folders are read strictly: every tensor that a network has must be in its file, in its shape, and none besides. Hashes
are recorded on saving. Weights may lie in half precision on disk; they are computed with in ``dtype``. Networks that
most speech does without are read when they are first asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from chelys import registry
from chelys.audio.mel import PUBLISHED_MEL_RANGE, MelRange
from chelys.audio.rates import FRAMES_PER_CODE
from chelys.config import from_mapping, to_mapping
from chelys.errors import ConfigError, ModelError
from chelys.files import write_json
from chelys.models.autoregressive import Autoregressive, AutoregressiveConfig
from chelys.models.clvp import CLVP, CLVPConfig
from chelys.models.diffusion import Diffusion, DiffusionConfig
from chelys.models.dvae import DVAE, DVAEConfig
from chelys.models.vocos import Vocos, VocosConfig
from chelys.text.tokenizer import LEXICON_FILE, TOKENIZER_FILE, Tokenizer
from chelys.tortoise.code_rules import CodeRules
from chelys.tortoise.cvvp import CVVP, CVVPConfig
from chelys.tortoise.detector import Detector, DetectorConfig
from chelys.tortoise.hifigan import HiFiGAN, HiFiGANConfig
from chelys.tortoise.sizes import PUBLISHED
from chelys.tortoise.univnet import UnivNet, UnivNetConfig
from chelys.tortoise.voice_prior import VoicePrior, VoicePriorConfig
from chelys.weights.checks import require_memory
from chelys.weights.tensor_file import load_network, sha256, write_tensors

CONFIG_FILE = "config.json"
FORMAT = 1
Vocoder = Vocos | UnivNet

#: Field of the configuration to the network it describes.
NETWORKS: dict[str, type[nn.Module]] = {
    "autoregressive": Autoregressive,
    "clvp": CLVP,
    "diffusion": Diffusion,
    "univnet": UnivNet,
    "vocos": Vocos,
    "dvae": DVAE,
    "cvvp": CVVP,
    "hifigan": HiFiGAN,
    "autoregressive_prior": VoicePrior,
    "diffusion_prior": VoicePrior,
    "detector": Detector,
}
#: Networks that a model may lack, see `Model.extra`.
EXTRAS = ("cvvp", "hifigan", "autoregressive_prior", "diffusion_prior", "detector")
#: Recorded on saving, needed by training alone.
NOT_FOR_SPEAKING = frozenset({"dvae.safetensors"})


@dataclass(frozen=True)
class ModelConfig:
    """``config.json``: what the networks are.

    Attributes:
        name: Of the model.
        mel_range: Log-mels that become -1 and 1 inside the networks.
        autoregressive: Sizes of the autoregressive decoder.
        clvp: Sizes of CLVP.
        diffusion: Sizes of the diffusion decoder.
        vocos: Sizes of the Fourier-head vocoder, if that is the vocoder.
        univnet: Sizes of UnivNet, if that is.
        dvae: Sizes of the VQ-VAE; only training needs it, and a folder may lack it.
        cvvp: Sizes of CVVP; this and the four below are of networks that a model may lack.
        hifigan: Of the decoder that streams.
        autoregressive_prior: Of what draws random voices for the autoregressive decoder.
        diffusion_prior: The same for the diffusion decoder.
        detector: Of what tells whether the model made a wave.
        family: Whose presets the model is spoken with.
        front_end: Mels of the voices: ``shared``, one at 24 kHz with 100 bands for all networks; or ``published``,
            22.05 kHz and 80 bands, each divided by its norm, for the autoregressive decoder and CVVP, and 24 kHz and
            100 bands, clipped and not normalised, for the diffusion decoder.
        cleaner: What makes words of a text: chelys' own, or one of the published two.
        text_stops: Stop ids behind a text before any network reads it; the decoder adds its own besides.
        code_rules: What is done to codes before they are read again; None leaves them.
        default_voice: Built-in voice that speaks when none is named.
        borrowed: Its share in how a voice that is made of clips reads, 0 to 1.
        license: Of the weights (SPDX).
        hashes: File name to SHA-256.
        origin: Where the weights were fetched from, if they were.
        source_hashes: Name of each file that the weights were converted from, to its SHA-256.
        format: Version of this layout.
    """

    name: str
    mel_range: MelRange
    autoregressive: AutoregressiveConfig
    clvp: CLVPConfig
    diffusion: DiffusionConfig
    vocos: VocosConfig | None = None
    univnet: UnivNetConfig | None = None
    dvae: DVAEConfig | None = None
    cvvp: CVVPConfig | None = None
    hifigan: HiFiGANConfig | None = None
    autoregressive_prior: VoicePriorConfig | None = None
    diffusion_prior: VoicePriorConfig | None = None
    detector: DetectorConfig | None = None
    family: Literal["nano", "tortoise-v2"] = "nano"
    front_end: Literal["shared", "published"] = "shared"
    cleaner: Literal["chelys", "tortoise", "basic"] = "chelys"
    text_stops: int = 0
    code_rules: CodeRules | None = None
    default_voice: str = ""
    borrowed: float = 0.0
    license: str = "Apache-2.0"
    hashes: dict[str, str] = field(default_factory=dict)
    origin: str = ""
    source_hashes: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def family_class(self) -> str:
        """Full name of the class that knows how the model is spoken with."""
        own = (self.family, self.front_end, self.cleaner, self.univnet) == ("nano", "shared", "chelys", None)
        extras = (self.code_rules, self.cvvp, self.hifigan, self.autoregressive_prior, self.diffusion_prior)
        if own and not any(extras):
            return registry.SPEAKERS["nano"]
        return registry.SPEAKERS["tortoise-v2"]

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change with the weights that voices depend on."""
        parts = [self.hashes.get(f"{name}.safetensors", "") for name in ("autoregressive", "diffusion")]
        return hashlib.sha256("".join(parts).encode()).hexdigest()[:12]


def published_config(**changes: Any) -> ModelConfig:
    """TorToise v2 as it was published, every optional network included.

    Args:
        changes: Fields that differ.
    """
    values: dict[str, Any] = {
        "name": "tortoise-v2",
        "mel_range": PUBLISHED_MEL_RANGE,
        **PUBLISHED,
        "family": "tortoise-v2",
        "front_end": "published",
        "cleaner": "tortoise",
        "text_stops": 1,
        "code_rules": CodeRules(),
    }
    return ModelConfig(**values | changes)


@dataclass
class Model:
    """A loaded model: its networks in evaluation mode, its tokenizer and where it lies."""

    config: ModelConfig
    folder: Path
    tokenizer: Tokenizer
    autoregressive: Autoregressive
    clvp: CLVP
    diffusion: Diffusion
    vocoder: Vocoder
    device: str | torch.device = "cpu"
    dtype: torch.dtype = torch.float32
    _extras: dict[str, nn.Module] = field(default_factory=dict, repr=False)

    def has(self, name: str) -> bool:
        """Whether the model has one of EXTRAS."""
        return getattr(self.config, name) is not None and (self.folder / f"{name}.safetensors").is_file()

    def extra(self, name: str) -> Any:
        """A network that most speech does without; it is loaded when it is first asked for.

        Args:
            name: One of EXTRAS.

        Raises:
            ModelError: If the model lacks it, or its file is damaged.
        """
        if name not in self._extras:
            if name not in EXTRAS or not self.has(name):
                raise ModelError(f"model {self.config.name!r} in {self.folder} has no {name} network")
            self._extras[name] = _load(self.config, name, self.folder / f"{name}.safetensors", self.device, self.dtype)
        return self._extras[name]


def save_model(
    folder: Path,
    config: ModelConfig,
    networks: Mapping[str, nn.Module],
    tokenizer: Tokenizer,
    *,
    dtype: torch.dtype = torch.float16,
) -> ModelConfig:
    """Write a model folder; voices and the card are added by the caller.

    Args:
        folder: Where; made if missing.
        config: Without hashes.
        networks: Name (also of the file) to network.
        tokenizer: With its lexicon, if it has one.
        dtype: Of the floating-point tensors on disk.

    Returns:
        The config with the hashes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    hashes = {}
    for name, network in networks.items():
        file = f"{name}.safetensors"
        hashes[file] = write_tensors(folder / file, network.state_dict(), network=name, dtype=dtype)
    tokenizer.save(folder)
    return write_config(folder, config, hashes)


def write_config(folder: Path, config: ModelConfig, hashes: Mapping[str, str]) -> ModelConfig:
    """Write ``config.json``, after everything else: without it nothing loads.

    Args:
        folder: Where networks and tokenizer lie.
        config: Without hashes.
        hashes: Of the networks; those of the tokenizer are added.

    Returns:
        The config with the hashes.
    """
    text = {name: sha256(folder / name) for name in (TOKENIZER_FILE, LEXICON_FILE) if (folder / name).is_file()}
    values = to_mapping(config) | {"hashes": {**hashes, **text}}
    write_json(folder / CONFIG_FILE, values)
    return read_config(folder)


def read_config(folder: Path) -> ModelConfig:
    """``config.json`` of a model folder.

    Raises:
        ModelError: If the folder or the file is missing, is no JSON, or has a wrong key.
    """
    path = folder / CONFIG_FILE
    if not folder.is_dir():
        raise ModelError(f"no model folder at {folder}")
    if not path.is_file():
        raise ModelError(f"{folder} is not a model folder: it has no {CONFIG_FILE}")
    try:
        values = json.loads(path.read_text(encoding="utf8"))
        if not isinstance(values, dict):
            raise ModelError(f"{path} holds no keys; get the model again")
        config = from_mapping(ModelConfig, values, where=str(path))
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise ModelError(f"{path} is damaged ({error}); get the model again") from error
    except ConfigError as error:
        raise ModelError(str(error)) from error
    if config.format != FORMAT:
        raise ModelError(f"{path} has format {config.format}, this version of chelys reads {FORMAT}")
    if (config.vocos is None) == (config.univnet is None):
        raise ModelError(f"{path} must name one vocoder, vocos or univnet")
    fault = contradiction(config)
    if fault:
        raise ModelError(f"{path} contradicts itself: {fault}")
    return config


def contradiction(config: ModelConfig) -> str:
    """First way in which the networks could not work together that no file of weights would show; else nothing."""
    decoder, clvp, diffusion = config.autoregressive, config.clvp, config.diffusion
    bands = config.vocos.bands if config.vocos else config.univnet.mel_bands  # type: ignore[union-attr]
    cvvp, hifigan, rules = config.cvvp, config.hifigan, config.code_rules
    priors = config.autoregressive_prior, config.diffusion_prior
    kept = {
        "mel_range.low must lie below mel_range.high": config.mel_range.low < config.mel_range.high,
        "autoregressive.dim must be a multiple of its heads": _divides(decoder.heads, decoder.dim),
        "diffusion.dim must be a multiple of its heads": _divides(diffusion.heads, diffusion.dim),
        f"diffusion.patch must divide {FRAMES_PER_CODE}": _divides(diffusion.patch, FRAMES_PER_CODE),
        "diffusion.latent_dim must be autoregressive.dim": diffusion.latent_dim == decoder.dim,
        "diffusion.bands must be those of the vocoder": diffusion.bands == bands,
        "clvp.speech_tokens must be at least autoregressive.codes": clvp.speech_tokens >= decoder.codes,
        "text_stops must not be negative": config.text_stops >= 0,
        "code_rules must name codes below autoregressive.codes": rules is None
        or all(0 <= code < decoder.codes for code in (rules.silence, *rules.tail)),
        "cvvp.speech_tokens must be at least autoregressive.codes": not cvvp or cvvp.speech_tokens >= decoder.codes,
        "cvvp.bands must be autoregressive.bands": not cvvp or cvvp.bands == decoder.bands,
        "hifigan.latent_dim must be autoregressive.dim": not hifigan or hifigan.latent_dim == decoder.dim,
        "hifigan.voice_dim must be autoregressive.dim": not hifigan or hifigan.voice_dim == decoder.dim,
        "autoregressive_prior.dim must be autoregressive.dim": not priors[0] or priors[0].dim == decoder.dim,
        "diffusion_prior.dim must be twice diffusion.dim": not priors[1] or priors[1].dim == 2 * diffusion.dim,
    }
    return next((rule for rule, holds in kept.items() if not holds), "")


def _divides(divisor: int, number: int) -> bool:
    return divisor > 0 and number % divisor == 0


def load_model(folder: Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Model:
    """Load a model folder for speaking.

    Args:
        folder: The model.
        device: Where the networks go.
        dtype: What they compute with.

    Raises:
        ModelError: If a file is missing, truncated, or does not fit ``config.json``, or the memory has no room for
            the model; the file is named.
    """
    config = read_config(folder)
    spared = NOT_FOR_SPEAKING | {f"{name}.safetensors" for name in EXTRAS}
    for name in sorted(config.hashes.keys() - spared):
        if not (folder / name).is_file():
            raise ModelError(f"{folder} lacks {name}; get the model again")
    tokenizer = Tokenizer.load(folder, cleaner=config.cleaner)
    if tokenizer.lexicon is not None and not tokenizer.lexicon:
        raise ModelError(f"{folder / LEXICON_FILE} holds no words; get the model again")
    text_tokens = min(config.autoregressive.text_tokens, config.clvp.text_tokens)
    if tokenizer.vocabulary_size > text_tokens:
        raise ModelError(
            f"{folder}: {TOKENIZER_FILE} has {tokenizer.vocabulary_size} ids, {CONFIG_FILE} only {text_tokens}"
        )
    fields = ("autoregressive", "clvp", "diffusion", "vocos" if config.vocos else "univnet")
    files = {field: folder / f"{'vocoder' if field in ('vocos', 'univnet') else field}.safetensors" for field in fields}
    require_memory(folder, files.values(), device, dtype)
    loaded = {field: _load(config, field, file, device, dtype) for field, file in files.items()}
    vocoder = loaded.pop(fields[-1])
    return Model(config, folder, tokenizer, vocoder=vocoder, device=device, dtype=dtype, **loaded)  # type: ignore[arg-type]


def _load(config: ModelConfig, field: str, file: Path, device: str | torch.device, dtype: torch.dtype) -> nn.Module:
    """A network for speaking, filled from its file."""
    try:
        network = build(config, field)
    except (RuntimeError, ValueError, AssertionError, ZeroDivisionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{file.parent / CONFIG_FILE} describes no network that can be built ({reason})") from error
    load_network(file, network, device=device, dtype=dtype)
    return network.to(device=device, dtype=dtype).eval().requires_grad_(False)


def build(config: ModelConfig, field: str) -> nn.Module:
    """The network that a field of the configuration describes, without its weights.

    Args:
        config: The model.
        field: A key of NETWORKS.
    """
    if field == "vocos":
        with torch.random.fork_rng(devices=[]):  # it starts from random weights, being too full of buffers for meta
            return Vocos(config.vocos, config.mel_range)  # type: ignore[arg-type]
    return skeleton(field, getattr(config, field))


def skeleton(field: str, sizes: Any, *, weight_norm: bool = False) -> nn.Module:
    """A network that says what tensors it has; it holds none that mean anything.

    Args:
        field: A key of NETWORKS, ``vocos`` excepted.
        sizes: Its configuration.
        weight_norm: Let it hold its kernels as direction and length; small networks alone can.
    """
    if weight_norm:  # which computes, and would import the compiler on the meta device
        with torch.random.fork_rng(devices=[]):
            return NETWORKS[field](sizes, weight_norm=True)
    with torch.device("meta"), _Unfilled():
        return NETWORKS[field](sizes)


class _Unfilled(TorchFunctionMode):
    """Leaves out the random values of fresh weights, for which the meta device would import a second of compiler."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(function, "__name__", "") in ("normal_", "uniform_", "kaiming_uniform_"):
            return args[0] if args else kwargs["tensor"]
        return (torch.empty if function is torch.randn else function)(*args, **kwargs)
