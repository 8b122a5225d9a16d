"""HiFi-GAN: latents of the autoregressive decoder straight to a waveform, which can be spoken while codes still come.

In place of diffusion decoder and vocoder: the latents are stretched to mel frames, four to a code and from the rate of
the codes to that of the output, and go up to the sample rate in a few strides. After each stride several residual
blocks, each with another width of kernel, read the signal, and their mean goes on. The voice is added once, at the
start.

The network is convolutions only, so a frame of the output depends on no more than `HiFiGAN.reach` frames to either
side. `decode_window` computes any stretch of the output from those alone, and `settled_frames` says how much of it
further codes cannot change: pieces of speech are the very samples of the whole, at a cost that does not grow with what
was already spoken. The original decodes everything again for each piece.

b batch, m codes, d width of latents, s mel frames, n samples (256 s), c channels.

Source: Kong et al. 2020, HiFi-GAN; the streaming variant of TorToise v2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from chelys.audio.rates import FRAMES_PER_CODE, OUTPUT_RATE, PUBLISHED_CODE_RATE
from chelys.errors import ConfigError
from chelys.nn.norms import WeightNormed

RATE_RATIO = OUTPUT_RATE / PUBLISHED_CODE_RATE  # frames of the output for one of the codes' front end
END_TAPS = 7  # of the first and the last convolution


@dataclass(frozen=True)
class HiFiGANConfig:
    """Size of HiFi-GAN. The defaults are those of the published network, 17.8 million parameters."""

    latent_dim: int = 1024  # width of the autoregressive latents
    voice_dim: int = 1024  # width of the voice, which is the autoregressive decoder's
    channels: int = 512  # before the first stride; each stride halves them
    strides: tuple[int, ...] = (8, 8, 2, 2)  # their product is the hop: samples per mel frame
    stride_kernels: tuple[int, ...] = (16, 16, 4, 4)  # taps of the strides; as odd or even as these
    block_kernels: tuple[int, ...] = (3, 7, 11)  # one residual block for each after every stride, odd
    dilations: tuple[int, ...] = (1, 3, 5)  # of the convolutions in a block
    slope: float = 0.1  # of every leaky ReLU but the last
    last_slope: float = 0.01  # of the last: the original forgot to give it a slope, and was trained so

    def __post_init__(self) -> None:
        if len(self.strides) != len(self.stride_kernels):
            raise ConfigError(
                f"hifigan: {len(self.strides)} strides and {len(self.stride_kernels)} stride_kernels; give one for each"
            )
        if any(taps < stride or (taps - stride) % 2 for stride, taps in self._ups):
            raise ConfigError(
                f"hifigan: stride_kernels are {self.stride_kernels} for strides {self.strides};"
                " each must be larger by an even number"
            )
        if any(taps % 2 == 0 for taps in self.block_kernels):
            raise ConfigError(f"hifigan: block_kernels are {self.block_kernels}; they must be odd")
        if self.channels % 2 ** len(self.strides):
            halved = 2 ** len(self.strides)
            raise ConfigError(
                f"hifigan: channels is {self.channels}; it must be a multiple of {halved}, for each stride halves it"
            )

    @property
    def _ups(self) -> tuple[tuple[int, int], ...]:
        return tuple(zip(self.strides, self.stride_kernels, strict=True))

    @property
    def hop(self) -> int:
        """Samples per mel frame."""
        return math.prod(self.strides)

    @property
    def reach(self) -> int:
        """Mel frames to either side of a frame on which its samples depend; 13 as published."""
        block = max(self.block_kernels) // 2 * sum(1 + dilation for dilation in self.dilations)
        samples = END_TAPS // 2
        for stride, taps in reversed(self._ups):
            samples = (samples + block + (taps + stride) // 2 - 1) // stride
        return samples + END_TAPS // 2

    @classmethod
    def tortoise_v2(cls) -> HiFiGANConfig:
        """The published network (hifidecoder.pth): 17,844,226 parameters with weight norm."""
        return cls()


class DilatedResidualBlock(nn.Module):
    """Pairs of convolutions around skips, the first of each pair dilated."""

    def __init__(self, channels: int, taps: int, config: HiFiGANConfig) -> None:
        super().__init__()
        self.activation = nn.LeakyReLU(config.slope)
        self.dilated = nn.ModuleList(
            nn.Conv1d(channels, channels, taps, dilation=dilation, padding=dilation * (taps // 2))
            for dilation in config.dilations
        )
        self.plain = nn.ModuleList(nn.Conv1d(channels, channels, taps, padding=taps // 2) for _ in config.dilations)

    def forward(self, x: Tensor) -> Tensor:
        """``(b, c, n) -> (b, c, n)``."""
        for dilated, plain in zip(self.dilated, self.plain, strict=True):
            x = x + plain(self.activation(dilated(self.activation(x))))
        return x


class HiFiGAN(WeightNormed):
    """The decoder: ``decode`` the whole, or ``decode_window`` of it."""

    def __init__(self, config: HiFiGANConfig, *, weight_norm: bool = False) -> None:
        """Make the network; ``weight_norm`` holds each kernel as the published file does, `fold` ends that."""
        super().__init__()
        self.config = config
        self.activation, self.last_activation = nn.LeakyReLU(config.slope), nn.LeakyReLU(config.last_slope)
        channels = config.channels
        self.input = nn.Conv1d(config.latent_dim, channels, END_TAPS, padding=END_TAPS // 2)
        self.voice = nn.Conv1d(config.voice_dim, channels, 1)
        self.upsamples, self.blocks = nn.ModuleList(), nn.ModuleList()
        for stride, taps in config._ups:
            self.upsamples.append(
                nn.ConvTranspose1d(channels, channels // 2, taps, stride, padding=(taps - stride) // 2)
            )
            channels //= 2
            self.blocks.extend(DilatedResidualBlock(channels, taps, config) for taps in config.block_kernels)
        self.output = nn.Conv1d(channels, 1, END_TAPS, padding=END_TAPS // 2)
        if weight_norm:
            self.unfold()

    def forward(self, frames: Tensor, voice: Tensor) -> Tensor:
        """Stretched latents ``(b, d, s)`` and voices ``(b, voice_dim)`` to samples ``(b, n)`` in [-1, 1]."""
        kinds = len(self.config.block_kernels)
        x = self.input(frames) + self.voice(voice.unsqueeze(-1))
        for stage, upsample in enumerate(self.upsamples):
            x = upsample(self.activation(x))
            first, *others = self.blocks[stage * kinds : (stage + 1) * kinds]
            total = first(x)
            for block in others:
                total = total + block(x)
            x = total / kinds
        return self.output(self.last_activation(x)).tanh().squeeze(1)

    @torch.inference_mode()
    def decode(self, latents: Tensor, voice: Tensor) -> Tensor:
        """The waveform ``(b, n)`` of all codes, in [-1, 1] at 24 kHz; n is `wave_length` of m, at least 1.

        Latents are ``(b, m, d)``, voices ``(b, voice_dim)``, or ``(1, voice_dim)`` for all.
        """
        return self.decode_window(latents, voice, 0, self.frames(latents.shape[1]))

    @torch.inference_mode()
    def decode_window(self, latents: Tensor, voice: Tensor, first: int, count: int) -> Tensor:
        """A stretch ``(b, 256 count)`` of the waveform, as `decode` makes it there, at the cost of its own length.

        The latents may be of the codes so far, see `settled_frames`. The stretch begins at mel frame ``first`` and has
        ``count``, at least 1; ``first + count`` is at most `frames` of m.
        """
        total, reach, hop = self.frames(latents.shape[1]), self.config.reach, self.config.hop
        assert 0 <= first < first + count <= total, f"frames {first} to {first + count} of {total}"
        begin, end = max(0, first - reach), min(total, first + count + reach)
        waveform = self(stretch(latents.transpose(1, 2), begin, end), voice)
        return waveform[:, (first - begin) * hop : (first - begin + count) * hop]

    def frames(self, codes: int) -> int:
        """Mel frames of the waveform of so many codes."""
        return frame_count(codes)

    def wave_length(self, codes: int) -> int:
        """Samples of the waveform of so many codes."""
        return self.frames(codes) * self.config.hop

    def settled_frames(self, codes: int) -> int:
        """Mel frames, from the first on, that further codes cannot change; all the others may still."""
        # Half of the last code's own frames lean on the next code. Frame f of the output lies between two of the codes'
        # front end, at (f + 0.5) / RATE_RATIO - 0.5, and the right one of them must be before those.
        last_known = codes * FRAMES_PER_CODE - FRAMES_PER_CODE // 2 - 1
        fixed = math.ceil((last_known + 0.5) * RATE_RATIO - 0.5)
        return max(0, fixed - self.config.reach)

    def normed(self) -> list[nn.Module]:
        """The convolutions that the published file holds under weight norm: all but the voice's."""
        return [module for module in super().normed() if module is not self.voice]


