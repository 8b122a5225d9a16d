"""Autoregressive decoder: voice and text in, speech codes out; codes in, latents out (Betker 2023, section 3).

A GPT-2 (Radford et al. 2019) over the sequence  [voice | start text stop | start codes stop].  The voice is one vector,
the conditioning latent of reference clips, or several where the config says how many: a resampler makes them of the
states of all clips together. The hidden state that predicts code j also conditions the diffusion decoder
in place of code j: the latent of the "TorToise trick".

The published network adds learned position embeddings that count text and codes each from zero. nano uses rotary
positions, counted the same way, so that no table caps the length; the voice is at position zero.

b batch, d width, h heads, f bands, s mel frames, t text ids, m codes, n conditioning latents,
l columns of the sequence (n + t + 2 + m + 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chelys.errors import ConfigError
from chelys.nn.attention import AttentionBlock, KVCache, apply_rotary, attend, rotary_tables
from chelys.nn.resampler import PerceiverResampler

#: Cosines and sines of rotary angles, one row for each column of the sequence.
Rotary = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class AutoregressiveConfig:
    text_tokens: int = 128  # Text ids; one more, ``text_tokens`` itself, starts a text. Id 0 stops it.
    codes: int = 1024  # speech codes; the next id starts speech, the one after it stops it
    dim: int = 256  # width d
    layers: int = 6  # transformer blocks
    heads: int = 4  # attention heads h, also of the conditioning encoder
    positions: Literal["learned", "rotary"] = "rotary"  # ``learned`` tables (published) or ``rotary`` angles (nano)
    text_positions: int = 404  # rows of the learned table for text
    code_positions: int = 608  # rows of the learned table for codes
    bands: int = 100  # mel bands f of the reference clips
    conditioning_blocks: int = 2  # attention blocks of the conditioning encoder
    conditioning_kernel: int = 5  # width of its first convolution
    conditioning_stride: int = 4  # stride of its first convolution
    #: which of its positions make the voice: the ``first`` (published) or the ``mean`` of all
    conditioning_pool: Literal["first", "mean"] = "mean"
    conditioning_tokens: int = 0  # conditioning latents n of a voice, made by a resampler; 0: one, by the pool
    dropout: float = 0.0  # in the transformer, in training only

    def __post_init__(self) -> None:
        if self.heads < 1 or self.dim % self.heads:
            raise ConfigError("autoregressive.dim must be a multiple of its heads")

    @classmethod
    def tortoise_v2(cls) -> AutoregressiveConfig:
        """The published sizes: 30 layers of width 1024."""
        return cls(
            text_tokens=255, codes=8192, dim=1024, layers=30, heads=16, positions="learned", bands=80,
            conditioning_blocks=6, conditioning_kernel=1, conditioning_stride=1, conditioning_pool="first", dropout=0.1,
        )  # fmt: skip

    @property
    def voice_shape(self) -> tuple[int, ...]:
        """Shape of a voice: ``(d,)``, or ``(n, d)`` with conditioning tokens."""
        return (self.conditioning_tokens, self.dim) if self.conditioning_tokens else (self.dim,)

    @property
    def start_text(self) -> int:
        return self.text_tokens

    @property
    def stop_text(self) -> int:
        return 0

    @property
    def start_code(self) -> int:
        return self.codes

    @property
    def stop_code(self) -> int:
        return self.codes + 1


class ConditioningEncoder(nn.Module):
    """Mel of a reference clip ``(b, f, s)`` to a conditioning latent ``(b, d)``.

    With conditioning tokens, mels of one or several clips ``(b, f, s)`` or ``(b, clips, f, s)`` to ``(b, n, d)``.
    """

    def __init__(self, config: AutoregressiveConfig) -> None:
        super().__init__()
        kernel, stride = config.conditioning_kernel, config.conditioning_stride
        self.pool = config.conditioning_pool
        self.init = nn.Conv1d(config.bands, config.dim, kernel, stride=stride, padding=kernel // 2)
        self.blocks = nn.ModuleList(AttentionBlock(config.dim, config.heads) for _ in range(config.conditioning_blocks))
        tokens = config.conditioning_tokens
        self.resampler = PerceiverResampler(config.dim, config.heads, tokens) if tokens else None

    def forward(self, mel: Tensor) -> Tensor:
        x = self.init(mel.flatten(0, -3))
        for block in self.blocks:
            x = block(x)
        if self.resampler is not None:
            states = x.transpose(1, 2).unflatten(0, (len(mel), -1))  # (b, clips, s', d)
            tokens: Tensor = self.resampler(states.flatten(1, 2))
            return tokens
        return x[:, :, 0] if self.pool == "first" else x.mean(2)


class Block(nn.Module):
    """A pre-norm transformer block as in GPT-2, with the tanh form of GELU."""

    def __init__(self, config: AutoregressiveConfig) -> None:
        super().__init__()
        d = config.dim
        self.heads, self.dropout = config.heads, config.dropout
        self.attention_norm = nn.LayerNorm(d)
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)
        self.mlp_norm = nn.LayerNorm(d)
        self.up = nn.Linear(d, 4 * d)
        self.down = nn.Linear(4 * d, d)

    def forward(
        self, x: Tensor, rotary: Rotary | None, mask: Tensor | None, cache: KVCache | None = None, layer: int = 0
    ) -> Tensor:
        """Attend and transform.

        ``x``: ``(b, l, d)``. ``rotary``: cosines and sines for the columns of x, or None. ``mask``: which columns each
        query sees, ``(b, 1, l, l')`` bool; None is causal (or all, for a single query). ``cache``: where earlier
        columns lie and new ones go. ``layer``: which of the cache's layers is ours.
        """
        b, length, d = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(b, length, 3, self.heads, d // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (b, h, l, d/h)
        if rotary is not None:
            query, key = apply_rotary(query, *rotary), apply_rotary(key, *rotary)
        if cache is not None:
            key, value = cache.extend(layer, key, value)
        dropout = self.dropout if self.training else 0.0
        attended = attend(query, key, value, mask, causal=mask is None and length > 1, dropout=dropout)
        x = x + self._drop(self.out(attended.transpose(1, 2).reshape(b, length, d)))
        return x + self._drop(self.down(F.gelu(self.up(self.mlp_norm(x)), approximate="tanh")))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class Autoregressive(nn.Module):
    """Decoder and conditioning encoder: ``forward`` for training, ``read_prompt`` and ``read_code`` for sampling."""

    def __init__(self, config: AutoregressiveConfig) -> None:
        super().__init__()
        self.config = config
        d = config.dim
        self.conditioning_encoder = ConditioningEncoder(config)
        self.text_embedding = nn.Embedding(config.text_tokens + 1, d)
        self.code_embedding = nn.Embedding(config.codes + 2, d)
        if config.positions == "learned":
            self.text_position = nn.Embedding(config.text_positions, d)
            self.code_position = nn.Embedding(config.code_positions, d)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.block_norm = nn.LayerNorm(d)
        self.final_norm = nn.LayerNorm(d)  # a second norm in a row, as published
        self.text_head = nn.Linear(d, config.text_tokens + 1)
        self.code_head = nn.Linear(d, config.codes + 2)
        self._initialise()

    def _initialise(self) -> None:
        """GPT-2's: N(0, 0.02), residual outputs narrower by the root of their number."""
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2 or name.startswith("conditioning_encoder"):
                continue
            residual = name.endswith(("out.weight", "down.weight"))
            nn.init.normal_(parameter, std=0.02 / (2 * self.config.layers) ** 0.5 if residual else 0.02)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def condition(self, mel: Tensor) -> Tensor:
        """Conditioning latent of one reference clip a row: ``(b, f, s) -> (b, d)``; callers average several clips.

        With conditioning tokens, ``(b, f, s)`` or ``(b, clips, f, s)`` to ``(b, n, d)``.
        """
        return self.conditioning_encoder(mel)

    # ---- the sequence -------------------------------------------------------------------------------------------

    def embed_text(self, text: Tensor) -> Tensor:
        """Text ids with start and stop ``(b, t)`` to ``(b, t, d)``."""
        x = self.text_embedding(text)
        return x + self.text_position.weight[: text.shape[1]] if self.config.positions == "learned" else x

    def embed_codes(self, codes: Tensor, first: int = 0) -> Tensor:
        """Codes ``(b, m)``, the start code being number 0, to ``(b, m, d)``; ``first`` is the first one's number."""
        x = self.code_embedding(codes)
        if self.config.positions == "learned":
            return x + self.code_position.weight[first : first + codes.shape[1]]
        return x

    def _rotary(self, positions: Tensor) -> Rotary | None:
        if self.config.positions == "learned":
            return None
        return rotary_tables(positions, self.config.dim // self.config.heads)

    def _transform(
        self, x: Tensor, rotary: Rotary | None, mask: Tensor | None = None, cache: KVCache | None = None
    ) -> Tensor:
        for layer, block in enumerate(self.blocks):
            x = block(x, rotary, mask, cache, layer)
        if cache is not None:
            cache.length += x.shape[1]
        return self.final_norm(self.block_norm(x))

    def _frame_text(self, text: Tensor, lengths: Tensor) -> Tensor:
        """Put the start before and the stop after each row's ids: ``(b, t) -> (b, t + 2)``; padding is stop as well."""
        start = text.new_full((len(text), 1), self.config.start_text)
        framed = torch.cat((start, text, torch.zeros_like(start)), dim=1)
        at = torch.arange(framed.shape[1], device=text.device)
        return framed.masked_fill(at > lengths[:, None], self.config.stop_text)

    # ---- training -----------------------------------------------------------------------------------------------

    def forward(
        self, conditioning: Tensor, text: Tensor, text_lengths: Tensor, codes: Tensor, code_lengths: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Teacher-forced pass over rows of any length.

        Rows are packed so that padding stands after everything; causal attention then never sees it.

        Args:
            conditioning: Conditioning latents ``(b, d)`` or ``(b, n, d)``.
            text: Text ids ``(b, t)`` without start and stop; what lies beyond a row's length is ignored.
            text_lengths: ``(b,)``.
            codes: Codes ``(b, m)`` without start and stop.
            code_lengths: ``(b,)``.

        Returns:
            text logits ``(b, t + 1, ids)``: column j predicts text id j, the last one the stop;
            code logits ``(b, m + 1, ids)``: column j predicts code j, the last one the stop;
            latents ``(b, m + 1, d)`` behind the code logits.
        """
        hidden, columns = self._hidden(conditioning, text, text_lengths, codes, code_lengths)
        latents = hidden[:, columns:]
        first = columns - text.shape[1] - 2  # where the text begins
        return self.text_head(hidden[:, first : columns - 1]), self.code_head(latents), latents

    def _hidden(
        self, conditioning: Tensor, text: Tensor, text_lengths: Tensor, codes: Tensor, code_lengths: Tensor
    ) -> tuple[Tensor, int]:
        """Hidden states ``(b, l, d)``, and how many columns voice and text take."""
        b = len(text)
        framed = self._frame_text(text, text_lengths)
        speech = torch.cat((codes.new_full((b, 1), self.config.start_code), codes), dim=1)
        voice = _columns(conditioning)
        n = voice.shape[1]
        x = torch.cat((voice, self.embed_text(framed), self.embed_codes(speech)), dim=1)
        t, m = framed.shape[1], speech.shape[1]
        at_text, at_code = torch.arange(t, device=x.device), torch.arange(m, device=x.device)
        positions = torch.cat((at_text[:1].expand(n), at_text, at_code))
        padding = torch.cat(
            (
                torch.zeros(b, n, dtype=torch.bool, device=x.device),
                at_text >= text_lengths[:, None] + 2,
                at_code >= code_lengths[:, None] + 1,
            ),
            dim=1,
        )
        order = padding.int().argsort(dim=1, stable=True)  # (b, l): real columns first, each kind in its order
        packed = x.gather(1, order.unsqueeze(-1).expand_as(x))
        if self.config.dropout:
            packed = F.dropout(packed, self.config.dropout, self.training)
        hidden = self._transform(packed, self._rotary(positions[order]))
        return torch.empty_like(hidden).scatter(1, order.unsqueeze(-1).expand_as(hidden), hidden), n + t

    def latents(self, conditioning: Tensor, text: Tensor, codes: Tensor) -> Tensor:
        """What the diffusion decoder is conditioned on: the hidden state that predicts each code.

        ``conditioning``: conditioning latents ``(b, d)`` or ``(b, n, d)``; ``text``: text ids ``(b, t)``, rows of one
        length; ``codes``: codes ``(b, m)``, rows of one length. Returns ``(b, m, d)``; latent j depends only on the
        codes before j.
        """
        lengths = [torch.full((len(x),), x.shape[1], device=x.device) for x in (text, codes)]
        hidden, columns = self._hidden(conditioning, text, lengths[0], codes, lengths[1])
        return hidden[:, columns:-1]

    # ---- sampling ---------------------------------------------------------------------------------------------------

    def read_prompt(
        self, conditioning: Tensor, text: Tensor, text_lengths: Tensor, capacity: int
    ) -> tuple[Tensor, KVCache]:
        """Read voice, text and the start code of each row.

        Shorter rows are padded on the left, so that all rows end, and continue, in the same column.

        ``conditioning``: ``(b, d)`` or ``(b, n, d)``; ``text``: ids ``(b, t)``, padded on the right; ``text_lengths``:
        ``(b,)``, best on the CPU; ``capacity``: how many codes may follow. Returns latents of the first codes
        ``(b, d)``, for ``code_head``, and the cache for ``read_code``.
        """
        config, b = self.config, len(text)
        padded = bool((text_lengths < text.shape[1]).any())
        text_lengths = text_lengths.to(text.device)
        framed = self._frame_text(text, text_lengths)
        start = text.new_full((b, 1), config.start_code)
        voice = _columns(conditioning)
        n = voice.shape[1]
        x = torch.cat((voice, self.embed_text(framed), self.embed_codes(start)), dim=1)
        length = x.shape[1]
        at = torch.arange(framed.shape[1], device=x.device)
        positions = torch.cat((at[:1].expand(n), at, at[:1]))
        padding = F.pad(at >= text_lengths[:, None] + 2, (n, 1))
        order = (~padding).int().argsort(dim=1, stable=True)  # padding first
        x = x.gather(1, order.unsqueeze(-1).expand_as(x))
        cache = KVCache(config.layers, b, config.heads, length + capacity, config.dim // config.heads, x)
        mask = None
        if padded:
            real = ~padding.gather(1, order)
            cache.valid = F.pad(real, (0, capacity), value=True)
            causal = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
            # padding must attend to something, or softmax gives NaN
            itself = torch.eye(length, dtype=torch.bool, device=x.device)
            mask = (causal & real[:, None, None, :]) | itself
        hidden = self._transform(x, self._rotary(positions[order]), mask, cache)
        return hidden[:, -1], cache

    def read_code(self, codes: Tensor, number: int, cache: KVCache) -> Tensor:
        """Read one more code a row.

        ``codes``: ``(b,)``. ``number``: which code it is; the first sampled one is number 1. ``cache``: from
        ``read_prompt``; grows by a column. Returns latents of the next codes ``(b, d)``, for ``code_head``.
        """
        x = self.embed_codes(codes.unsqueeze(1), number)
        rotary = self._rotary(torch.tensor([number], device=x.device))
        return self._transform(x, rotary, cache.mask(1), cache)[:, -1]


def _columns(conditioning: Tensor) -> Tensor:
    """Conditioning latents as columns of the sequence: ``(b, d)`` or ``(b, n, d)`` to ``(b, n, d)``."""
    return conditioning.unsqueeze(1) if conditioning.ndim == 2 else conditioning
