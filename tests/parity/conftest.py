"""Numbers of the original TorToise at small sizes: random weights, inputs and what came out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from chelys.models.autoregressive import Autoregressive, AutoregressiveConfig
from chelys.models.clvp import CLVP, CLVPConfig
from chelys.models.diffusion import Diffusion, DiffusionConfig
from chelys.models.dvae import DVAE, DVAEConfig
from chelys.tortoise.cvvp import CVVP, CVVPConfig
from chelys.tortoise.detector import Detector, DetectorConfig
from chelys.tortoise.hifigan import HiFiGAN, HiFiGANConfig
from chelys.tortoise.univnet import UnivNet, UnivNetConfig
from chelys.tortoise.voice_prior import VoicePrior, VoicePriorConfig

FOLDER = Path(os.environ.get("CHELYS_PARITY_DIR") or Path(__file__).parent)
Sizes = dict[str, Any]  # the arguments of the original's constructor


@dataclass(frozen=True)
class Reference:
    """One network of the original."""

    sizes: Sizes
    weights: dict[str, Tensor]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]

    def check(self, name: str, ours: Tensor) -> None:
        """Compare an output: integers exactly, others within 1e-4 of the largest value."""
        theirs = self.outputs[name]
        assert ours.shape == theirs.shape, f"{name}: {tuple(ours.shape)}, not {tuple(theirs.shape)}"
        if not theirs.is_floating_point():
            assert torch.equal(ours, theirs), name
            return
        distance, largest = (ours - theirs).abs().max().item(), theirs.abs().max().item()
        assert distance <= 1e-4 * largest, f"{name}: off by {distance:.3g}, largest value {largest:.3g}"


def autoregressive(sizes: Sizes) -> Autoregressive:
    assert sizes["types"] == 1 and not sizes["train_solo_embeddings"]
    codes = sizes["start_mel_token"]
    assert (sizes["stop_mel_token"], sizes["number_mel_codes"]) == (codes + 1, codes + 2)
    assert sizes["start_text_token"] == sizes["number_text_tokens"]
    config = replace(
        AutoregressiveConfig.tortoise_v2(),
        text_tokens=sizes["number_text_tokens"],
        codes=codes,
        dim=sizes["model_dim"],
        layers=sizes["layers"],
        heads=sizes["heads"],
        text_positions=sizes["max_text_tokens"] + 2,
        code_positions=sizes["max_mel_tokens"] + 2 + sizes["max_conditioning_inputs"],
    )
    return Autoregressive(config)


def clvp(sizes: Sizes) -> CLVP:
    config = CLVPConfig(
        text_tokens=sizes["num_text_tokens"],
        speech_tokens=sizes["num_speech_tokens"],
        dim=sizes["dim_text"],
        depth=sizes["text_enc_depth"],
        heads=sizes["text_heads"],
        speech_dim=sizes["dim_speech"],
        speech_depth=sizes["speech_enc_depth"],
        speech_heads=sizes["speech_heads"],
        latent_dim=sizes["dim_latent"],
        rotate_values=True,
    )
    return CLVP(config)


def diffusion(sizes: Sizes) -> Diffusion:
    assert sizes["out_channels"] == 2 * sizes["in_channels"]
    config = replace(
        DiffusionConfig.tortoise_v2(),
        bands=sizes["in_channels"],
        dim=sizes["model_channels"],
        heads=sizes["num_heads"],
        layers=sizes["num_layers"],
        latent_dim=sizes["in_latent_channels"],
        codes=sizes["in_tokens"] - 1,
    )
    return Diffusion(config)


def univnet(sizes: Sizes, *, weight_norm: bool = False) -> UnivNet:
    config = UnivNetConfig(
        mel_bands=sizes["n_mel_channels"],
        noise_dim=sizes["noise_dim"],
        channels=sizes["channel_size"],
        strides=tuple(sizes["strides"]),
        dilations=tuple(sizes["dilations"]),
        predictor_kernel_size=sizes["kpnet_conv_size"],
        slope=sizes["lReLU_slope"],
    )
    assert config.hop == sizes["hop_length"]
    return UnivNet(config, weight_norm=weight_norm)


def cvvp(sizes: Sizes) -> CVVP:
    assert sizes["latent_multiplier"] == 1
    config = replace(
        CVVPConfig.tortoise_v2(),
        bands=sizes["mel_channels"],
        speech_tokens=sizes["mel_codes"],
        dim=sizes["model_dim"],
        clip_depth=sizes["conditioning_enc_depth"],
        speech_depth=sizes["speech_enc_depth"],
        heads=sizes["transformer_heads"],
    )
    return CVVP(config)


def voice_prior(sizes: Sizes) -> VoicePrior:
    return VoicePrior(VoicePriorConfig.tortoise_v2(sizes["channels"]))


def detector(sizes: Sizes) -> Detector:
    assert sizes["spec_dim"] == 1 and not sizes["distribute_zero_label"]
    config = DetectorConfig(
        channels=sizes["base_channels"],
        stages=sizes["depth"],
        blocks=sizes["resnet_blocks"],
        kernel_size=sizes["kernel_size"],
        stride=sizes["downsample_factor"],
        dim=sizes["embedding_dim"],
        attention_blocks=sizes["attn_blocks"],
        heads=sizes["num_attn_heads"],
        classes=sizes["classes"],
    )
    return Detector(config)


def dvae(sizes: Sizes) -> DVAE:
    assert sizes["kernel_size"] == 3 and sizes["positional_dims"] == 1 and not sizes["use_transposed_convs"]
    config = DVAEConfig(
        bands=sizes["channels"],
        tokens=sizes["num_tokens"],
        code_width=sizes["codebook_dim"],
        hidden=sizes["hidden_dim"],
        strides=sizes["num_layers"],
        residual_blocks=sizes["num_resnet_blocks"],
        late_narrowing=True,
    )
    return DVAE(config)


BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "autoregressive": autoregressive,
    "clvp": clvp,
    "cvvp": cvvp,
    "diffusion": diffusion,
    "univnet": univnet,
    "autoregressive_prior": voice_prior,
    "diffusion_prior": voice_prior,
    "detector": detector,
    "dvae": dvae,
}
#: Where the file is not called as our network is.
FILES = {
    "autoregressive": "ar",
    "autoregressive_prior": "rlg",
    "diffusion_prior": "rlg",
    "detector": "classifier",
}


#: Every network of the published system at its own size, in the form of its file.
PUBLISHED: dict[str, Callable[[], nn.Module]] = {
    "autoregressive": lambda: Autoregressive(AutoregressiveConfig.tortoise_v2()),
    "clvp": lambda: CLVP(CLVPConfig.tortoise_v2()),
    "cvvp": lambda: CVVP(CVVPConfig.tortoise_v2()),
    "diffusion": lambda: Diffusion(DiffusionConfig.tortoise_v2()),
    "univnet": lambda: UnivNet(UnivNetConfig.c32(), weight_norm=True),
    "hifigan": lambda: HiFiGAN(HiFiGANConfig.tortoise_v2(), weight_norm=True),
    "autoregressive_prior": lambda: VoicePrior(VoicePriorConfig.tortoise_v2(1024)),
    "diffusion_prior": lambda: VoicePrior(VoicePriorConfig.tortoise_v2(2048)),
    "detector": lambda: Detector(DetectorConfig.tortoise_v2()),
    "dvae": lambda: DVAE(DVAEConfig.tortoise_v2()),
}


@pytest.fixture(params=sorted(BUILDERS))
def network(request: pytest.FixtureRequest) -> str:
    """Every network by turns, by the name it has among ours."""
    return request.param


@pytest.fixture
def reference() -> Callable[[str], Reference]:
    """Read the numbers of the network that we call so."""

    def read(network: str) -> Reference:
        groups: dict[str, dict[str, Tensor]] = {"weights": {}, "in": {}, "out": {}}
        with safe_open(str(FOLDER / f"{FILES.get(network, network)}.safetensors"), "pt") as file:
            sizes = json.loads(file.metadata()["config"])
            for key in file.keys():  # noqa: SIM118 - not a dictionary
                group, _, rest = key.partition(".")
                groups[group][rest] = file.get_tensor(key)
        return Reference(sizes, groups["weights"], groups["in"], groups["out"])

    return read


@pytest.fixture
def build() -> Callable[..., nn.Module]:
    """Make our network of the size of the reference, with weights of its own."""

    def make(network: str, reference: Reference, **options: Any) -> nn.Module:
        return BUILDERS[network](reference.sizes, **options).eval()

    return make


@pytest.fixture(scope="session")
def published_size() -> Callable[[str], nn.Module]:
    """Make one of our networks at its published size, in shapes only, without memory."""

    def make(network: str) -> nn.Module:
        with torch.device("meta"):
            return PUBLISHED[network]()

    return make


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """No gradients, and the same order of additions everywhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        yield
    torch.set_num_threads(threads)
