"""A model is a folder: ``config.json``, one safetensors file for each network, ``tokenizer.json``, ``voices/``, a card.

Folders are read strictly: every tensor that a network has must be in its file, in its shape, and none besides. Hashes
are recorded on saving. Weights may lie in half precision on disk; they are computed with in ``dtype``. Networks that
most speech does without are read when they are first asked for.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from chelys import registry
from chelys.audio.mel import MelRange
from chelys.audio.rates import FRAMES_PER_CODE
from chelys.config import COUNTS, check_sizes, from_mapping, to_mapping
from chelys.errors import ConfigError, ModelError, first_line
from chelys.files import write_json
from chelys.models import DVAEConfig
from chelys.models.autoregressive import Autoregressive, AutoregressiveConfig
from chelys.models.clvp import CLVP, CLVPConfig
from chelys.models.diffusion import STEP_PARTS, Diffusion, DiffusionConfig
from chelys.models.diffusion_steps import Adapters
from chelys.models.vocos import Vocos, VocosConfig
from chelys.parsing import ParseError, read_json
from chelys.text.tokenizer import LEXICON_FILE, TOKENIZER_FILE, Tokenizer
from chelys.weights.checks import require_memory
from chelys.weights.hashes import verify
from chelys.weights.tensor_file import Entry, load_network, read_head, read_tensors, sha256, write_tensors

CONFIG_FILE = "config.json"
DISTILLED_FILE = "distilled.safetensors"
FORMAT = 1
#: Recorded on saving, needed by training alone.
NOT_FOR_SPEAKING = frozenset({"dvae.safetensors"})
#: Keys of TorToise's models with what they hold where they mean nothing; folders of chelys 0.1 have them in any case.
_EMPTY_KEYS: dict[str, Any] = {
    **dict.fromkeys(("univnet", "cvvp", "hifigan", "autoregressive_prior", "diffusion_prior", "detector")),
    **dict.fromkeys(("code_rules", "silence_trimming")),
    **dict.fromkeys(("front_end", "mel_spec"), "shared"),
    "cleaner": "chelys",
    "text_stops": 0,
}


def _dvae(config: DVAEConfig) -> nn.Module:
    from chelys.models.dvae import DVAE  # late: speech does without

    return DVAE(config)


@dataclass(frozen=True)
class Distillation:
    """A diffusion decoder that gives in few steps, one pass each, what guided it gives in many.

    ``distilled.safetensors`` holds low-rank adapters (``nn.lora``) for all steps but the last, which is the network's
    own, without guidance.
    """

    steps: int  # steps that it takes, no other number
    guidance: float  # weight w of classifier-free guidance, which they hold
    rank: int  # of the adapters


@dataclass(frozen=True)
class ModelConfig:
    """``config.json``: what the networks are. Other families of models derive from this class."""

    name: str  # of the model
    mel_range: MelRange  # log-mels that become -1 and 1 inside the networks
    autoregressive: AutoregressiveConfig  # sizes of the autoregressive decoder
    clvp: CLVPConfig  # sizes of CLVP
    diffusion: DiffusionConfig  # sizes of the diffusion decoder
    vocos: VocosConfig | None = None  # sizes of the Fourier-head vocoder, if that is the vocoder
    dvae: DVAEConfig | None = None  # sizes of the VQ-VAE; only training needs it, and a folder may lack it
    distillation: Distillation | None = None  # of the diffusion decoder, if the model has it
    #: Whose presets the model is spoken with; a family in ``registry.FAMILIES`` has a class of its own
    family: str = "nano"
    default_voice: str = ""  # built-in voice that speaks when none is named
    speaker_blend: float = 0.0  # its share in what a voice that is made of clips is sampled with, 0 to 1
    license: str = "Apache-2.0"  # of the weights (SPDX)
    hashes: dict[str, str] = field(default_factory=dict)  # file name to SHA-256
    origin: str = ""  # where the weights were fetched from, if they were
    #: Name of each file that the weights were converted from, to its SHA-256
    source_hashes: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT  # version of this layout

    RENAMED: ClassVar[dict[str, str | None]] = {"borrowed": "speaker_blend"}
    #: Field to the network it describes.
    NETWORKS: ClassVar[Mapping[str, Callable[..., nn.Module]]] = {
        "autoregressive": Autoregressive, "clvp": CLVP, "diffusion": Diffusion, "vocos": Vocos, "dvae": _dvae,
    }  # fmt: skip
    #: Fields of which one names the vocoder.
    VOCODERS: ClassVar[tuple[str, ...]] = ("vocos",)
    #: Networks that a model may lack, see `Model.extra`.
    EXTRAS: ClassVar[tuple[str, ...]] = ()
    #: Full name of the class that knows how the model is spoken with.
    SPEAKER: ClassVar[str] = registry.SPEAKERS["nano"]

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change with the weights that voices depend on."""
        parts = [self.hashes.get(f"{name}.safetensors", "") for name in ("autoregressive", "diffusion")]
        return hashlib.sha256("".join(parts).encode()).hexdigest()[:12]

    @property
    def vocoders(self) -> list[str]:
        """Those of VOCODERS that are named; just one in a model that is whole."""
        return [name for name in self.VOCODERS if getattr(self, name) is not None]

    @property
    def vocoder_bands(self) -> int:
        """Mel bands that the vocoder reads."""
        bands: int = getattr(self, self.vocoders[0]).bands
        return bands

    def rules(self) -> dict[str, bool]:
        """What must hold for the networks to work together, and whether it does."""
        decoder, clvp, diffusion = self.autoregressive, self.clvp, self.diffusion
        return {
            "mel_range.low must lie below mel_range.high": self.mel_range.low < self.mel_range.high,
            f"diffusion.patch must divide {FRAMES_PER_CODE}": _divides(diffusion.patch, FRAMES_PER_CODE),
            "diffusion.latent_dim must be autoregressive.dim": diffusion.latent_dim == decoder.dim,
            "diffusion.bands must be those of the vocoder": diffusion.bands == self.vocoder_bands,
            "clvp.speech_tokens must be at least autoregressive.codes": clvp.speech_tokens >= decoder.codes,
        }

    def load_tokenizer(self, folder: Path) -> Tokenizer:
        """What reads texts for the model."""
        return Tokenizer.load(folder)


