"""The voice priors against the original."""

from __future__ import annotations

import pytest

from chelys.tortoise.state_dicts import from_tortoise


@pytest.mark.parametrize("name", ["autoregressive_prior", "diffusion_prior"])
def test_voice_of_their_noise(reference, build, name):
    theirs = reference(name)
    ours = build(name, theirs)
    ours.load_state_dict(from_tortoise(name, theirs.weights, ours))
    theirs.check("latent", ours(theirs.inputs["z"]))
