"""The reader of codes, with weights in float16, beside the decoder itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from chelys.errors import UserError
from chelys.inference.bench import KeysValues, difference, naive_code
from chelys.models import code_reader
from chelys.models.autoregressive import Autoregressive, AutoregressiveConfig
from chelys.models.code_reader import CodeReader, Weights, best_weights
from chelys.nn import matrices
from chelys.nn.attention import KVCache

ROWS = 5
HALVES = pytest.mark.skipif(
    "fbgemm" not in torch.backends.quantized.supported_engines, reason="this processor has no kernel for it"
)


@pytest.fixture(scope="module")
def decoder() -> Autoregressive:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = AutoregressiveConfig(dim=128, layers=3, heads=2, positions="learned", codes=200)
        return Autoregressive(config).eval().requires_grad_(False)


def prompted(decoder: Autoregressive) -> KVCache:
    """A cache of ``ROWS`` rows that have read a text."""
    generator = torch.Generator().manual_seed(1)
    conditioning = torch.randn(1, decoder.config.dim, generator=generator)
    _, cache = decoder.read_prompt(conditioning, torch.arange(9)[None], torch.tensor([9]), 8)
    cache.select(torch.zeros(ROWS, dtype=torch.long))
    return cache


@torch.inference_mode()
def read(decoder: Autoregressive, weights: Weights, rows: int = ROWS) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents and logits of the third code of some rows."""
    reader, cache = CodeReader(decoder, weights), prompted(decoder)
    cache.keep(list(range(rows)))
    for number in (1, 2):
        latents = reader.read(torch.arange(ROWS)[:rows] + number, [(rows, number, cache)])
    return latents, reader.logits(latents)


@HALVES
def test_weights_in_float16_change_logits_by_less_than_a_thousandth(decoder: Autoregressive) -> None:
    for exact, halves in zip(read(decoder, "float32"), read(decoder, "float16"), strict=True):
        assert 0 < difference(halves, exact) < 1e-3


@HALVES
def test_rows_read_with_float16_are_the_same_in_any_company(decoder: Autoregressive) -> None:
    for alone, among in zip(read(decoder, "float16", 2), read(decoder, "float16"), strict=True):
        assert torch.equal(alone, among[:2])


def test_weights_of_another_kind_are_one_line(decoder: Autoregressive) -> None:
    with pytest.raises(UserError, match="choose float32 or float16"):
        CodeReader(decoder, "int8")  # type: ignore[arg-type]


@torch.inference_mode()
def test_the_naive_loop_of_the_bench_is_the_decoder(decoder: Autoregressive) -> None:
    cache = prompted(decoder)
    past: list[KeysValues] = [(k.clone(), v.clone()) for k, v in cache.store[..., : cache.length, :].unbind()]
    laid = {layer: layer.weight.t() for layer in decoder.modules() if isinstance(layer, nn.Linear)}
    for number in (1, 2):
        logits, past = naive_code(decoder, laid, torch.arange(ROWS) + number, number, past)
    torch.testing.assert_close(logits, read(decoder, "float32")[1], rtol=1e-4, atol=1e-5)
    assert past[0][0].shape[2] == cache.length + 2


@pytest.mark.parametrize(("halves", "wanted"), [(0.5, "float16"), (0.9, "float32"), (2.0, "float32")])
def test_what_is_clearly_faster_is_chosen(
    decoder: Autoregressive, monkeypatch: pytest.MonkeyPatch, halves: float, wanted: str
) -> None:
    monkeypatch.setattr(code_reader, "MOST_LAID", 0)
    monkeypatch.setattr(matrices, "HalfLinear", lambda module: module)
    seconds = iter([halves, 1.0] * 4)
    monkeypatch.setattr(matrices, "_seconds", lambda layers, x: next(seconds))
    assert best_weights(decoder) == wanted
    assert best_weights(decoder) == wanted, "it is not measured again"


def test_float32_is_chosen_where_there_is_no_kernel_or_the_decoder_is_small(
    decoder: Autoregressive, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert best_weights(decoder) == "float32"
    monkeypatch.setattr(code_reader, "MOST_LAID", 0)

    def missing(module: nn.Linear) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(matrices, "HalfLinear", missing)
    assert best_weights(decoder) == "float32"
