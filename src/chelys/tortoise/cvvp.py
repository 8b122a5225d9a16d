"""CVVP: do codes sound like the speaker of a clip? It ranks candidates beside CLVP, by voice instead of by words.

Two encoders read the mel of a reference clip and speech codes; both end on the unit sphere, and the score is the cosine
of the two, scaled, as in CLVP (trained as Radford et al. 2021, CLIP). Before the mean over time each looks over its
whole sequence once more (the combiner). The published system gives it no weight by default; a model may lack it.

b batch, f bands, s mel frames, m codes, t positions of an encoder, d width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chelys.errors import ConfigError
from chelys.nn.attention import AttentionBlock, rotary_tables
from chelys.nn.encoder import EncoderBlock


@dataclass(frozen=True)
class CVVPConfig:
    """Size of CVVP. The defaults are those of the published network, 37.8 million parameters."""

    bands: int = 80  # of the clip's mel, which is that of the autoregressive decoder
    speech_tokens: int = 8192  # rows of the speech table: codes only, no start or stop
    dim: int = 512  # width of the stream and of the latents
    clip_depth: int = 8  # blocks of the clip's encoder
    speech_depth: int = 8
    heads: int = 8  # of the blocks and of the combiner, where they share the width
    head_dim: int = 64  # channels of a head in the blocks
    ff_mult: int = 1  # inner width of the feed-forward, in units of dim
    rotary_dim: int = 32  # channels of each head that are turned, even
    rotate_values: bool = True  # the published network turns values too

    def __post_init__(self) -> None:
        if self.dim % 2 or self.dim % self.heads:
            raise ConfigError(f"cvvp: dim is {self.dim}; it must be even and a multiple of heads, {self.heads}")
        if self.rotary_dim % 2 or not 0 < self.rotary_dim <= self.head_dim:
            raise ConfigError(
                f"cvvp: rotary_dim is {self.rotary_dim}; it must be even and at most head_dim, {self.head_dim}"
            )

    @classmethod
    def tortoise_v2(cls) -> CVVPConfig:
        """The published network (cvvp.pth): 37,780,225 parameters."""
        return cls()


class Combiner(nn.Module):
    """One more look over all positions before they are averaged."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.input = nn.Conv1d(dim, dim, 1)
        self.attention = AttentionBlock(dim, heads)
        self.output = nn.Conv1d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(b, d, t) -> (b, d, t)``."""
        return self.output(self.attention(self.input(x)))


class CVVPEncoder(nn.Module):
    """A sequence to one vector: read, normalise, combine, average over time, project."""

    def __init__(self, depth: int, config: CVVPConfig) -> None:
        super().__init__()
        self.rotary_dim = config.rotary_dim
        self.blocks = nn.ModuleList(
            EncoderBlock(
                config.dim, config.heads, head_dim=config.head_dim, ff_mult=config.ff_mult,
                rotate_values=config.rotate_values,
            )
            for _ in range(depth)
        )  # fmt: skip
        self.norm = nn.LayerNorm(config.dim)
        self.combiner = Combiner(config.dim, config.heads)
        self.projection = nn.Linear(config.dim, config.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(b, t, d)`` to ``(b, d)`` of length 1."""
        rotary = rotary_tables(torch.arange(x.shape[1], device=x.device), self.rotary_dim)
        for block in self.blocks:
            x = block(x, rotary)
        combined = self.combiner(self.norm(x).transpose(1, 2)).mean(dim=2)
        return F.normalize(self.projection(combined), dim=-1)


class CVVP(nn.Module):
    """Contrastive voice-voice pre-training: a clip against codes."""

    def __init__(self, config: CVVPConfig) -> None:
        super().__init__()
        self.config = config
        self.conv1 = nn.Conv1d(config.bands, config.dim // 2, 5, stride=2, padding=2)
        self.conv2 = nn.Conv1d(config.dim // 2, config.dim, 3, stride=2, padding=1)
        self.clip_encoder = CVVPEncoder(config.clip_depth, config)
        self.embedding = nn.Embedding(config.speech_tokens, config.dim)
        self.speech_encoder = CVVPEncoder(config.speech_depth, config)
        self.temperature = nn.Parameter(torch.tensor(1.0))  # logarithm of the scale of the cosines

    def score(self, mel: Tensor, codes: Tensor) -> Tensor:
        """How much each candidate sounds like its clip, ``(b,)``, higher is better.

        The codes ``(b, m)`` are in rows of one length, and all is read. The mel ``(b, f, s)``, or ``(1, f, s)`` of one
        clip for all, is normalised as the autoregressive decoder's.
        """
        return (self.encode_clip(mel) * self.encode_speech(codes)).sum(dim=-1) * self.temperature.exp()

    def encode_clip(self, mel: Tensor) -> Tensor:
        """Mels (b, f, s) of reference clips to points (b, d) on the unit sphere."""
        return self.clip_encoder(self.conv2(self.conv1(mel)).transpose(1, 2))  # (b, s / 4, d)

    def encode_speech(self, codes: Tensor) -> Tensor:
        """Codes (b, m) to points (b, d) on the unit sphere."""
        return self.speech_encoder(self.embedding(codes))

    def similarity(self, clip_latents: Tensor, speech_latents: Tensor) -> Tensor:
        """Scores of every clip with every candidate: ``(a, d)`` and ``(b, d)`` to ``(a, b)``."""
        return clip_latents @ speech_latents.T * self.temperature.exp()
