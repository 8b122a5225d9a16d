"""VQ-VAE: shapes, and a code book that finds, follows and keeps its codes alive."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from chelys.models.dvae import DVAE, Codebook, DVAEConfig

SMALL = DVAEConfig(bands=6, tokens=16, code_width=4, hidden=8, residual_blocks=1)


def points(count: int, width: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def book(vectors: Tensor, decay: float = 0.5) -> Codebook:
    """A code book whose averages have settled on these vectors, each used once a batch."""
    made = Codebook(*vectors.shape, decay)
    made.vectors.copy_(vectors)
    made.sums.copy_(vectors)
    made.counts.fill_(1.0)
    return made


def error(codebook: Codebook, x: Tensor) -> float:
    return float((codebook.vectors[codebook.nearest(x)] - x).pow(2).mean())


@pytest.fixture
def network() -> DVAE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DVAE(SMALL)


# ---------------------------------------------------------------- the network


@pytest.mark.parametrize(("frames", "codes"), [(4, 1), (8, 2), (9, 3), (40, 10)])
@pytest.mark.parametrize("late_narrowing", [False, True])
def test_four_frames_are_a_code(frames: int, codes: int, late_narrowing: bool) -> None:
    with torch.random.fork_rng(devices=[]):
        dvae = DVAE(DVAEConfig(**{**SMALL.__dict__, "late_narrowing": late_narrowing}))
    coded = dvae.encode(torch.randn(2, 6, frames, generator=torch.Generator().manual_seed(0)))
    assert coded.shape == (2, codes) and coded.dtype == torch.int64 and 0 <= coded.min() and coded.max() < 16
    assert dvae.decode(coded).shape == (2, 6, 4 * codes)


def test_the_parts_agree_with_the_whole(network: DVAE) -> None:
    mel = torch.randn(2, 6, 24, generator=torch.Generator().manual_seed(1))
    made = network(mel)
    assert torch.equal(made.codes, network.encode(mel))
    torch.testing.assert_close(made.mel, network.decode(made.codes))
    assert torch.equal(made.quantized, network.codebook.vectors[made.codes])


def test_gradients_pass_straight_through_the_code_book(network: DVAE) -> None:
    made = network(torch.randn(2, 6, 24, generator=torch.Generator().manual_seed(1)))
    made.encoded.retain_grad()
    vectors = made.quantized.detach().requires_grad_()
    network.decoder(vectors.transpose(1, 2)).sum().backward()
    made.mel.sum().backward()
    torch.testing.assert_close(made.encoded.grad, vectors.grad)
    assert network.encoder.down[0].weight.grad.abs().max() > 0
    assert not list(network.codebook.parameters())  # it follows by averages, not by gradients


# ---------------------------------------------------------------- the code book


def test_the_nearest_code_is_the_nearest() -> None:
    codebook, x = book(points(16)), points(50, seed=1).view(5, 10, 4)
    by_hand = torch.cdist(x.view(-1, 4).double(), codebook.vectors.double()).argmin(1)
    assert codebook.nearest(x).tolist() == by_hand.view(5, 10).tolist()
    assert codebook.nearest(codebook.vectors).tolist() == list(range(16))
    assert codebook.nearest(x.bfloat16()).shape == (5, 10)


def test_an_update_moves_a_code_towards_what_was_mapped_to_it() -> None:
    codebook = book(torch.tensor([[0.0, 0.0], [10.0, 10.0]]))
    x = torch.tensor([[1.0, 0.0], [3.0, 0.0], [11.0, 10.0]])
    codebook.update(x, codebook.nearest(x))
    # counts 1 -> 1.5 and 1; sums 0 -> 2 and 10 -> 10.5 (decay 1/2)
    assert codebook.counts.tolist() == [1.5, 1.0]
    torch.testing.assert_close(codebook.vectors, torch.tensor([[2.0 / 1.5, 0.0], [10.5, 10.0]]), rtol=1e-4, atol=1e-4)


def test_updates_settle_on_the_means() -> None:
    codebook, x = book(points(8)), points(400, seed=2)
    before = error(codebook, x)
    for _ in range(60):
        codes = codebook.nearest(x)
        codebook.update(x, codes)
    assert error(codebook, x) < 0.8 * before
    means = torch.stack([x[codes == code].mean(0) for code in range(8)])
    torch.testing.assert_close(codebook.vectors, means, rtol=0, atol=0.02)


def test_dead_codes_come_back_on_vectors_that_are_in_use() -> None:
    codebook, x = book(points(8) + 100.0), points(64, seed=3)
    codebook.vectors[:2] = x[:2]
    codebook.counts[:] = torch.tensor([8.0, 8.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    alive = codebook.vectors[:2].clone()
    assert codebook.revive(x, torch.Generator().manual_seed(0), least=0.1) == 6
    assert torch.equal(codebook.vectors[:2], alive)
    assert all((x == vector).all(1).any() for vector in codebook.vectors)
    assert len(codebook.nearest(x).unique()) > 4
    # they count as evenly used, so they live until they have had their chance, and stay where they are
    assert codebook.revive(x, torch.Generator().manual_seed(0), least=0.1) == 0
    where = codebook.vectors.clone()
    codebook.update(where, torch.arange(8))
    torch.testing.assert_close(codebook.vectors[2:], where[2:], rtol=1e-4, atol=1e-4)


def test_revival_is_drawn_from_its_generator() -> None:
    x = points(64, seed=3)

    def revived(seed: int) -> Tensor:
        codebook = book(points(8))
        codebook.counts[:] = torch.tensor([8.0] + [0.0] * 7)
        codebook.revive(x, torch.Generator().manual_seed(seed), least=0.1)
        return codebook.vectors

    assert torch.equal(revived(1), revived(1)) and not torch.equal(revived(1), revived(2))


def test_k_means_starts_the_code_book_where_the_vectors_are() -> None:
    x = points(600, seed=4)
    errors = []
    for rounds in (1, 3, 10):
        codebook = book(points(16) + 5.0)
        far = error(codebook, x)
        codebook.start(x, torch.Generator().manual_seed(0), rounds=rounds)
        errors.append(error(codebook, x))
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.6 * errors[0] + 0.4 * far / 10
    assert len(codebook.nearest(x).unique()) == 16
    before = codebook.vectors.clone()
    codes = codebook.nearest(x)
    codebook.update(x, codes)
    assert (codebook.vectors - before).norm() < 0.2 * before.norm()  # training goes on from there


def test_k_means_finds_clusters() -> None:
    centres = torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]])
    x = (centres[:, None] + points(90, 2).view(3, 30, 2)).reshape(-1, 2)
    for seed in range(20):  # a draw with one vector of each cluster
        codebook = Codebook(3, 2, 0.9)
        codebook.start(x, torch.Generator().manual_seed(seed))
        if len(codebook.nearest(centres).unique()) == 3:
            break
    found = codebook.vectors[codebook.nearest(centres)]
    torch.testing.assert_close(found, x.view(3, 30, 2).mean(1))


@pytest.mark.parametrize("blocks", [1, 3])
def test_clips_of_any_lengths_get_the_codes_that_they_get_alone(blocks: int) -> None:
    torch.manual_seed(0)
    dvae = DVAE(DVAEConfig(bands=8, tokens=64, code_width=4, hidden=16, residual_blocks=blocks)).eval()
    for parameter in dvae.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    mels = [torch.randn(8, frames) for frames in (400, 131, 64, 65, 63, 3, 1, 0, 400, 202, 128, 40)]
    with torch.inference_mode():
        for mel, found in zip(mels, dvae.encode_clips(mels), strict=True):
            expected = dvae.encode(mel[None])[0] if mel.shape[1] else torch.zeros(0)
            assert found.tolist() == expected.tolist()
        assert dvae.encode_clips([]) == []
