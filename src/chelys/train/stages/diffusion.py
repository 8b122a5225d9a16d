"""The diffusion decoder's stage, in two phases (Betker 2023, section 3.3 and appendix B.4).

``codes``: content is the VQ-VAE's codes. ``latents``: content is what a frozen autoregressive decoder, teacher-forced
with those codes and the text, thinks before each code: the TorToise trick.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from chelys.audio.rates import FRAMES_PER_CODE
from chelys.data.pairs import Batch, Pairs
from chelys.models.autoregressive import Autoregressive
from chelys.models.diffusion import Diffusion
from chelys.models.schedule import STEPS, alphas_cumulative
from chelys.train.loop import Stage

#: Noise's share of the power below which a step weighs no more.
LEAST_NOISE = 0.1


@dataclass(frozen=True)
class DiffusionStageConfig:
    """Weights of the stage.

    Attributes:
        content: What is rendered: ``codes`` (first phase) or ``latents`` (second).
        crop: Longest piece of a clip, in codes.
        error: Weight of the squared error of the prediction.
        mel: Weight of the auxiliary loss: the mel read off the content alone.
        unconditioned: Share of rows whose content is withheld, for guidance.
        test_clips: Held-out clips in an evaluation.
    """

    content: Literal["codes", "latents"] = "codes"
    crop: int = 96
    error: float = 1.0
    mel: float = 0.2
    unconditioned: float = 0.15
    test_clips: int = 48


class Crop(NamedTuple):
    """Pieces of one length: target mel ``(b, f, s)``, its codes or latents, the voice's reference mel."""

    mel: Tensor
    content: Tensor
    reference: Tensor


class DiffusionStage(Stage):
    """Pairs in, named losses out."""

    name = "diffusion"

    def __init__(
        self, network: Diffusion, decoder: Autoregressive | None, pairs: Pairs, config: DiffusionStageConfig
    ) -> None:
        self.players: dict[str, nn.Module] = {"diffusion": network}
        self.diffusion, self.decoder, self.pairs, self.config = network, decoder, pairs, config
        self.alphas = alphas_cumulative().float()

    def batch(self, step: int) -> Crop:
        rng = np.random.default_rng([self.pairs.seed, step, 2])
        return self._crop(self.pairs.batch(step), rng)

    def _crop(self, batch: Batch, rng: np.random.Generator) -> Crop:
        """Pieces as long as the batch's shortest clip: nothing is padded, so norms over time see speech alone."""
        content = batch.codes if self.config.content == "codes" else self._latents(batch)
        length = min(int(batch.code_lengths.min()), self.config.crop)
        mels, contents = [], []
        for row, codes in enumerate(batch.code_lengths.tolist()):
            first = int(rng.integers(codes - length + 1))
            contents.append(content[row, first : first + length])
            mels.append(batch.mel[row, :, first * FRAMES_PER_CODE : (first + length) * FRAMES_PER_CODE])
        return Crop(torch.stack(mels), torch.stack(contents), batch.reference)

    @torch.no_grad()
    def _latents(self, batch: Batch) -> Tensor:
        assert self.decoder is not None, "the second phase needs the autoregressive decoder"
        with torch.autocast("cpu", dtype=torch.bfloat16):
            conditioning = self.decoder.condition(batch.reference)
            latents = self.decoder(conditioning, batch.text, batch.text_lengths, batch.codes, batch.code_lengths)[2]
        return latents[:, :-1].float()

    def losses(self, player: str, batch: Crop, generator: torch.Generator) -> Mapping[str, Tensor]:
        b, _, frames = batch.mel.shape
        network = self.diffusion
        voice = network.contextual_embedder(batch.reference).mean(2)
        make = network.content_of_codes if self.config.content == "codes" else network.content
        content = make(batch.content, voice, frames // network.config.patch)
        withheld = torch.rand(b, 1, 1, generator=generator) < self.config.unconditioned
        steps = torch.randint(STEPS, (b,), generator=generator)
        noise = torch.randn(batch.mel.shape, generator=generator)
        signal, spread = self.alphas[steps].sqrt()[:, None, None], (1 - self.alphas[steps]).sqrt()[:, None, None]
        noisy = signal * batch.mel + spread * noise
        guess = network(noisy, steps, torch.where(withheld, network.unconditioned.to(content.dtype), content))
        guess = guess[:, : batch.mel.shape[1]].float()
        if network.config.prediction == "epsilon":
            error = (guess - noise).square().mean()
        else:  # weighed like an error of the velocity (Salimans & Ho 2022), short of where there is nothing to remove
            error = ((guess - batch.mel).square() / spread.square().clamp(min=LEAST_NOISE)).mean()
        alone = (network.mel_from_content(content).float() - batch.mel).square() * ~withheld
        return {"error": self.config.error * error, "mel": self.config.mel * alone.mean()}

    def evaluate(self) -> dict[str, float]:
        """Losses on held-out clips, four clips a batch, with the same noise every time."""
        sums: dict[str, float] = {}
        clips = sorted(self.pairs.test[: self.config.test_clips], key=lambda c: c.frames)
        groups = [clips[i : i + 4] for i in range(0, len(clips), 4)]
        for index, group in enumerate(groups):
            rng = np.random.default_rng([7, index])
            crop = self._crop(self.pairs.collate(group, rng), rng)
            for name, loss in self.losses("", crop, torch.Generator().manual_seed(index)).items():
                sums[name] = sums.get(name, 0.0) + float(loss) / len(groups)
        return sums
