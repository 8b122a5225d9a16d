"""CVVP: shapes, what counts, and size."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from chelys.errors import ConfigError
from chelys.tortoise.cvvp import CVVP, CVVPConfig

SMALL = CVVPConfig(
    bands=6, speech_tokens=30, dim=24, clip_depth=1, speech_depth=2, heads=2, head_dim=16, rotary_dim=8
)  # fmt: skip


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = CVVP(SMALL).eval()
    for encoder in (model.clip_encoder, model.speech_encoder):  # they start at zero, where nothing is seen of them
        torch.nn.init.normal_(encoder.combiner.attention.out.weight, std=0.3)
    return model


@pytest.fixture
def pairs():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 6, 21, generator=generator), torch.randint(30, (3, 11), generator=generator)


def test_latents_are_on_the_unit_sphere(model, pairs):
    mel, codes = pairs
    for latents in (model.encode_clip(mel), model.encode_speech(codes)):
        assert latents.shape == (3, SMALL.dim)
        torch.testing.assert_close(latents.norm(dim=-1), torch.ones(3))
    assert model.similarity(model.encode_clip(mel), model.encode_speech(codes[:2])).shape == (3, 2)


def test_one_clip_for_all_takes(model, pairs):
    mel, codes = pairs
    scores = model.score(mel[:1], codes)
    assert scores.shape == (3,)
    torch.testing.assert_close(scores, model.score(mel[:1].expand(3, -1, -1), codes))
    torch.testing.assert_close(scores, model.similarity(model.encode_clip(mel[:1]), model.encode_speech(codes))[0])


def test_rows_do_not_see_each_other(model, pairs):
    alone = [model.score(mel[None], codes[None]) for mel, codes in zip(*pairs, strict=True)]
    torch.testing.assert_close(model.score(*pairs), torch.cat(alone))


def test_order_and_ends_matter(model, pairs):
    mel, codes = pairs
    scores = model.score(mel, codes)
    assert not torch.allclose(scores, model.score(mel, codes.flip(1)), atol=1e-5)
    assert not torch.allclose(scores, model.score(mel.flip(2), codes), atol=1e-5)
    assert not torch.allclose(scores, model.score(mel, codes[:, :-1]), atol=1e-5)


def test_every_weight_learns(model, pairs):
    with torch.enable_grad():
        model.score(*pairs).sum().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, name


def test_published_size():
    with torch.device("meta"):
        model = CVVP(CVVPConfig.tortoise_v2())
    assert sum(weight.numel() for weight in model.parameters()) == 37_780_225


@pytest.mark.parametrize(
    ("change", "said"),
    [({"rotary_dim": 7}, "rotary_dim is 7"), ({"rotary_dim": 32}, "rotary_dim is 32"), ({"heads": 5}, "dim is 24")],
)
def test_impossible_sizes(change, said):
    with pytest.raises(ConfigError, match=said):
        replace(SMALL, **change)