def make_config(values: Mapping[str, Any]) -> ModelConfig:
    """A configuration of the class that has all these fields."""
    cls, kept = _sorted_out(values)
    return cls(**kept)


def _sorted_out(values: Mapping[str, Any]) -> tuple[type[ModelConfig], dict[str, Any]]:
    """The class that some values of ``config.json`` are for, and those of them that it knows or must refuse.

    It is the family's; or that of another family whose networks a model of chelys' own has besides.
    """
    family = values.get("family", "nano")
    if isinstance(family, str) and family in registry.FAMILIES:
        found: type[ModelConfig] = registry.find(registry.FAMILIES[family])
        return found, dict(values)
    kept = {key: value for key, value in values.items() if key not in _EMPTY_KEYS or value != _EMPTY_KEYS[key]}
    if kept.keys() <= _keys(ModelConfig):
        return ModelConfig, kept
    others: list[type[ModelConfig]] = [registry.find(path) for path in registry.FAMILIES.values()]
    return next((other for other in others if kept.keys() <= _keys(other)), ModelConfig), kept


def _keys(cls: type[ModelConfig]) -> set[str]:
    return {field.name for field in fields(cls)} | cls.RENAMED.keys()


@dataclass
class Model:
    """A loaded model: its networks in evaluation mode, its tokenizer and where it lies."""

    config: ModelConfig
    folder: Path
    tokenizer: Tokenizer
    autoregressive: Autoregressive
    clvp: CLVP
    diffusion: Diffusion
    vocoder: Any
    adapters: Adapters | None = None  # of the distilled diffusion decoder, if the model has it
    device: str | torch.device = "cpu"
    dtype: torch.dtype = torch.float32
    _extras: dict[str, nn.Module] = field(default_factory=dict, repr=False)

    def has(self, name: str) -> bool:
        """Whether the model has one of the networks in ``config.EXTRAS``."""
        return getattr(self.config, name, None) is not None and (self.folder / f"{name}.safetensors").is_file()

    def extra(self, name: str) -> Any:
        """A network of ``config.EXTRAS`` that most speech does without; it is loaded when it is first asked for.

        Raises:
            ModelError: If the model lacks it, or its file is damaged.
        """
        if name not in self._extras:
            if name not in self.config.EXTRAS or not self.has(name):
                raise ModelError(f"model {self.config.name!r} in {self.folder} has no {name} network")
            file = self.folder / f"{name}.safetensors"
            self._extras[name] = _load(self.config, name, file, self.device, self.dtype)
            verify(self.folder, self.config.hashes, [file.name])
        return self._extras[name]


