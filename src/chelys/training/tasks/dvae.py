"""The VQ-VAE's stage: reconstruction and commitment (Betker 2023, appendix B.1), a code book that stays in use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chelys.audio.mel import MelRange
from chelys.audio.rates import FRAMES_PER_CODE
from chelys.data.dataset import Clip, ClipDataset
from chelys.errors import ManifestError
from chelys.models.dvae import DVAE
from chelys.training.pictures import Picture
from chelys.training.stage import Stage


@dataclass(frozen=True)
class DVAEStageConfig:
    """Batches and weights of the stage.

    Attributes:
        rows: Crops in a batch.
        frames: Mel frames of a crop.
        commitment: Weight of the commitment loss.
        start: How the code book starts: by ``kmeans`` over encoder vectors, or with ``random`` ones, as published.
        start_at: Step at which k-means is done; before it, vectors pass unquantised.
        revive_every: Steps between revivals of dead codes.
        revive_until: Step after which no code is revived.
    """

    rows: int = 24
    frames: int = 128
    commitment: float = 0.25
    start: Literal["kmeans", "random"] = "kmeans"
    start_at: int = 100
    revive_every: int = 20
    revive_until: int = 10**9


class DVAEStage(Stage):
    """Crops of mels in, named losses out."""

    name = "dvae"

    def __init__(
        self, network: DVAE, features: ClipDataset, mel_range: MelRange, config: DVAEStageConfig, seed: int
    ) -> None:
        self.players: dict[str, nn.Module] = {"dvae": network}
        self.dvae, self.features, self.mel_range, self.config, self.seed = network, features, mel_range, config, seed
        self.train_clips, test_clips = features.split(features.at_least(config.frames))
        self.test_clips = test_clips[:64]
        if not self.train_clips:
            raise ManifestError(f"no clip to train on has stage.frames={config.frames} mel frames; use a larger corpus")
        self._heard: list[tuple[Tensor, Tensor]] = []  # encoder vectors and codes of each part of a step

    def batch(self, step: int) -> Tensor:
        """Mel crops ``(b, f, s)`` in network units."""
        return self.part(step, slice(0, self.config.rows))

    def rows(self, step: int) -> int:
        return self.config.rows

    def part(self, step: int, rows: slice) -> Tensor:
        frames = self.config.frames
        crops = [self.features.mel(clip, start, frames) for clip, start in self._places(step)[rows]]
        return self.mel_range.normalize(torch.stack(crops))

    def clips(self, step: int) -> list[str]:
        return [clip.id for clip, _ in self._places(step)]

    def _places(self, step: int) -> list[tuple[Clip, int]]:
        """Clip and first frame of each crop."""
        rng = np.random.default_rng([self.seed, step])
        chosen = [self.train_clips[i] for i in rng.integers(len(self.train_clips), size=self.config.rows)]
        last = [(clip.frames - self.config.frames) // FRAMES_PER_CODE for clip in chosen]
        return [(c, int(rng.integers(code + 1)) * FRAMES_PER_CODE) for c, code in zip(chosen, last, strict=True)]

    def losses(self, player: str, batch: Tensor, generator: torch.Generator) -> Mapping[str, Tensor]:
        if not self._started():  # learn what to quantise first
            mel = self.dvae.decoder(self.dvae.encoder(batch))
            return {"reconstruction": F.mse_loss(mel.float(), batch)}
        out = self.dvae(batch)
        self._heard.append((out.encoded.detach().flatten(0, 1), out.codes.flatten()))
        return {
            "reconstruction": F.mse_loss(out.mel.float(), batch),
            "commitment": self.config.commitment * F.mse_loss(out.encoded.float(), out.quantized.detach()),
        }

    def _started(self) -> bool:
        return self.config.start == "random" or bool(self.dvae.codebook.counts.any())

    def after_step(self, step: int, batch: Tensor, generator: torch.Generator) -> dict[str, float]:
        book, config = self.dvae.codebook, self.config
        if not self._started():
            if step + 1 >= config.start_at:
                self._start(step, generator)
            return {}
        encoded, codes = (torch.cat(parts) for parts in zip(*self._heard, strict=True))
        self._heard.clear()
        book.update(encoded, codes, total=self.ranks.sum)
        figures = {"codes_in_use": usage(book.counts)}
        if step % config.revive_every == 0 and step < config.revive_until:
            figures["revived"] = float(book.revive(self.ranks.gather(encoded), generator, least=0.03))
        return figures

    @torch.no_grad()
    def _start(self, step: int, generator: torch.Generator) -> None:
        wanted = 20 * len(self.dvae.codebook.vectors)
        encoded: list[Tensor] = []
        while sum(map(len, encoded)) < wanted:
            step += 1
            batch = self.batch(step).to(self.dvae.codebook.vectors.device)
            encoded.append(self.dvae.encoder(batch).transpose(1, 2).flatten(0, 1))
        self.dvae.codebook.start(torch.cat(encoded), generator)

    def evaluate(self) -> dict[str, float]:
        if not self.test_clips:
            return {}
        counts = torch.zeros_like(self.dvae.codebook.counts)
        error, quantization = [], []
        for clip in self.test_clips:
            mel = self._held_out(clip)
            out = self.dvae(mel)
            error.append(float((out.mel.float() - mel).abs().mean()))
            quantization.append(float(F.mse_loss(out.encoded.float(), out.quantized)))
            counts += torch.bincount(out.codes.flatten(), minlength=len(counts)).float()
        return {
            "mel_l1": float(np.mean(error)),
            "commitment": float(np.mean(quantization)),
            "codes_in_use": usage(counts),
        }

    def _held_out(self, clip: Clip) -> Tensor:
        return self.mel_range.normalize(self.features.mel(clip))[None].to(self.dvae.codebook.counts.device)

    def pictures(self) -> dict[str, Picture]:
        """How even the codes are used in training, and what becomes of a held-out mel."""
        found = {"codebook": Picture(self.dvae.codebook.counts.sort(descending=True).values, x="code, by use", y="use")}
        if self.test_clips:
            mel = self._held_out(self.test_clips[0])
            both = torch.cat((mel, self.dvae(mel).mel.float()), 1)[0]
            found["reconstruction"] = Picture(both, x="frame", y="band: real below, made above")
        return found


def usage(counts: Tensor) -> float:
    """Perplexity of the code distribution: how many codes an even use of this entropy would take."""
    share = counts / counts.sum()
    return float(torch.exp(-(share * torch.log(share.clamp(min=1e-12))).sum()))
