"""The networks at their published sizes: every name and shape of the published files, and as many parameters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chelys.tortoise.state_dicts import TABLES, from_tortoise, to_tortoise

#: File to names to shapes, as the original builds the networks.
SHAPES = json.loads((Path(__file__).parent / "state_dict_shapes.json").read_text(encoding="utf8"))

#: Network to its parameters (with weight norm, without buffers) and the names in its file.
COUNTS = {
    "autoregressive": (421_526_786, 410),
    "diffusion": (292_334_380, 359),
    "clvp": (243_846_145, 451),
    "cvvp": (37_780_225, 210),
    "univnet": (14_865_506, 132),
    "detector": (15_224_002, 122),
    "autoregressive_prior": (6_297_600, 12),
    "diffusion_prior": (25_178_112, 12),
    "hifigan": (17_844_226, 236),
    "dvae": (51_567_184, 53),
}
every_network = pytest.mark.parametrize("network", COUNTS)


def test_every_table_is_here():
    assert COUNTS.keys() == TABLES.keys()
    files = [table.file for table in TABLES.values()]
    assert len(set(files)) == len(files)
    in_the_list = {name for name in SHAPES if name.endswith(".pth")}
    assert in_the_list == set(files) - {"hifidecoder.pth", "dvae.pth"}, "these two the list of shapes leaves out"
    assert TABLES["univnet"].entry == "model_g" and "'model_g'" in SHAPES["_notes"]["vocoder.pth"]


@pytest.mark.parametrize("network", [network for network in COUNTS if TABLES[network].file in SHAPES])
def test_names_and_shapes(network, published_size):
    ours = to_tortoise(network, published_size(network).state_dict())
    assert {name: list(tensor.shape) for name, tensor in ours.items()} == SHAPES[TABLES[network].file]


@pytest.mark.parametrize("network", ["univnet", "hifigan"])
def test_folded_networks_are_written_alike(network, published_size):
    """Kernels without weight norm get the published names and shapes again."""
    model = published_size(network)
    before = to_tortoise(network, model.state_dict())
    model.fold()
    after = to_tortoise(network, model.state_dict())
    assert {name: tensor.shape for name, tensor in after.items()} == {name: t.shape for name, t in before.items()}


@every_network
def test_as_many_parameters_and_names(network, published_size):
    parameters, names = COUNTS[network]
    model = published_size(network)
    assert sum(weight.numel() for weight in model.parameters()) == parameters
    ours = to_tortoise(network, model.state_dict())
    assert len(ours) == names
    learned = [tensor for name, tensor in ours.items() if name not in TABLES[network].constants()]
    if network != "dvae":  # whose codebook is counted, not learned
        assert sum(tensor.numel() for tensor in learned) == parameters


@every_network
def test_what_the_files_hold_is_what_the_network_takes(network, published_size):
    model = published_size(network)
    again = from_tortoise(network, to_tortoise(network, model.state_dict()), model)
    wanted = model.state_dict()
    assert {name: tensor.shape for name, tensor in again.items()} == {name: t.shape for name, t in wanted.items()}
