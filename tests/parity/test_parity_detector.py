"""The detector against the original."""

from __future__ import annotations

import pytest

from chelys.tortoise.detector import SYNTHETIC
from chelys.tortoise.state_dicts import from_tortoise


@pytest.fixture
def theirs(reference):
    return reference("detector")


@pytest.fixture
def ours(theirs, build):
    model = build("detector", theirs)
    model.load_state_dict(from_tortoise("detector", theirs.weights, model))
    return model


def test_logits(theirs, ours):
    theirs.check("logits", ours(theirs.inputs["clip"].squeeze(1)))


def test_probabilities(theirs, ours):
    wave = theirs.inputs["clip"].squeeze(1)
    theirs.check("probs", ours(wave).softmax(dim=-1))
    distance = (ours.probability(wave) - theirs.outputs["probs"][:, SYNTHETIC]).abs().max()
    assert distance < 1e-5, "theirs is the probability of class 0"
