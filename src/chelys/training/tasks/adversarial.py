"""What the stages that make waves have in common: spectral losses, and discriminators that join in (Mao et al. 2017).

The maker and its discriminators take turns within a step: first the maker, then those that judge what it made before.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from chelys.errors import ConfigError
from chelys.training.discriminators import Discriminators, Judges
from chelys.training.losses import MEL_SPECTRA, deception, discrimination, feature_distance, mel_distance, stft_distance
from chelys.training.stage import Stage


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """Weights of the losses; what weighs 0 is left out.

    Attributes:
        mel: Of the distance of log-mels.
        mel_spectra: Window lengths that it is the mean over, the longest ones of four.
        stft: Of spectral convergence and log-magnitudes (UnivNet).
        adversarial: Of passing for real.
        feature: Of the distance between the discriminators' features of real and made waves.
        adversarial_from: Step at which the discriminators join.
        judges: Whose discriminators: nano's (``compact``), or those of the papers, ``univnet`` or ``hifigan``.
        narrow_judges: Divides their channels, for networks smaller than published.
        test_clips: Held-out clips in an evaluation.
    """

    mel: float = 1.0
    mel_spectra: int = 4
    stft: float = 0.0
    adversarial: float = 0.1
    feature: float = 0.2
    adversarial_from: int = 1500
    judges: Judges = "compact"
    narrow_judges: int = 1
    test_clips: int = 24

    def __post_init__(self) -> None:
        if not (self.mel or self.stft):
            raise ConfigError("stage.mel and stage.stft are both 0: without one of them nothing says what to make")
        if not 1 <= self.mel_spectra <= len(MEL_SPECTRA):
            raise ConfigError(f"stage.mel_spectra is {self.mel_spectra}; it must be 1 to {len(MEL_SPECTRA)}")
        if self.narrow_judges not in (1, 2, 4, 8):
            raise ConfigError(f"stage.narrow_judges is {self.narrow_judges}; it must be 1, 2, 4 or 8")


class Made(NamedTuple):
    """A wave ``(b, n)``, and what the maker has to learn besides."""

    wave: Tensor
    losses: dict[str, Tensor]


class AdversarialStage(Stage):
    """A maker of waves and its discriminators; a batch has the real ``wave`` ``(b, n)`` and its ``step``."""

    weights: AdversarialConfig

    def set_players(self, maker: nn.Module, config: AdversarialConfig) -> None:
        """Put the maker first and its discriminators second."""
        self.weights = config
        self.judges = Discriminators(config.judges, config.narrow_judges)
        self.players: dict[str, nn.Module] = {self.name: maker, "discriminators": self.judges}
        self._made: list[tuple[Any, Tensor]] = []  # of each part of a step

    @abstractmethod
    def make(self, batch: Any) -> Made:
        """What the maker makes of a batch."""

    def losses(self, player: str, batch: Any, generator: torch.Generator) -> Mapping[str, Tensor]:
        joined = batch.step >= self.weights.adversarial_from
        if player != "discriminators":
            made, losses = self.make(batch)
            self._made = [(part, wave) for part, wave in self._made if part.step == batch.step]
            self._made.append((batch, made.detach()))
            losses |= self._distances(made, batch.wave)
            return losses | (self._deceptions(made, batch.wave) if joined else {})
        if not joined:
            return {}  # the judges wait
        made, real = self.judges(self._made_of(batch)), self.judges(batch.wave)
        return {"discrimination": discrimination(made, real)}

    def _made_of(self, batch: Any) -> Tensor:
        """What was made of the batch a moment ago, before the maker learned from it."""
        for part, wave in self._made:
            if part is batch:
                return wave
        with torch.no_grad():
            return self.make(batch).wave

    def _distances(self, made: Tensor, real: Tensor) -> dict[str, Tensor]:
        losses, weights = {}, self.weights
        if weights.mel:
            losses["mel"] = weights.mel * mel_distance(made, real, MEL_SPECTRA[-weights.mel_spectra :])
        if weights.stft:
            losses["stft"] = weights.stft * stft_distance(made, real)
        return losses

    def _deceptions(self, made: Tensor, real: Tensor) -> dict[str, Tensor]:
        self.judges.requires_grad_(False)  # they only listen
        judged = self.judges(made)
        self.judges.requires_grad_(True)
        losses = {"adversarial": self.weights.adversarial * deception(judged)}
        if self.weights.feature:
            with torch.no_grad():
                expected = self.judges(real)
            losses["feature"] = self.weights.feature * feature_distance(judged, expected)
        return losses

    def distance(self, made: Tensor, real: Tensor) -> dict[str, float]:
        """Held-out figures of one wave: the distances, unweighted."""
        weights = self.weights
        scale = {"mel": weights.mel, "stft": weights.stft}
        return {name: float(loss) / scale[name] for name, loss in self._distances(made, real).items()}


def mean_figures(figures: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each figure over clips; none if there are none."""
    return {name: float(np.mean([clip[name] for clip in figures])) for name in figures[0]} if figures else {}
