"""UnivNet against the original."""

from __future__ import annotations

import pytest

from chelys.tortoise.state_dicts import from_tortoise


@pytest.fixture
def theirs(reference):
    return reference("univnet")


@pytest.fixture(params=[False, True], ids=["folded", "weight norm"])
def ours(theirs, build, request):
    model = build("univnet", theirs, weight_norm=request.param)
    model.load_state_dict(from_tortoise("univnet", theirs.weights, model))
    return model


def test_forward(theirs, ours):
    wave = ours(theirs.inputs["mel"], theirs.inputs["z"])
    theirs.check("wave", wave[:, None])


def test_vocode(theirs, ours):
    """In float64: sums in float32 in whatever order, also the original's, are up to 1e-4 off in this random network."""
    wave = ours.double().vocode(theirs.inputs["mel"].double(), noise=theirs.inputs["z_inference"].double())
    theirs.check("wave_inference", wave[:, None].float())
