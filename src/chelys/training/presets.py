"""Sizes by name: ``network: {like: tortoise-v2, layer_drop: 0}`` are the published ones, but for what follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import BeforeValidator

from chelys.models.autoregressive import AutoregressiveConfig
from chelys.models.clvp import CLVPConfig
from chelys.models.diffusion import DiffusionConfig
from chelys.models.dvae import DVAEConfig
from chelys.tortoise.cvvp import CVVPConfig
from chelys.tortoise.detector import DetectorConfig
from chelys.tortoise.hifigan import HiFiGANConfig
from chelys.tortoise.univnet import UnivNetConfig

NAME = "tortoise-v2"


def named(published: Callable[[], Any]) -> BeforeValidator:
    """Lets a configuration begin from the published sizes."""

    def expand(value: Any) -> Any:
        if not isinstance(value, Mapping) or "like" not in value:
            return value
        changes = {key: entry for key, entry in value.items() if key != "like"}
        if value["like"] != NAME:
            raise ValueError(f"like is {value['like']!r}; it must be {NAME}, or left out for the sizes of nano")
        return asdict(published()) | changes

    return BeforeValidator(expand)


DVAESizes = Annotated[DVAEConfig, named(DVAEConfig.tortoise_v2)]
AutoregressiveSizes = Annotated[AutoregressiveConfig, named(AutoregressiveConfig.tortoise_v2)]
CLVPSizes = Annotated[CLVPConfig, named(CLVPConfig.tortoise_v2)]
CVVPSizes = Annotated[CVVPConfig, named(CVVPConfig.tortoise_v2)]
DiffusionSizes = Annotated[DiffusionConfig, named(DiffusionConfig.tortoise_v2)]
UnivNetSizes = Annotated[UnivNetConfig, named(UnivNetConfig.c32)]
HiFiGANSizes = Annotated[HiFiGANConfig, named(HiFiGANConfig.tortoise_v2)]
DetectorSizes = Annotated[DetectorConfig, named(DetectorConfig.tortoise_v2)]
