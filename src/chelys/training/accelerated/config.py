"""What is trained on one accelerator, for how long, and how large it may become."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from chelys.audio.mel import MelRange
from chelys.config import from_mapping
from chelys.errors import ConfigError
from chelys.training.accelerated.corpus import WIDTHS
from chelys.training.tasks import RUNS

#: In this order: what a stage needs comes before it, and the VQ-VAE, without which nothing is of use, first of all.
STAGES = ("dvae", "autoregressive", "clvp", "diffusion", "vocoder")


@dataclass(frozen=True)
class StageConfig:
    """A stage: its share of the time, its batches, and its run as ``chelys train`` reads it."""

    share: float  # of the time that is left for training, against the other stages' shares
    frames: int  # mel frames of a batch
    max_rows: int = 512  # of a batch
    max_frames: int = WIDTHS[-1]  # mel frames of the longest clip
    #: record a CUDA graph of forward and backward pass for each shape; where that fails the stage goes on without
    graphs: bool = False
    run: dict[str, Any] = field(default_factory=dict)  # keys ``network``, ``stage`` and ``loop`` of the run


@dataclass(frozen=True)
class AcceleratedConfig:
    """All stages, and the corpus they share."""

    mel_range: MelRange  # log-mels that become -1 and 1
    stages: dict[str, StageConfig]
    #: source to its share of the clips; ``other`` stands for those that are not named
    sources: dict[str, float] = field(default_factory=lambda: {"other": 1.0})
    sizes: int = 3  # sizes in which each speaker comes, itself among them
    resized: float = 0.35  # share of clips at other sizes
    reference_clips: int = 2  # clips of a voice that condition a row
    reference_frames: int = 256  # mel frames of each
    grapheme_share: float = 0.5  # share of texts in which some words are letters
    max_total_mib: float = 64.0  # what may be carried off together
    max_file_mib: float = 15.5  # and of it, the largest file
    seed: int = 1

    RENAMED: ClassVar[dict[str, str | None]] = {}

    def __post_init__(self) -> None:
        if odd := sorted(set(STAGES) ^ self.stages.keys()):
            raise ConfigError(f"stages {'lacks' if odd[0] in STAGES else 'knows no'} {odd[0]}")

    def run(self, stage: str, out: Path) -> Any:
        """The run of a stage, with its folder. Raises ConfigError if a key of it is wrong."""
        paired = stage in ("autoregressive", "clvp", "diffusion")
        values = {
            "run": out / stage,
            "features": out,
            "mel_range": {"low": self.mel_range.low, "high": self.mel_range.high},
        }
        values |= {"codes": out, "text": out} if paired else {}
        if stage == "diffusion":
            values |= {"decoder": out / "autoregressive" / "autoregressive.safetensors"}
            values["decoder_network"] = self.stages["autoregressive"].run.get("network", {})
        return from_mapping(RUNS[stage], values | self.stages[stage].run, where=f"stages.{stage}.run")
