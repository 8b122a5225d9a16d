"""Every stage learns one small batch by heart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from toy_corpus import MEL_RANGE, ToyCorpus, tokenizer

from chelys.training.task import Task
from chelys.training.tasks.dvae import perplexity

Learn = Callable[..., list[dict[str, Any]]]
Build = Callable[..., Task]
SHORT = {"budget": 120, "reference_frames": 32}


def test_dvae(build: Build, learn: Learn) -> None:
    stage: Any = build("dvae", stage={"rows": 3, "start_at": 20, "revive_every": 10})
    log = learn(stage, steps=90, learning_rate=3e-3)
    assert log[-1]["reconstruction"] < 0.25 * log[0]["reconstruction"]
    assert log[-1]["reconstruction"] < log[20]["reconstruction"], "through the code book, too"
    assert log[-1]["commitment"] < 0.1
    assert perplexity(stage.dvae.codebook.counts) > 8


def test_dvae_of_whole_clips(build: Build, learn: Learn, toy: ToyCorpus) -> None:
    network = {"text_tokens": tokenizer().vocabulary_size, "clip_mean": True}
    stage: Any = build("dvae", network=network, stage={"start_at": 20, "ctc": 0.3}, text=str(toy.text), pairs=SHORT)
    batch = stage.data.batch(0)
    assert len(batch.mel) > 1 and not batch.mask.all(), "a ragged batch"
    for row, clip in enumerate(stage.data.pairs.clips(0)):
        mel = MEL_RANGE.normalize(stage.data.features.mel(clip))
        assert torch.equal(batch.mel[row, :, batch.mask[row]], mel) and torch.equal(batch.mean[row], mel.mean(1))
        assert not batch.mel[row, :, ~batch.mask[row]].any()
    log = learn(stage, steps=160, learning_rate=4e-3)
    assert log[-1]["reconstruction"] < 0.6 * log[0]["reconstruction"]
    assert log[-1]["ctc"] < 0.6 * log[20]["ctc"], "codes keep the words"
    assert {"mel_l1", "commitment", "codebook_perplexity", "ctc"} == set(stage.evaluate())


def test_autoregressive(build: Build, learn: Learn) -> None:
    stage: Any = build("autoregressive", stage={"text_nll": 0.1})
    batch = stage.data.batch(0)
    assert len(set(batch.code_lengths.tolist())) > 1 and len(set(batch.text_lengths.tolist())) > 1, "a ragged batch"
    log = learn(stage, steps=130, learning_rate=5e-3)
    assert log[0]["code_nll"] > 2.5 and log[-1]["code_nll"] < 0.03
    assert log[0]["text_nll"] / 0.1 > 3.5 and log[-1]["text_nll"] / 0.1 < 0.4

    network = stage.decoder.eval()
    with torch.no_grad():
        text, codes, _ = network(network.condition(batch.reference), *batch[:4])
    for row, (ids, length) in enumerate(zip(batch.codes, batch.code_lengths, strict=True)):
        expected = [*ids[:length].tolist(), network.config.stop_code]
        assert codes[row, : length + 1].argmax(1).tolist() == expected, "each code, and where to stop"
    t = batch.text_lengths[0]
    assert text[0, 1 : t + 1].argmax(1).tolist() == [*batch.text[0, 1:t].tolist(), network.config.stop_text]


def test_strange_codes_are_heard_not_foretold(build: Build) -> None:
    stage: Any = build("autoregressive", stage={"code_corruption": 0.3})
    batch, heard = stage.data.batch(0), []
    forward = stage.decoder.forward

    def listen(*inputs: torch.Tensor) -> Any:
        heard.append(inputs[3])
        return forward(*inputs)

    stage.decoder.forward = listen
    losses = {}
    for training in (True, False):
        stage.decoder.train(training)
        with torch.no_grad():
            losses[training] = float(stage.training_step("", batch, torch.Generator().manual_seed(1))["code_nll"])
    assert 0.15 < float((heard[0] != batch.codes).float().mean()) < 0.4
    assert torch.equal(heard[1], batch.codes), "an evaluation hears what was said"
    sure: Any = build("autoregressive")
    sure.decoder.load_state_dict(stage.decoder.state_dict())
    with torch.no_grad():
        assert losses[False] == float(sure.training_step("", batch, torch.Generator())["code_nll"]) != losses[True]


def test_clvp(build: Build, learn: Learn) -> None:
    stage: Any = build("clvp", pairs={"budget": 500})
    batch = stage.data.batch(0)
    assert len(batch.text) > 3
    log = learn(stage, steps=40, learning_rate=3e-3)
    assert log[0]["info_nce"] > 1.0 and log[-1]["info_nce"] < 0.3
    with torch.no_grad():
        scores = stage._scores(*batch[:4])
    right = torch.arange(len(scores))
    assert torch.equal(scores.argmax(0), right) and torch.equal(scores.argmax(1), right)


def test_clvp_reads(build: Build, learn: Learn) -> None:
    network = {"frames_per_token": 6}  # a toy's codes are few for its text
    stage: Any = build("clvp", pairs={"budget": 300}, network=network, stage={"keep": 1.0})
    batch = stage.data.batch(0)
    log = learn(stage, steps=200, learning_rate=5e-3)
    assert log[-1]["ctc"] < 0.8
    reader = stage.clvp.eval()
    text = [batch.text.roll(1, 0), batch.text_lengths.roll(1, 0)]
    with torch.no_grad():
        right = reader.score(batch.text, batch.codes, batch.text_lengths, batch.code_lengths)
        wrong = reader.score(text[0], batch.codes, text[1], batch.code_lengths)
    assert bool((right > wrong + 5).all())


def test_clvp_tells_what_is_wrong(build: Build, learn: Learn) -> None:
    stage: Any = build("clvp", pairs={"budget": 500}, stage={"corrupted_texts": 2, "corrupted_speech": 2, "keep": 1.0})
    batch = stage.data.batch(0)
    log = learn(stage, steps=80, learning_rate=3e-3)
    assert log[0]["info_nce"] > 1.5 and log[-1]["info_nce"] < 0.5
    with torch.no_grad():
        right = stage._scores(*batch[:4]).diag()
        for k in range(2):
            text = batch.corrupted.text[:, k], batch.corrupted.text_lengths[:, k]
            codes = batch.corrupted.codes[:, k], batch.corrupted.code_lengths[:, k]
            assert bool((right > stage._scores(*text, *batch[2:4]).diag()).all())
            assert bool((right > stage._scores(*batch[:2], *codes).diag()).all())


def test_diffusion(build: Build, learn: Learn) -> None:
    stage: Any = build("diffusion", stage={"crop": 16})
    crop = stage.data.batch(0)

    def losses() -> dict[str, float]:
        with torch.no_grad():  # many noises: one alone says little
            drawn = [stage.training_step("", crop, torch.Generator().manual_seed(seed)) for seed in range(24)]
        return {name: float(np.mean([d[name] for d in drawn])) for name in ("mse", "mel")}

    before = losses()
    learn(stage, steps=100, learning_rate=4e-3)
    after = losses()
    assert after["mse"] < 0.6 * before["mse"]
    assert after["mel"] < 0.2 * before["mel"]


def test_vocoder_and_its_discriminators(build: Build, learn: Learn) -> None:
    stage: Any = build("vocoder", stage={"discriminator_start": 45})
    judges: list[Tensor] = []
    after_step = stage.after_step

    def watch(step: int, *rest: Any) -> dict[str, float]:
        judges.append(torch.cat([p.detach().flatten() for p in stage.discriminators.parameters()]))
        return after_step(step, *rest)

    stage.after_step = watch
    log = learn(stage, steps=50, learning_rate=3e-3, max_grad_norm=5.0, min_lr_ratio=1.0)
    assert log[44]["mel"] < 0.5 * log[0]["mel"]
    for line, weights in zip(log, judges, strict=True):
        joined = line["step"] > 45
        assert ("discriminator_loss" in line) == ("generator_loss" in line) == ("feature_matching" in line) == joined
        assert ("discriminators_grad_norm" in line) == joined
        assert torch.equal(weights, judges[0]) != joined, "they sit out before their step, and learn from then on"


def test_the_loss_of_one_batch_goes_to_zero(build: Build, learn: Learn) -> None:
    """Without what keeps it up on purpose: a code book of few words, withheld content, discriminators."""
    stages = {
        "dvae": build("dvae", stage={"rows": 2, "frames": 32, "start_at": 10**6}, network={"hidden": 32}),
        "diffusion": build("diffusion", stage={"crop": 8, "conditioning_dropout": 0.0}, pairs={"budget": 60}),
        "vocoder": build("vocoder", stage={"discriminator_start": 10**6, "rows": 1, "frames": 12}),
    }
    left = {
        f"{name} {loss}": log[-1][loss] / log[0][loss]
        for name, stage in stages.items()
        for log in [learn(stage, steps=160, learning_rate=5e-3, max_grad_norm=5.0)]
        for loss in {"reconstruction", "mse", "mel"} & log[0].keys()
    }
    assert left.keys() == {"dvae reconstruction", "diffusion mse", "diffusion mel", "vocoder mel"}
    assert left["dvae reconstruction"] < 0.1 and left["diffusion mse"] < 0.01 and left["diffusion mel"] < 0.01, left
    assert left["vocoder mel"] < 0.2, left
