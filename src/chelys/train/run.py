"""From a stage's name and its configuration file to a run."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from chelys.audio.mel import MelRange
from chelys.config import from_mapping, read_config_file, to_mapping
from chelys.data.features import Features
from chelys.data.pairs import PairConfig, Pairs, load_pairs
from chelys.errors import ConfigError
from chelys.models.autoregressive import Autoregressive, AutoregressiveConfig
from chelys.models.clvp import CLVP, CLVPConfig
from chelys.models.diffusion import Diffusion, DiffusionConfig
from chelys.models.dvae import DVAE, DVAEConfig
from chelys.models.vocos import Vocos, VocosConfig
from chelys.train.loop import LoopConfig, Stage, Trainer, load_strictly
from chelys.train.stages.autoregressive import AutoregressiveStage, AutoregressiveStageConfig
from chelys.train.stages.clvp import CLVPStage, CLVPStageConfig
from chelys.train.stages.diffusion import DiffusionStage, DiffusionStageConfig
from chelys.train.stages.dvae import DVAEStage, DVAEStageConfig
from chelys.train.stages.vocoder import VocoderStage, VocoderStageConfig

N = TypeVar("N", bound=torch.nn.Module)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What every run has; a stage's own adds its network's sizes and its stage's weights.

    Attributes:
        run: Run folder.
        features: Feature folder.
        mel_range: Log-mels that become -1 and 1.
        loop: Steps and rates.
    """

    run: Path
    features: Path
    mel_range: MelRange
    loop: LoopConfig = field(default_factory=LoopConfig)

    @abstractmethod
    def build(self) -> Stage:
        """The stage, its network with fresh weights or as an earlier run left it."""


@dataclass(frozen=True, kw_only=True)
class PairedRun(Run):
    """A run on pairs of text and codes.

    Attributes:
        codes: Codes of the features, ``codes.npy``.
        text: Folder of the tokenizer.
        pairs: What makes a batch.
    """

    codes: Path
    text: Path
    pairs: PairConfig = field(default_factory=PairConfig)

    def load_pairs(self, *, mels: bool) -> Pairs:
        """The batches of the run, with the clips' mels where the stage learns to make them."""
        return load_pairs(self.features, self.codes, self.text, self.mel_range, self.pairs, self.loop.seed, mels=mels)


@dataclass(frozen=True, kw_only=True)
class DVAERun(Run):
    """Run of the VQ-VAE's stage."""

    network: DVAEConfig = field(default_factory=DVAEConfig)
    stage: DVAEStageConfig = field(default_factory=DVAEStageConfig)

    def build(self) -> Stage:
        return DVAEStage(DVAE(self.network), Features(self.features), self.mel_range, self.stage, self.loop.seed)


@dataclass(frozen=True, kw_only=True)
class VocoderRun(Run):
    """Run of the vocoder's stage; ``start`` names weights to begin from."""

    start: Path | None = None
    network: VocosConfig = field(default_factory=VocosConfig)
    stage: VocoderStageConfig = field(default_factory=VocoderStageConfig)

    def build(self) -> Stage:
        vocoder = Vocos(self.network, self.mel_range)
        if self.start:
            load_trained(vocoder, self.start).requires_grad_(True)
        return VocoderStage(vocoder, Features(self.features), self.stage, self.loop.seed)


@dataclass(frozen=True, kw_only=True)
class AutoregressiveRun(PairedRun):
    """Run of the autoregressive decoder's stage."""

    network: AutoregressiveConfig = field(default_factory=AutoregressiveConfig)
    stage: AutoregressiveStageConfig = field(default_factory=AutoregressiveStageConfig)

    def build(self) -> Stage:
        return AutoregressiveStage(Autoregressive(self.network), self.load_pairs(mels=False), self.stage)


@dataclass(frozen=True, kw_only=True)
class CLVPRun(PairedRun):
    """Run of CLVP's stage."""

    network: CLVPConfig = field(default_factory=CLVPConfig)
    stage: CLVPStageConfig = field(default_factory=CLVPStageConfig)

    def build(self) -> Stage:
        return CLVPStage(CLVP(self.network), self.load_pairs(mels=False), self.stage)


