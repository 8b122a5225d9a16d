"""CLVP: how well do codes say a text? It picks the best of many takes.

Two encoders of one shape read text ids and speech codes; the mean over time of each goes through a projection onto
the unit sphere, and the score is the cosine of the two, scaled. Training pulls the pairs of a batch together and
everything else apart, as CLIP does for pictures.

Choices: pre-norm with RMSNorm, rotary positions (so no length is too long), gated feed-forward, no causal mask.
The published network also turns the *values* by their position, which is not what rotary encoding means; the weights
were trained so, hence `rotate_values`.

Letters: b batch, t text ids, m codes, s either of them, d width, h heads, c channels of a head.

Source: Betker 2023, Better speech synthesis through scaling, section 2.3; Radford et al. 2021, CLIP.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chelys.errors import ConfigError
from chelys.nn.norms import RMSNorm
from chelys.nn.rotary import apply_rotary, rotary_tables


@dataclass(frozen=True)
class CLVPConfig:
    """Size of CLVP. The defaults are those of nano; where nothing else is said, both encoders have the same size."""

    text_tokens: int = 100  # rows of the text table: every id that may come
    speech_tokens: int = 1024  # rows of the speech table: codes only, no start or stop
    dim: int = 192  # width of the stream
    depth: int = 4  # blocks (attention, then feed-forward)
    heads: int = 3
    speech_dim: int | None = None  # these three of the speech encoder, where they are not those of the text encoder
    speech_depth: int | None = None
    speech_heads: int | None = None
    latent_dim: int | None = None  # width of the latents, where it is not dim
    head_dim: int = 64  # channels of a head; heads x head_dim need not equal dim
    ff_mult: int = 2  # inner width of the feed-forward, in units of dim
    rotary_dim: int = 32  # channels of each head that are turned, even
    rotate_values: bool = False  # the published network turns values too
    dropout: float = 0.0  # of attention weights and of the inner feed-forward; the published training had 0.1

    def __post_init__(self) -> None:
        if self.rotary_dim % 2 or not 0 < self.rotary_dim <= self.head_dim:
            raise ConfigError(
                f"clvp: rotary_dim is {self.rotary_dim}; it must be even and at most head_dim, {self.head_dim}"
            )

    @classmethod
    def tortoise_v2(cls) -> CLVPConfig:
        """The published network (clvp2.pth): 243,846,145 parameters."""
        return cls(text_tokens=256, speech_tokens=8192, dim=768, depth=20, heads=12, rotate_values=True, dropout=0.1)


class Attention(nn.Module):
    """Every position looks at every other one that is not padding."""

    def __init__(self, dim: int, heads: int, config: CLVPConfig) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, config.head_dim
        self.rotate_values, self.dropout = config.rotate_values, config.dropout
        inner = heads * config.head_dim
        self.query = nn.Linear(dim, inner, bias=False)
        self.key = nn.Linear(dim, inner, bias=False)
        self.value = nn.Linear(dim, inner, bias=False)
        self.output = nn.Linear(inner, dim)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        """(b, s, d) -> (b, s, d); the mask is (b, 1, 1, s), true where there is something to see."""
        query, key, value = (self._split(layer(x)) for layer in (self.query, self.key, self.value))
        query, key = apply_rotary(query, *rotary), apply_rotary(key, *rotary)
        if self.rotate_values:
            value = apply_rotary(value, *rotary)
        dropout = self.dropout if self.training else 0.0
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return self.output(seen.transpose(1, 2).flatten(2))  # (b, h, s, c) -> (b, s, h c)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2)  # (b, s, h c) -> (b, h, s, c)


class FeedForward(nn.Module):
    """Two halves of one projection, the second gating the first (Shazeer 2020, GEGLU)."""

    def __init__(self, dim: int, config: CLVPConfig) -> None:
        super().__init__()
        inner = config.ff_mult * dim
        self.input = nn.Linear(dim, 2 * inner)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(inner, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(b, s, d) -> (b, s, d)."""
        value, gate = self.input(x).chunk(2, dim=-1)
        return self.output(self.dropout(value * F.gelu(gate)))


