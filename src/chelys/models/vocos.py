"""Fourier-head vocoder: mel to waveform without any up-sampling layer (Vocos, Siuzdak 2023, arXiv 2306.00814).

ConvNeXt blocks run at the mel's own rate; a linear head predicts magnitude and phase of every frame, and the inverse
short-time Fourier transform does the rest. On a CPU that is an order of magnitude cheaper than stacks of transposed
convolutions, which is why nano uses it.

A head that predicts phases freely has to keep dozens of harmonics in step from frame to frame, from mels without phase:
low voices, which have most harmonics, turn hoarse. The harmonic source gives it phases to start from: those of a pulse
train at the pitch of the voice, as in neural source-filter vocoders (Wang et al. 2019, arXiv 1904.12088), and those of
noise. The head predicts magnitudes and how far its phases are from the source's.

b batch, f bands, s mel frames, n samples (256 s), d width, k bins of the transform (n_fft / 2 + 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chelys.audio.mel import MelRange
from chelys.audio.rates import OUTPUT_RATE
from chelys.errors import ConfigError

#: Hz of the lowest pitch, and how many lie in an octave (50 cents apart).
LOWEST, OCTAVE = 50.0, 24
#: Bands in which voice and noise are mixed, and the frequency (Hz) above which a fresh network takes noise.
BANDS, NOISY_FROM = 16, 5000.0
#: Pitches on either side of the likeliest whose mean is what is read.
_NEAR = 2


@dataclass(frozen=True)
class VocosConfig:
    bands: int = 100  # mel bands f
    dim: int = 256  # width d
    inner: int = 768  # width inside a block
    blocks: int = 8  # ConvNeXt blocks
    n_fft: int = 1024  # samples of the inverse transform's window
    hop: int = 256  # samples per mel frame
    pitches: int = 0  # pitches that the harmonic source tells apart, 50 cents each from 50 Hz up; 0 for no such source

    def __post_init__(self) -> None:
        if self.pitches < 0 or self.pitches == 1:
            raise ConfigError(f"vocos.pitches is {self.pitches}; it must be 0, for no harmonic source, or two and more")
        if not 0 < self.hop <= self.n_fft or self.n_fft % 2 or (self.n_fft - self.hop) % 2 or self.blocks < 1:
            raise ConfigError(
                f"vocos: n_fft is {self.n_fft}, hop {self.hop}, blocks {self.blocks}; n_fft and hop must be even,"
                " hop 1 to n_fft, blocks 1 or more"
            )

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


class HarmonicSource(nn.Module):
    """Reads the pitch of each frame, and how much of each band is voice; gives the phases of both.

    ``dim``: width d of what it reads; ``pitches``: pitches that are told apart, upwards of `LOWEST`; ``n_fft``: samples
    of a frame's window; ``hop``: samples from frame to frame.
    """

    def __init__(self, dim: int, pitches: int, n_fft: int, hop: int) -> None:
        super().__init__()
        self.pitches, self.n_fft, self.hop = pitches, n_fft, hop
        self.pitch = nn.Linear(dim, 1 + pitches)  # the first: there is none
        self.voice = nn.Linear(dim, BANDS)

    def start(self) -> None:
        """Bias a fresh network to voice below `NOISY_FROM` and noise above."""
        centres = (torch.arange(BANDS) + 0.5) * (OUTPUT_RATE / 2 / BANDS)
        with torch.no_grad():
            self.voice.bias.copy_(((NOISY_FROM - centres) / 500.0).clamp(-4.0, 4.0))

    def read(self, x: Tensor) -> Tensor:
        """Features ``(b, s, d)`` to the pitch of each frame ``(b, s)``, in Hz; 0 where there is no voice."""
        logits = self.pitch(x).float()
        voiced = logits[..., 1:].logsumexp(-1) > logits[..., 0]
        likeliest = logits[..., 1:].argmax(-1, keepdim=True)
        places = torch.arange(self.pitches, device=x.device)
        weights = logits[..., 1:].masked_fill((places - likeliest).abs() > _NEAR, -math.inf).softmax(-1)
        return torch.where(voiced, LOWEST * ((weights * places).sum(-1) / OCTAVE).exp2(), 0.0)

    def pitch_loss(self, x: Tensor, pitch: Tensor) -> Tensor:
        """Cross-entropy of the true pitch ``(b, s)`` in Hz, 0 for none, read from ``(b, s, d)``; a pitch between two of
        those that are told apart counts as either, by its distance."""
        place = ((pitch.clamp(min=LOWEST) / LOWEST).log2() * OCTAVE).clamp(max=self.pitches - 1)
        below = place.floor().long().clamp(max=self.pitches - 2)
        share = (place - below)[..., None]
        target = F.one_hot(below, self.pitches) * (1 - share) + F.one_hot(below + 1, self.pitches) * share
        none = (pitch == 0)[..., None]
        target = torch.cat((none.float(), target * ~none), dim=-1)
        return F.cross_entropy(self.pitch(x).float().flatten(0, 1), target.flatten(0, 1))

    def forward(self, x: Tensor, noise: Tensor, pitch: Tensor | None = None) -> Tensor:
        """Phases of the source.

        ``x``: features ``(b, s, d)``. ``noise``: white noise ``(b, hop * s)``. ``pitch``: in Hz ``(b, s)``, 0 where
        there is no voice; read from the features where not given. Returns ``(b, k, s)`` complex: one on the unit circle
        for voice or noise alone, a mean where they mix.
        """
        pitch = self.read(x) if pitch is None else pitch
        voice = F.interpolate(self.voice(x).float(), self.n_fft // 2 + 1, mode="linear").sigmoid()
        voice = (voice * (pitch > 0)[..., None]).transpose(1, 2)
        edge = (self.n_fft - self.hop) // 2
        tones = self._phases(pulses(pitch, self.hop, edge))
        return voice * tones + (1 - voice) * self._phases(F.pad(noise, (edge, edge)))

    def _phases(self, waveform: Tensor) -> Tensor:
        """Waveform ``(b, hop * s)`` and the edges of its outer frames to ``(b, k, s)`` on the unit circle."""
        frames = waveform.unfold(1, self.n_fft, self.hop) * torch.hann_window(self.n_fft, device=waveform.device)
        spectrum = torch.fft.rfft(frames).transpose(1, 2)
        return spectrum / spectrum.abs().clamp(min=1e-6)


class FourierHead(nn.Module):
    """Features of each frame to magnitude and phase, and those to a waveform."""

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
        """Frames ``(b, n_fft, s)``, each centred on its own hop, to a waveform ``(b, hop * s)``."""
        b, _, s = frames.shape
        length = (s - 1) * self.hop + self.n_fft

        def add(pieces: Tensor) -> Tensor:
            return F.fold(pieces, (1, length), (1, self.n_fft), stride=(1, self.hop)).flatten(1)

        envelope = add(self.window.square()[None, :, None].expand(1, -1, s))
        waveform = add(frames) / envelope.clamp(min=1e-8)
        edge = (self.n_fft - self.hop) // 2
        return waveform[:, edge : length - edge]


class Vocos(nn.Module):
    """Log-mel in, waveform out."""

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

        ``mel``: log-mel ``(b, f, s)``, not normalised; ``noise``: white noise ``(b, noise_dim, s)``, which a harmonic
        source needs. Returns waveform ``(b, 256 s)``, around [-1, 1].
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
        """Features ``(b, s, d)`` to a waveform ``(b, 256 s)``, at a pitch ``(b, s)`` in Hz or the one they hold."""
        if self.source is None:
            return self.head(x)
        if noise is None:
            raise ValueError("a vocoder with a harmonic source takes noise")
        return self.head(x, self.source(x, noise.transpose(1, 2).flatten(1), pitch))

    @torch.inference_mode()
    def vocode(self, mel: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Speak a log-mel ``(b, f, s)``: waveform ``(b, 256 s)`` within [-1, 1].

        ``mel``: not normalised. ``generator``: of the source's noise, drawn on the generator's own device; none is
        needed without a source.
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


def pulses(pitch: Tensor, hop: int, edge: int = 0) -> Tensor:
    """A pulse train: all harmonics below the highest frequency, as loud as each other and in step.

    ``pitch``: ``(b, s)`` in Hz at each ``hop`` samples; 0 where there is no voice, which keeps the pitch it had.
    ``hop``: samples from one to the next. ``edge``: samples to make before and after. Returns
    ``(b, 2 edge + hop * s)``, float32.
    """
    held = hold(pitch)
    s = pitch.shape[1]
    place = (torch.arange(-edge, hop * s + edge, device=pitch.device) / hop).clamp(0, s - 1)
    below = place.floor().long()
    f0_hz = held[:, below].lerp(held[:, (below + 1).clamp(max=s - 1)], (place - below).expand(len(held), -1))
    turn = half_phase(f0_hz)
    count = (OUTPUT_RATE / 2 / f0_hz).ceil() - 1
    divisor = turn.sin()
    peak = divisor.abs() < 1e-6
    # the sum of cos(2 turn j) for j = 1 to count, in closed form (Dirichlet's kernel)
    kernel = ((2 * count + 1) * turn).sin() / divisor.masked_fill(peak, 1.0)
    return (torch.where(peak, 2 * count + 1, kernel) / 2 - 0.5).float()


def half_phase(f0_hz: Tensor) -> Tensor:
    """Half the phase at each sample ``(b, n)``, float64: in float32 the sum over a long clip would drift.

    MPS has no float64. There the sum is made on the CPU, and given back in float32 within one turn.
    """
    if f0_hz.device.type != "mps":
        return math.pi * (f0_hz.double() / OUTPUT_RATE).cumsum(1)
    turn = math.pi * (f0_hz.cpu().double() / OUTPUT_RATE).cumsum(1)
    return turn.remainder(2 * math.pi).float().to(f0_hz.device)


def hold(pitch: Tensor) -> Tensor:
    """Pitches ``(b, s)`` with each gap, a run of zeros, filled by the last before it, or else the first of the row."""
    frames = torch.arange(pitch.shape[1], device=pitch.device)
    last = torch.where(pitch > 0, frames, -1).cummax(1).values
    first = (pitch > 0).int().argmax(1, keepdim=True)
    held = pitch.gather(1, torch.where(last < 0, first, last))
    return torch.where(held > 0, held, LOWEST)  # a row without any voice
