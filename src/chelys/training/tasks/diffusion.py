"""The diffusion decoder's stage, in two phases (Betker 2023, section 3.3 and appendix B.4).

``codes``: content is the VQ-VAE's codes. ``latents``: content is what a frozen autoregressive decoder, teacher-forced
with those codes and the text, thinks before each code: the TorToise trick.

A network that predicts the noise and learns the variance of each step has two losses for them, as published: the
squared error, which leaves the variance alone, and the term of the variational bound at the drawn step, which leaves
the prediction alone (Nichol & Dhariwal 2021, section 3.1). The term is not multiplied by the number of steps; the
original's was not, so that it weighs about a four-thousandth of the whole bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from chelys.data.dataset import Clip
from chelys.data.pairs import Batch, Pairs
from chelys.models.autoregressive import Autoregressive
from chelys.models.diffusion import Diffusion
from chelys.models.diffusion_schedule import (
    TRAIN_STEPS,
    DiffusionSchedule,
    predict_x0,
    q_posterior,
    q_sample,
    variational_bound,
)
from chelys.training.pictures import Picture
from chelys.training.stage import Stage
from chelys.training.tasks.rendering import Rendering

#: Noise's share of the power below which a step weighs no more.
LEAST_NOISE = 0.1
#: Parts of the network that read codes, and latents.
CODE_PARTS = ("code_embedding", "code_blocks")
LATENT_PARTS = ("latent_in", "latent_blocks")


@dataclass(frozen=True)
class DiffusionStageConfig:
    """Weights of the stage.

    Attributes:
        content: What is rendered: ``codes`` (first phase) or ``latents`` (second).
        crop: Longest piece of a clip, in codes.
        error: Weight of the squared error of the prediction.
        bound: Weight of the term of the variational bound, where the network learns a variance.
        mel: Weight of the auxiliary loss: the mel read off the content alone.
        unconditioned: Share of rows whose content is withheld, for guidance.
        voice_from: Whose sound the voice is: of another clip of the ``speaker``, which the autoregressive decoder hears
            as well, or of the same ``clip``, as published.
        voice_frames: Mel frames of it, if it is of the same clip or of the published front end.
        trains: ``all``; or in the second phase the ``latent_path`` alone, as the original began it.
        test_clips: Held-out clips in an evaluation.
    """

    content: Literal["codes", "latents"] = "codes"
    crop: int = 96
    error: float = 1.0
    bound: float = 1.0
    mel: float = 0.2
    unconditioned: float = 0.15
    voice_from: Literal["speaker", "clip"] = "speaker"
    voice_frames: int = 400
    trains: Literal["all", "latent_path"] = "all"
    test_clips: int = 48


class DiffusionBatch(NamedTuple):
    """Pieces of one length, and all that is random about them.

    Attributes:
        mel: What is to be rendered, ``(b, f, s)`` in network units.
        at: Which codes of its clip it is, ``(b, m)``.
        text: As in ``Batch``, and so the next four: the whole clip, for the autoregressive decoder.
        text_lengths: ``(b,)``.
        codes: ``(b, c)``.
        code_lengths: ``(b,)``.
        reference: What the autoregressive decoder hears of the voice.
        voice: What the diffusion decoder hears of it, ``(b, f, r)``.
        steps: Of the trained schedule, ``(b,)``.
        noise: Unit noise ``(b, f, s)``.
        withheld: Rows without content, ``(b,)``.
    """

    mel: Tensor
    at: Tensor
    text: Tensor
    text_lengths: Tensor
    codes: Tensor
    code_lengths: Tensor
    reference: Tensor
    voice: Tensor
    steps: Tensor
    noise: Tensor
    withheld: Tensor


class DiffusionStage(Stage):
    """Pairs in, named losses out."""

    name = "diffusion"

    def __init__(
        self,
        network: Diffusion,
        decoder: Autoregressive | None,
        pairs: Pairs,
        rendering: Rendering,
        config: DiffusionStageConfig,
    ) -> None:
        self.players: dict[str, nn.Module] = {"diffusion": network}
        self.frozen: dict[str, nn.Module] = {"decoder": decoder} if decoder is not None else {}
        self.diffusion, self.decoder, self.pairs, self.config = network, decoder, pairs, config
        self.rendering = rendering
        self.noise_schedule = DiffusionSchedule(range(TRAIN_STEPS))
        self._freeze()

    def _freeze(self) -> None:
        """Leave out of training what this phase has no gradients for, or is not to move."""
        if self.config.trains == "latent_path":
            self.diffusion.requires_grad_(False)
        for part in LATENT_PARTS:
            getattr(self.diffusion, part).requires_grad_(self.config.content == "latents")
        if self.config.content == "latents":
            for part in CODE_PARTS:
                getattr(self.diffusion, part).requires_grad_(False)

    def part(self, step: int, rows: slice) -> DiffusionBatch:
        clips = self.pairs.clips(step)
        length = self._length(clips)  # of the whole batch, whichever rows of it are wanted
        numbers = range(len(clips))[rows]
        rngs = [np.random.default_rng([self.pairs.seed, step, row, 2]) for row in numbers]
        return self._crop([clips[row] for row in numbers], self.pairs.batch(step, rows), rngs, length)

    def rows(self, step: int) -> int:
        return len(self.pairs.clips(step))

    def batch(self, step: int) -> DiffusionBatch:
        return self.part(step, slice(None))

    def clips(self, step: int) -> list[str]:
        return [clip.id for clip in self.pairs.clips(step)]

    def _length(self, clips: Sequence[Clip]) -> int:
        """Codes of a piece, no more than the shortest clip has: without padding, norms over time see speech alone."""
        return min(self.config.crop, min(self.rendering.codes(clip) for clip in clips))

    def _crop(
        self, clips: Sequence[Clip], batch: Batch, rng: np.random.Generator | list[np.random.Generator],
        length: int | None = None,
    ) -> DiffusionBatch:  # fmt: skip
        """Pieces of clips; ``rng``, or one for each row, draws where they begin, their voices and their noise."""
        rngs = rng if isinstance(rng, list) else [rng] * len(clips)
        length = length or self._length(clips)
        rows = [self._row(clip, own, length) for clip, own in zip(clips, rngs, strict=True)]
        first, mel, voice, steps, noise, chance = zip(*rows, strict=True)
        shared = self.config.voice_from == "speaker" and not self.rendering.published
        return DiffusionBatch(
            mel=torch.stack(mel),
            at=torch.tensor(first)[:, None] + torch.arange(length),
            text=batch.text,
            text_lengths=batch.text_lengths,
            codes=batch.codes,
            code_lengths=batch.code_lengths,
            reference=batch.reference,
            voice=batch.reference if shared else torch.stack(voice),
            steps=torch.tensor(steps),
            noise=torch.from_numpy(np.stack(noise)),
            withheld=torch.tensor(chance) < self.config.unconditioned,
        )

    def _row(
        self, clip: Clip, rng: np.random.Generator, length: int
    ) -> tuple[int, Tensor, Tensor, int, np.ndarray, float]:
        """First code, mel, voice, step, noise, and the chance that decides whether the content is withheld."""
        first = int(rng.integers(self.rendering.codes(clip) - length + 1))
        mel = self.rendering.mel(clip, first, length)
        voice = self.rendering.voice(self._voice_of(clip, rng), self.config.voice_frames, rng)
        step, chance = int(rng.integers(TRAIN_STEPS)), float(rng.random())
        return first, mel, voice, step, rng.standard_normal(tuple(mel.shape), dtype=np.float32), chance

    def _voice_of(self, clip: Clip, rng: np.random.Generator) -> Clip:
        if self.config.voice_from == "clip":
            return clip
        return self.pairs.other_clip(clip, rng)

    def losses(self, player: str, batch: DiffusionBatch, generator: torch.Generator) -> Mapping[str, Tensor]:
        network, config = self.diffusion, self.config
        bands, frames = batch.mel.shape[1:]
        content = self._content(batch, frames // network.config.patch)
        withheld = batch.withheld[:, None, None]
        x = q_sample(self.noise_schedule, batch.steps, batch.mel, batch.noise)
        said = network(x, batch.steps, torch.where(withheld, network.uncond_embedding.to(content.dtype), content)).float()
        guess = said[:, :bands]
        losses = {"error": config.error * self._error(guess, batch)}
        if network.config.learned_variance:
            losses["bound"] = config.bound * self._bound(guess.detach(), said[:, bands:], x, batch)
        alone = (network.mel_from_conditioning(content).float() - batch.mel).square() * ~withheld
        return losses | {"mel": config.mel * alone.mean()}

    def _content(self, batch: DiffusionBatch, positions: int) -> Tensor:
        network = self.diffusion
        voice = network.contextual_embedder(batch.voice).mean(2)
        if self.config.content == "codes":
            return network.conditioning_of_codes(batch.codes.gather(1, batch.at), voice, positions)
        latents = self._latents(batch)
        piece = latents.gather(1, batch.at.unsqueeze(2).expand(-1, -1, latents.shape[2]))
        return network.conditioning(piece, voice, positions)

    @torch.no_grad()
    def _latents(self, batch: DiffusionBatch) -> Tensor:
        """The state that foretells each code of the whole clips, ``(b, c, d)``."""
        assert self.decoder is not None, "the second phase needs the autoregressive decoder"
        voice = self.decoder.condition(batch.reference)
        latents = self.decoder(voice, batch.text, batch.text_lengths, batch.codes, batch.code_lengths)[2]
        return latents[:, :-1].float()

    def _error(self, guess: Tensor, batch: DiffusionBatch) -> Tensor:
        if self.diffusion.config.prediction == "epsilon":
            return (guess - batch.noise).square().mean()
        # weighed like an error of the velocity (Salimans & Ho 2022), short of where there is nothing to remove
        noise = 1 - self.noise_schedule.alphas_cumprod.to(batch.steps.device)[batch.steps].float()[:, None, None]
        return ((guess - batch.mel).square() / noise.clamp(min=LEAST_NOISE)).mean()

    def _bound(self, guess: Tensor, variance: Tensor, x: Tensor, batch: DiffusionBatch) -> Tensor:
        schedule, steps = self.noise_schedule, batch.steps
        clean = predict_x0(schedule, steps, x, guess) if self.diffusion.config.prediction == "epsilon" else guess
        said = q_posterior(schedule, steps, x, clean, variance)
        return variational_bound(schedule, steps, batch.mel, x, said).mean()

    def evaluate(self) -> dict[str, float]:
        """Losses on held-out clips, four clips a batch, with the same noise every time."""
        sums: dict[str, float] = {}
        clips = sorted(self.pairs.test[: self.config.test_clips], key=lambda c: c.frames)
        groups = [clips[i : i + 4] for i in range(0, len(clips), 4)]
        device = next(self.diffusion.parameters()).device
        for index, group in enumerate(groups):
            rng = np.random.default_rng([7, index])
            crop = self._crop(group, self.pairs.collate(group, rng), rng)
            crop = DiffusionBatch(*(part.to(device) for part in crop))
            for name, loss in self.losses("", crop, torch.Generator()).items():
                sums[name] = sums.get(name, 0.0) + float(loss) / len(groups)
        return sums

    def pictures(self) -> dict[str, Picture]:
        """A held-out mel, and what content alone says of it."""
        clips = self.pairs.test[:1]
        if not clips:
            return {}
        rng = np.random.default_rng([7, 0])
        device = next(self.diffusion.parameters()).device
        crop = DiffusionBatch(*(part.to(device) for part in self._crop(clips, self.pairs.collate(clips, rng), rng)))
        positions = crop.mel.shape[2] // self.diffusion.config.patch
        made = self.diffusion.mel_from_conditioning(self._content(crop, positions)).float()
        both = torch.cat((crop.mel, made), 1)[0]
        return {"content": Picture(both, x="frame", y="band: real below, of content alone above")}
