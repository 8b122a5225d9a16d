"""Normalisations."""

from __future__ import annotations

import pytest
import torch

from chelys.nn.norms import RMSNorm, group_count, group_norm


def test_rms_norm_by_hand():
    norm = RMSNorm(2)
    torch.nn.init.constant_(norm.weight, 2.0)
    torch.testing.assert_close(norm(torch.tensor([[3.0, 4.0]])), torch.tensor([[3.0, 4.0]]) * 2 / 12.5**0.5)


def test_rms_norm_of_silence_has_a_gradient():
    x = torch.zeros(1, 4, requires_grad=True)
    with torch.enable_grad():
        RMSNorm(4)(x).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


@pytest.mark.parametrize("scale", [1.0, 1e-12])
def test_rms_norm_in_training_is_the_formula_and_its_gradient(scale):
    generator = torch.Generator().manual_seed(0)
    norm = RMSNorm(6).double()
    torch.nn.init.uniform_(norm.weight, generator=generator)
    x = (scale * torch.randn(2, 3, 6, generator=generator)).requires_grad_()
    upstream = torch.randn(2, 3, 6, generator=generator)

    def formula(x, weight):
        return x / (x.square().mean(-1, keepdim=True) + 1e-40).sqrt().clamp(min=norm.floor) * weight

    with torch.enable_grad():
        made, expected = norm(x), formula(x.double(), norm.weight)
        gradients = [torch.autograd.grad((y * upstream).sum(), (x, norm.weight)) for y in (made, expected)]
    torch.testing.assert_close(made, expected.float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(norm(x), made)


@pytest.mark.parametrize(
    ("channels", "groups"), [(8, 8), (12, 4), (16, 8), (32, 16), (64, 16), (96, 32), (100, 4), (192, 32), (1024, 32)]
)
def test_group_count(channels, groups):
    assert group_count(channels) == groups
    assert group_norm(channels).num_groups == groups


def test_group_norm_computes_in_float32():
    x = torch.randn(1, 32, 50, generator=torch.Generator().manual_seed(0)) * 200 + 3000
    low = x.half()
    norm = group_norm(32)
    expected = norm(low.float()).half()
    assert torch.equal(norm.half()(low), expected), "sums of squares overflow half precision"
