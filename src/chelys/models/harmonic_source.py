"""Phases for a Fourier-head vocoder: those of a pulse train at the pitch of the voice, and of noise.

A head that writes phases freely has to keep dozens of harmonics in step from frame to frame, from mels that tell
nothing of phase: low voices, which have most harmonics, turn hoarse. Sources of known phase are what the vocoders of
Wang et al. 2019 (neural source-filter, arXiv 1904.12088) start from; here only the phases of the source are taken, for
every bin of every frame, and the head writes magnitudes and how far its phases are from the source's.

b batch, s mel frames, k bins of the transform (n_fft / 2 + 1), d width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chelys.audio.rates import OUTPUT_RATE

#: Hz of the lowest pitch, and how many lie in an octave (50 cents apart).
LOWEST, OCTAVE = 50.0, 24
#: Bands in which voice and noise are mixed, and the frequency (Hz) above which a fresh network takes noise.
BANDS, NOISY_FROM = 16, 5000.0
#: Pitches on either side of the likeliest whose mean is what is read.
_NEAR = 2


class HarmonicSource(nn.Module):
    """Reads the pitch of each frame, and how much of each band is voice; gives the phases of both.

    Args:
        dim: Width d of what it reads.
        pitches: Pitches that are told apart, upwards of `LOWEST`.
        n_fft: Samples of a frame's window.
        hop: Samples from frame to frame.
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

        Args:
            x: Features ``(b, s, d)``.
            noise: White noise ``(b, hop * s)``.
            pitch: In Hz ``(b, s)``, 0 where there is no voice; read from the features where not given.

        Returns:
            ``(b, k, s)`` complex: one on the unit circle for voice or noise alone, a mean where they mix.
        """
        pitch = self.read(x) if pitch is None else pitch
        voice = F.interpolate(self.voice(x).float(), self.n_fft // 2 + 1, mode="linear").sigmoid()
        voice = (voice * (pitch > 0)[..., None]).transpose(1, 2)
        edge = (self.n_fft - self.hop) // 2
        tones = self._phases(pulses(pitch, self.hop, edge))
        return voice * tones + (1 - voice) * self._phases(F.pad(noise, (edge, edge)))

    def _phases(self, wave: Tensor) -> Tensor:
        """Wave ``(b, hop * s)`` and the edges of its outer frames to ``(b, k, s)`` on the unit circle."""
        frames = wave.unfold(1, self.n_fft, self.hop) * torch.hann_window(self.n_fft, device=wave.device)
        spectrum = torch.fft.rfft(frames).transpose(1, 2)
        return spectrum / spectrum.abs().clamp(min=1e-6)


def pulses(pitch: Tensor, hop: int, edge: int = 0) -> Tensor:
    """A pulse train: all harmonics below the highest frequency, as loud as each other and in step.

    Args:
        pitch: ``(b, s)`` in Hz at each ``hop`` samples; 0 where there is no voice, which keeps the pitch it had.
        hop: Samples from one to the next.
        edge: Samples to make before and after.

    Returns:
        ``(b, 2 edge + hop * s)``, float32.
    """
    held = hold(pitch)
    s = pitch.shape[1]
    place = (torch.arange(-edge, hop * s + edge, device=pitch.device) / hop).clamp(0, s - 1)
    below = place.floor().long()
    hertz = held[:, below].lerp(held[:, (below + 1).clamp(max=s - 1)], (place - below).expand(len(held), -1))
    turn = math.pi * (hertz.double() / OUTPUT_RATE).cumsum(1)  # half the phase; in float32 long clips would drift
    count = (OUTPUT_RATE / 2 / hertz).ceil() - 1
    divisor = turn.sin()
    peak = divisor.abs() < 1e-6
    # the sum of cos(2 turn j) for j = 1 to count, in closed form (Dirichlet's kernel)
    kernel = ((2 * count + 1) * turn).sin() / divisor.masked_fill(peak, 1.0)
    return (torch.where(peak, 2 * count + 1, kernel) / 2 - 0.5).float()


def hold(pitch: Tensor) -> Tensor:
    """Pitches ``(b, s)`` with each gap, a run of zeros, filled by the last before it, or else the first of the row."""
    frames = torch.arange(pitch.shape[1], device=pitch.device)
    last = torch.where(pitch > 0, frames, -1).cummax(1).values
    first = (pitch > 0).int().argmax(1, keepdim=True)
    held = pitch.gather(1, torch.where(last < 0, first, last))
    return torch.where(held > 0, held, LOWEST)  # a row without any voice
