"""The diffusion decoder against the original: the network, not the sampler."""

from __future__ import annotations

import pytest

from chelys.tortoise.state_dicts import from_tortoise


@pytest.fixture
def theirs(reference):
    return reference("diffusion")


@pytest.fixture
def ours(theirs, build):
    model = build("diffusion", theirs)
    model.load_state_dict(from_tortoise("diffusion", theirs.weights, model))
    return model


def test_voice(theirs, ours):
    theirs.check("cond_latent", ours.voice(list(theirs.inputs["cond_mels"][0].unsqueeze(1))))


def test_content_of_latents(theirs, ours):
    positions = theirs.inputs["x"].shape[-1]
    content = ours.conditioning(theirs.inputs["latents"], theirs.outputs["cond_latent"], positions)
    theirs.check("aligned_from_latents", content)
    theirs.check("forward_from_latents_mel_pred", ours.mel_from_conditioning(content))


def test_conditioning_of_codes(theirs, ours):
    positions = theirs.inputs["x"].shape[-1]
    content = ours.conditioning_of_codes(theirs.inputs["codes"], theirs.outputs["cond_latent"], positions)
    theirs.check("aligned_from_codes", content)
    theirs.check("code_mel_pred", ours.mel_from_conditioning(content))


def test_forward(theirs, ours):
    content = theirs.outputs["aligned_from_latents"]
    theirs.check("forward", ours(theirs.inputs["x"], theirs.inputs["t"], content))


def test_forward_without_conditioning(theirs, ours):
    theirs.check("forward_conditioning_free", ours(theirs.inputs["x"], theirs.inputs["t"], None))


def test_forward_of_two(theirs, ours):
    content = theirs.outputs["aligned_from_latents"].expand(2, -1, -1)
    theirs.check("forward_batch2", ours(theirs.inputs["xb"], theirs.inputs["tb"], content))
