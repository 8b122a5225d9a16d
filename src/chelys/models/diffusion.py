"""Diffusion decoder: latents of the autoregressive decoder and a voice in, mel out (Betker 2023, section 3).

What does not depend on the noise, the conditioning, is computed once: latents (or codes, in the first phase of
training) pass a few attention blocks, are normalised, scaled and shifted by the voice, and stretched to the length of
the mel. At each step the timestep encoder brings the timestep into it, it is joined with the noisy mel, and residual
and attention layers predict the noise or the clean mel.

nano differs by config: two mel frames make one position (``patch``: half the positions, an eighth of the attention's
cost for the same audio), each layer has a feed-forward part, which the paper asked for, and the network predicts x0,
the clean mel, without a learned variance. A stream of 256 channels cannot carry the noise of 200 independent inputs
past the conditioning, but the mel itself is smooth and fits (Li & He 2025, "Back to basics: let denoising generative
models denoise", found the same with large patches of images).

With ``clip_mean`` the mean spectrum of the reference clips goes past the network: it learns mels without it, and what
it makes is given that of the voice. So the timbre of a stranger need not pass through a scale and a shift.

With ``context_tokens`` a voice is more than a scale and a shift: a resampler makes tokens of the states of all
reference clips, which the blocks over latents attend to.

b batch, f bands, s mel frames, p positions (s / patch), m codes, n context tokens, d width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chelys.errors import ConfigError
from chelys.nn.attention import AttentionBlock
from chelys.nn.norms import group_norm
from chelys.nn.resampler import CrossAttention, PerceiverResampler


@dataclass(frozen=True)
class DiffusionConfig:
    RENAMED: ClassVar[dict[str, str | None]] = {"integrator_layers": "timestep_encoder_layers"}

    bands: int = 100  # mel bands f
    patch: int = 2  # mel frames in one position; 1 as published
    dim: int = 256  # width d; voices are 2 d wide, one half scales and the other shifts
    heads: int = 4  # attention heads everywhere
    layers: int = 6  # layers of residual block and attention
    final_blocks: int = 1  # residual blocks without attention after them
    timestep_encoder_layers: int = 1  # layers that bring the timestep into the conditioning
    latent_dim: int = 256  # width of the autoregressive latents
    latent_blocks: int = 2  # attention blocks over latents
    codes: int = 1024  # speech codes, for the phase of training that reads codes
    code_blocks: int = 2  # attention blocks over embedded codes; with 0 the network reads latents only
    context_blocks: int = 1  # attention blocks of the contextual embedder
    context_tokens: int = 0  # tokens of a voice beside its scale and shift, which the latent blocks attend to
    feed_forward: int = 2  # width of the feed-forward part in units of d; 0 leaves it out, as published
    clip_mean: bool = False  # whether the mean spectrum of the clips is added to what the network makes
    #: what the network predicts: the noise (``epsilon``, published) or the ``clean`` mel, x0
    prediction: Literal["epsilon", "clean"] = "clean"
    learned_variance: bool = False  # whether it also interpolates the variance of each step (published)
    layer_drop: float = 0.0  # in training, how often a layer is passed over; the first and the last never are

    def __post_init__(self) -> None:
        if self.heads < 1 or self.dim % self.heads:
            raise ConfigError("diffusion.dim must be a multiple of its heads")

    @classmethod
    def tortoise_v2(cls) -> DiffusionConfig:
        """The published sizes: ten layers of width 1024."""
        return cls(
            patch=1, dim=1024, heads=16, layers=10, final_blocks=3, timestep_encoder_layers=3, latent_dim=1024,
            latent_blocks=4, codes=8192, code_blocks=3, context_blocks=5, feed_forward=0,
            prediction="epsilon", learned_variance=True, layer_drop=0.1,
        )  # fmt: skip

    @property
    def voice_shape(self) -> tuple[int, ...]:
        """Shape of a voice: ``(2 d,)``, or ``(2 + n, d)`` with context tokens; with ``clip_mean`` f numbers more, or
        as many rows as they fill."""
        if self.context_tokens:
            return 2 + self.context_tokens + self.clip_mean * math.ceil(self.bands / self.dim), self.dim
        return (2 * self.dim + self.bands * self.clip_mean,)


#: Of the mean spectrum of a clip, in network units. Frames this far below the loud ones are speech, a band that hardly
#: rises so far above the silence of the clip is empty, and no band differs more from the mean of all speakers.
SPEECH_RANGE, ABOVE_SILENCE, MOST_DIFFERENT = 0.85, 0.4, 2.0
#: Bands below the first empty one that a filter has cut into, and those over which what is guessed above fades.
FILTER_SLOPE, FADE_BANDS = 4, 8

#: Parts of the network that run at each step; the others run once a clip.
STEP_PARTS = ("time1", "time2", "timestep_encoder", "mel_in", "join", "layers", "final", "out_norm", "out")


class TimestepResidualBlock(nn.Module):
    """Two convolutions around a skip; the time of the step scales and shifts between them."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1 = group_norm(dim)
        self.conv1 = nn.Conv1d(dim, dim, 1)
        self.time = nn.Linear(dim, 2 * dim)
        self.norm2 = group_norm(dim)
        self.conv2 = nn.Conv1d(dim, dim, 3, padding=1)
        _zero(self.conv2)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """``(b, d, p)`` and time ``(b, d)`` to ``(b, d, p)``."""
        scale, shift = self.time(F.silu(time)).unsqueeze(-1).chunk(2, dim=1)
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.norm2(y) * (1 + scale) + shift
        return x + self.conv2(F.silu(y))


