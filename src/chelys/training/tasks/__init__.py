"""The stages of training, one module for the network of each; a module is imported when its stage is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

from chelys.training.config import Run

#: Stage -> its module here, and the class of its run.
_RUNS = {
    "dvae": ("dvae", "DVAERun"),
    "autoregressive": ("autoregressive", "AutoregressiveRun"),
    "clvp": ("clvp", "CLVPRun"),
    "diffusion": ("diffusion", "DiffusionRun"),
    "vocoder": ("vocoder", "VocoderRun"),
    "cvvp": ("clvp", "CVVPRun"),
    "hifigan": ("vocoder", "HiFiGANRun"),
    "autoregressive_prior": ("voice_prior", "AutoregressivePriorRun"),
    "diffusion_prior": ("voice_prior", "DiffusionPriorRun"),
    "detector": ("detector", "DetectorRun"),
}


class _Runs(Mapping[str, type[Run]]):
    def __getitem__(self, stage: str) -> type[Run]:
        module, name = _RUNS[stage]
        return getattr(import_module(f"chelys.training.tasks.{module}"), name)

    def __iter__(self) -> Iterator[str]:
        return iter(_RUNS)

    def __len__(self) -> int:
        return len(_RUNS)


#: Stage -> the keys of its configuration file, a dataclass that builds the task.
RUNS = _Runs()