def save_model(
    folder: Path, config: ModelConfig, networks: Mapping[str, nn.Module], tokenizer: Tokenizer, *,
    dtype: torch.dtype = torch.float16, int8: Collection[str] = (),
) -> ModelConfig:  # fmt: skip
    """Write a model folder, and give the config with the hashes; voices and the card are added by the caller.

    Networks are by name, also of the file; ``dtype`` is of their floating-point tensors on disk, and ``int8`` names
    those whose matrices lie there as int8.
    """
    folder.mkdir(parents=True, exist_ok=True)
    hashes = {}
    for name, network in networks.items():
        file = f"{name}.safetensors"
        hashes[file] = write_tensors(folder / file, network.state_dict(), network=name, dtype=dtype, int8=name in int8)
    tokenizer.save(folder)
    return write_config(folder, config, hashes)


def write_config(folder: Path, config: ModelConfig, hashes: Mapping[str, str]) -> ModelConfig:
    """Write ``config.json``, after networks and tokenizer: without it nothing loads. Gives the config with the hashes.

    The hashes given are those of the networks; those of the tokenizer are added.
    """
    text = {name: sha256(folder / name) for name in (TOKENIZER_FILE, LEXICON_FILE) if (folder / name).is_file()}
    write_json(folder / CONFIG_FILE, to_mapping(config) | {"hashes": {**hashes, **text}})
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
        values = read_json(path, limit=1 << 20)
        if not isinstance(values, dict):
            raise ModelError(f"{path} holds no keys; get the model again")
        config = from_mapping(*_sorted_out(values), where=str(path))
        check_sizes(config, where=str(path))
    except (ParseError, OSError) as error:
        raise ModelError(f"{path} is damaged ({error}); get the model again") from error
    except ConfigError as error:
        raise ModelError(str(error)) from error
    if config.format != FORMAT:
        raise ModelError(f"{path} has format {config.format}, this version of chelys reads {FORMAT}")
    if len(config.vocoders) != 1:
        raise ModelError(f"{path} must name one vocoder: {' or '.join(config.VOCODERS)}")
    fault = contradiction(config)
    if fault:
        raise ModelError(f"{path} contradicts itself: {fault}")
    return config


def contradiction(config: ModelConfig) -> str:
    """First way in which the networks could not work together that no file of weights would show; else nothing."""
    return next((rule for rule, holds in config.rules().items() if not holds), "")


def _divides(divisor: int, number: int) -> bool:
    return divisor > 0 and number % divisor == 0


