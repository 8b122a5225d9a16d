"""VQ-VAE: the audio alphabet. Mel frames to codes and back (Betker 2023, section 3; van den Oord et al. 2017).

Two strided convolutions fold four mel frames into one position, residual blocks refine it, and the nearest vector of a
codebook stands for it. The codebook follows the encoder by exponential moving averages, not by gradients.

Against the published one, nano asks for a narrow codebook (Yu et al. 2021, arXiv 2110.04627: few dimensions keep more
codes in use), starts it by k-means and revives codes that have died; the published network had neither.

Options for corpora of many speakers: ``clip_mean`` takes the mean spectrum of a clip out before encoding and gives it
to the decoder, so that codes need not tell rooms and throats apart; ``text_tokens`` adds a CTC head that reads the text
from the code vectors in training, so that codes keep the words.

b batch, f bands, s mel frames, m codes (s / 4), w width of a code vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chelys.models import DVAEConfig


class ResidualBlock(nn.Module):
    """Two 3-wide convolutions and a 1-wide one around a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv1d(channels, channels, 3, padding=1)
        self.conv3 = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(b, c, t) -> (b, c, t)``."""
        return x + self.conv3(F.relu(self.conv2(F.relu(self.conv1(x)))))


class MelEncoder(nn.Module):
    """Mel ``(b, f, s)`` to vectors ``(b, w, s/4)``."""

    def __init__(self, config: DVAEConfig) -> None:
        super().__init__()
        widths = [config.bands, *(config.hidden * 2**i for i in range(config.strides))]
        self.down = nn.ModuleList(
            nn.Conv1d(a, b, 3, stride=2, padding=1) for a, b in zip(widths, widths[1:], strict=False)
        )
        self.blocks = nn.ModuleList(ResidualBlock(widths[-1]) for _ in range(config.residual_blocks))
        self.out = nn.Conv1d(widths[-1], config.code_width, 1)

    def forward(self, mel: Tensor) -> Tensor:
        x = mel
        for conv in self.down:
            x = F.relu(conv(x))
        for block in self.blocks:
            x = block(x)
        return self.out(x)


class Decoder(nn.Module):
    """Vectors ``(b, w, m)`` to mel ``(b, f, 4m)``."""

    def __init__(self, config: DVAEConfig) -> None:
        super().__init__()
        widths = [config.hidden * 2 ** max(i - 1, 0) for i in range(config.strides, -1, -1)]
        if config.late_narrowing:
            widths = [widths[0], *widths[:-1]]
        self.inp = nn.Conv1d(config.code_width, widths[0], 1)
        self.mean_in = nn.Linear(config.bands, widths[0]) if config.clip_mean else None
        self.blocks = nn.ModuleList(ResidualBlock(widths[0]) for _ in range(config.residual_blocks))
        self.up = nn.ModuleList(nn.Conv1d(a, b, 3, padding=1) for a, b in zip(widths, widths[1:], strict=False))
        self.out = nn.Conv1d(widths[-1], config.bands, 1)

    def forward(self, vectors: Tensor, mean: Tensor | None = None) -> Tensor:
        x = self.inp(vectors)
        if self.mean_in is not None:
            assert mean is not None, "the config has clip_mean: give the mean spectrum (b, f)"
            x = x + self.mean_in(mean)[:, :, None]
        for block in self.blocks:
            x = block(x)
        for conv in self.up:
            x = F.relu(conv(F.interpolate(x, scale_factor=2.0, mode="nearest")))
        out: Tensor = self.out(x)
        return out if self.mean_in is None else out + mean[:, :, None]  # type: ignore[index]


class Codebook(nn.Module):
    """Code vectors ``(tokens, w)`` and the moving averages behind them."""

    vectors: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, tokens: int, width: int, decay: float) -> None:
        super().__init__()
        self.decay = decay
        vectors = torch.randn(tokens, width)
        self.register_buffer("vectors", vectors)
        self.register_buffer("counts", torch.zeros(tokens))
        self.register_buffer("sums", vectors.clone())

    def nearest(self, x: Tensor) -> Tensor:
        """Index of the nearest code vector: ``(..., w) -> (...)``; in float32 always, for ties are decided here."""
        flat = x.float().reshape(-1, x.shape[-1])
        vectors = self.vectors.float()
        distance = vectors.pow(2).sum(1) - 2 * flat @ vectors.T  # the square of x is the same for all codes
        return distance.argmin(1).reshape(x.shape[:-1])

    @torch.no_grad()
    def update(self, x: Tensor, codes: Tensor, *, total: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        """Move the code vectors towards what was mapped to them (van den Oord et al. 2017, appendix A.1).

        Args:
            x: Encoder vectors ``(n, w)``.
            codes: Their codes ``(n,)``.
            total: Adds up counts and sums over all processes that quantised vectors in this step.
        """
        x = x.float()
        tokens = len(self.vectors)
        counts = total(torch.bincount(codes, minlength=tokens).float())
        sums = total(torch.zeros_like(self.sums).index_add_(0, codes, x))
        self.counts.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        used = self.counts.sum()
        smoothed = (self.counts + 1e-5) / (used + tokens * 1e-5) * used  # Laplace: no division by zero
        self.vectors.copy_(self.sums / smoothed.unsqueeze(1))

    @torch.no_grad()
    def revive(self, x: Tensor, generator: torch.Generator, *, least: float) -> int:
        """Put code vectors that have fallen out of use onto random encoder vectors.

        ``x``: encoder vectors ``(n, w)`` to draw from; ``generator``: draws them; ``least``: a code used less than this
        share of an even use counts as dead. Returns how many were dead.
        """
        even = self.counts.sum() / len(self.counts)
        dead = (self.counts < least * even).nonzero().flatten()
        if len(dead):
            chosen = x.float()[torch.randint(len(x), (len(dead),), generator=generator).to(x.device)]
            self.vectors[dead] = chosen
            self.sums[dead] = chosen * even
            self.counts[dead] = even
        return len(dead)

    @torch.no_grad()
    def start(self, x: Tensor, generator: torch.Generator, *, rounds: int = 10) -> None:
        """k-means over encoder vectors ``(n, w)``, n at least the number of codes."""
        x = x.float()
        self.vectors.copy_(x[torch.randperm(len(x), generator=generator)[: len(self.vectors)].to(x.device)])
        for _ in range(rounds):
            codes = self.nearest(x)
            counts = torch.bincount(codes, minlength=len(self.vectors)).float()
            sums = torch.zeros_like(self.vectors).index_add_(0, codes, x)
            self.vectors.copy_(
                torch.where(counts.unsqueeze(1) > 0, sums / counts.clamp(min=1).unsqueeze(1), self.vectors)
            )
        scale = 1.0 / len(x)  # as if the averages had always seen batches of this mix
        self.counts.copy_(counts * scale * 1000)
        self.sums.copy_(self.vectors * self.counts.unsqueeze(1))


class Reconstruction(NamedTuple):
    """What training looks at: mel ``(b, f, s)``, encoder and code vectors ``(b, m, w)``, codes ``(b, m)``."""

    mel: Tensor
    encoded: Tensor
    quantized: Tensor
    codes: Tensor
    text_logits: Tensor | None = None  # of the CTC head ``(b, 2 (ids + 1), m)``, where there is one


class DVAE(nn.Module):
    """Mel to codes and back; mels are in network units (see ``MelRange``)."""

    def __init__(self, config: DVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = MelEncoder(config)
        self.codebook = Codebook(config.tokens, config.code_width, config.decay)
        self.decoder = Decoder(config)

        self.ctc_head = _ctc_head(config) if config.text_tokens else None

    def encoder_vectors(self, mel: Tensor, mean: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Vectors ``(b, m, w)`` that the codebook quantises.

        Args:
            mel: ``(b, f, s)``.
            mean: Mean spectra of the clips ``(b, f)`` where the config has ``clip_mean``; default those of the mels.
            mask: True where there is sound, ``(b, s)``; None where all rows are full.
        """
        if self.config.clip_mean:
            mel = mel - (mel.mean(2) if mean is None else mean)[:, :, None]
        return self.encoder(mel if mask is None else mel * mask[:, None]).transpose(1, 2)

    def encode(self, mel: Tensor, mean: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """``(b, f, s) -> (b, m)``, m = s / 4 rounded up; see `encoder_vectors`."""
        return self.codebook.nearest(self.encoder_vectors(mel, mean, mask))

    def encode_clips(self, mels: Sequence[Tensor], *, frames: int = 0) -> list[Tensor]:
        """Codes of clips of any lengths, in few passes; each clip gets the codes that it gets alone.

        Padding a clip changes its last codes, because convolutions see the padding. So clips are encoded padded, and
        their ends once more without padding, in batches of one length.

        ``mels``: ``(f, s)`` each; ``frames``: to pad to at least, where few shapes are of use. Returns
        codes ``(m,)`` of each clip, m = s / 4 rounded up.
        """
        if self.config.clip_mean:
            mels = [mel - mel.mean(1, keepdim=True) for mel in mels]
        step = 2**self.config.strides
        margin = 2 * self.config.residual_blocks + 2  # codes that feel the end of a clip
        tail = 2 * margin * step
        starts = [max(0, -(-mel.shape[1] // step) * step - tail) for mel in mels]
        codes: list[Tensor] = [mel.new_empty(0, dtype=torch.long) for mel in mels]
        long = [i for i, start in enumerate(starts) if start]
        if long:
            frames = max(frames, *(mels[i].shape[1] for i in long))
            padded = torch.stack([F.pad(mels[i], (0, frames - mels[i].shape[1])) for i in long])
            for i, found in zip(long, self._encode(padded), strict=True):
                codes[i] = found[: starts[i] // step + margin]
        ends: dict[int, list[int]] = {}
        for i, (mel, start) in enumerate(zip(mels, starts, strict=True)):
            if mel.shape[1]:
                ends.setdefault(mel.shape[1] - start, []).append(i)
        for some in ends.values():
            batch = torch.stack([mels[i][:, starts[i] :] for i in some])
            for i, found in zip(some, self._encode(batch), strict=True):
                codes[i] = torch.cat([codes[i], found[margin:] if starts[i] else found])
        return codes

    def _encode(self, mel: Tensor) -> Tensor:
        """Codes of mels without their mean spectrum, where the config takes it out."""
        return self.codebook.nearest(self.encoder(mel).transpose(1, 2))

    def decode(self, codes: Tensor, mean: Tensor | None = None) -> Tensor:
        """``(b, m) -> (b, f, 4m)``; with ``clip_mean`` the mean spectra ``(b, f)`` go in too."""
        return self.decoder(self.codebook.vectors[codes].transpose(1, 2), mean)

    def forward(
        self, mel: Tensor, mean: Tensor | None = None, mask: Tensor | None = None, *, quantize: bool = True
    ) -> Reconstruction:
        """Encode, snap to the codebook with a straight-through gradient, decode; see `encoder_vectors`.

        Without ``quantize`` encoder vectors pass as they are.
        """
        if self.config.clip_mean and mean is None:
            mean = mel.mean(2)
        encoded = self.encoder_vectors(mel, mean, mask)
        codes = self.codebook.nearest(encoded)
        quantized = self.codebook.vectors[codes]
        passed = encoded + (quantized - encoded).detach() if quantize else encoded
        text_logits = None if self.ctc_head is None else self.ctc_head(passed.transpose(1, 2))
        return Reconstruction(self.decoder(passed.transpose(1, 2), mean), encoded, quantized, codes, text_logits)

    def text_nll(self, logits: Tensor, text: Tensor, text_lengths: Tensor, code_lengths: Tensor) -> Tensor:
        """Nats of each text ``(b,)`` by CTC (Graves et al. 2006), two frames to a code; 0 where codes are too few.

        Args:
            logits: Of the head, ``(b, 2 (ids + 1), m)``; the last of the ids is the blank.
            text: Ids ``(b, t)``.
            text_lengths: ``(b,)``.
            code_lengths: ``(b,)``.
        """
        log_probabilities = logits.float().unflatten(1, (2, -1)).permute(3, 1, 0, 2).flatten(0, 1).log_softmax(-1)
        blank = self.config.text_tokens
        return F.ctc_loss(
            log_probabilities, text, 2 * code_lengths, text_lengths, blank=blank, reduction="none", zero_infinity=True
        )


def _ctc_head(config: DVAEConfig) -> nn.Module:
    """Code vectors ``(b, w, m)`` to logits of text ids and the blank, two frames to a code."""
    widths = [config.code_width, 192, 192, 192]
    layers: list[nn.Module] = []
    for a, b in zip(widths, widths[1:], strict=False):
        layers += [nn.Conv1d(a, b, 5, padding=2), nn.GELU()]
    return nn.Sequential(*layers, nn.Conv1d(widths[-1], 2 * (config.text_tokens + 1), 1))
