"""The stages of training, one module for the network of each; a module is imported when its stage is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from chelys import registry
from chelys.training.config import Run

#: Stage -> the class of its run.
_RUNS = {
    "dvae": f"{__name__}.dvae.DVAERun",
    "autoregressive": f"{__name__}.autoregressive.AutoregressiveRun",
    "clvp": f"{__name__}.clvp.CLVPRun",
    "diffusion": f"{__name__}.diffusion.DiffusionRun",
    "vocoder": f"{__name__}.vocoder.VocoderRun",
} | registry.STAGES


class _Runs(Mapping[str, type[Run]]):
    def __getitem__(self, stage: str) -> type[Run]:
        found: type[Run] = registry.find(_RUNS[stage])
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(_RUNS)

    def __len__(self) -> int:
        return len(_RUNS)


#: Stage -> the keys of its configuration file, a dataclass that builds the task.
RUNS = _Runs()
