"""The published sizes: as many weights and names as the published files hold."""

from __future__ import annotations

import pytest
import torch

from chelys.models.autoregressive import Autoregressive, AutoregressiveConfig
from chelys.models.clvp import CLVP, CLVPConfig
from chelys.models.diffusion import Diffusion, DiffusionConfig
from chelys.models.dvae import DVAE, DVAEConfig
from chelys.models.univnet import UnivNet, UnivNetConfig
from chelys.weights.tortoise import fold, from_tortoise, to_tortoise

PUBLISHED = {
    # network: how to make it, parameters (without buffers), names in the file
    "autoregressive": (lambda: Autoregressive(AutoregressiveConfig.tortoise_v2()), 421_526_786, 410),
    "clvp": (lambda: CLVP(CLVPConfig.tortoise_v2()), 243_846_145, 451),
    "diffusion": (lambda: Diffusion(DiffusionConfig.tortoise_v2()), 292_334_380, 359),
    "dvae": (lambda: DVAE(DVAEConfig.tortoise_v2()), 51_567_184, 53),
    "univnet": (lambda: UnivNet(UnivNetConfig.c32(), weight_norm=True), 14_865_506, 132),
}


@pytest.mark.parametrize("network", PUBLISHED)
def test_published_size(network):
    make, parameters, names = PUBLISHED[network]
    with torch.device("meta"):  # shapes without memory
        model = make()
        published = to_tortoise(network, model.state_dict())
    assert sum(weight.numel() for weight in model.parameters()) == parameters
    assert len(published) == names
    again = from_tortoise(network, published, model)
    assert {name: tensor.shape for name, tensor in again.items()} == {
        name: tensor.shape for name, tensor in model.state_dict().items()
    }


def test_causal_masks_of_older_files_are_passed_over():
    with torch.device("meta"):
        model = PUBLISHED["autoregressive"][0]()
        published = to_tortoise("autoregressive", model.state_dict())
        masks = {f"gpt.h.{layer}.attn.bias": torch.ones(1, 1, 2, 2) for layer in range(30)}
        masks["gpt.h.0.attn.masked_bias"] = torch.tensor(-10000.0)
    assert from_tortoise("autoregressive", published | masks, model).keys() == model.state_dict().keys()


def test_fold_by_hand():
    direction = torch.tensor([[[3.0], [4.0]], [[0.0], [2.0]]])
    length = torch.tensor([[[10.0]], [[1.0]]])
    torch.testing.assert_close(fold(length, direction), torch.tensor([[[6.0], [8.0]], [[0.0], [1.0]]]))


@pytest.mark.parametrize(("strides", "blocks"), [(1, 2), (2, 3), (3, 1)])
def test_numbering_follows_the_number_of_layers(strides, blocks):
    """The published lists go on counting where ours begin anew, so their numbers hang on the size."""
    with torch.device("meta"):
        model = DVAE(DVAEConfig(strides=strides, residual_blocks=blocks))
        published = to_tortoise("dvae", model.state_dict())
    assert f"encoder.{strides + blocks}.weight" in published
    assert f"decoder.{strides + blocks + 1}.weight" in published
    assert from_tortoise("dvae", published, model).keys() == model.state_dict().keys()
