"""Attention over time: relative positions by bucket, and rows that are padded."""

from __future__ import annotations

import math

import pytest
import torch
import toy

from chelys.nn.attention import AttentionBlock, KVCache, RelativePositionBias

#: First and last distance of each bucket from 8 on, as T5's formula gives them for 32 buckets up to distance 64.
FAR = {8: (8, 10), 9: (11, 13), 10: (14, 17), 11: (18, 22), 12: (23, 29), 13: (30, 38), 14: (39, 49), 15: (50, 5_000)}


def test_near_distances_have_buckets_of_their_own_and_far_ones_share() -> None:
    bias = RelativePositionBias(heads=2, head_dim=4)
    wanted = {distance: distance for distance in range(8)}
    for bucket, (first, last) in FAR.items():
        wanted |= {first: bucket, last: bucket}
    behind = bias.bucket(-torch.tensor(list(wanted)))
    ahead = bias.bucket(torch.tensor(list(wanted)))
    assert behind.tolist() == list(wanted.values())
    assert ahead.tolist() == [bucket + 16 if distance else 0 for distance, bucket in wanted.items()]


def test_the_bias_is_that_of_key_minus_query_times_the_root_of_the_head_size() -> None:
    bias = RelativePositionBias(heads=2, head_dim=9)
    with torch.no_grad():
        bias.weight.weight.copy_(torch.arange(64.0).view(32, 2))
    made = bias(12)
    assert made.shape == (1, 2, 12, 12)
    for query, key, bucket in ((0, 0, 0), (5, 3, 2), (3, 5, 18), (11, 0, 9), (0, 11, 25)):
        assert made[0, :, query, key].tolist() == [3.0 * 2 * bucket, 3.0 * (2 * bucket + 1)]


@pytest.mark.parametrize("relative", [False, True])
def test_it_is_attention_with_a_skip(relative: bool) -> None:
    block = AttentionBlock(16, 4, relative=relative)
    toy.stir(block, torch.Generator().manual_seed(0))
    x = torch.randn(1, 16, 7, generator=torch.Generator().manual_seed(1))
    qkv = block.qkv(block.norm(x))[0].view(4, 3, 4, 7)  # head by head: query, key, value
    bias = block.position(7)[0] if block.position else torch.zeros(4, 7, 7)
    heads = []
    for query, key, value, head_bias in zip(*qkv.unbind(1), bias, strict=True):
        heads.append(value @ (query.T @ key / math.sqrt(4) + head_bias).softmax(1).T)
    torch.testing.assert_close(block(x), x + block.out(torch.cat(heads)[None]))


def test_a_fresh_block_passes_its_input_on() -> None:
    x = torch.randn(2, 16, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(AttentionBlock(16, 2)(x), x)


@pytest.mark.parametrize("relative", [False, True])
def test_nobody_attends_to_what_is_masked(relative: bool) -> None:
    block = AttentionBlock(16, 2, relative=relative)
    toy.stir(block, torch.Generator().manual_seed(0))
    block.norm = torch.nn.Identity()  # type: ignore[assignment] # group norm looks at all of time, masked or not
    x = torch.randn(2, 16, 9, generator=torch.Generator().manual_seed(1))
    mask = torch.arange(9) < torch.tensor([[9], [4]])
    masked = block(x, mask)
    torch.testing.assert_close(masked[0], block(x[:1])[0])
    torch.testing.assert_close(masked[1, :, :4], block(x[1:, :, :4])[0])
    assert not torch.allclose(block(x)[1, :, :4], masked[1, :, :4])


def test_rows_leave_a_cache_and_the_others_keep_their_columns() -> None:
    for rows in ([], [0], [4], [0, 1, 2, 3, 4], [1, 3], [0, 2, 4], [2, 3, 4]):
        cache = KVCache(2, 5, 3, 6, 4, torch.zeros(1))
        cache.store.normal_(generator=torch.Generator().manual_seed(0))
        cache.valid, cache.length = torch.arange(30).view(5, 6) % 4 > 0, 4
        before, valid = cache.store.clone(), cache.valid.clone()
        order = cache.keep(rows)
        assert sorted(order) == rows
        torch.testing.assert_close(cache.store[..., :4, :], before[:, :, order, :, :4], rtol=0, atol=0)
        if rows:
            assert torch.equal(cache.valid, valid[order])
