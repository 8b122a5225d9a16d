"""Operations and bytes, against what one counts by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from counting import (
    Allocations,
    FlopCounter,
    FusedAttention,
    attention_flops,
    count_parameters,
    matrix_rate,
)  # fmt: skip
from torch import nn

from chelys.nn.attention import attend

B, H, T, C = 2, 3, 20, 8
FLOAT = 4


def sequences(**options):
    return [torch.randn(B, H, T, C, requires_grad=True, **options) for _ in range(3)]


def test_a_linear_layer_is_a_product_forward_and_two_backward():
    layer, x = nn.Linear(16, 24, bias=False), torch.randn(10, 16, requires_grad=True)
    with FlopCounter() as counter:
        y = layer(x)
        assert counter.total == 2 * 10 * 16 * 24
        y.sum().backward()
    assert counter.total == 3 * 2 * 10 * 16 * 24
    assert count_parameters(layer) == 16 * 24


def test_a_convolution_counts_its_taps():
    layer = nn.Conv1d(6, 8, 3, padding=1)
    with FlopCounter() as counter, torch.no_grad():
        layer(torch.randn(2, 6, 50))
    assert counter.total == 2 * 2 * 50 * 6 * 8 * 3


@pytest.mark.parametrize("causal", [False, True])
def test_attention_on_a_processor_is_counted(causal):
    query, key, value = sequences()
    with FlopCounter() as counter:
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=causal)
        forward = counter.total
        attended.sum().backward()
    product = 2 * B * H * T * T * C
    assert forward == 2 * product // (1 + causal)
    assert counter.total - forward == 5 * product // (1 + causal)
    assert forward == attention_flops(query.shape, key.shape, causal=causal)


def test_bytes_live_as_long_as_their_tensor():
    memory = Allocations()
    with memory:
        a = torch.zeros(1000)
        b = a + 1
        view = b[:10]
        assert memory.now == 2 * 1000 * FLOAT, "a view has no memory of its own"
        del a, b
        assert memory.now == 1000 * FLOAT, "the view keeps what it is a view of"
        del view
    assert memory.now == 0
    assert memory.peak == 2 * 1000 * FLOAT


def test_what_was_set_apart_is_not_in_the_other_peak():
    memory = Allocations()
    with memory:
        kept = torch.zeros(1000)
        memory.set_apart(kept)
        assert memory.peak_apart == 1000 * FLOAT, "it was there before it was set apart"
        more = torch.zeros(1500)
    assert memory.peak == kept.nbytes + more.nbytes
    assert memory.peak_apart == more.nbytes


def test_tensors_made_elsewhere_count_once_when_told_of():
    memory, tensor = Allocations(), torch.zeros(50)
    memory.watch(tensor)
    memory.watch(tensor[:3])
    assert memory.now == 50 * FLOAT


@pytest.mark.parametrize("call", [attend, F.scaled_dot_product_attention])
def test_fused_attention_keeps_no_matrix_of_queries_and_keys(call):
    query, key, value = sequences()
    bias = torch.zeros(1, H, T, T, requires_grad=True)
    masked = {"mask": bias} if call is attend else {"attn_mask": bias}
    plain, fused = Allocations(), Allocations()
    with plain:
        torch.softmax(query @ key.transpose(-1, -2) + bias, -1) @ value
    counted = FusedAttention()
    with counted, fused:
        attended = call(query, key, value, **masked)
        assert fused.now == B * H * T * (C + 1) * FLOAT, "what comes out, and a sum for each query"
        attended.sum().backward()
    assert fused.now < plain.peak
    assert attended.shape == query.shape
    assert query.grad.shape == query.shape and bias.grad.shape == bias.shape
    assert counted.flops == 7 * 2 * B * H * T * T * C


def test_fused_attention_knows_what_is_causal():
    query, key, value = sequences()
    with FusedAttention() as counted, torch.no_grad():
        attend(query, key, value, causal=True)
    assert counted.flops == attention_flops(query.shape, key.shape, causal=True)


def test_the_rate_of_this_machine():
    assert 1e8 < matrix_rate("float32", size=128, repeats=3) < 1e15