@dataclass(frozen=True, kw_only=True)
class DiffusionRun(PairedRun):
    """Run of the diffusion decoder's stage.

    Attributes:
        start: Weights to begin from: the phase on latents goes on from the phase on codes.
        decoder: Weights of the autoregressive decoder, for the phase on latents.
        decoder_network: Its sizes.
    """

    start: Path | None = None
    decoder: Path | None = None
    decoder_network: AutoregressiveConfig = field(default_factory=AutoregressiveConfig)
    network: DiffusionConfig = field(default_factory=DiffusionConfig)
    stage: DiffusionStageConfig = field(default_factory=DiffusionStageConfig)

    def build(self) -> Stage:
        network = Diffusion(self.network)
        if self.start:
            load_trained(network, self.start).requires_grad_(True)
        decoder = None
        if self.stage.content == "latents":
            if self.decoder is None:
                raise ConfigError("stage.content=latents needs decoder=PATH, the autoregressive decoder's weights")
            decoder = load_trained(Autoregressive(self.decoder_network), self.decoder)
        return DiffusionStage(network, decoder, self.load_pairs(mels=True), self.stage)


RUNS: dict[str, type[Run]] = {
    "dvae": DVAERun,
    "autoregressive": AutoregressiveRun,
    "clvp": CLVPRun,
    "diffusion": DiffusionRun,
    "vocoder": VocoderRun,
}


def run_stage(
    stage: str,
    config_path: Path,
    overrides: list[str] | None = None,
    *,
    resume: bool = True,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
) -> Path:
    """Train a stage and leave its averaged weights in ``RUN/STAGE.safetensors``.

    Args:
        stage: One of RUNS.
        config_path: YAML with the keys of that stage's run.
        overrides: ``key.inner=value`` each, read as YAML, laid over the file.
        resume: Go on from the run folder's newest checkpoint.
        progress: Called with (step, steps, figures).

    Returns:
        Path of the weights.

    Raises:
        ConfigError: If the stage or a key is unknown, or a value is wrong.
    """
    if stage not in RUNS:
        raise ConfigError(f"unknown stage {stage!r}: choose from {', '.join(RUNS)}")
    values = read_config_file(config_path, overrides or [])
    run = from_mapping(RUNS[stage], values, where=str(config_path))
    torch.manual_seed(run.loop.seed)  # fresh weights; later the loop seeds every step
    built = run.build()
    run.run.mkdir(parents=True, exist_ok=True)
    (run.run / "config.json").write_text(json.dumps(to_mapping(run), indent=2) + "\n", encoding="utf8")
    trainer = Trainer(built, run.loop, run.run, progress)
    trainer.run(resume=resume)
    path = run.run / f"{stage}.safetensors"
    partial = path.with_suffix(".part")
    save_file({k: v.contiguous() for k, v in trainer.averaged.items()}, partial)
    partial.replace(path)
    return path


def load_trained(network: N, path: Path) -> N:
    """Put the weights of an earlier stage in place, frozen and in evaluation mode.

    Raises:
        ConfigError: If they are missing, damaged, or of a network of other sizes.
    """
    if not path.is_file():
        raise ConfigError(f"no weights at {path}: train that stage first")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ConfigError(f"{path} is damaged ({error}): train that stage again") from error
    load_strictly(network, tensors, str(path))
    return network.eval().requires_grad_(False)


def trained_dvae(run: Path) -> tuple[DVAE, MelRange]:
    """The VQ-VAE of a finished run, and the mel range that it was trained with.

    Raises:
        ConfigError: If the run is missing or not finished.
    """
    config = run / "config.json"
    if not config.is_file():
        raise ConfigError(f"no run of the dvae stage in {run}: train it first")
    built = from_mapping(DVAERun, json.loads(config.read_text(encoding="utf8")), where=str(config))
    return load_trained(DVAE(built.network), run / "dvae.safetensors"), built.mel_range
