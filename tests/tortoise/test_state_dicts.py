"""Translation of published weights: masks, weight norm kept or folded, numbering, damaged tensors."""

from __future__ import annotations

import pytest
import torch

from chelys.errors import ModelError
from chelys.models.autoregressive import Autoregressive, AutoregressiveConfig
from chelys.models.dvae import DVAE, DVAEConfig
from chelys.tortoise.hifigan import HiFiGAN, HiFiGANConfig
from chelys.tortoise.state_dicts import fold, from_tortoise, to_tortoise
from chelys.tortoise.univnet import UnivNet, UnivNetConfig

#: The networks whose published files hold kernels under weight norm, at small sizes.
NORMED = {
    "univnet": lambda **options: UnivNet(UnivNetConfig(mel_bands=6, noise_dim=5, channels=4, strides=(3,)), **options),
    "hifigan": lambda **options: HiFiGAN(
        HiFiGANConfig(
            latent_dim=5, voice_dim=7, channels=8, strides=(3, 2), stride_kernels=(5, 4), block_kernels=(3, 5),
            dilations=(1, 2),
        ),
        **options,
    ),
}  # fmt: skip


@pytest.fixture(params=NORMED)
def normed(request):
    return request.param


def invented(network):
    """Weights in the published form that look like none that were ever made from ours."""
    generator = torch.Generator().manual_seed(0)
    published = to_tortoise(network, NORMED[network](weight_norm=True).state_dict())
    return {name: torch.randn(tensor.shape, generator=generator) for name, tensor in published.items()}


def test_causal_masks_of_older_files_are_passed_over():
    with torch.device("meta"):
        model = Autoregressive(AutoregressiveConfig.tortoise_v2())
    published = to_tortoise("autoregressive", model.state_dict())
    masks = {f"gpt.h.{layer}.attn.bias": torch.ones(1, 1, 2, 2) for layer in range(30)}
    masks |= {f"gpt.h.{layer}.attn.masked_bias": torch.tensor(-10000.0) for layer in range(30)}
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


def test_kept_weight_norm_comes_back_to_the_last_bit(normed):
    published = invented(normed)
    model = NORMED[normed](weight_norm=True)
    model.load_state_dict(from_tortoise(normed, published, model))
    again = to_tortoise(normed, model.state_dict())
    assert again.keys() == published.keys()
    assert all(torch.equal(tensor, published[name]) for name, tensor in again.items())


def test_folded_and_kept_are_the_same_kernels(normed):
    published = invented(normed)
    kept, folded = NORMED[normed](weight_norm=True), NORMED[normed]()
    for model in (kept, folded):
        model.load_state_dict(from_tortoise(normed, published, model))
    kept.fold()
    assert kept.state_dict().keys() == folded.state_dict().keys()
    for name, tensor in folded.state_dict().items():
        torch.testing.assert_close(kept.state_dict()[name], tensor, msg=name)
    again = from_tortoise(normed, to_tortoise(normed, folded.state_dict()), folded)
    for name, tensor in folded.state_dict().items():
        torch.testing.assert_close(again[name], tensor, msg=name)


def test_the_kernel_of_the_voice_is_not_split():
    assert {name for name in invented("hifigan") if name.startswith("cond_layer")} == {
        "cond_layer.weight", "cond_layer.bias"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("conv_pre.weight_g", torch.ones(())),
        ("conv_pre.weight_g", torch.ones(3, 1, 1)),
        ("conv_pre.weight_g", torch.ones(8, 2, 9)),
        ("conv_pre.weight_v", torch.ones(())),
        ("conv_pre.weight_v", torch.ones(8)),
        ("conv_pre.weight_v", torch.ones(8, 5, 2)),
    ],
)
@pytest.mark.parametrize("weight_norm", [False, True])
def test_misshapen_kernels_are_named(name, tensor, weight_norm):
    model = NORMED["hifigan"](weight_norm=weight_norm)
    with pytest.raises(ModelError, match=r"hifigan: weights .*conv_pre\.weight.*hifidecoder\.pth"):
        from_tortoise("hifigan", invented("hifigan") | {name: tensor}, model)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)])
def test_a_matrix_that_is_none_is_named(shape):
    with torch.device("meta"):
        model = DVAE(DVAEConfig())
    published = to_tortoise("dvae", model.state_dict()) | {"codebook.embed": torch.ones(shape)}
    with pytest.raises(ModelError, match=r"wrongly shaped: 'codebook\.embed'"):
        from_tortoise("dvae", published, model)
