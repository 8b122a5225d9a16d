"""How a model is adapted: defaults for a newcomer, every one of which ``key=value`` changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch

from chelys.errors import ConfigError
from chelys.training.schedule import LoopConfig
from chelys.training.stopping import EarlyStopping

#: Share of the nearest voice where nothing else is asked for: more is read no better, and sounds less like the voice.
USUALLY_BORROWED = 0.7


@dataclass(frozen=True)
class Adaptation:
    """How one of the two decoders is adapted.

    Attributes:
        steps: At most; 0 leaves the decoder as it is.
        rank: Of the adapters beside its layers, merged at the end; 0 trains the layers themselves.
        learning_rate: Peak, after ``warmup`` steps; it falls to a tenth on half a cosine.
        warmup: Steps of its rise.
        budget: Codes in a batch, padding included.
        evaluate_every: Steps between evaluations on held-out clips.
        patience: Evaluations without a new best on the voice that end it.
        base_rise: How much the held-out loss on the base's own speech may rise, as a share of what it was.
        average: Decay of the moving average of the weights that is evaluated and kept.
    """

    steps: int
    rank: int
    learning_rate: float
    budget: int
    base_rise: float
    warmup: int = 20
    evaluate_every: int = 25
    patience: int = 4
    average: float = 0.95

    def __post_init__(self) -> None:
        for name in ("steps", "rank"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        for name in ("budget", "patience"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if not self.base_rise > 0:
            raise ConfigError(f"base_rise is {self.base_rise}; it must be above 0")

    def stopping(self, figure: str) -> EarlyStopping:
        """What ends it early: the voice's figure no longer falls, or the base's rises."""
        return EarlyStopping(f"held_out/voice_{figure}", self.patience, {f"held_out/base_{figure}": self.base_rise})


def _autoregressive() -> Adaptation:
    return Adaptation(steps=0, rank=32, learning_rate=1e-3, budget=1200, base_rise=0.25)


def _diffusion() -> Adaptation:
    return Adaptation(steps=120, rank=0, learning_rate=3e-4, budget=600, base_rise=0.5)


@dataclass(frozen=True)
class FinetuneConfig:
    """How a model is adapted to a voice.

    Attributes:
        autoregressive: How the autoregressive decoder is: what is said, and how it is paced. It is left alone by
            default: from minutes of speech the small decoder learns the reader's codes and forgets how to read.
        diffusion: How the diffusion decoder is, on the adapted decoder's latents: how it sounds.
        held_out: Share of the voice's clips that is kept for evaluation, four at least.
        sentences: How many the base model speaks in its own voices; a quarter of them is kept for evaluation.
        replay: Share of the base's speech in what is trained on.
        borrowed: Share of the nearest built-in voice in what the autoregressive decoder is told of the voice: it reads
            more clearly in a voice that it was trained on, and how the voice sounds is the diffusion decoder's affair.
            None is most of it, or nothing where that decoder is adapted.
        emphasis: How far what the diffusion decoder is told of the voice goes beyond the clips, away from the borrowed
            voice, whose codes pull the sound towards it.
        longest: Codes of the longest clip used.
        precision: What the networks compute in.
        device: ``auto`` takes a GPU where there is one.
        threads: CPU threads; 0 takes as many as torch would.
        seed: Of all that is random.
    """

    autoregressive: Adaptation = field(default_factory=_autoregressive)
    diffusion: Adaptation = field(default_factory=_diffusion)
    held_out: float = 0.1
    sentences: int = 64
    replay: float = 0.25
    borrowed: float | None = None
    emphasis: float = 1.2
    longest: int = 400
    precision: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0
    seed: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.held_out <= 0.5:
            raise ConfigError(f"held_out is {self.held_out}; it must be above 0 and 0.5 at most")
        if not 0 <= self.replay < 1:
            raise ConfigError(f"replay is {self.replay}; it must be 0 or more and below 1")
        if not 0 <= self.borrowed_share <= 1:
            raise ConfigError(f"borrowed is {self.borrowed}; it must be 0 to 1")
        if not 0 <= self.emphasis <= 2:
            raise ConfigError(f"emphasis is {self.emphasis}; it must be 0 to 2")
        if not (self.autoregressive.steps or self.diffusion.steps):
            raise ConfigError("autoregressive.steps and diffusion.steps are both 0; let one decoder take some steps")
        if self.sentences < 8:
            raise ConfigError(f"sentences is {self.sentences}; it must be 8 or more, to see what the base forgets")

    @property
    def borrowed_share(self) -> float:
        """What ``borrowed`` comes to."""
        if self.borrowed is None:
            return 0.0 if self.autoregressive.steps else USUALLY_BORROWED
        return self.borrowed

    def loop(self, how: Adaptation) -> LoopConfig:
        """The training loop's settings for one decoder."""
        return LoopConfig(
            steps=how.steps,
            learning_rate=how.learning_rate,
            warmup=how.warmup,
            final=0.1,
            average=how.average,
            precision=self.precision,
            device=self.device,
            log_every=5,
            evaluate_every=how.evaluate_every,
            checkpoint_every=how.evaluate_every,
            keep=1,
            pictures=False,
            tensorboard=False,
            seed=self.seed,
            threads=self.threads or torch.get_num_threads(),
        )
