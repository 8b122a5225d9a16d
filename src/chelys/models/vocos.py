"""Fourier-head vocoder: mel to wave without a single up-sampling layer (Vocos, Siuzdak 2023, arXiv 2306.00814).

ConvNeXt blocks run at the mel's own rate; a linear head writes magnitude and phase of every frame, and the inverse
short-time Fourier transform does the rest. On a CPU that is an order of magnitude cheaper than stacks of transposed
convolutions, which is why nano speaks through it. With a harmonic source the phases start from those of a pulse train
at the pitch of the voice, which the same blocks read.

b batch, f bands, s mel frames, n samples (256 s), d width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chelys.audio.mel import MelRange
from chelys.errors import ConfigError
from chelys.models.harmonic_source import HarmonicSource


@dataclass(frozen=True)
class VocosConfig:
    """Sizes of the Fourier-head vocoder.

    Attributes:
        bands: Mel bands f.
        dim: Width d.
        inner: Width inside a block.
        blocks: ConvNeXt blocks.
        n_fft: Samples of the inverse transform's window.
        hop: Samples per mel frame.
        pitches: Pitches that the harmonic source tells apart, 50 cents each from 50 Hz up; 0 for no such source.
    """

    bands: int = 100
    dim: int = 256
    inner: int = 768
    blocks: int = 8
    n_fft: int = 1024
    hop: int = 256
    pitches: int = 0

    def __post_init__(self) -> None:
        if self.pitches < 0 or self.pitches == 1:
            raise ConfigError(f"vocos.pitches is {self.pitches}; it must be 0, for no harmonic source, or two and more")

    @property
    def noise_dim(self) -> int:
        """Samples of white noise for each frame."""
        return self.hop if self.pitches else 0


class ConvNeXtBlock(nn.Module):
    """Depth-wise convolution, norm, two linear layers, scaled skip (Liu et al. 2022, in one dimension)."""

    def __init__(self, dim: int, inner: int, scale: float) -> None:
        super().__init__()
        self.mix = nn.Conv1d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.up = nn.Linear(dim, inner)
        self.down = nn.Linear(inner, dim)
        self.scale = nn.Parameter(torch.full((dim,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """``(b, d, s) -> (b, d, s)``."""
        y = self.norm(self.mix(x).transpose(1, 2))
        y = self.scale * self.down(F.gelu(self.up(y)))
        return x + y.transpose(1, 2)


class FourierHead(nn.Module):
    """Features of each frame to magnitude and phase, and those to a wave."""

    window: Tensor

    def __init__(self, config: VocosConfig) -> None:
        super().__init__()
        self.n_fft, self.hop = config.n_fft, config.hop
        self.out = nn.Linear(config.dim, config.n_fft + 2)
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)

    def forward(self, x: Tensor, source: Tensor | None = None) -> Tensor:
        """``(b, s, d) -> (b, hop * s)``; phases turn those of a source ``(b, n_fft/2 + 1, s)``, where there is one."""
        log_magnitude, phase = self.out(x).float().transpose(1, 2).chunk(2, dim=1)  # (b, n_fft/2 + 1, s)
        magnitude = log_magnitude.exp().clamp(max=1e2)  # a runaway frame must not drown the rest
        spectrum = torch.polar(magnitude, phase)
        if source is not None:
            spectrum = spectrum * source
        frames = torch.fft.irfft(spectrum, self.n_fft, dim=1) * self.window[:, None]
        return self._overlap_add(frames)

    def _overlap_add(self, frames: Tensor) -> Tensor:
        """Frames ``(b, n_fft, s)``, each centred on its own hop, to a wave ``(b, hop * s)``."""
        b, _, s = frames.shape
        length = (s - 1) * self.hop + self.n_fft

        def add(pieces: Tensor) -> Tensor:
            return F.fold(pieces, (1, length), (1, self.n_fft), stride=(1, self.hop)).flatten(1)

        envelope = add(self.window.square()[None, :, None].expand(1, -1, s))
        wave = add(frames) / envelope.clamp(min=1e-8)
        edge = (self.n_fft - self.hop) // 2
        return wave[:, edge : length - edge]


class Vocos(nn.Module):
    """Log-mel in, wave out."""

    def __init__(self, config: VocosConfig, mel_range: MelRange) -> None:
        super().__init__()
        self.config, self.mel_range = config, mel_range
        self.embed = nn.Conv1d(config.bands, config.dim, 7, padding=3)
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(config.dim, config.inner, scale=1 / config.blocks) for _ in range(config.blocks)
        )
        self.final_norm = nn.LayerNorm(config.dim, eps=1e-6)
        self.head = FourierHead(config)
        self.source = HarmonicSource(config.dim, config.pitches, config.n_fft, config.hop) if config.pitches else None
        self.apply(_initialise)
        if self.source is not None:
            self.source.start()

    def forward(self, mel: Tensor, noise: Tensor | None = None) -> Tensor:
        """Vocode.

        Args:
            mel: Log-mel ``(b, f, s)``, not normalised.
            noise: White noise ``(b, noise_dim, s)``, which a harmonic source needs.

        Returns:
            Wave ``(b, 256 s)``, around [-1, 1].
        """
        return self.speak(self.features(mel), noise)

    def features(self, mel: Tensor) -> Tensor:
        """Log-mel ``(b, f, s)``, not normalised, to what head and source read, ``(b, s, d)``."""
        x = self.embed(self.mel_range.normalize(mel))
        x = self.norm(x.transpose(1, 2)).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.final_norm(x.transpose(1, 2))

    def speak(self, x: Tensor, noise: Tensor | None = None, pitch: Tensor | None = None) -> Tensor:
        """Features ``(b, s, d)`` to a wave ``(b, 256 s)``, at a pitch ``(b, s)`` in Hz or else at the one they tell."""
        if self.source is None:
            return self.head(x)
        if noise is None:
            raise ValueError("a vocoder with a harmonic source takes noise")
        return self.head(x, self.source(x, noise.transpose(1, 2).flatten(1), pitch))

    @torch.inference_mode()
    def vocode(self, mel: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Speak a log-mel ``(b, f, s)``: wave ``(b, 256 s)`` within [-1, 1].

        Args:
            mel: Not normalised.
            generator: Of the source's noise, drawn on the generator's own device; none is needed without a source.
        """
        noise = None
        if self.source is not None:
            assert generator is not None, "vocode takes a generator where the vocoder has a source"
            shape = (len(mel), self.config.noise_dim, mel.shape[2])
            noise = torch.randn(shape, generator=generator, device=generator.device).to(mel.device)
        return self(mel, noise).clamp(-1.0, 1.0)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv1d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
