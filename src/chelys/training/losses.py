"""Losses, as functions of tensors: each a mean, over as many elements as ``Task.element_counts`` says; discriminators.

Discriminators of spectrograms hear timbre and noise (UnivNet, Jang et al. 2021); those of waveforms folded by a period
the phase, which magnitudes do not show, and those of waveforms at several rates several time scales (HiFi-GAN, Kong et
al. 2020). Each kind comes in the sizes of its paper, and with fewer channels for networks trained on a CPU, such as
nano's vocoder.

b rows, d width, n samples, t targets, k frequency bins, s frames, p samples of a period.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from chelys.audio.mel import log_mel
from chelys.audio.rates import MelSpec
from chelys.models.diffusion_schedule import DiffusionSchedule, Gaussian, q_posterior

IGNORED = -100
#: Logits of patches, and the feature maps on the way to them.
DiscriminatorOutput = tuple[Tensor, list[Tensor]]
#: Mel specs of `multi_resolution_mel_loss`: short windows place attacks, long ones resolve harmonics.
MEL_RESOLUTIONS = tuple(
    MelSpec(sample_rate=24_000, bands=bands, f_max=12_000.0, n_fft=n, hop=n // 4)
    for n, bands in ((256, 32), (512, 64), (1024, 100), (2048, 128))
)
#: (n_fft, hop, window) of `multi_resolution_stft_loss`, as UnivNet has them (Jang et al. 2021).
STFT_RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))

#: Width of the bins for the likelihood at the cleanest step: 256 of them from -1 to 1, as for images.
BIN = 2 / 255


# ---- sequences ------------------------------------------------------------------------------------------------------


def cross_entropy(logits: Tensor, ids: Tensor, lengths: Tensor, stop: int) -> Tensor:
    """Mean over the ids of each row and its one stop; what lies beyond is no part of it.

    ``logits``: ``(b, t + 1, ids)``: column j predicts id j. ``ids``: ``(b, t)``. ``lengths``: ``(b,)``. ``stop``: id
    that ends a row.
    """
    targets = F.pad(ids, (0, 1))
    at = torch.arange(targets.shape[1], device=ids.device)
    targets = targets.masked_fill(at == lengths[:, None], stop).masked_fill(at > lengths[:, None], IGNORED)
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED)


# ---- pairs ----------------------------------------------------------------------------------------------------------


def info_nce(scores: Tensor, *, row_negatives: Tensor | None = None, column_negatives: Tensor | None = None) -> Tensor:
    """InfoNCE of rows and of columns of ``(b, b)`` scores, mean of the two; the diagonal holds the positive pairs.

    Source: Radford et al. 2021, CLIP, figure 3.

    ``scores``: ``(b, b)``, divided by the temperature; ``row_negatives``: scores ``(b, n)`` of further negatives of
    each row alone; ``column_negatives``: the same of the columns.
    """
    target = torch.arange(len(scores), device=scores.device)
    rows = scores if row_negatives is None else torch.cat([scores, row_negatives], 1)
    columns = scores.T if column_negatives is None else torch.cat([scores.T, column_negatives], 1)
    return 0.5 * (F.cross_entropy(rows.float(), target) + F.cross_entropy(columns.float(), target))


def accuracy(scores: Tensor) -> Tensor:
    """Share of columns of ``(b, b)`` scores whose largest entry is the right one."""
    return (scores.argmax(0) == torch.arange(len(scores), device=scores.device)).float().mean()


# ---- waveforms ------------------------------------------------------------------------------------------------------


def multi_resolution_mel_loss(fake: Tensor, real: Tensor, spectra: Sequence[MelSpec] = MEL_RESOLUTIONS) -> Tensor:
    """Mean absolute difference of log-mels over several window lengths; waveforms ``(b, n)``."""
    fake = fake.float()
    return _mean([(log_mel(fake, spec) - log_mel(real, spec)).abs().mean() for spec in spectra])


def multi_resolution_stft_loss(fake: Tensor, real: Tensor) -> Tensor:
    """Spectral convergence and difference of log-magnitudes, mean over three resolutions; waveforms ``(b, n)``.

    Each row converges by itself: the original divides by the norm of the whole batch, so that loud clips count for
    more, and a batch over two processes would have another loss than over one.

    Source: Yamamoto et al. 2020, Parallel WaveGAN, section 2.2; weighted as in Jang et al. 2021, UnivNet.
    """
    losses = []
    for n_fft, hop, length in STFT_RESOLUTIONS:
        a, b = (_magnitudes(waveform.float(), n_fft, hop, length) for waveform in (fake, real))
        convergence = torch.linalg.matrix_norm(b - a) / torch.linalg.matrix_norm(b)
        losses.append(convergence.mean() + (a.log() - b.log()).abs().mean())
    return _mean(losses)


def _magnitudes(waveform: Tensor, n_fft: int, hop: int, length: int) -> Tensor:
    window = torch.hann_window(length, device=waveform.device)
    spectrum = torch.stft(waveform, n_fft, hop, length, window, return_complex=True)
    return (spectrum.real.square() + spectrum.imag.square()).clamp(min=1e-7).sqrt()


# ---- adversarial ----------------------------------------------------------------------------------------------------


def generator_loss(fake: Sequence[DiscriminatorOutput]) -> Tensor:
    """Least squares of the discriminators' logits on generated waveforms from 1, mean over discriminators.

    Source: Mao et al. 2017, Least Squares GAN, equation 9.
    """
    return _mean([(logits.float() - 1).square().mean() for logits, _ in fake])


def discriminator_loss(fake: Sequence[DiscriminatorOutput], real: Sequence[DiscriminatorOutput]) -> Tensor:
    """Least squares of the discriminators' logits from 1 on real waveforms and from 0 on generated ones."""
    return _mean(
        [(r.float() - 1).square().mean() + f.float().square().mean() for (f, _), (r, _) in zip(fake, real, strict=True)]
    )


