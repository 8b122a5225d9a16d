"""CLVP: padding, batching and size."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch

from chelys.errors import ConfigError
from chelys.models.clvp import CLVP, NO_ALIGNMENT, CLVPConfig

SMALL = CLVPConfig(text_tokens=20, speech_tokens=30, dim=24, depth=2, heads=2, head_dim=16, rotary_dim=8)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return CLVP(SMALL).eval()


@pytest.fixture
def pairs():
    generator = torch.Generator().manual_seed(1)
    return torch.randint(20, (3, 7), generator=generator), torch.randint(30, (3, 11), generator=generator)


def as_alone(measure, pairs, text_lengths, code_lengths):
    """What a measure makes of padded rows, which is what it makes of each alone."""
    text, codes = pairs
    together = measure(text, codes, text_lengths, code_lengths)
    alone = [
        measure(text[i : i + 1, :t], codes[i : i + 1, :m])
        for i, (t, m) in enumerate(zip(text_lengths, code_lengths, strict=True))
    ]
    torch.testing.assert_close(together, torch.cat(alone))
    return together


def test_padding_changes_no_score(model, pairs):
    together = as_alone(model.score, pairs, torch.tensor([7, 4, 1]), torch.tensor([2, 11, 6]))
    assert not torch.allclose(together, model.score(*pairs)), "without lengths padding counts"


def test_one_text_for_all_takes(model, pairs):
    text, codes = pairs
    scores = model.score(text[:1], codes)
    torch.testing.assert_close(scores, model.score(text[:1].expand(3, -1), codes))
    latents = model.encode_text(text[:1]), model.encode_speech(codes)
    torch.testing.assert_close(scores, model.similarity(*latents)[0])


def test_latents_are_on_the_unit_sphere(model, pairs):
    text, codes = pairs
    for latents in (model.encode_text(text), model.encode_speech(codes)):
        assert latents.shape == (3, SMALL.dim)
        torch.testing.assert_close(latents.norm(dim=-1), torch.ones(3))
    assert model.similarity(model.encode_text(text), model.encode_speech(codes[:2])).shape == (3, 2)


def test_encoders_of_different_size(pairs):
    model = CLVP(replace(SMALL, speech_dim=16, speech_depth=1, speech_heads=1, latent_dim=12)).eval()
    latents = [model.encode_text(pairs[0]), model.encode_speech(pairs[1])]
    assert [latent.shape for latent in latents] == [(3, 12), (3, 12)]
    assert (len(model.text_encoder.blocks), len(model.speech_encoder.blocks)) == (2, 1)
    torch.testing.assert_close(model.score(*pairs), model.similarity(*latents).diagonal())


@pytest.fixture
def reader():
    torch.manual_seed(0)
    return CLVP(replace(SMALL, frames_per_token=2)).eval()


def test_likelihoods_of_all_texts_add_up_to_one():
    """Two codes are read four times: every text of up to four ids that these can spell, and nothing else."""
    torch.manual_seed(0)
    tiny = CLVP(replace(SMALL, text_tokens=2, frames_per_token=2)).eval()
    codes = torch.tensor([[3, 7]])
    texts = [torch.tensor([ids]) for n in range(1, 5) for ids in itertools.product(range(2), repeat=n)]
    chances = [tiny.likelihood(text, codes).exp().item() for text in texts]
    blanks = tiny.ctc_head(tiny.speech_encoder.states(codes)).unflatten(2, (2, 3)).log_softmax(-1)[..., 2].sum()
    readable = [c for c, text in zip(chances, texts, strict=True) if text.shape[1] + _repeats(text) <= 4]
    assert sum(readable) + blanks.exp().item() == pytest.approx(1, abs=1e-4)


def _repeats(text):
    """Ids that are like the one before: a blank has to stand between."""
    return int((text[0, 1:] == text[0, :-1]).sum())


def test_padding_changes_no_likelihood(reader, pairs):
    together = as_alone(reader.likelihood, pairs, torch.tensor([7, 4, 1]), torch.tensor([8, 11, 6]))
    assert (together < 0).all()


def test_the_likelihood_is_part_of_the_score(reader, pairs):
    text, codes = pairs
    cosines = reader.similarity(reader.encode_text(text), reader.encode_speech(codes)).diagonal()
    torch.testing.assert_close(reader.score(text, codes), cosines + reader.likelihood(text, codes))
    one = reader.likelihood(text[:1], codes)
    torch.testing.assert_close(one, reader.likelihood(text[:1].expand(3, -1), codes))


def test_too_few_codes_for_the_text_are_unlikely_and_spoil_no_gradient(reader):
    text, codes = torch.arange(12)[None], torch.tensor([[1, 2]])
    with torch.enable_grad():
        found = reader.likelihood(text, codes)
        found.sum().backward()
    assert found.item() == 12 * NO_ALIGNMENT
    assert all(w.grad is None or w.grad.isfinite().all() for w in reader.parameters())


def test_order_matters(model, pairs):
    text, codes = pairs
    assert not torch.allclose(model.score(text, codes), model.score(text.flip(1), codes), atol=1e-5)


def test_every_weight_learns(model, pairs):
    model.train()
    with torch.enable_grad():
        model.score(*pairs).sum().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, name


def test_published_size():
    with torch.device("meta"):
        model = CLVP(CLVPConfig.tortoise_v2())
    assert sum(weight.numel() for weight in model.parameters()) == 243_846_145


@pytest.mark.parametrize("rotary_dim", [7, 32, 0])
def test_impossible_rotation(rotary_dim):
    with pytest.raises(ConfigError, match="rotary_dim"):
        CLVPConfig(head_dim=16, rotary_dim=rotary_dim)
