"""What the stages' losses count, and what they leave out."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
import toy_corpus
from safetensors.torch import save_file

from chelys.audio.mel import log_mel
from chelys.audio.rates import MEL_24K
from chelys.data.features import Features, extract
from chelys.data.manifest import Utterance, write_manifest
from chelys.data.pairs import Batch
from chelys.errors import ManifestError
from chelys.models.autoregressive import Autoregressive, AutoregressiveConfig
from chelys.models.vocos import Vocos, VocosConfig
from chelys.train.loop import Stage
from chelys.train.stages.autoregressive import _cross_entropy
from chelys.train.stages.clvp import _thin, contrast
from chelys.train.stages.vocoder import VocoderStage, VocoderStageConfig, spectral_distance

Build = Callable[..., Stage]
STAGES = ["dvae", "vocoder", "autoregressive", "diffusion", "clvp"]


def row(batch: Batch, index: int) -> Batch:
    """One row without its padding."""
    t, m = int(batch.text_lengths[index]), int(batch.code_lengths[index])
    one = slice(index, index + 1)
    return Batch(
        batch.text[one, :t], batch.text_lengths[one], batch.codes[one, :m], batch.code_lengths[one],
        batch.mel[one, :, : 4 * m], batch.reference[one],
    )  # fmt: skip


# ---- autoregressive -------------------------------------------------------------------------------------------------


def test_padding_is_no_part_of_the_loss(build: Build) -> None:
    stage: Any = build("autoregressive", stage={"text": 1.0})
    batch = stage.batch(0)
    assert len(set(batch.code_lengths.tolist())) > 1 and len(set(batch.text_lengths.tolist())) > 1
    together = stage.losses("", batch, torch.Generator())
    alone = [stage.losses("", row(batch, i), torch.Generator()) for i in range(len(batch.text))]
    for name, lengths in (("code", batch.code_lengths), ("text", batch.text_lengths)):
        counts = (lengths + 1).tolist()  # each id, and one stop
        mean = sum(n * loss[name] for n, loss in zip(counts, alone, strict=True)) / sum(counts)
        torch.testing.assert_close(together[name], mean, rtol=1e-5, atol=1e-5)
    past_text = torch.arange(batch.text.shape[1]) >= batch.text_lengths[:, None]
    past_codes = torch.arange(batch.codes.shape[1]) >= batch.code_lengths[:, None]
    dirty = batch._replace(text=batch.text.masked_fill(past_text, 7), codes=batch.codes.masked_fill(past_codes, 3))
    for name, loss in stage.losses("", dirty, torch.Generator()).items():
        assert torch.equal(loss, together[name]), "what lies in the padding is not read"


def test_each_row_stops_once() -> None:
    ids, lengths, stop, choices = torch.tensor([[1, 2, 3], [2, 0, 0]]), torch.tensor([3, 1]), 4, 5
    logits = torch.full((2, 4, choices), -100.0)
    for r, length in enumerate(lengths.tolist()):
        for column in range(length):
            logits[r, column, ids[r, column]] = 100.0  # every id is foretold, the stops alone are not
        logits[r, length] = 0.0
    expected = 2 * math.log(choices) / (3 + 1 + 2)
    assert float(_cross_entropy(logits, ids, lengths, stop)) == pytest.approx(expected)
    logits[0, 3, stop] = logits[1, 1, stop] = 100.0
    assert float(_cross_entropy(logits, ids, lengths, stop)) == pytest.approx(0.0, abs=1e-6)


def test_evaluation_looks_at_one_clip_at_a_time(build: Build) -> None:
    stage: Any = build("autoregressive", stage={"code": 3.0})
    with torch.no_grad():
        figures, again = stage.evaluate(), stage.evaluate()
        batches = [stage.pairs.collate([c], np.random.default_rng([7, i])) for i, c in enumerate(stage.pairs.test)]
        losses = [float(stage.losses("", batch, torch.Generator())["code"]) / 3 for batch in batches]
    assert figures["code"] == pytest.approx(np.mean(losses)), "in nats, whatever the weight"
    assert figures["code_wrong_text"] != figures["code"]
    assert figures == again


# ---- clvp -----------------------------------------------------------------------------------------------------------


def test_contrast_both_ways_round() -> None:
    scores = torch.tensor([[5.0, 1.0], [2.0, 3.0]])
    rows = math.log(1 + math.exp(-4)) + math.log(1 + math.exp(-1))
    columns = math.log(1 + math.exp(-3)) + math.log(1 + math.exp(-2))
    assert float(contrast(scores)) == pytest.approx((rows + columns) / 4)
    assert float(contrast(torch.zeros(6, 6))) == pytest.approx(math.log(6))


def test_thinning_keeps_the_first_id_and_the_order() -> None:
    ids = torch.arange(1, 41).repeat(50, 1)
    lengths = torch.tensor([40, 7] * 25)
    thin, left = _thin(ids, lengths, 0.7, torch.Generator().manual_seed(0))
    for r in range(50):
        kept = thin[r, : left[r]].tolist()
        assert kept[0] == 1 and kept == sorted(set(kept)) and max(kept) <= lengths[r]
    assert float(left.sum() / lengths.sum()) == pytest.approx(0.7, abs=0.04)
    whole, left = _thin(ids, lengths, 1.0, torch.Generator().manual_seed(0))
    assert torch.equal(whole, ids) and torch.equal(left, lengths)


# ---- diffusion ------------------------------------------------------------------------------------------------------


@pytest.fixture
def decoder(tmp_path: Path) -> Path:
    """Weights of an autoregressive decoder, random but loud."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        ids = toy_corpus.tokenizer().vocabulary_size
        sizes = AutoregressiveConfig(text_tokens=ids, codes=16, dim=32, layers=2, heads=2, conditioning_blocks=1)
        network = Autoregressive(sizes)
        for parameter in network.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)
    save_file(network.state_dict(), tmp_path / "decoder.safetensors")
    return tmp_path / "decoder.safetensors"


