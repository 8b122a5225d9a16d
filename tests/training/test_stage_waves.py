"""The stages that make waves, and those who judge them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from chelys.errors import ConfigError
from chelys.training.losses import (
    Discriminators,
    discriminator_loss,
    feature_matching_loss,
    generator_loss,
    multi_resolution_stft_loss,
)
from chelys.training.task import Task
from chelys.training.tasks.vocoder import AdversarialConfig

Build = Callable[..., Task]
Learn = Callable[..., list[dict[str, Any]]]
UNIVNET = {"channels": 8, "noise_dim": 8, "predictor_channels": 8, "predictor_blocks": 1, "dilations": [1, 3]}
LSGAN = {
    "rows": 2, "frames": 10, "mel": 0, "stft": 2.5, "generator_loss": 1.0, "feature_matching": 0,
    "discriminator_start": 0, "discriminators": "univnet", "discriminator_divisor": 8,
}  # fmt: skip


def wave(seed: int, *shape: int) -> Tensor:
    return 0.1 * torch.randn(*(shape or (2, 8192)), generator=torch.Generator().manual_seed(seed))


# ---- losses ---------------------------------------------------------------------------------------------------------


def test_stft_distance() -> None:
    real = wave(0)
    assert float(multi_resolution_stft_loss(real, real)) == 0.0
    twice = multi_resolution_stft_loss(2 * real, real)
    assert float(twice) == pytest.approx(1 + 0.6931, rel=1e-2), "convergence 1, and the logarithm of 2"
    rows = [float(multi_resolution_stft_loss(wave(1)[i : i + 1], real[i : i + 1])) for i in range(2)]
    assert float(multi_resolution_stft_loss(wave(1), real)) == pytest.approx(sum(rows) / 2, rel=1e-5), (
        "each row by itself"
    )


def test_least_squares() -> None:
    high, low = (torch.ones(2, 3), [torch.ones(4)]), (torch.zeros(2, 3), [torch.zeros(4)])
    assert float(generator_loss([high, low])) == 0.5
    assert float(discriminator_loss([low], [high])) == 0.0
    assert float(discriminator_loss([high, low], [low, high])) == 1.0
    assert float(feature_matching_loss([high], [low])) == 1.0


# ---- discriminators -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["compact", "univnet", "hifigan"])
def test_discriminators_learn_to_tell_hum_from_noise(kind: Any) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        judges = Discriminators(kind, divisor=8 if kind != "compact" else 4)
    time = torch.arange(2048) / 24_000
    real = 0.2 * torch.sin(2 * torch.pi * torch.tensor([[150.0], [210.0]]) * time)
    made = wave(0, 2, 2048)
    assert len(judges(real)) == 8
    optimizer = torch.optim.AdamW(judges.parameters(), lr=4e-3, betas=(0.8, 0.99))
    losses = []
    for _ in range(20):
        loss = discriminator_loss(judges(made), judges(real))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 0.9 and losses[-1] < 0.4, "0.5 is what they reach who cannot tell"
    with torch.no_grad():
        for (said_of_real, _), (said_of_made, _) in zip(judges(real), judges(made), strict=True):
            assert said_of_real.mean() > said_of_made.mean(), "every one of them"


@pytest.mark.parametrize(("kind", "millions"), [("univnet", 17.7), ("hifigan", 70.7)])
def test_published_discriminators_have_their_size(kind: Any, millions: float) -> None:
    with torch.device("meta"):
        judges = Discriminators(kind)
    assert sum(p.numel() for p in judges.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


# ---- stages ---------------------------------------------------------------------------------------------------------


def test_univnet_learns_a_batch(build: Build, learn: Learn) -> None:
    stage: Any = build("vocoder", univnet=UNIVNET, stage=LSGAN | {"rows": 1, "discriminator_start": 39})
    log = learn(stage, steps=40, learning_rate=4e-3, betas=(0.5, 0.9), max_grad_norm=100.0, min_lr_ratio=1.0)
    assert set(log[-1]) >= {"stft", "generator_loss", "discriminator_loss"} and not {"mel", "feature_matching"} & set(
        log[-1]
    )
    assert log[-1]["stft"] < 0.6 * log[0]["stft"]


def test_judges_hear_what_was_made_before_the_maker_learned(build: Build) -> None:
    stage: Any = build("vocoder", univnet=UNIVNET, stage=LSGAN)
    parts = [stage.data.load(3, range(0, 1)), stage.data.load(3, range(1, 2))]
    made = [stage.generate(part).waveform.detach() for part in parts]
    for part in parts:
        stage.training_step("vocoder", part, torch.Generator())
    with torch.no_grad():
        stage.vocoder.output.bias += 1.0  # the maker learns
    for part, heard in zip(parts, made, strict=True):
        assert torch.equal(stage._generated_of(part), heard)
    stage.training_step("vocoder", stage.data.load(4, range(0, 1)), torch.Generator())
    assert len(stage._generated) == 1, "of one step alone"


def test_noise_of_a_row_is_its_own(build: Build) -> None:
    stage: Any = build("vocoder", univnet=UNIVNET, stage=LSGAN | {"rows": 3})
    whole, part = stage.data.batch(2), stage.data.load(2, range(1, 3))
    assert whole.noise.shape == (3, 8, 10)
    for a, b in zip(part[:3], whole[:3], strict=True):
        assert torch.equal(a, b[1:3])


def test_hifigan_learns_a_batch(build: Build, learn: Learn) -> None:
    stage: Any = build(
        "hifigan", stage={"discriminator_start": 20, "mel": 1.0, "discriminators": "compact"}, pairs={"budget": 60}
    )
    batch = stage.data.batch(0)
    assert batch.waveform.shape == (len(batch.text), 12 * 256)
    decoder = {k: v.clone() for k, v in stage.decoder.state_dict().items()}
    log = learn(stage, steps=22, learning_rate=4e-3, max_grad_norm=100.0, min_lr_ratio=1.0)
    assert log[19]["mel"] < 0.6 * log[0]["mel"]
    adversarial = {"generator_loss", "feature_matching", "discriminator_loss"}
    assert [adversarial & set(line) for line in log[19:21]] == [set(), adversarial]
    assert all(torch.equal(v, decoder[k]) for k, v in stage.decoder.state_dict().items())


def test_crops_of_hifigan_lie_at_the_time_of_their_latents(build: Build) -> None:
    """A wave made of one voice and text alone cannot tell; where the latents of a row begin can."""
    stage: Any = build("hifigan")
    batch, frames = stage.data.batch(1), 12
    heard: list[Tensor] = []
    stage.hifigan.register_forward_pre_hook(lambda module, inputs: heard.append(inputs[0]))
    stage.generate(batch)
    from chelys.tortoise.hifigan import stretch

    for r, (t, m) in enumerate(zip(batch.text_lengths.tolist(), batch.code_lengths.tolist(), strict=True)):
        one, first = slice(r, r + 1), int(batch.first[r])
        with torch.no_grad():
            voice = stage.decoder.condition(batch.reference[one])
            latents = stage.decoder.latents(voice, batch.text[one, :t], batch.codes[one, :m])
        expected = stretch(latents.transpose(1, 2), first, first + frames)[0]
        torch.testing.assert_close(heard[0][r], expected, rtol=1e-3, atol=1e-3)


# ---- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"mel": 0.0}, "stage.mel and stage.stft are both 0"),
        ({"mel_resolutions": 5}, "stage.mel_resolutions is 5; it must be 1 to 4"),
        ({"discriminator_divisor": 3}, "stage.discriminator_divisor is 3; it must be 1, 2, 4 or 8"),
    ],
)
def test_bad_weights(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        AdversarialConfig(**values)


def test_mel_specs_that_cannot_be_spoken(build: Build, two_mel_specs: Callable[[], Any], toy: Any) -> None:
    with pytest.raises(ConfigError, match="a vocoder speaks the shared one"):
        build("vocoder", features=str(two_mel_specs().features))
    with pytest.raises(ConfigError, match="data features --mel-spec codes"):
        build("hifigan", **toy.paths())
    with pytest.raises(ConfigError, match="set network.latent_dim and network.voice_dim to that, not 16 and 32"):
        build("hifigan", network={"latent_dim": 16})