class Block(nn.Module):
    """Attention and feed-forward, each on the normalised stream and added to it."""

    def __init__(self, dim: int, heads: int, config: CLVPConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(dim)
        self.attention = Attention(dim, heads, config)
        self.feed_forward_norm = RMSNorm(dim)
        self.feed_forward = FeedForward(dim, config)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        """(b, s, d) -> (b, s, d)."""
        x = x + self.attention(self.attention_norm(x), rotary, mask)
        return x + self.feed_forward(self.feed_forward_norm(x))


class Encoder(nn.Module):
    """Ids to one vector: embed, read, normalise, average over time, project."""

    def __init__(self, tokens: int, dim: int, depth: int, heads: int, config: CLVPConfig) -> None:
        super().__init__()
        self.rotary_dim = config.rotary_dim
        self.embedding = nn.Embedding(tokens, dim)
        self.blocks = nn.ModuleList([Block(dim, heads, config) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.projection = nn.Linear(dim, config.latent_dim or config.dim, bias=False)

    def forward(self, ids: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(b, s) integer -> (b, d) of length 1; see `CLVP.encode_text`."""
        positions = torch.arange(ids.shape[1], device=ids.device)
        rotary = rotary_tables(positions, self.rotary_dim)
        real = None if lengths is None else positions < lengths.to(ids.device)[:, None]  # (b, s)
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, rotary, None if real is None else real[:, None, None])
        return F.normalize(self.projection(masked_mean(self.norm(x), real)), dim=-1)


class CLVP(nn.Module):
    """Contrastive language-voice pre-training, over codes instead of audio."""

    def __init__(self, config: CLVPConfig) -> None:
        super().__init__()
        self.config = config
        self.text_encoder = Encoder(config.text_tokens, config.dim, config.depth, config.heads, config)
        self.speech_encoder = Encoder(
            config.speech_tokens,
            config.speech_dim or config.dim,
            config.speech_depth or config.depth,
            config.speech_heads or config.heads,
            config,
        )
        self.temperature = nn.Parameter(torch.tensor(1.0))  # logarithm of the scale of the cosines

    def score(
        self,
        text: Tensor,
        codes: Tensor,
        text_lengths: Tensor | None = None,
        code_lengths: Tensor | None = None,
    ) -> Tensor:
        """How well each take says its text.

        Args:
            text: (b, t) integer, or (1, t): one text for all takes, which is then read once.
            codes: (b, m) integer.
            text_lengths: (b,), at least 1 each; without it nothing is padding.
            code_lengths: the same for the codes.

        Returns:
            (b,) scores, higher is better; comparable between takes of one text.
        """
        text_latents = self.encode_text(text, text_lengths)
        speech_latents = self.encode_speech(codes, code_lengths)
        return (text_latents * speech_latents).sum(dim=-1) * self.temperature.exp()

    def encode_text(self, text: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Text ids to points on the unit sphere.

        Args:
            text: (b, t) integer.
            lengths: (b,), at least 1 each: ids from there on are neither attended nor averaged. Without it all are,
                which is what the published system does.

        Returns:
            (b, d), each of length 1.
        """
        return self.text_encoder(text, lengths)

    def encode_speech(self, codes: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Codes (b, m) to points (b, d) on the unit sphere, as `encode_text` does for text."""
        return self.speech_encoder(codes, lengths)

    def similarity(self, text_latents: Tensor, speech_latents: Tensor) -> Tensor:
        """Scores of every text with every take: (a, d) and (b, d) -> (a, b). Training wants the diagonal largest."""
        return text_latents @ speech_latents.T * self.temperature.exp()


def masked_mean(x: Tensor, real: Tensor | None) -> Tensor:
    """Mean over time of (b, s, d), of the positions where `real` (b, s) is true, or of all: (b, d)."""
    if real is None:
        return x.mean(dim=1)
    weights = real[..., None].to(x.dtype)  # (b, s, 1)
    return (x * weights).sum(dim=1) / weights.sum(dim=1)
