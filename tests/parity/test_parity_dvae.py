"""The VQ-VAE against the original."""

from __future__ import annotations

import pytest

from chelys.tortoise.state_dicts import from_tortoise


@pytest.fixture
def theirs(reference):
    return reference("dvae")


@pytest.fixture
def ours(theirs, build):
    model = build("dvae", theirs)
    model.load_state_dict(from_tortoise("dvae", theirs.weights, model))
    return model


def test_encoder(theirs, ours):
    theirs.check("encoded", ours.encoder(theirs.inputs["mel"]))


def test_codes(theirs, ours):
    theirs.check("codes", ours.encode(theirs.inputs["mel"]))


def test_decode(theirs, ours):
    seen = []
    ours.decoder.out.register_forward_hook(lambda _, args, __: seen.append(args[0]))
    theirs.check("decoded", ours.decode(theirs.outputs["codes"]))
    theirs.check("decoded_prelast", seen[0])


def test_losses(theirs, ours):
    mel = theirs.inputs["mel"]
    made = ours(mel)
    theirs.check("recon_loss_mean", (made.mel - mel).pow(2).mean())
    theirs.check("commitment_loss", (made.encoded - made.quantized).pow(2).mean())