def starts(crop: Any, batch: Batch) -> list[int]:
    """Frame of its clip at which each row's piece begins."""
    found = []
    for r, piece in enumerate(crop.mel):
        last = 4 * int(batch.code_lengths[r]) - piece.shape[1]
        found += [f for f in range(last + 1) if torch.equal(batch.mel[r, :, f : f + piece.shape[1]], piece)]
    assert len(found) == len(crop.mel)
    return found


def test_pieces_hold_the_codes_of_their_mel(build: Build) -> None:
    stage: Any = build("diffusion", stage={"crop": 12}, pairs={"budget": 200})
    batch, crop = stage.pairs.batch(1), stage.batch(1)
    assert len(batch.text) > 2 and crop.content.shape == (len(batch.text), 12)
    assert crop.mel.shape == (len(batch.text), 100, 48)
    for r, frame in enumerate(starts(crop, batch)):
        assert frame % 4 == 0
        assert torch.equal(crop.content[r], batch.codes[r, frame // 4 : frame // 4 + 12])
    assert all(torch.equal(a, b) for a, b in zip(crop, stage.batch(1), strict=True)), "a function of the step"


def test_no_piece_is_longer_than_the_shortest_clip(build: Build) -> None:
    stage: Any = build("diffusion", pairs={"budget": 600})
    batch, crop = stage.pairs.batch(0), stage.batch(0)
    assert crop.content.shape[1] == batch.code_lengths.min() < batch.code_lengths.max()


def test_latents_are_those_of_the_teacher_forced_decoder(build: Build, decoder: Path) -> None:
    stage: Any = build(
        "diffusion", stage={"content": "latents", "crop": 12}, pairs={"budget": 200}, decoder=str(decoder)
    )
    batch, crop = stage.pairs.batch(1), stage.batch(1)
    assert crop.content.shape == (len(batch.text), 12, 32) and crop.mel.shape[2] == 48, "one latent to a code"
    network = stage.decoder
    for r, frame in enumerate(starts(crop, batch)):
        one = row(batch, r)
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            latents = network.latents(network.condition(one.reference), one.text, one.codes)[0].float()
        assert len(latents) == len(one.codes[0])
        expected = latents[frame // 4 : frame // 4 + 12]
        assert (crop.content[r] - expected).abs().mean() < 0.05 * expected.std(), "but for rounding in bfloat16"
        later = latents[frame // 4 + 1 : frame // 4 + 13]
        assert (crop.content[r, : len(later)] - later).abs().mean() > 0.3 * expected.std(), "one late is not it"


def test_the_decoder_stays_as_it_is(build: Build, learn: Callable[..., Any], decoder: Path) -> None:
    stage: Any = build("diffusion", stage={"content": "latents", "crop": 8}, decoder=str(decoder))
    before = {k: v.clone() for k, v in stage.decoder.state_dict().items()}
    started = stage.diffusion.latent_in.weight.clone()
    learn(stage, steps=4)
    assert all(torch.equal(v, before[k]) for k, v in stage.decoder.state_dict().items())
    assert not any(p.requires_grad for p in stage.decoder.parameters()) and not stage.decoder.training
    assert not torch.equal(stage.diffusion.latent_in.weight, started), "while the renderer reads its latents"


def test_a_share_of_the_content_is_withheld(build: Build) -> None:
    def losses(share: float) -> tuple[float, float]:
        stage: Any = build("diffusion", stage={"unconditioned": share})
        total = stage.losses("", stage.batch(0), torch.Generator().manual_seed(1))
        sum(total.values()).backward()
        taught = stage.diffusion.mel_head.weight.grad
        return float(total["mel"].detach()), float(taught.abs().sum())

    mel, taught = losses(0.0)
    assert mel > 0 and taught > 0
    assert losses(1.0) == (0.0, 0.0), "rows without content say nothing of what content alone can tell"


# ---- dvae -----------------------------------------------------------------------------------------------------------


def test_dvae_quantises_from_its_step_on(build: Build, learn: Callable[..., Any]) -> None:
    stage: Any = build("dvae", stage={"start_at": 3, "revive_every": 4, "revive_until": 9})
    log = learn(stage, steps=14)
    assert ["commitment" in line for line in log] == [False] * 3 + [True] * 11
    assert [line["step"] - 1 for line in log if "revived" in line] == [4, 8]


# ---- vocoder --------------------------------------------------------------------------------------------------------


def vocoder_stage(folder: Path, rate: int) -> VocoderStage:
    """A stage over pieces of one long stereo recording."""
    rng = np.random.default_rng(0)
    left = toy_corpus.speak(["calm", "moon", "three"] * 4, 150.0, rng, rate=rate)
    sf.write(folder / "long.wav", np.stack([left, 0.5 * left], 1), rate, subtype="FLOAT")
    pieces = [(0.0, 0.8), (0.83, 1.7), (1.9001, 2.8)]
    write_manifest(
        folder / "m.jsonl",
        (Utterance(f"p{i}", "long.wav", "Calm.", "ada", b - a, start=a, end=b) for i, (a, b) in enumerate(pieces)),
    )
    extract([folder / "m.jsonl"], folder / "features", workers=1)
    vocoder = Vocos(VocosConfig(dim=8, inner=8, blocks=1), toy_corpus.MEL_RANGE)
    return VocoderStage(vocoder, Features(folder / "features"), VocoderStageConfig(rows=3, frames=24), seed=1)


def test_waves_belong_to_their_mels(tmp_path: Path) -> None:
    stage = vocoder_stage(tmp_path, 24_000)
    assert len(stage.train_clips) == 3
    mel, wave, _ = stage.batch(0)
    assert mel.shape == (3, 100, 24) and wave.shape == (3, 24 * 256)
    inner = log_mel(wave, MEL_24K)[:, :, 2:22]  # frames whose window lies within the piece
    assert (inner - mel[:, :, 2:22]).abs().max() < 0.02, "but for rounding to float16"


def test_a_corpus_of_another_rate_is_refused(tmp_path: Path) -> None:
    stage = vocoder_stage(tmp_path, 22_050)
    with pytest.raises(ManifestError, match="long.wav has 22050 Hz: resample the corpus to 24000 Hz"):
        stage.batch(0)


def test_spectral_distance() -> None:
    wave = torch.randn(2, 8192, generator=torch.Generator().manual_seed(0)) * 0.1
    assert float(spectral_distance(wave, wave)) == 0.0
    assert float(spectral_distance(2 * wave, wave)) == pytest.approx(math.log(2), rel=1e-3)


# ---- corpora that are too small -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STAGES)
def test_without_held_out_clips_there_is_nothing_to_evaluate(build: Build, name: str) -> None:
    stage: Any = build(name)
    if hasattr(stage, "pairs"):
        stage.pairs.test = []
    else:
        stage.test_clips = []
    assert stage.evaluate() == {}


@pytest.mark.parametrize("name", STAGES)
def test_held_out_figures_are_finite_and_the_same_each_time(build: Build, name: str) -> None:
    stage = build(name, **({"stage": {"start_at": 0}} if name == "dvae" else {}))
    stage.network.eval()
    with torch.no_grad():
        figures, again = stage.evaluate(), stage.evaluate()
    assert figures == again and figures and all(map(math.isfinite, figures.values()))


@pytest.mark.parametrize("name", ["dvae", "vocoder"])
def test_no_clip_is_long_enough(build: Build, name: str) -> None:
    with pytest.raises(ManifestError, match=r"no clip to train on has stage\.frames=900"):
        build(name, stage={"frames": 900})
