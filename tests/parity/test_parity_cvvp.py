"""CVVP against the original."""

from __future__ import annotations

import pytest
import torch.nn.functional as F

from chelys.tortoise.state_dicts import from_tortoise


@pytest.fixture
def theirs(reference):
    return reference("cvvp")


@pytest.fixture
def ours(theirs, build):
    model = build("cvvp", theirs)
    model.load_state_dict(from_tortoise("cvvp", theirs.weights, model))
    return model


def test_latents(theirs, ours):
    seen = {}
    for name in ("clip", "speech"):
        encoder = getattr(ours, f"{name}_encoder")
        encoder.projection.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    clip, speech = ours.encode_clip(theirs.inputs["mel_cond"]), ours.encode_speech(theirs.inputs["codes"])
    theirs.check("cond_latent_prenorm", seen["clip"])
    theirs.check("speech_latent_prenorm", seen["speech"])
    for latents, name in ((clip, "cond_latent_prenorm"), (speech, "speech_latent_prenorm")):
        assert (latents - F.normalize(theirs.outputs[name], dim=-1)).abs().max() < 1e-5


def test_scores(theirs, ours):
    mel, codes = theirs.inputs["mel_cond"], theirs.inputs["codes"]
    theirs.check("scores", ours.score(mel, codes))
    theirs.check("scores", ours.similarity(ours.encode_clip(mel), ours.encode_speech(codes)).diagonal())