def load_model(folder: Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Model:
    """Load a model folder for speaking, onto a device, to compute in a dtype.

    Raises:
        ModelError: If a file is missing, truncated, or does not fit ``config.json``, or the memory has no room for
            the model; the file is named.
    """
    config = read_config(folder)
    spared = NOT_FOR_SPEAKING | {f"{name}.safetensors" for name in config.EXTRAS}
    for name in sorted(config.hashes.keys() - spared):
        if not (folder / name).is_file():
            raise ModelError(f"{folder} lacks {name}; get the model again")
    tokenizer = config.load_tokenizer(folder)
    if tokenizer.lexicon is not None and not tokenizer.lexicon:
        raise ModelError(f"{folder / LEXICON_FILE} holds no words; get the model again")
    text_tokens = min(config.autoregressive.text_tokens, config.clvp.text_tokens)
    if tokenizer.vocabulary_size > text_tokens:
        raise ModelError(
            f"{folder}: {TOKENIZER_FILE} has {tokenizer.vocabulary_size} ids, {CONFIG_FILE} only {text_tokens}"
        )
    names = ("autoregressive", "clvp", "diffusion", "vocoder")
    files = {name: folder / f"{name}.safetensors" for name in names}
    distilled = [folder / DISTILLED_FILE] if config.distillation else []
    require_memory(folder, [*files.values(), *distilled], device, dtype)
    described = {"vocoder": config.vocoders[0]}
    loaded = {name: _load(config, described.get(name, name), file, device, dtype) for name, file in files.items()}
    adapters = _adapters(config, loaded["diffusion"], distilled[0], dtype) if distilled else None
    read = [file.name for file in (*files.values(), *distilled)]
    verify(folder, config.hashes, (*read, TOKENIZER_FILE, LEXICON_FILE))
    return Model(config, folder, tokenizer, device=device, dtype=dtype, adapters=adapters, **loaded)  # type: ignore[arg-type]


def _load(config: ModelConfig, field: str, file: Path, device: str | torch.device, dtype: torch.dtype) -> nn.Module:
    """A network for speaking, filled from its file."""
    where, head = file.parent / CONFIG_FILE, read_head(file)
    if excess := oversized(getattr(config, field), head):
        raise ModelError(f"{file} does not fit config.json: it has too few tensors for {field}.{excess}")
    try:
        network = build(config, field)
    except (RuntimeError, ValueError, AssertionError, ZeroDivisionError, IndexError, OverflowError) as error:
        raise ModelError(f"{where} describes no network that can be built ({first_line(error)})") from error
    load_network(file, network, device=device, dtype=dtype)
    return network.to(device=device, dtype=dtype).eval().requires_grad_(False)


def _adapters(config: ModelConfig, network: nn.Module, file: Path, dtype: torch.dtype) -> Adapters:
    """The adapters of the distilled decoder, each with the shapes that its layer in the network wants."""
    assert config.distillation is not None
    head, rank = read_head(file), config.distillation.rank
    layers = dict(network.named_modules())
    wanted: dict[str, tuple[int, ...]] = {}
    for name in {name.rpartition(".up.")[0] for name in head if name.endswith(".up.weight")}:
        layer = layers.get(name)
        if isinstance(layer, nn.Linear | nn.Conv1d) and name.partition(".")[0] in STEP_PARTS:
            outputs, inputs, *taps = layer.weight.shape
            wanted[f"{name}.down.weight"] = (rank, inputs, *taps)
            wanted[f"{name}.up.weight"] = (outputs, rank, *(1 for _ in taps))
    if not wanted or {name: entry.shape for name, entry in head.items()} != wanted:
        raise ModelError(f"{file} does not fit config.json: it has no adapters of rank {rank} of a diffusion decoder")
    device = next(network.parameters()).device
    tensors = {name: tensor.to(device) for name, tensor in read_tensors(file, head, dtype)}
    names = [name.removesuffix(".up.weight") for name in tensors if name.endswith(".up.weight")]
    return {name: (tensors[f"{name}.down.weight"], tensors[f"{name}.up.weight"]) for name in names}


def oversized(sizes: Any, head: Mapping[str, Entry]) -> str:
    """A size of a network that its file belies, with what it is, so that nothing is built for it; else nothing."""
    most = {name: len(head) for name in vars(sizes) if COUNTS.search(name)}
    if isinstance(sizes, VocosConfig):  # the only one that is built with memory for its tensors
        values = sum(math.prod(entry.shape) for entry in head.values())
        width = max(sizes.dim, 1)
        most |= {"dim": values, "inner": values // width // max(sizes.blocks, 1)}
        most |= dict.fromkeys(("bands", "n_fft", "pitches"), values // width)
    held = {name: getattr(sizes, name) for name in most}
    return next((f"{name}={n}" for name, n in held.items() if isinstance(n, int) and n > most[name]), "")


def build(config: ModelConfig, field: str) -> nn.Module:
    """The network that a field of the configuration, a key of ``config.NETWORKS``, describes; without its weights."""
    if field == "vocos":
        with torch.random.fork_rng(devices=[]):  # it starts from random weights, being too full of buffers for meta
            return Vocos(config.vocos, config.mel_range)  # type: ignore[arg-type]
    return skeleton(config.NETWORKS[field], getattr(config, field))


def skeleton(network: Callable[..., nn.Module], sizes: Any, *, weight_norm: bool = False) -> nn.Module:
    """A network, any but Vocos, that says what tensors it has; it holds none that mean anything.

    With ``weight_norm`` it holds its kernels as direction and length; small networks alone can.
    """
    if weight_norm:  # which computes, and would import the compiler on the meta device
        with torch.random.fork_rng(devices=[]):
            return network(sizes, weight_norm=True)
    with torch.device("meta"), _Unfilled():
        return network(sizes)


class _Unfilled(TorchFunctionMode):
    """Leaves out the random values of fresh weights, for which the meta device would import a second of compiler."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(function, "__name__", "") in ("normal_", "uniform_", "kaiming_uniform_"):
            return args[0] if args else kwargs["tensor"]
        return (torch.empty if function is torch.randn else function)(*args, **kwargs)
