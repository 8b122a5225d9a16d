"""CLVP against the original."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from chelys.tortoise.state_dicts import from_tortoise


@pytest.fixture
def theirs(reference):
    return reference("clvp")


@pytest.fixture
def ours(theirs, build):
    model = build("clvp", theirs)
    model.load_state_dict(from_tortoise("clvp", theirs.weights, model))
    return model


def test_latents(theirs, ours):
    seen = {}
    for name in ("text", "speech"):
        encoder = getattr(ours, f"{name}_encoder")
        encoder.projection.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    text, speech = ours.encode_text(theirs.inputs["text"]), ours.encode_speech(theirs.inputs["codes"])
    theirs.check("text_latent_prenorm", seen["text"])
    theirs.check("speech_latent_prenorm", seen["speech"])
    torch.testing.assert_close(text, F.normalize(theirs.outputs["text_latent_prenorm"], dim=-1), rtol=0, atol=1e-5)
    torch.testing.assert_close(speech, F.normalize(theirs.outputs["speech_latent_prenorm"], dim=-1), rtol=0, atol=1e-5)


def test_scores(theirs, ours):
    theirs.check("scores", ours.score(theirs.inputs["text"], theirs.inputs["codes"]))


def test_similarity_gives_their_loss(theirs, ours):
    text, speech = ours.encode_text(theirs.inputs["text"]), ours.encode_speech(theirs.inputs["codes"])
    scores = ours.similarity(text, speech)
    pairs = torch.arange(len(scores))
    theirs.check("loss", (F.cross_entropy(scores, pairs) + F.cross_entropy(scores.T, pairs)) / 2)


def test_full_lengths_change_nothing(theirs, ours):
    text, codes = theirs.inputs["text"], theirs.inputs["codes"]
    full = ours.score(text, codes, torch.full((len(text),), text.shape[1]), torch.full((len(codes),), codes.shape[1]))
    theirs.check("scores", full)
