"""Networks with several conditioning latents, and the parts they are made of."""

from __future__ import annotations

import pytest
import torch

from chelys.models.autoregressive import Autoregressive, AutoregressiveConfig
from chelys.models.diffusion import Diffusion, DiffusionConfig
from chelys.models.dvae import DVAE, DVAEConfig
from chelys.nn.resampler import CrossAttention, PerceiverResampler

AUTOREGRESSIVE = AutoregressiveConfig(text_tokens=8, codes=6, dim=16, layers=2, heads=2, conditioning_tokens=3)
DIFFUSION = DiffusionConfig(
    bands=100, dim=32, heads=2, layers=1, latent_dim=16, codes=6, code_blocks=0, context_tokens=4
)  # fmt: skip


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_fresh_cross_attention_is_the_identity() -> None:
    x = torch.randn(2, 3, 16)
    assert torch.equal(CrossAttention(16, 2)(x, torch.randn(2, 7, 16)), x)


def test_a_resampler_gives_as_many_tokens_for_any_number_of_states_in_any_order() -> None:
    resampler = PerceiverResampler(16, 2, 5)
    torch.nn.init.normal_(resampler.attention[0].out.weight)
    states = torch.randn(2, 40, 16)
    assert resampler(states[:, :1]).shape == resampler(states).shape == (2, 5, 16)
    torch.testing.assert_close(resampler(states), resampler(states.flip(1)))
    assert not torch.allclose(resampler(states), resampler(states[:, :20]))


@torch.no_grad()
def test_several_conditioning_latents_sample_as_they_train() -> None:
    network = Autoregressive(AUTOREGRESSIVE).eval()
    clips = torch.randn(2, 3, 100, 40)
    conditioning = network.condition(clips)
    assert conditioning.shape == (2, *AUTOREGRESSIVE.voice_shape) == (2, 3, 16)
    assert network.condition(clips[:, 0]).shape == (2, 3, 16)
    text, lengths = torch.tensor([[3, 4, 5, 2], [2, 2, 0, 0]]), torch.tensor([4, 2])
    codes, code_lengths = torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.tensor([3, 2])
    text_logits, code_logits, latents = network(conditioning, text, lengths, codes, code_lengths)
    assert text_logits.shape == (2, 5, 9) and code_logits.shape == (2, 4, 8)
    alone = network.latents(conditioning[1:], text[1:, :2], codes[1:, :2])
    torch.testing.assert_close(latents[1:, :2], alone, atol=1e-5, rtol=1e-5)
    first, cache = network.read_prompt(conditioning, text, lengths, 4)
    torch.testing.assert_close(first, latents[:, 0], atol=1e-5, rtol=1e-5)
    second = network.read_code(codes[:, 0], 1, cache)
    torch.testing.assert_close(second, latents[:, 1], atol=1e-5, rtol=1e-5)
    moved = conditioning.clone()
    moved[:, 2] += torch.randn(16)
    assert not torch.allclose(network(moved, text, lengths, codes, code_lengths)[1], code_logits), "all are read"


@torch.no_grad()
def test_latent_blocks_attend_to_context_tokens() -> None:
    network = Diffusion(DIFFUSION).eval()
    for crossing in network.context_attention:
        torch.nn.init.normal_(crossing.out.weight)
    clips = torch.randn(2, 3, 100, 32)
    voices = network.voices(clips)
    assert voices.shape == (2, *DIFFUSION.voice_shape) == (2, 6, 32)
    alone = network.voice(list(clips[1].split(1)))
    torch.testing.assert_close(voices[1:], alone, atol=1e-5, rtol=1e-5)
    latents = torch.randn(2, 5, 16)
    conditioning = network.conditioning(latents, voices, 10)
    for part in (0, 1, 5):  # scale, shift, a token
        moved = voices.clone()
        moved[:, part] += torch.randn(32)
        assert not torch.allclose(network.conditioning(latents, moved, 10), conditioning)


@torch.no_grad()
def test_the_mean_spectrum_goes_past_the_codes() -> None:
    sizes = {"tokens": 12, "code_width": 4, "hidden": 16, "residual_blocks": 1}
    dvae = DVAE(DVAEConfig(**sizes, clip_mean=True)).eval()
    mel, room = torch.randn(1, 100, 64), torch.randn(1, 100)
    codes = dvae.encode(mel)
    assert torch.equal(dvae.encode(mel + room[:, :, None]), codes)
    assert torch.equal(dvae.encode_clips([mel[0], (mel + room[:, :, None])[0]], frames=128)[1], codes[0])
    plain, roomy = dvae.decode(codes, mel.mean(2)), dvae.decode(codes, mel.mean(2) + room)
    assert not torch.allclose(plain, roomy)
    torch.testing.assert_close(dvae(mel).mel, plain, atol=1e-5, rtol=1e-5)
    assert DVAE(DVAEConfig(**sizes)).state_dict().keys() < dvae.state_dict().keys()


def test_a_ctc_head_reads_the_text_from_the_code_vectors() -> None:
    dvae = DVAE(DVAEConfig(tokens=12, code_width=4, hidden=16, residual_blocks=1, text_tokens=6))
    mel, text = torch.randn(2, 100, 48), torch.tensor([[1, 2, 3], [4, 5, 0]])
    optimizer = torch.optim.Adam(dvae.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        out = dvae(mel)
        assert out.text_logits is not None and out.text_logits.shape == (2, 14, 12)
        losses.append(dvae.text_nll(out.text_logits, text, torch.tensor([3, 2]), torch.tensor([12, 9])).sum())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0] and all(p.grad is not None for p in dvae.encoder.parameters())
