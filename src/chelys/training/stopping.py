"""When to stop early, and which weights were the best: decided by the held-out figures alone.

All of it is a function of the evaluations so far, which a checkpoint carries, so that a run that was killed stops where
it would have stopped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

#: An evaluation: after how many steps, and its figures.
Evaluation = tuple[int, Mapping[str, float]]


@dataclass(frozen=True)
class EarlyStopping:
    """What is watched.

    Attributes:
        watched: Held-out figure that is to fall.
        patience: Evaluations without a new best that end the run.
        limits: Figures that must not rise by more than a share of what they were in the first evaluation, that of
            step 0; weights that break one are never the best.
    """

    watched: str
    patience: int
    limits: Mapping[str, float] = field(default_factory=dict)

    def best(self, evaluations: Sequence[Evaluation]) -> int:
        """Which of the evaluations is the best; the first one, before any step, is always allowed."""
        allowed = [i for i in range(len(evaluations)) if not self._broken(evaluations, i)]
        return min(allowed, key=lambda i: self._figure(evaluations[i]))

    def reason(self, evaluations: Sequence[Evaluation]) -> str:
        """Why to stop now, in a few words; empty to go on."""
        if broken := self._broken(evaluations, len(evaluations) - 1):
            first, last = evaluations[0][1][broken], evaluations[-1][1][broken]
            return f"{broken} rose from {first:.4g} to {last:.4g}, by more than {self.limits[broken]:.3g} of it"
        if not math.isfinite(self._figure(evaluations[-1])):
            return f"{self.watched} is not finite"
        since = len(evaluations) - 1 - self.best(evaluations)
        return f"{self.watched} has not fallen for {since} evaluations" if since >= self.patience else ""

    def _figure(self, evaluation: Evaluation) -> float:
        value = evaluation[1][self.watched]
        return value if not math.isnan(value) else math.inf

    def _broken(self, evaluations: Sequence[Evaluation], index: int) -> str:
        """First limit that an evaluation breaks, or nothing."""
        first, figures = evaluations[0][1], evaluations[index][1]
        return (
            next((k for k, most in self.limits.items() if not figures[k] <= first[k] * (1 + most)), "") if index else ""
        )