def feature_matching_loss(fake: Sequence[DiscriminatorOutput], real: Sequence[DiscriminatorOutput]) -> Tensor:
    """Mean absolute difference of the discriminators' feature maps (Larsen et al. 2016)."""
    return _mean(
        [
            (a.float() - b.float()).abs().mean()
            for (_, f), (_, r) in zip(fake, real, strict=True)
            for a, b in zip(f, r, strict=True)
        ]
    )


# ---- diffusion ------------------------------------------------------------------------------------------------------


def normal_kl(a: Gaussian, b: Gaussian) -> Tensor:
    """KL divergence of a from b, elementwise: nats ``(b, f, s)``."""
    apart = (a.mean - b.mean).square() * (-b.log_variance).exp()
    return 0.5 * (b.log_variance - a.log_variance + (a.log_variance - b.log_variance).exp() - 1 + apart)


def discretized_nll(x0: Tensor, predicted: Gaussian) -> Tensor:
    """Negative log-likelihood of the bins that clean mels fall into: nats ``(b, f, s)`` (Ho et al. 2020, section 3.3).

    Below -0.999 and above 0.999 the bins are open.
    """
    steepness = (-0.5 * predicted.log_variance).exp()
    above = torch.special.ndtr((x0 + BIN / 2 - predicted.mean) * steepness)
    below = torch.special.ndtr((x0 - BIN / 2 - predicted.mean) * steepness)
    above = torch.where(x0 > 0.999, torch.ones_like(above), above)
    below = torch.where(x0 < -0.999, torch.zeros_like(below), below)
    return -(above - below).clamp(min=1e-12).log()


def variational_bound(schedule: DiffusionSchedule, index: Tensor, x0: Tensor, x: Tensor, predicted: Gaussian) -> Tensor:
    """The term of the variational bound at one step of each row (Nichol & Dhariwal 2021, equations 4 to 7).

    ``schedule``: all trained steps; ``index``: ``(b,)``; ``x0``: clean mel; ``x``: noisy mel of the step;
    ``predicted``: the network's distribution of the next cleaner mel. Returns bits ``(b, f, s)``: the NLL of x0 at the
    cleanest step, at any other the KL divergence of the true posterior from ``predicted``.
    """
    kl = normal_kl(q_posterior(schedule, index, x, x0), predicted)
    return torch.where((index == 0).view(-1, 1, 1), discretized_nll(x0, predicted), kl) / math.log(2.0)


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean()


