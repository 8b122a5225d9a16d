"""The VQ-VAE's stage: reconstruction and commitment (Betker 2023, appendix B.1), a code book that stays in use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chelys.audio.mel import MelRange
from chelys.audio.rates import FRAMES_PER_CODE
from chelys.data.batching import is_held_out
from chelys.data.features import Features
from chelys.errors import ManifestError
from chelys.models.dvae import DVAE
from chelys.train.loop import Stage


@dataclass(frozen=True)
class DVAEStageConfig:
    """Batches and weights of the stage.

    Attributes:
        rows: Crops in a batch.
        frames: Mel frames of a crop.
        commitment: Weight of the commitment loss.
        start_at: Step at which the code book starts by k-means; before it, vectors pass unquantised.
        revive_every: Steps between revivals of dead codes.
        revive_until: Step after which no code is revived.
    """

    rows: int = 24
    frames: int = 128
    commitment: float = 0.25
    start_at: int = 100
    revive_every: int = 20
    revive_until: int = 10**9


class DVAEStage(Stage):
    """Crops of mels in, named losses out."""

    name = "dvae"

    def __init__(
        self, network: DVAE, features: Features, mel_range: MelRange, config: DVAEStageConfig, seed: int
    ) -> None:
        self.players: dict[str, nn.Module] = {"dvae": network}
        self.dvae, self.features, self.mel_range, self.config, self.seed = network, features, mel_range, config, seed
        usable = [c for c in features.clips if c.frames >= config.frames]
        self.train_clips = [c for c in usable if not is_held_out(c)]
        self.test_clips = [c for c in usable if is_held_out(c)][:64]
        if not self.train_clips:
            raise ManifestError(f"no clip to train on has stage.frames={config.frames} mel frames; use a larger corpus")

    def batch(self, step: int) -> Tensor:
        """Mel crops ``(b, f, s)`` in network units."""
        rng = np.random.default_rng([self.seed, step])
        crops = []
        for index in rng.integers(len(self.train_clips), size=self.config.rows):
            clip = self.train_clips[index]
            start = int(rng.integers((clip.frames - self.config.frames) // FRAMES_PER_CODE + 1)) * FRAMES_PER_CODE
            crops.append(self.features.mel(clip, start, self.config.frames))
        return self.mel_range.normalize(torch.stack(crops))

    def losses(self, player: str, batch: Tensor, generator: torch.Generator) -> Mapping[str, Tensor]:
        if not self.dvae.codebook.counts.any():  # not started: learn what to quantise first
            mel = self.dvae.decoder(self.dvae.encoder(batch))
            return {"reconstruction": F.mse_loss(mel.float(), batch)}
        out = self.dvae(batch)
        self._encoded, self._codes = out.encoded.detach().flatten(0, 1), out.codes.flatten()
        return {
            "reconstruction": F.mse_loss(out.mel.float(), batch),
            "commitment": self.config.commitment * F.mse_loss(out.encoded.float(), out.quantized.detach()),
        }

    def after_step(self, step: int, batch: Tensor, generator: torch.Generator) -> dict[str, float]:
        book, config = self.dvae.codebook, self.config
        if not book.counts.any():
            if step + 1 >= config.start_at:
                self._start(step, generator)
            return {}
        book.update(self._encoded, self._codes)
        figures = {"codes_in_use": usage(book.counts)}
        if step % config.revive_every == 0 and step < config.revive_until:
            figures["revived"] = float(book.revive(self._encoded, generator, least=0.03))
        return figures

    @torch.no_grad()
    def _start(self, step: int, generator: torch.Generator) -> None:
        wanted = 20 * len(self.dvae.codebook.vectors)
        encoded: list[Tensor] = []
        while sum(map(len, encoded)) < wanted:
            step += 1
            encoded.append(self.dvae.encoder(self.batch(step)).transpose(1, 2).flatten(0, 1))
        self.dvae.codebook.start(torch.cat(encoded), generator)

    def evaluate(self) -> dict[str, float]:
        if not self.test_clips:
            return {}
        counts = torch.zeros(len(self.dvae.codebook.vectors))
        error, quantization = [], []
        for clip in self.test_clips:
            mel = self.mel_range.normalize(self.features.mel(clip))[None]
            out = self.dvae(mel)
            error.append(float((out.mel.float() - mel).abs().mean()))
            quantization.append(float(F.mse_loss(out.encoded.float(), out.quantized)))
            counts += torch.bincount(out.codes.flatten(), minlength=len(counts)).float()
        return {
            "mel_l1": float(np.mean(error)),
            "commitment": float(np.mean(quantization)),
            "codes_in_use": usage(counts),
        }


def usage(counts: Tensor) -> float:
    """Perplexity of the code distribution: how many codes an even use of this entropy would take."""
    share = counts / counts.sum()
    return float(torch.exp(-(share * torch.log(share.clamp(min=1e-12))).sum()))
