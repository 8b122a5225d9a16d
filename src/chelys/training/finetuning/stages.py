"""The two decoders' stages, evaluated on the voice and on the base's speech apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn

from chelys.data.pairs import Pairs
from chelys.models.autoregressive import Autoregressive
from chelys.models.diffusion import Diffusion
from chelys.nn.lora import add_adapters
from chelys.training.finetuning.material import VOICE
from chelys.training.stage import Stage
from chelys.training.tasks.autoregressive import AutoregressiveStage, AutoregressiveStageConfig
from chelys.training.tasks.diffusion import DiffusionStage, DiffusionStageConfig
from chelys.training.tasks.rendering import Rendering

#: What listens to reference clips stays as it is, so that the vectors of all voices mean what they meant.
LISTENERS = ("conditioning_encoder", "contextual_embedder")


class AdaptedAutoregressive(AutoregressiveStage):
    """The autoregressive decoder's stage."""

    def evaluate(self) -> dict[str, float]:
        return apart(self.pairs, super().evaluate)


class AdaptedDiffusion(DiffusionStage):
    """The diffusion decoder's stage."""

    def evaluate(self) -> dict[str, float]:
        return apart(self.pairs, super().evaluate)


def apart(pairs: Pairs, evaluate: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Figures of the voice's held-out clips, ``voice_...``, and of the base's, ``base_...``."""
    everything, figures = pairs.test, dict[str, float]()
    try:
        for kind in ("voice", "base"):
            pairs.test = everything.take(np.array([(c.speaker == VOICE) == (kind == "voice") for c in everything]))
            figures |= {f"{kind}_{name}": value for name, value in evaluate().items()}
    finally:
        pairs.test = everything
    return figures


def autoregressive_stage(network: Autoregressive, pairs: Pairs, rank: int, seed: int) -> Stage:
    """The stage of the first decoder; see ``open_to_training``."""
    stage = AdaptedAutoregressive(network, pairs, AutoregressiveStageConfig(test_clips=1000))
    open_to_training(network, rank, seed)
    return stage


def diffusion_stage(
    network: Diffusion, decoder: Autoregressive, pairs: Pairs, rendering: Rendering, rank: int, seed: int
) -> Stage:
    """The stage of the second decoder, on latents of the first, which is not trained here."""
    sizes = DiffusionStageConfig(content="latents", test_clips=1000)
    stage = AdaptedDiffusion(network, decoder, pairs, rendering, sizes)
    open_to_training(network, rank, seed)
    return stage


def open_to_training(network: nn.Module, rank: int, seed: int) -> None:
    """Put adapters beside a network's layers, or with rank 0 let the layers learn; listeners never do."""
    if rank:
        wanted = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
        add_adapters(
            network,
            rank,
            torch.Generator().manual_seed(seed),
            wanted=lambda name: f"{name}.weight" in wanted and name.partition(".")[0] not in LISTENERS,
        )
        return
    for name in LISTENERS:
        if listener := getattr(network, name, None):
            listener.requires_grad_(False)


def figures_of(evaluation: Mapping[str, float], name: str) -> tuple[float, float]:
    """A figure on the voice and on the base."""
    return evaluation[f"held_out/voice_{name}"], evaluation[f"held_out/base_{name}"]