# ---- discriminators -------------------------------------------------------------------------------------------------

#: (n_fft, hop) of each small discriminator's spectrogram.
RESOLUTIONS = ((1024, 256), (2048, 512), (512, 128))
#: Samples of each period: primes, so that no two see the same samples (Kong et al. 2020).
PERIODS = (2, 3, 5, 7, 11)
#: Discriminators of nano, or of one of the two papers.
DiscriminatorKind = Literal["compact", "univnet", "hifigan"]


class Discriminator(nn.Module):
    """Convolutions: waveforms ``(b, n)`` to logits of patches or stretches, and the feature maps on the way to them."""

    convs: nn.ModuleList
    out: nn.Module
    slope = 0.1  # of the leaky ReLU

    def run(self, x: Tensor) -> DiscriminatorOutput:
        features = []
        for convolution in self.convs:
            x = F.leaky_relu(convolution(x), self.slope)
            features.append(x)
        return self.out(x), features


def _conv2d(inputs: int, outputs: int, kernel: tuple[int, int], stride: tuple[int, int] = (1, 1)) -> nn.Module:
    padding = (kernel[0] // 2, kernel[1] // 2)
    return weight_norm(nn.Conv2d(inputs, outputs, kernel, stride, padding=padding))


def _full_precision(waveform: Tensor) -> torch.autocast:
    """Spectrograms are computed in float32, whatever the networks compute in."""
    return torch.autocast("cpu" if waveform.is_meta else waveform.device.type, enabled=False)


class SpectrogramDiscriminator(Discriminator):
    """Patches of a magnitude spectrogram, strided along frequency."""

    window: Tensor

    def __init__(self, n_fft: int, hop: int, channels: int) -> None:
        super().__init__()
        self.n_fft, self.hop, c = n_fft, hop, channels
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        shapes = [(1, c, (9, 3), (4, 2)), (c, c, (9, 3), (2, 2)), (c, c, (9, 3), (2, 2)), (c, c, (3, 3), (2, 1))]
        self.convs = nn.ModuleList(_conv2d(*shape) for shape in shapes)
        self.out = _conv2d(c, 1, (3, 3))

    def forward(self, waveform: Tensor) -> DiscriminatorOutput:
        with _full_precision(waveform):
            spectrum = torch.stft(waveform.float(), self.n_fft, self.hop, window=self.window, return_complex=True)
            x = torch.log(spectrum.abs().clamp(min=1e-4)).unsqueeze(1) / 3 + 1  # (b, 1, k, s), of about unit size
        return self.run(x)


class FineSpectrogramDiscriminator(Discriminator):
    """Every frequency of a magnitude spectrogram, strided along time (Jang et al. 2021, section 2.2)."""

    window: Tensor
    slope = 0.2

    def __init__(self, n_fft: int, hop: int, length: int, channels: int) -> None:
        super().__init__()
        self.n_fft, self.hop, self.length, c = n_fft, hop, length, channels
        self.register_buffer("window", torch.hann_window(length), persistent=False)
        shapes = [(1, c, (3, 9), (1, 1)), *[(c, c, (3, 9), (1, 2))] * 3, (c, c, (3, 3), (1, 1))]
        self.convs = nn.ModuleList(_conv2d(*shape) for shape in shapes)
        self.out = _conv2d(c, 1, (3, 3))

    def forward(self, waveform: Tensor) -> DiscriminatorOutput:
        with _full_precision(waveform):
            edge = (self.n_fft - self.hop) // 2
            padded = F.pad(waveform.float().unsqueeze(1), (edge, edge), mode="reflect").squeeze(1)
            spectrum = torch.stft(
                padded, self.n_fft, self.hop, self.length, self.window, center=False, return_complex=True
            )
            x = (spectrum.real.square() + spectrum.imag.square() + 1e-9).sqrt().unsqueeze(1)  # (b, 1, k, s)
        return self.run(x)


class PeriodDiscriminator(Discriminator):
    """The waveform folded by a period of p samples, one phase to a row.

    The paper has one phase to a column. Rows are the same, and twice as fast on a CPU: kernels run along memory.
    ``widths`` are the channels after each convolution.
    """

    def __init__(self, period: int, widths: Sequence[int], slope: float) -> None:
        super().__init__()
        self.period, self.slope = period, slope
        shapes = zip((1, *widths), widths, (3, 3, 3, 3, 1), strict=False)
        self.convs = nn.ModuleList(_conv2d(i, o, (1, 5), (1, stride)) for i, o, stride in shapes)
        self.out = _conv2d(widths[-1], 1, (1, 3))

    def forward(self, waveform: Tensor) -> DiscriminatorOutput:
        b, n = waveform.shape
        padded = F.pad(waveform.unsqueeze(1), (0, -n % self.period), mode="reflect")
        return self.run(padded.view(b, 1, -1, self.period).transpose(2, 3).contiguous())  # (b, 1, p, n / p)


class ScaleDiscriminator(Discriminator):
    """The waveform at its own rate, or halved once or twice (Kumar et al. 2019, MelGAN, section 2.2).

    ``channels`` come after the first convolution, eight times as many at the end. At the full rate the kernels have
    spectral norm.
    """

    def __init__(self, channels: int, halvings: int) -> None:
        super().__init__()
        self.halvings, c = halvings, channels
        norm = weight_norm if halvings else spectral_norm
        shapes = [  # in, out, taps, stride, groups
            (1, c, 15, 1, 1), (c, c, 41, 2, 4), (c, 2 * c, 41, 2, 16), (2 * c, 4 * c, 41, 4, 16),
            (4 * c, 8 * c, 41, 4, 16), (8 * c, 8 * c, 41, 1, 16), (8 * c, 8 * c, 5, 1, 1),
        ]  # fmt: skip
        self.convs = nn.ModuleList(
            norm(nn.Conv1d(i, o, taps, stride, padding=taps // 2, groups=groups))
            for i, o, taps, stride, groups in shapes
        )
        self.out = norm(nn.Conv1d(8 * c, 1, 3, padding=1))

    def forward(self, waveform: Tensor) -> DiscriminatorOutput:
        x = waveform.unsqueeze(1)
        for _ in range(self.halvings):
            x = F.avg_pool1d(x, 4, 2, padding=2)
        return self.run(x)


class Discriminators(nn.Module):
    """All discriminators of one kind: of spectrograms, of periods, of scales, whichever it has.

    ``divisor`` divides the channels: a power of 2 up to 8, for networks smaller than published.
    """

    def __init__(self, kind: DiscriminatorKind = "compact", divisor: int = 1) -> None:
        super().__init__()
        spectra: list[nn.Module] = []
        scales: list[nn.Module] = []
        slope = 0.1
        if kind == "compact":
            spectra = [SpectrogramDiscriminator(n_fft, hop, 16 // divisor) for n_fft, hop in RESOLUTIONS]
            periods: Sequence[int] = (8, 16, 32, 32)
        elif kind == "univnet":
            spectra = [FineSpectrogramDiscriminator(*sizes, 32 // divisor) for sizes in STFT_RESOLUTIONS]
            periods, slope = (64, 128, 256, 512, 1024), 0.2
        else:
            scales = [ScaleDiscriminator(128 // divisor, halvings) for halvings in range(3)]
            periods = (32, 128, 512, 1024, 1024)
        widths = [width // divisor for width in periods]
        self.spectra = nn.ModuleList(spectra)
        self.periods = nn.ModuleList(PeriodDiscriminator(p, widths, slope) for p in PERIODS)
        self.scales = nn.ModuleList(scales)

    def forward(self, waveform: Tensor) -> list[DiscriminatorOutput]:
        """Logits and feature maps of each, of waveforms ``(b, n)``."""
        return [discriminator(waveform) for discriminator in (*self.spectra, *self.periods, *self.scales)]