def frame_count(codes: int) -> int:
    """Mel frames of the output for so many codes, rounded down as the original does."""
    return int(codes * FRAMES_PER_CODE * RATE_RATIO)


def stretch(latents: Tensor, first: int, end: int) -> Tensor:
    """Latents ``(b, d, m)`` at the mel frames ``first`` to ``end`` of the output: ``(b, d, end - first)``.

    Linearly to four frames a code, then linearly to the output's rate; the positions are computed as the original has
    them, in single precision.
    """
    codes = latents.shape[-1]
    frames = codes * FRAMES_PER_CODE
    # Two codes or less gain no frame; the original's library then leaves them where they are.
    ratio = RATE_RATIO if frame_count(codes) > frames else 1.0
    at = torch.arange(first, end, device=latents.device)
    left, right, share = _neighbours(at, 1 / ratio, frames)
    return torch.lerp(_quarters(latents, left), _quarters(latents, right), share.to(latents.dtype))


def stretch_rows(latents: Tensor, lengths: Tensor, first: Tensor, count: int) -> Tensor:
    """As `stretch`, a stretch of its own of each row, ``(b, d, count)``; for training.

    The lengths ``(b,)`` are codes of each row; what lies beyond is not looked at. ``first (b,)`` is the mel frame to
    begin with.
    """
    frames = lengths[:, None] * FRAMES_PER_CODE
    longer = frames * OUTPUT_RATE // PUBLISHED_CODE_RATE > frames
    inverse = torch.where(longer, 1 / RATE_RATIO, 1.0).float()
    at = first[:, None] + torch.arange(count, device=latents.device)

    def pick(at: Tensor) -> Tensor:
        return latents.gather(2, at.unsqueeze(1).expand(-1, latents.shape[1], -1))

    def quarters(at: Tensor) -> Tensor:
        left, right, share = _neighbours(at, torch.full_like(inverse, 1 / FRAMES_PER_CODE), lengths[:, None])
        return torch.lerp(pick(left), pick(right), share.to(latents.dtype).unsqueeze(1))

    left, right, share = _neighbours(at, inverse, frames)
    return torch.lerp(quarters(left), quarters(right), share.to(latents.dtype).unsqueeze(1))


def _quarters(latents: Tensor, at: Tensor) -> Tensor:
    """Latents ``(b, d, m)`` at the given frames of the codes' front end: ``(b, d, len(at))``."""
    left, right, share = _neighbours(at, 1 / FRAMES_PER_CODE, latents.shape[-1])
    return torch.lerp(latents[..., left], latents[..., right], share.to(latents.dtype))


def _neighbours(at: Tensor, inverse: float | Tensor, length: int | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of which entries of a signal of some length its stretched entries are made: two each, and the second's share."""
    position = ((at + 0.5) * inverse - 0.5).clamp(min=0)
    last = torch.as_tensor(length - 1, device=at.device)
    left = position.long().minimum(last)
    return left, (left + 1).minimum(last), (position - left).clamp(0, 1)
