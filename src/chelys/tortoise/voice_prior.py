"""Voice prior: a random vector ``(b, d)`` becomes a random voice.

Six layers in the manner of StyleGAN's mapping network (Karras et al. 2019, section 2), with scaled weights (Karras et
al. 2018, Progressive Growing of GANs, section 4.1). One such network draws the conditioning of the autoregressive
decoder and another one that of the diffusion decoder; nothing ties the two but that both were
trained on the same speakers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chelys.errors import ConfigError

GAIN = math.sqrt(2)  # a leaky ReLU halves the power, nearly; this restores it


@dataclass(frozen=True)
class VoicePriorConfig:
    """Size of a voice prior."""

    dim: int  # width d of the voice; 1024 for the autoregressive decoder, 2048 for the diffusion decoder
    hidden_layers: int = 5  # scaled layers before the last one, which is plain
    #: Weights and biases of the scaled layers are held this much too large, so that they learn as slowly
    rate: float = 0.1
    slope: float = 0.2  # of the leaky ReLU

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ConfigError(f"voice prior: dim is {self.dim}; it must be at least 1")

    @classmethod
    def tortoise_v2(cls, dim: int = 1024) -> VoicePriorConfig:
        """The published networks: rlg_auto.pth (1024; 6,297,600 parameters), rlg_diffuser.pth (2048; 25,178,112)."""
        return cls(dim)


class ScaledLinear(nn.Linear):
    """A linear layer whose weights are held too large, and a leaky ReLU."""

    def __init__(self, config: VoicePriorConfig) -> None:
        super().__init__(config.dim, config.dim)
        self.rate, self.slope = config.rate, config.slope
        nn.init.normal_(self.weight, std=1 / config.rate)
        nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """``(b, d) -> (b, d)``."""
        x = F.linear(input, self.weight * (self.rate / math.sqrt(self.in_features)), self.bias * self.rate)
        return GAIN * F.leaky_relu(x, self.slope)


class VoicePrior(nn.Module):
    """Noise to a voice."""

    def __init__(self, config: VoicePriorConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.Sequential(
            *(ScaledLinear(config) for _ in range(config.hidden_layers)), nn.Linear(config.dim, config.dim)
        )

    def forward(self, noise: Tensor) -> Tensor:
        """Noise ``(b, d)``, standard normal, to voices ``(b, d)``."""
        return self.layers(noise)

    @torch.inference_mode()
    def draw(self, generator: torch.Generator) -> Tensor:
        """Draw a voice ``(d,)``.

        The noise is drawn on the generator's own device and then moved, so that a seed means the same voice everywhere.
        """
        noise = torch.randn(1, self.config.dim, generator=generator, device=generator.device)
        return self(noise.to(next(self.parameters()))).squeeze(0)