class DiffusionFeedForward(nn.Module):
    """Two linear maps over channels around a skip."""

    def __init__(self, dim: int, multiple: int) -> None:
        super().__init__()
        self.norm = group_norm(dim)
        self.up = nn.Conv1d(dim, multiple * dim, 1)
        self.down = nn.Conv1d(multiple * dim, dim, 1)
        _zero(self.down)

    def forward(self, x: Tensor) -> Tensor:
        """``(b, d, p) -> (b, d, p)``."""
        return x + self.down(F.gelu(self.up(self.norm(x))))


class DiffusionLayer(nn.Module):
    """Residual block, attention with relative positions, feed-forward where the config has one."""

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        self.residual = TimestepResidualBlock(config.dim)
        self.attention = AttentionBlock(config.dim, config.heads, relative=True)
        self.feed_forward = DiffusionFeedForward(config.dim, config.feed_forward) if config.feed_forward else None

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        x = self.attention(self.residual(x, time))
        return x if self.feed_forward is None else self.feed_forward(x)


class ContextualEmbedder(nn.Module):
    """Mels of reference clips to the voice vector: two strided convolutions, attention, mean over time."""

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        d = config.dim
        width = d if config.context_tokens else 2 * d
        self.conv1 = nn.Conv1d(config.bands, d, 3, stride=2, padding=1)
        self.conv2 = nn.Conv1d(d, width, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(
            AttentionBlock(width, config.heads, relative=True) for _ in range(config.context_blocks)
        )
        self.resampler = None
        if config.context_tokens:
            self.resampler = PerceiverResampler(d, config.heads, config.context_tokens)
            self.mean = nn.Linear(d, 2 * d)

    def forward(self, mel: Tensor) -> Tensor:
        """``(b, f, s) -> (b, 2 d, s/4)``, with context tokens ``(b, d, s/4)``; `pool` makes a voice of it."""
        x = self.conv1(mel)
        x = self.conv2(x if self.resampler is None else F.silu(x))
        for block in self.blocks:
            x = block(x)
        return x

    def pool(self, states: Tensor) -> Tensor:
        """The voice, from the states of all clips: their mean; with context tokens scale, shift and tokens."""
        mean = states.mean(2)
        if self.resampler is None:
            return mean
        scale_shift = self.mean(mean).unflatten(1, (2, -1))
        return torch.cat((scale_shift, self.resampler(states.transpose(1, 2)).to(scale_shift.dtype)), dim=1)


class Diffusion(nn.Module):
    """The diffusion decoder. ``voice`` and ``conditioning`` are computed once a clip, ``forward`` once a step."""

    mean_spectrum: Tensor

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        self.config = config
        d = config.dim
        channels = config.bands * config.patch
        self.contextual_embedder = ContextualEmbedder(config)
        self.latent_in = nn.Conv1d(config.latent_dim, d, 3, padding=1)
        self.latent_blocks = self._attention(config.latent_blocks)
        crossings = config.latent_blocks if config.context_tokens else 0
        self.context_attention = nn.ModuleList(CrossAttention(d, config.heads) for _ in range(crossings))
        self.code_embedding = nn.Embedding(config.codes + 1 if config.code_blocks else 1, d)
        self.code_blocks = self._attention(config.code_blocks)
        self.conditioning_norm = group_norm(d)
        self.uncond_embedding = nn.Parameter(torch.randn(1, d, 1))
        self.time1, self.time2 = nn.Linear(d, d), nn.Linear(d, d)
        self.timestep_encoder = nn.ModuleList(DiffusionLayer(config) for _ in range(config.timestep_encoder_layers))
        self.mel_in = nn.Conv1d(channels, d, 3, padding=1)
        self.join = nn.Conv1d(2 * d, d, 1)
        self.layers = nn.ModuleList(DiffusionLayer(config) for _ in range(config.layers))
        self.final = nn.ModuleList(TimestepResidualBlock(d) for _ in range(config.final_blocks))
        self.out_norm = group_norm(d)
        self.out = nn.Conv1d(d, channels * (2 if config.learned_variance else 1), 3, padding=1)
        self.mel_head = nn.Conv1d(d, channels, 3, padding=1)  # in training only: the mel from the conditioning alone
        if config.clip_mean:
            self.register_buffer("mean_spectrum", torch.zeros(config.bands))  # of speech, over many speakers
        _zero(self.out)

    def _attention(self, blocks: int) -> nn.ModuleList:
        return nn.ModuleList(AttentionBlock(self.config.dim, self.config.heads, relative=True) for _ in range(blocks))

    # ---- once a clip --------------------------------------------------------------------------------------------

    def voice(self, mels: list[Tensor]) -> Tensor:
        """Voice of one speaker from reference mels ``(1, f, s)``, each of any length: ``(1, 2 d)``.

        With context tokens ``(1, 2 + n, d)``: scale, shift and tokens. ``clip_mean`` adds the mean spectrum.
        """
        states = torch.cat([self.contextual_embedder(mel) for mel in mels], dim=2)
        return self._voice(states, torch.cat(mels, dim=2))

    def voices(self, mels: Tensor) -> Tensor:
        """The same of rows with as many clips each: ``(b, f, s)`` or ``(b, clips, f, s)``."""
        states = self.contextual_embedder(mels.flatten(0, -3))
        if mels.ndim == 4:
            states = states.unflatten(0, mels.shape[:2]).transpose(1, 2).flatten(2)
            mels = mels.transpose(1, 2).flatten(2)
        return self._voice(states, mels)

    def _voice(self, states: Tensor, mels: Tensor) -> Tensor:
        """From the states and the mels of all clips ``(b, f, s)``."""
        voice = self.contextual_embedder.pool(states)
        if not self.config.clip_mean:
            return voice
        spectrum = clip_spectrum(mels.float(), self.mean_spectrum.float()).to(voice.dtype)
        if self.config.context_tokens:
            spectrum = F.pad(spectrum, (0, -self.config.bands % self.config.dim)).unflatten(1, (-1, self.config.dim))
        return torch.cat((voice, spectrum), dim=1)

    def with_spectrum(self, mel: Tensor, voice: Tensor, bounds: tuple[float, float]) -> Tensor:
        """A mel ``(b, f, s)`` as the network makes it to that of a voice, between bounds."""
        return (mel + self._split(voice)[2].to(mel.dtype)).clamp(*bounds) if self.config.clip_mean else mel

    def without_spectrum(self, mel: Tensor, voice: Tensor) -> Tensor:
        """The mel of a voice ``(b, f, s)`` to what the network makes."""
        return mel - self._split(voice)[2].to(mel.dtype) if self.config.clip_mean else mel

    def _split(self, voice: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scale and shift of a voice ``(b, 2 d, 1)``, its tokens ``(b, n, d)`` and its mean spectrum ``(b, f, 1)``."""
        tokens, d = self.config.context_tokens, self.config.dim
        flat = voice.flatten(1)
        scale_shift, of_tokens, spectrum = flat.tensor_split((2 * d, (2 + tokens) * d), dim=1)
        return scale_shift[..., None], of_tokens.unflatten(1, (tokens, d)), spectrum[:, : self.config.bands, None]

    def bounds(self, mel: tuple[float, float]) -> tuple[float, float]:
        """Lowest and highest value of what the network makes, from those of mels."""
        return (mel[0] - MOST_DIFFERENT, mel[1] + MOST_DIFFERENT) if self.config.clip_mean else mel

    def conditioning(self, latents: Tensor, voice: Tensor, positions: int) -> Tensor:
        """What the steps share, from autoregressive latents.

        ``latents``: ``(b, m, latent_dim)``, of any floating-point precision: a decoder may run in half of it.
        ``voice``: ``(b, 2 d)`` or ``(b, 2 + n, d)``. ``positions``: length p to stretch to. Returns ``(b, d, p)``.
        """
        assert latents.is_floating_point(), "codes are for conditioning_of_codes"
        x = self.latent_in(latents.to(self.latent_in.weight.dtype).transpose(1, 2))
        for number, block in enumerate(self.latent_blocks):
            x = block(x)
            if self.config.context_tokens:
                x = self.context_attention[number](x.transpose(1, 2), self._split(voice)[1]).transpose(1, 2)
        return self._fit(x, voice, positions)

    def conditioning_of_codes(self, codes: Tensor, voice: Tensor, positions: int) -> Tensor:
        """The same from codes ``(b, m)``, as the first phase of training has it."""
        x = self.code_embedding(codes).transpose(1, 2)
        for block in self.code_blocks:
            x = block(x)
        return self._fit(x, voice, positions)

    def _fit(self, x: Tensor, voice: Tensor, positions: int) -> Tensor:
        scale, shift = self._split(voice)[0].chunk(2, dim=1)
        return F.interpolate(self.conditioning_norm(x) * (1 + scale) + shift, size=positions, mode="nearest")

    # ---- once a step --------------------------------------------------------------------------------------------

    def forward(self, x: Tensor, time: Tensor, conditioning: Tensor | None) -> Tensor:
        """Estimate the noise or the clean mel.

        ``x``: noisy mel ``(b, f, s)``. ``time``: step of the trained schedule, ``(b,)``, 0 .. T - 1; need not be whole.
        ``conditioning``: ``(b, d, p)``; None for the unconditional pass. Returns ``(b, f, s)``, or ``(b, 2 f, s)`` with
        the variance channels behind.
        """
        patch = self.config.patch
        noisy = fold(x, patch)
        if conditioning is None:
            conditioning = self.uncond_embedding.expand(len(x), -1, noisy.shape[2])
        embedding = self.time2(F.silu(self.time1(sinusoids(time, self.config.dim).to(x.dtype))))
        for layer in self.timestep_encoder:
            conditioning = layer(conditioning, embedding)
        h = self.join(torch.cat((self.mel_in(noisy), conditioning), dim=1))
        layers = (*self.layers, *self.final)
        dropped = self._dropped(len(layers))
        for number, block in enumerate(layers):
            h = block(h, embedding) if number not in dropped else _passed_over(block, h)
        return unfold(self.out(F.silu(self.out_norm(h))), patch)

    def _dropped(self, layers: int) -> set[int]:
        """Layers that this step of training does without; drawn like dropout, from the global generator."""
        if not self.training or not self.config.layer_drop:
            return set()
        drawn = torch.rand(layers) < self.config.layer_drop
        return {number for number in range(1, layers - 1) if drawn[number]}

    def mel_from_conditioning(self, conditioning: Tensor) -> Tensor:
        """The mel from the conditioning alone, for an auxiliary loss in training: ``(b, d, p) -> (b, f, s)``."""
        return unfold(self.mel_head(conditioning), self.config.patch)


def clip_spectrum(mel: Tensor, mean: Tensor | float = 0.0) -> Tensor:
    """How the mean spectrum of speech in clips ``(b, f, s)``, network units, differs from a mean ``(f,)``: ``(b, f)``.

    Loudness is left out. In bands that are empty, of recordings at a low rate, it fades.
    """
    low, bands = mel.shape[1] // 2, torch.arange(mel.shape[1], device=mel.device)
    loudness = mel[:, :low].mean(1)
    speech = (loudness > loudness.quantile(0.95, dim=1, keepdim=True) - SPEECH_RANGE).to(mel.dtype)
    spectrum = torch.einsum("bfs,bs->bf", mel, speech / speech.sum(1, keepdim=True)) - mean
    spectrum = spectrum - spectrum[:, :low].mean(1, keepdim=True)
    loudest = mel.topk(1 + mel.shape[2] // 100, dim=2).values[..., -1]  # but for clicks
    filled = loudest > mel.amin((1, 2))[:, None] + ABOVE_SILENCE
    last = torch.where(filled, bands, 0).amax(1, keepdim=True)
    end = torch.where(last < len(bands) - 1, last + 1 - FILTER_SLOPE, len(bands)).clamp(min=low)
    fading = spectrum.gather(1, end - 1) * torch.exp((end - 1 - bands) / FADE_BANDS)
    return torch.where(bands < end, spectrum, fading).clamp(-MOST_DIFFERENT, MOST_DIFFERENT)


def fold(x: Tensor, patch: int) -> Tensor:
    """Neighbouring frames into one position: ``(b, f, s) -> (b, f * patch, s / patch)``."""
    if patch == 1:
        return x
    b, f, s = x.shape
    return x.view(b, f, s // patch, patch).transpose(2, 3).reshape(b, f * patch, s // patch)


def unfold(x: Tensor, patch: int) -> Tensor:
    """The way back: ``(b, f * patch, p) -> (b, f, p * patch)``."""
    if patch == 1:
        return x
    b, c, p = x.shape
    return x.view(b, c // patch, patch, p).transpose(2, 3).reshape(b, c // patch, p * patch)


def sinusoids(time: Tensor, dim: int) -> Tensor:
    """Time of a step ``(b,)`` as cosines, then sines, of falling frequency: ``(b, dim)``."""
    half = dim // 2
    frequencies = torch.exp(-math.log(10_000.0) / half * torch.arange(half, dtype=torch.float32, device=time.device))
    angles = time.float().unsqueeze(1) * frequencies
    return torch.cat((angles.cos(), angles.sin()), dim=1)


def _passed_over(layer: nn.Module, x: Tensor) -> Tensor:
    """The same numbers; the layer's weights get a gradient of zero, which engines that sum gradients wait for."""
    return x + 0.0 * sum(parameter.sum() for parameter in layer.parameters())


def _zero(conv: nn.Conv1d) -> None:
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
