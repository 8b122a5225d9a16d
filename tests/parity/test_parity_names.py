"""The name tables, both ways, with the names and weights of the original."""

from __future__ import annotations

import pytest
import torch

from chelys.errors import ModelError
from chelys.tortoise.state_dicts import fold, from_tortoise, to_tortoise


@pytest.fixture
def theirs(reference, network):
    return reference(network)


@pytest.fixture
def ours(theirs, build, network):
    return build(network, theirs)


def test_there_and_back(network, theirs, ours):
    """Exactly what was published comes back, but for kernels under weight norm, of which the product does."""
    published = to_tortoise(network, from_tortoise(network, theirs.weights, ours))
    assert published.keys() == theirs.weights.keys()
    for name, tensor in theirs.weights.items():
        module, _, leaf = name.rpartition(".")
        if leaf == "weight_v":
            kernels = [fold(side[f"{module}.weight_g"], side[name]) for side in (published, theirs.weights)]
            torch.testing.assert_close(*kernels)
        elif leaf != "weight_g":
            assert torch.equal(published[name], tensor), name


def test_back_and_there(network, ours):
    """What comes from us is ours again, every tensor, none swapped with another."""
    weights = {name: torch.randn_like(tensor.float()) for name, tensor in ours.state_dict().items()}
    again = from_tortoise(network, to_tortoise(network, weights), ours)
    assert list(again) == list(weights)
    for name, tensor in weights.items():
        torch.testing.assert_close(again[name], tensor, msg=name)


def test_the_network_is_not_changed(network, theirs, ours):
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    from_tortoise(network, theirs.weights, ours)
    assert all(torch.equal(tensor, before[name]) for name, tensor in ours.state_dict().items())


def refusal(network, weights, ours) -> str:
    with pytest.raises(ModelError) as refused:
        from_tortoise(network, weights, ours)
    message = str(refused.value)
    assert "\n" not in message and network in message and ".pth" in message
    return message


def test_every_missing_tensor_is_named(network, theirs, ours):
    constant = {name for name in theirs.weights if name.endswith("inv_freq")}
    for name in theirs.weights.keys() - constant:
        message = refusal(network, {key: theirs.weights[key] for key in theirs.weights if key != name}, ours)
        assert name.removesuffix("_g").removesuffix("_v") in message


def test_unexpected_tensors_are_named(network, theirs, ours):
    message = refusal(network, theirs.weights | {"ema.weight": torch.ones(1), "zoo": torch.ones(1)}, ours)
    assert "unexpected" in message and "'ema.weight' and 1 more" in message


def test_one_layer_too_many_is_named(network, theirs, ours):
    """A name of the right form is still unexpected when this network has no such layer."""
    more = {name.replace(".1.", ".31.", 1): tensor for name, tensor in theirs.weights.items() if ".1." in name}
    message = refusal(network, theirs.weights | more, ours)
    assert "unexpected" in message and ".31." in message


def test_wrong_shapes_are_named(network, theirs, ours):
    name = next(name for name in theirs.weights if name.endswith(("bias", "norm.weight")))
    wrong = theirs.weights | {name: theirs.weights[name][1:]}
    assert f"wrongly shaped: '{name}'" in refusal(network, wrong, ours)


def test_what_tortoise_has_no_name_for(network):
    with pytest.raises(ModelError, match="rotor"):
        to_tortoise(network, {"rotor.weight": torch.ones(1)})
