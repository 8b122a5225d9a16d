"""Rotary positions."""

from __future__ import annotations

import pytest
import torch

from chelys.nn.attention import apply_rotary, rotary_tables


def heads(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_products_depend_on_distance_alone():
    x = heads(1, 1, 2, 8)
    products = []
    for start in (0, 5, 1000):
        turned = apply_rotary(x, *rotary_tables(torch.tensor([start, start + 3]), 8))
        products.append((turned[0, 0, 0] * turned[0, 0, 1]).sum())
    torch.testing.assert_close(torch.stack(products), products[0].expand(3), rtol=1e-3, atol=1e-3)
    other = apply_rotary(x, *rotary_tables(torch.tensor([0, 4]), 8))
    assert not torch.isclose((other[0, 0, 0] * other[0, 0, 1]).sum(), products[0], rtol=1e-2)


def test_pairs_are_half_the_turned_part_apart():
    x = torch.zeros(1, 1, 1, 6)
    x[..., 0] = 1.0
    turned = apply_rotary(x, *rotary_tables(torch.tensor([1]), 4))[0, 0, 0]
    angle = torch.tensor(1.0)  # the first pair turns by one radian a step
    torch.testing.assert_close(turned, torch.stack([angle.cos(), angle * 0, angle.sin(), *[angle * 0] * 3]))


def test_the_rest_of_a_head_is_kept():
    x = heads(2, 3, 5, 8)
    turned = apply_rotary(x, *rotary_tables(torch.arange(5), 4))
    assert torch.equal(turned[..., 4:], x[..., 4:])
    assert torch.equal(turned[:, :, 0], x[:, :, 0]), "position 0 is not turned"
    assert not torch.isclose(turned[:, :, 1:, :4], x[:, :, 1:, :4]).all()


def test_positions_of_each_row():
    x = heads(2, 3, 4, 8)
    positions = torch.tensor([[0, 1, 2, 3], [7, 8, 9, 10]])
    together = apply_rotary(x, *rotary_tables(positions, 8))
    for row in range(2):
        alone = apply_rotary(x[row : row + 1], *rotary_tables(positions[row], 8))
        assert torch.equal(together[row : row + 1], alone)


def test_precision_of_the_input_is_kept():
    tables = rotary_tables(torch.arange(4), 8)
    assert tables[0].dtype == torch.float32
    assert apply_rotary(heads(1, 1, 4, 8).bfloat16(), *tables).dtype == torch.bfloat16


@pytest.mark.parametrize("rotary_dim", [4, 8])
def test_training_turns_alike_and_turns_gradients_back(rotary_dim):
    tables = rotary_tables(torch.tensor([[0, 1, 2, 3], [7, 8, 9, 10]]), rotary_dim)
    x, upstream = heads(2, 3, 4, 8), heads(3, 2, 4, 8).transpose(0, 1)
    with torch.no_grad():
        expected = apply_rotary(x, *tables)
    with torch.enable_grad():
        turned = apply_rotary(x.requires_grad_(), *tables)
        (gradient,) = torch.autograd.grad((turned * upstream).sum(), x)
    torch.testing.assert_close(turned, expected)
    back = apply_rotary(upstream, tables[0], -tables[1])  # a rotation's transpose is the rotation back
    torch.testing.assert_close(gradient, back)
