"""A model is a folder: ``config.json``, one safetensors file for each network, ``tokenizer.json``, ``voices/``, a card.

Folders are read strictly: every tensor that a network has must be in its file, in its shape, and none besides. Hashes
are recorded on saving. Weights may lie in half precision on disk; they are computed with in ``dtype``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from chelys.audio.mel import MelRange
from chelys.audio.rates import FRAMES_PER_CODE
from chelys.config import from_mapping, to_mapping
from chelys.errors import ConfigError, ModelError
from chelys.models.autoregressive import Autoregressive, AutoregressiveConfig
from chelys.models.clvp import CLVP, CLVPConfig
from chelys.models.diffusion import Diffusion, DiffusionConfig
from chelys.models.dvae import DVAEConfig
from chelys.models.univnet import UnivNet, UnivNetConfig
from chelys.models.vocos import Vocos, VocosConfig
from chelys.text.tokenizer import LEXICON_FILE, TOKENIZER_FILE, Tokenizer

CONFIG_FILE = "config.json"
#: Recorded on saving, needed by training alone.
NOT_FOR_SPEAKING = frozenset({"dvae.safetensors"})
FORMAT = 1
Vocoder = Vocos | UnivNet


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
        default_voice: Built-in voice that speaks when none is named.
        license: Of the weights (SPDX).
        hashes: File name to SHA-256.
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
    default_voice: str = ""
    license: str = "Apache-2.0"
    hashes: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change with the weights that voices depend on."""
        parts = [self.hashes.get(f"{name}.safetensors", "") for name in ("autoregressive", "diffusion")]
        return hashlib.sha256("".join(parts).encode()).hexdigest()[:12]


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
        path = folder / f"{name}.safetensors"
        tensors = {
            k: (v.to(dtype) if v.is_floating_point() else v).contiguous() for k, v in network.state_dict().items()
        }
        save_file(tensors, path, metadata={"network": name})  # several keys would lie in random order
        hashes[path.name] = sha256(path)
    tokenizer.save(folder)
    for name in (TOKENIZER_FILE, LEXICON_FILE):
        if (folder / name).is_file():
            hashes[name] = sha256(folder / name)
    values = to_mapping(config) | {"hashes": hashes}
    # last: without it nothing loads
    (folder / CONFIG_FILE).write_text(json.dumps(values, indent=2) + "\n", encoding="utf8")
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
    fault = _contradiction(config)
    if fault:
        raise ModelError(f"{path} contradicts itself: {fault}")
    return config


def _contradiction(config: ModelConfig) -> str:
    """First way in which the networks could not work together that no file of weights would show; else nothing."""
    decoder, clvp, diffusion = config.autoregressive, config.clvp, config.diffusion
    bands = config.vocos.bands if config.vocos else config.univnet.mel_bands  # type: ignore[union-attr]
    rules = {
        "mel_range.low must lie below mel_range.high": config.mel_range.low < config.mel_range.high,
        "autoregressive.dim must be a multiple of its heads": _divides(decoder.heads, decoder.dim),
        "diffusion.dim must be a multiple of its heads": _divides(diffusion.heads, diffusion.dim),
        f"diffusion.patch must divide {FRAMES_PER_CODE}": _divides(diffusion.patch, FRAMES_PER_CODE),
        "diffusion.latent_dim must be autoregressive.dim": diffusion.latent_dim == decoder.dim,
        "diffusion.bands must be those of the vocoder": diffusion.bands == bands,
        "clvp.speech_tokens must be at least autoregressive.codes": clvp.speech_tokens >= decoder.codes,
    }
    return next((rule for rule, kept in rules.items() if not kept), "")


def _divides(divisor: int, number: int) -> bool:
    return divisor > 0 and number % divisor == 0


def load_model(folder: Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Model:
    """Load a model folder for speaking.

    Args:
        folder: The model.
        device: Where the networks go.
        dtype: What they compute with.

    Raises:
        ModelError: If a file is missing, truncated, or does not fit ``config.json``; the file is named.
    """
    config = read_config(folder)
    for name in sorted(config.hashes.keys() - NOT_FOR_SPEAKING):
        if not (folder / name).is_file():
            raise ModelError(f"{folder} lacks {name}; get the model again")
    tokenizer = Tokenizer.load(folder)
    if tokenizer.lexicon is not None and not tokenizer.lexicon:
        raise ModelError(f"{folder / LEXICON_FILE} holds no words; get the model again")
    text_tokens = min(config.autoregressive.text_tokens, config.clvp.text_tokens)
    if tokenizer.vocabulary_size > text_tokens:
        raise ModelError(
            f"{folder}: {TOKENIZER_FILE} has {tokenizer.vocabulary_size} ids, {CONFIG_FILE} only {text_tokens}"
        )

    def load(name: str, network: nn.Module) -> nn.Module:
        load_network(folder / f"{name}.safetensors", network)
        return network.to(device=device, dtype=dtype).eval().requires_grad_(False)

    try:
        with torch.device("meta"), _Unfilled():
            skeletons = {
                "autoregressive": Autoregressive(config.autoregressive),
                "clvp": CLVP(config.clvp),
                "diffusion": Diffusion(config.diffusion),
            }
        with torch.random.fork_rng(devices=[]):  # it starts from random weights, being too full of buffers for meta
            vocoder = Vocos(config.vocos, config.mel_range) if config.vocos else UnivNet(config.univnet)  # type: ignore[arg-type]
    except (RuntimeError, ValueError, AssertionError, ZeroDivisionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{folder / CONFIG_FILE} describes no network that can be built ({reason})") from error
    loaded = {name: load(name, network) for name, network in skeletons.items()}
    return Model(
        config=config,
        folder=folder,
        tokenizer=tokenizer,
        vocoder=load("vocoder", vocoder),  # type: ignore[arg-type]
        **loaded,  # type: ignore[arg-type]
    )


class _Unfilled(TorchFunctionMode):
    """Leaves out the random values of fresh weights, for which the meta device would import a second of compiler."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(function, "__name__", "") in ("normal_", "uniform_", "kaiming_uniform_"):
            return args[0] if args else kwargs["tensor"]
        return (torch.empty if function is torch.randn else function)(*args, **kwargs)


def load_network(path: Path, network: nn.Module) -> None:
    """Fill a network, which may be on the meta device, from its file.

    Raises:
        ModelError: If the file is missing, truncated, or its tensors are not those of the network.
    """
    if not path.is_file():
        raise ModelError(f"{path.parent} lacks {path.name}; get the model again")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged ({error}); get the model again") from error
    fault = _mismatch(tensors, network.state_dict())
    if fault:
        raise ModelError(f"{path} does not fit config.json: {fault}")
    network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}, assign=True)


def _mismatch(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """First fault of a set of tensors, or an empty string."""
    for key in sorted(wanted.keys() | given.keys()):
        if key not in given:
            return f"tensor {key} is missing"
        if key not in wanted:
            return f"tensor {key} is unexpected"
        if given[key].shape != wanted[key].shape:
            return f"tensor {key} has shape {tuple(given[key].shape)}, expected {tuple(wanted[key].shape)}"
        if given[key].is_floating_point() != wanted[key].is_floating_point():
            return f"tensor {key} is of kind {given[key].dtype}, expected {wanted[key].dtype}"
    return ""


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
