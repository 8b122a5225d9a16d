"""The autoregressive decoder: rows of any length in one batch, and who sees what."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import toy
from torch import Tensor

from chelys.models.autoregressive import Autoregressive, AutoregressiveConfig

SMALL = AutoregressiveConfig(
    text_tokens=20, codes=30, dim=16, layers=2, heads=2, bands=6, text_positions=20, code_positions=20
)
TEXT_LENGTHS, CODE_LENGTHS = torch.tensor([7, 3, 1]), torch.tensor([2, 9, 5])


@pytest.fixture(params=["rotary", "learned"])
def decoder(request: pytest.FixtureRequest) -> Autoregressive:
    with torch.random.fork_rng(devices=[]):
        made = Autoregressive(replace(SMALL, positions=request.param))
    toy.stir(made, torch.Generator().manual_seed(0))
    return made.eval()


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    text = torch.randint(1, 20, (3, 7), generator=generator)
    codes = torch.randint(30, (3, 9), generator=generator)
    return torch.randn(3, 16, generator=generator), text, TEXT_LENGTHS, codes, CODE_LENGTHS


def row(batch: tuple[Tensor, ...], i: int) -> tuple[Tensor, ...]:
    """One row of a batch, without its padding."""
    voice, text, text_lengths, codes, code_lengths = batch
    t, m = text_lengths[i], code_lengths[i]
    return voice[i : i + 1], text[i : i + 1, :t], t[None], codes[i : i + 1, :m], m[None]


def test_every_output_predicts_something(decoder: Autoregressive, batch: tuple[Tensor, ...]) -> None:
    text_logits, code_logits, latents = decoder(*batch)
    assert text_logits.shape == (3, 8, 21)  # seven ids and the stop; the start has an id too
    assert code_logits.shape == (3, 10, 32)  # nine codes and the stop; start and stop have ids
    assert latents.shape == (3, 10, 16)
    torch.testing.assert_close(decoder.code_head(latents), code_logits)


def test_rows_of_any_length_come_out_as_each_alone(decoder: Autoregressive, batch: tuple[Tensor, ...]) -> None:
    together = decoder(*batch)
    for i, (t, m) in enumerate(zip(TEXT_LENGTHS, CODE_LENGTHS, strict=True)):
        alone = decoder(*row(batch, i))
        for ours, wanted, length in zip(together, alone, (t + 1, m + 1, m + 1), strict=True):
            torch.testing.assert_close(ours[i, :length], wanted[0])


def test_what_pads_a_row_does_not_matter(decoder: Autoregressive, batch: tuple[Tensor, ...]) -> None:
    voice, text, text_lengths, codes, code_lengths = batch
    other = decoder(
        voice,
        torch.where(torch.arange(7) < text_lengths[:, None], text, 13),
        text_lengths,
        torch.where(torch.arange(9) < code_lengths[:, None], codes, 29),
        code_lengths,
    )
    for i, (t, m) in enumerate(zip(TEXT_LENGTHS, CODE_LENGTHS, strict=True)):
        for one, two, length in zip(decoder(*batch), other, (t + 1, m + 1, m + 1), strict=True):
            assert torch.equal(one[i, :length], two[i, :length])


def changed(ids: Tensor, place: int) -> Tensor:
    other = ids.clone()
    other[0, place] = (other[0, place] + 1) % 20
    return other


def test_nothing_is_predicted_from_what_follows(decoder: Autoregressive, batch: tuple[Tensor, ...]) -> None:
    voice, text, t, codes, m = row(batch, 1)
    text_logits, code_logits, _ = decoder(voice, text, t, codes, m)
    other_text, _, _ = decoder(voice, changed(text, 1), t, codes, m)
    assert torch.equal(other_text[:, :2], text_logits[:, :2])  # of ids 0 and 1
    assert not torch.allclose(other_text[:, 2], text_logits[:, 2])
    _, other_codes, _ = decoder(voice, text, t, changed(codes, 4), m)
    assert torch.equal(other_codes[:, :5], code_logits[:, :5])
    assert not torch.allclose(other_codes[:, 5], code_logits[:, 5])


def test_codes_hang_on_voice_and_all_of_the_text(decoder: Autoregressive, batch: tuple[Tensor, ...]) -> None:
    voice, text, t, codes, m = row(batch, 1)
    plain = decoder(voice, text, t, codes, m)[1]
    for place in range(3):
        assert not torch.allclose(decoder(voice, changed(text, place), t, codes, m)[1][:, 0], plain[:, 0])
    assert not torch.allclose(decoder(-voice, text, t, codes, m)[1][:, 0], plain[:, 0])
    assert not torch.allclose(decoder(voice, text.flip(1), t, codes, m)[1][:, 0], plain[:, 0])  # order counts


def test_the_latent_of_a_code_is_the_state_that_predicts_it(decoder: Autoregressive, batch: tuple[Tensor, ...]) -> None:
    voice, text, t, codes, m = row(batch, 1)
    latents = decoder.latents(voice, text, codes)
    assert latents.shape == (1, 9, 16)
    torch.testing.assert_close(latents, decoder(voice, text, t, codes, m)[2][:, :9])
    torch.testing.assert_close(decoder.latents(voice, text, codes[:, :4]), latents[:, :4])


def test_the_cached_loop_gives_the_logits_of_the_whole_pass(decoder: Autoregressive, batch: tuple[Tensor, ...]) -> None:
    voice, text, text_lengths, codes, _ = batch
    wanted = decoder(voice, text, text_lengths, codes, torch.tensor([9, 9, 9]))[1]
    latents, cache = decoder.read_prompt(voice, text, text_lengths, 9)
    torch.testing.assert_close(decoder.code_head(latents), wanted[:, 0])
    for number in range(1, 5):
        latents = decoder.read_code(codes[:, number - 1], number, cache)
        torch.testing.assert_close(decoder.code_head(latents), wanted[:, number])
    rows = torch.tensor([2, 0, 2])  # drop one, double another
    cache.select(rows)
    latents = decoder.read_code(codes[rows, 4], 5, cache)
    torch.testing.assert_close(decoder.code_head(latents), wanted[rows, 5])


@pytest.mark.parametrize(("pool", "looks_at_all"), [("mean", True), ("first", False)])
def test_a_clip_of_any_length_becomes_one_vector(pool: str, looks_at_all: bool) -> None:
    with torch.random.fork_rng(devices=[]):
        decoder = Autoregressive(replace(SMALL, conditioning_pool=pool, conditioning_blocks=0))  # type: ignore[arg-type]
    mel = torch.randn(2, 6, 41, generator=torch.Generator().manual_seed(3))
    assert decoder.condition(mel).shape == decoder.condition(mel[:, :, :9]).shape == (2, 16)
    later = mel.clone()
    later[:, :, 30] += 1.0
    assert torch.allclose(decoder.condition(later), decoder.condition(mel)) != looks_at_all


def test_published_size() -> None:
    with torch.device("meta"):
        published = Autoregressive(AutoregressiveConfig.tortoise_v2())
    assert sum(parameter.numel() for parameter in published.parameters()) == 421_526_786


def test_special_ids_lie_behind_the_others() -> None:
    assert (SMALL.start_text, SMALL.stop_text, SMALL.start_code, SMALL.stop_code) == (20, 0, 30, 31)
    published = AutoregressiveConfig.tortoise_v2()
    assert (published.start_text, published.start_code, published.stop_code) == (255, 8192, 8193)


def test_dropout_is_of_training_alone(batch: tuple[Tensor, ...]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        decoder = Autoregressive(replace(SMALL, dropout=0.5, layers=0))
        toy.stir(decoder, torch.Generator().manual_seed(0))
        first, second = (decoder.train()(*batch)[1] for _ in range(2))
        quiet = [decoder.eval()(*batch)[1] for _ in range(2)]
    assert not torch.equal(first, second), "embeddings are dropped, too"
    assert torch.equal(*quiet)
