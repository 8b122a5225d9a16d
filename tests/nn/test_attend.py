"""Attention written out is the attention of torch's kernel; nobody but training on a processor gets it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from chelys.nn.attention import attend

B, H, T, C = 2, 3, 37, 16


def sequences(dtype: torch.dtype, *, grad: bool = True) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = torch.randn(3, B, T, H, C, generator=generator).to(dtype).transpose(2, 3)
    return [x.clone().requires_grad_(grad) for x in made]


def masks() -> dict[str, dict]:
    lengths = torch.tensor([T, 20])
    generator = torch.Generator().manual_seed(1)
    return {
        "all": {},
        "causal": {"causal": True},
        "padding": {"mask": (torch.arange(T) < lengths[:, None])[:, None, None]},
        "bias": {"mask": torch.randn(1, H, T, T, generator=generator)},
    }


@pytest.mark.parametrize("kind", masks())
def test_training_in_half_precision_has_the_same_outputs_and_gradients(kind):
    options = masks()[kind]
    if kind == "bias":
        options["mask"] = options["mask"].bfloat16()
    query, key, value = sequences(torch.bfloat16)
    attended = attend(query, key, value, **options)
    upstream = torch.randn(attended.shape, generator=torch.Generator().manual_seed(2))
    attended.backward(upstream.bfloat16())
    exact = [x.detach().float().requires_grad_() for x in (query, key, value)]
    mask = options.get("mask")
    wanted = F.scaled_dot_product_attention(
        *exact, attn_mask=mask.float() if kind == "bias" else mask, is_causal=options.get("causal", False)
    )
    wanted.backward(upstream)
    assert attended.dtype == torch.bfloat16
    torch.testing.assert_close(attended.float(), wanted, rtol=0.02, atol=0.02)
    for half, full in zip((query, key, value), exact, strict=True):
        torch.testing.assert_close(half.grad.float(), full.grad, rtol=0.05, atol=0.03)


@pytest.mark.parametrize("kind", masks())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_else_is_the_kernel_bit_for_bit(kind, dtype):
    options = masks()[kind]
    if kind == "bias":
        options["mask"] = options["mask"].to(dtype)
    query, key, value = sequences(dtype, grad=dtype == torch.float32)
    with torch.set_grad_enabled(dtype == torch.float32):
        attended = attend(query, key, value, **options)
    kernel = F.scaled_dot_product_attention(
        query, key, value, attn_mask=options.get("mask"), is_causal=options.get("causal", False)
    )
    assert torch.equal(attended, kernel)


def test_without_gradients_trained_weights_get_the_kernel():
    query, key, value = sequences(torch.bfloat16)
    with torch.no_grad():
        assert torch.equal(attend(query, key, value), F.scaled_dot_product_attention(query, key, value))


def test_dropout_drops_weights_and_keeps_their_mean():
    query, key, value = sequences(torch.bfloat16)
    ones = torch.ones_like(value).requires_grad_()
    torch.manual_seed(0)
    attended = torch.stack([attend(query, key, ones, dropout=0.5).detach().float() for _ in range(50)])
    assert attended.std(0).mean() > 0.05
    assert abs(float(attended.mean()) - 1) < 0.02
    assert torch.allclose(attend(query, key, ones).detach().float(), torch.ones(B, H, T, C), atol=0.02)


def test_a_long_sequence_gets_the_kernel(monkeypatch):
    monkeypatch.setattr("chelys.nn.attention.MOST_WRITTEN_OUT", T * T - 1)
    query, key, value = sequences(torch.bfloat16)
    assert torch.equal(attend(query, key, value), F.scaled_dot_product_attention(query, key, value))
