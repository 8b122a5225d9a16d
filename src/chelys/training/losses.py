"""What training minimises, as functions of numbers: each a mean, of how many the stage says (``Stage.counts``).

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
#: What a discriminator says: scores of patches, and the features on the way to them.
Judgement = tuple[Tensor, list[Tensor]]

#: Mel front ends of `mel_distance`: short windows place attacks, long ones resolve harmonics.
MEL_SPECTRA = tuple(
    MelSpec(sample_rate=24_000, bands=bands, f_max=12_000.0, n_fft=n, hop=n // 4)
    for n, bands in ((256, 32), (512, 64), (1024, 100), (2048, 128))
)
#: (n_fft, hop, window) of `stft_distance`, as UnivNet has them (Jang et al. 2021).
STFT_RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))


# ---- sequences ------------------------------------------------------------------------------------------------------


def cross_entropy(logits: Tensor, ids: Tensor, lengths: Tensor, stop: int) -> Tensor:
    """Mean over the ids of each row and its one stop; what lies beyond is no part of it.

    Args:
        logits: ``(b, t + 1, ids)``: column j foretells id j.
        ids: ``(b, t)``.
        lengths: ``(b,)``.
        stop: Id that ends a row.
    """
    targets = F.pad(ids, (0, 1))
    at = torch.arange(targets.shape[1], device=ids.device)
    targets = targets.masked_fill(at == lengths[:, None], stop).masked_fill(at > lengths[:, None], IGNORED)
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED)


# ---- pairs ----------------------------------------------------------------------------------------------------------


def contrast(scores: Tensor, *, by_rows: Tensor | None = None, by_columns: Tensor | None = None) -> Tensor:
    """Mean of the cross-entropies of rows and of columns of ``(b, b)`` scores; the diagonal is right.

    Source: Radford et al. 2021, CLIP, figure 3.

    Args:
        scores: ``(b, b)``.
        by_rows: Scores ``(b, n)`` of what is wrong for one row alone, which that row is compared with besides.
        by_columns: The same of the columns.
    """
    target = torch.arange(len(scores), device=scores.device)
    rows = scores if by_rows is None else torch.cat([scores, by_rows], 1)
    columns = scores.T if by_columns is None else torch.cat([scores.T, by_columns], 1)
    return 0.5 * (F.cross_entropy(rows.float(), target) + F.cross_entropy(columns.float(), target))


def accuracy(scores: Tensor) -> Tensor:
    """Share of columns of ``(b, b)`` scores whose largest entry is the right one."""
    return (scores.argmax(0) == torch.arange(len(scores), device=scores.device)).float().mean()


# ---- waves ----------------------------------------------------------------------------------------------------------


def mel_distance(made: Tensor, real: Tensor, spectra: Sequence[MelSpec] = MEL_SPECTRA) -> Tensor:
    """Mean absolute distance of log-mels over several window lengths; waves ``(b, n)``."""
    made = made.float()
    return _mean([(log_mel(made, spec) - log_mel(real, spec)).abs().mean() for spec in spectra])


def stft_distance(made: Tensor, real: Tensor) -> Tensor:
    """Spectral convergence and distance of log-magnitudes, mean over three resolutions; waves ``(b, n)``.

    Each row converges by itself: the original divides by the norm of the whole batch, so that loud clips count for
    more, and a batch on two machines for something else than on one.

    Source: Yamamoto et al. 2020, Parallel WaveGAN, section 2.2; weighed as in Jang et al. 2021, UnivNet.
    """
    distances = []
    for n_fft, hop, length in STFT_RESOLUTIONS:
        a, b = (_magnitudes(wave.float(), n_fft, hop, length) for wave in (made, real))
        convergence = torch.linalg.matrix_norm(b - a) / torch.linalg.matrix_norm(b)
        distances.append(convergence.mean() + (a.log() - b.log()).abs().mean())
    return _mean(distances)


def _magnitudes(wave: Tensor, n_fft: int, hop: int, length: int) -> Tensor:
    window = torch.hann_window(length, device=wave.device)
    spectrum = torch.stft(wave, n_fft, hop, length, window, return_complex=True)
    return (spectrum.real.square() + spectrum.imag.square()).clamp(min=1e-7).sqrt()


# ---- players --------------------------------------------------------------------------------------------------------


def deception(made: Sequence[Judgement]) -> Tensor:
    """How far made waves are from passing for real ones: least squares from 1, mean over discriminators.

    Source: Mao et al. 2017, Least Squares GAN, equation 9.
    """
    return _mean([(scores.float() - 1).square().mean() for scores, _ in made])


def discrimination(made: Sequence[Judgement], real: Sequence[Judgement]) -> Tensor:
    """How far the discriminators are from saying 1 of real waves and 0 of made ones."""
    return _mean(
        [(r.float() - 1).square().mean() + m.float().square().mean() for (m, _), (r, _) in zip(made, real, strict=True)]
    )


def feature_distance(made: Sequence[Judgement], real: Sequence[Judgement]) -> Tensor:
    """Mean absolute distance of the discriminators' features (Larsen et al. 2016)."""
    return _mean(
        [
            (a.float() - b.float()).abs().mean()
            for (_, m), (_, r) in zip(made, real, strict=True)
            for a, b in zip(m, r, strict=True)
        ]
    )


# ---- distributions --------------------------------------------------------------------------------------------------


def mean_distance(made: Tensor, real: Tensor) -> Tensor:
    """Squared distance of the means of two sets of vectors ``(b, d)``, mean over the d numbers."""
    return (made.float().mean(0) - real.float().mean(0)).square().mean()


def variance_distance(made: Tensor, real: Tensor) -> Tensor:
    """Squared distance of the variances of each number in two sets of vectors ``(b, d)``."""
    return (made.float().var(0) - real.float().var(0)).square().mean()


def kernel_distance(made: Tensor, real: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of two sets of vectors ``(b, d)``: 0 where they are of one distribution.

    The kernel is a sum of five rational quadratics around the real set's own mean distance; the estimate is the
    unbiased one and can fall below 0.

    Source: Gretton et al. 2012, A kernel two-sample test, lemma 6; Bińkowski et al. 2018 for the kernel.
    """
    made, real = made.float(), real.float()
    apart = torch.cdist(real.detach(), real.detach()).square()
    scale = apart.sum() / (len(real) * (len(real) - 1))

    def alike(a: Tensor, b: Tensor) -> Tensor:
        squares = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
        ratio = squares.clamp(min=0) / scale
        return torch.stack([(1 + ratio / (2 * width)) ** -width for width in (0.2, 0.5, 1.0, 2.0, 5.0)]).mean(0)

    def within(a: Tensor) -> Tensor:
        kernel = alike(a, a)
        return (kernel.sum() - kernel.diagonal().sum()) / (len(a) * (len(a) - 1))

    return within(made) + within(real) - 2 * alike(made, real).mean()


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean()
