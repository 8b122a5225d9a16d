"""Losses, as functions of tensors: each a mean, over as many elements as ``Task.element_counts`` says.

b rows, d width, n samples, t targets.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from chelys.audio.mel import log_mel
from chelys.audio.rates import MelSpec

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


# ---- distributions --------------------------------------------------------------------------------------------------


def mean_loss(fake: Tensor, real: Tensor) -> Tensor:
    """Squared distance of the means of two sets of vectors ``(b, d)``, mean over the d numbers."""
    return (fake.float().mean(0) - real.float().mean(0)).square().mean()


def variance_loss(fake: Tensor, real: Tensor) -> Tensor:
    """Squared distance of the variances of each number in two sets of vectors ``(b, d)``."""
    return (fake.float().var(0) - real.float().var(0)).square().mean()


def mmd(fake: Tensor, real: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of two sets of vectors ``(b, d)``: 0 where they are of one distribution.

    The kernel is a sum of five rational quadratics around the real set's own mean distance; the estimate is the
    unbiased one and can fall below 0.

    Source: Gretton et al. 2012, A kernel two-sample test, lemma 6; Bińkowski et al. 2018 for the kernel.
    """
    fake, real = fake.float(), real.float()
    apart = torch.cdist(real.detach(), real.detach()).square()
    scale = apart.sum() / (len(real) * (len(real) - 1))

    def alike(a: Tensor, b: Tensor) -> Tensor:
        squares = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
        ratio = squares.clamp(min=0) / scale
        return torch.stack([(1 + ratio / (2 * width)) ** -width for width in (0.2, 0.5, 1.0, 2.0, 5.0)]).mean(0)

    def within(a: Tensor) -> Tensor:
        kernel = alike(a, a)
        return (kernel.sum() - kernel.diagonal().sum()) / (len(a) * (len(a) - 1))

    return within(fake) + within(real) - 2 * alike(fake, real).mean()


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean()
