"""What the networks of the published family hear of clips, as the original had it and with its faults mended."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import toy
from torch import Tensor

from chelys.audio.io import normalize_loudness
from chelys.audio.mel import PUBLISHED_MEL_RANGE
from chelys.audio.rates import OUTPUT_RATE
from chelys.audio.resample import sinc_resample
from chelys.errors import VoiceError
from chelys.inference.voice import Voice, at_rate, conditioning_latents, trained_mels
from chelys.models.autoregressive import Autoregressive, AutoregressiveConfig
from chelys.models.diffusion import Diffusion, DiffusionConfig
from chelys.tortoise.mel import code_mel, diffusion_mel
from chelys.tortoise.voices import clip_mels, covering, published_code_mels, published_latents

RATE = 22_050
SIX_SECONDS = 132_300
FOUR_SECONDS = 102_400  # 4.27 of them, at 24 kHz


@pytest.fixture(scope="module")
def networks() -> tuple[Autoregressive, Diffusion]:
    """Of the published kind, and tiny."""
    decoder = AutoregressiveConfig(
        bands=80, dim=16, heads=2, layers=1, conditioning_blocks=1, conditioning_kernel=1, conditioning_stride=1,
        conditioning_pool="first",
    )  # fmt: skip
    renderer = DiffusionConfig(dim=16, heads=2, layers=1, latent_dim=16, latent_blocks=1, code_blocks=1)
    generator = torch.Generator().manual_seed(3)
    with torch.random.fork_rng(devices=[]):
        made = Autoregressive(decoder).eval(), Diffusion(renderer).eval()
    for network in made:
        toy.stir(network, generator)
    return made


@pytest.fixture
def make(networks: tuple[Autoregressive, Diffusion]) -> Any:
    """Make a voice by the published front ends."""

    def make(*clips: np.ndarray, rate: int = RATE, **settings: Any) -> Voice:
        hearing = {key: settings.pop(key) for key in ("reference", "seed") if key in settings}

        def latents(clips: Sequence[np.ndarray], rate: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
            return published_latents(clips, rate, *networks, **{"seed": seed} | hearing)

        return Voice.from_waveforms(clips, rate, encoder(latents), **{"about": {"name": "me"}} | settings)

    return make


def encoder(latents: Callable[..., tuple[Tensor, Tensor]]) -> Any:
    """What a voice is made with, of a model with the fingerprint ``m``."""
    model = SimpleNamespace(config=SimpleNamespace(fingerprint="m"))
    return SimpleNamespace(model=model, clip_rate=OUTPUT_RATE, conditioning_latents=latents)


def speech(seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """Noises and tones of a quarter of a second each, no two alike, ``(n,)``."""
    generator = np.random.default_rng(seed)
    parts = [toy.tone(generator.uniform(90, 400), 0.26, rate=rate) for _ in range(round(4 * seconds))]
    wave = np.concatenate(parts)[: round(seconds * rate)]
    return (wave + 0.01 * generator.standard_normal(len(wave))).astype(np.float32)


def padded(wave: np.ndarray, length: int) -> Tensor:
    row = torch.zeros(1, length)
    row[0, : len(wave)] = torch.from_numpy(wave[:length])
    return row


def far(one: Tensor, two: Tensor) -> float:
    return float((one - two).norm() / one.norm())


# ---------------------------------------------------------------- as the original


@torch.no_grad()
def test_reference_vectors_are_those_of_the_original(networks: tuple[Autoregressive, Diffusion], make: Any) -> None:
    """A clip of three seconds is followed by silence, one of nine is cut at a place that Python's generator draws."""
    decoder, renderer = networks
    clips = [speech(9.0), speech(3.0, 1), speech(7.5, 2)]
    voice = make(*clips, reference=True, seed=5)
    dice = random.Random(5)
    first, last = dice.randint(0, len(clips[0]) - SIX_SECONDS), dice.randint(0, len(clips[2]) - SIX_SECONDS)
    heard = [padded(clips[0][first:], SIX_SECONDS), padded(clips[1], SIX_SECONDS), padded(clips[2][last:], SIX_SECONDS)]
    vectors = [decoder.condition(code_mel(wave)) for wave in heard]
    torch.testing.assert_close(voice.autoregressive, sum(vectors)[0] / 3)
    waves = [sinc_resample(torch.from_numpy(clip)[None], RATE, 24_000)[0].numpy() for clip in clips]
    mels = [diffusion_mel(padded(wave, FOUR_SECONDS)) for wave in waves]
    assert [mel.shape for mel in mels] == [(1, 100, 401)] * 3
    embedded = torch.cat([renderer.contextual_embedder(mel) for mel in mels], dim=2)
    torch.testing.assert_close(voice.diffusion, embedded.mean(2)[0])
    assert embedded.shape[2] == 3 * 101


def test_quirk_12_the_original_hears_six_seconds_by_chance_and_the_first_four(make: Any) -> None:
    clip, other_end = speech(9.0), speech(9.0)
    other_end[round(4.5 * RATE) :] = speech(4.5, 7)[: len(clip) - round(4.5 * RATE)]
    voices = [make(clip, reference=True, seed=seed) for seed in (1, 2, 1)]
    assert far(voices[0].autoregressive, voices[1].autoregressive) > 1e-3
    assert torch.equal(voices[0].autoregressive, voices[2].autoregressive)
    assert torch.equal(voices[0].diffusion, voices[1].diffusion)
    assert torch.equal(make(other_end, reference=True, seed=1).diffusion, voices[0].diffusion)


# ---------------------------------------------------------------- mended


def test_quirk_12_mended_the_whole_recording_counts_and_nothing_is_left_to_chance(make: Any) -> None:
    clip = speech(15.0)
    voice = make(clip)
    again = make(clip, seed=9)
    assert torch.equal(voice.autoregressive, again.autoregressive) and torch.equal(voice.diffusion, again.diffusion)
    for second in range(0, 15, 2):
        changed = clip.copy()
        changed[second * RATE : (second + 1) * RATE] = speech(1.0, 40 + second)
        heard = make(changed)
        assert far(voice.autoregressive, heard.autoregressive) > 1e-6, second
        assert far(voice.diffusion, heard.diffusion) > 1e-6, second


@torch.no_grad()
def test_a_short_clip_is_heard_as_the_original_hears_it(make: Any) -> None:
    clip = speech(4.0)
    mended, reference = make(clip), make(clip, reference=True, seed=3)
    assert torch.equal(mended.autoregressive, reference.autoregressive)
    assert torch.equal(mended.diffusion, reference.diffusion)


def test_clips_are_heard_clipped(make: Any) -> None:
    clip = 20 * speech(2.0)
    assert np.abs(clip).max() > 2
    loud, clipped = make(clip), make(clip.clip(-1, 1))
    assert torch.equal(loud.autoregressive, clipped.autoregressive)
    assert torch.equal(loud.diffusion, clipped.diffusion)


@pytest.mark.parametrize("samples", [1, 99, 100, 101, 150, 200, 201, 1000, 1001])
def test_pieces_of_a_wave_cover_it_with_as_few_as_can_be(samples: int) -> None:
    wave = torch.arange(1.0, samples + 1)
    pieces = covering(wave, 100)
    assert all(piece.shape == (100,) for piece in pieces) and len(pieces) == -(-samples // 100)
    heard = torch.cat(pieces)
    assert set(heard[heard > 0].tolist()) == set(wave.tolist())
    if samples < 100:
        assert heard.tolist() == [*wave.tolist(), *[0.0] * (100 - samples)]


def test_loudness_matters_as_it_did_in_the_original(make: Any) -> None:
    assert far(make(speech(2.0)).autoregressive, make(0.1 * speech(2.0)).autoregressive) > 1e-2
    assert normalize_loudness(0.1 * speech(1.0)).std() > 3 * (0.1 * speech(1.0)).std()  # nano's are
    assert len(trained_mels(torch.zeros(1, 100, 600))) == 2


# ---------------------------------------------------------------- clips that a voice carries


def test_a_voice_carries_its_clips_at_24_khz_and_16_bits(make: Any) -> None:
    clip = speech(3.0)
    voice = make(clip, speech(10.0, 1))
    assert [len(kept) for kept in voice.clips] == [3 * OUTPUT_RATE, 9 * OUTPUT_RATE]
    assert all(kept.dtype == np.int16 for kept in voice.clips) and voice.info["seconds"] == 13.0
    expected = sinc_resample(torch.from_numpy(clip)[None], RATE, OUTPUT_RATE)[0].numpy()
    np.testing.assert_allclose(voice.waveforms[0], expected.clip(-1, 1), atol=2 / 32767)
    assert make(clip, kept_seconds=0).clips == ()


def test_what_16_bits_and_two_filters_cost_is_small(make: Any) -> None:
    """A voice that is made again of the clips that it carries, as when it moves to another model."""
    voice = make(speech(5.0), speech(2.5, 1))
    again = make(*voice.waveforms, rate=OUTPUT_RATE)
    other = make(speech(5.0, 8), speech(2.5, 9))
    for name in ("autoregressive", "diffusion"):
        cost, difference = (far(getattr(voice, name), getattr(v, name)) for v in (again, other))
        assert cost < 0.02 and cost < difference / 5, (name, cost, difference)


def test_clip_mels_are_what_the_decoder_heard(make: Any) -> None:
    clips = [speech(7.0), speech(3.0, 1)]
    voice = make(*clips)
    mels = clip_mels(voice)
    heard = published_code_mels(clips, RATE)
    assert mels.shape == heard.shape == (3, 80, 517) and mels.dtype == torch.float32
    assert (mels - heard)[:, :, :240].abs().max() < 0.05  # before the silence that follows the shorter
    assert clip_mels(voice, reference=True, seed=1).shape == (2, 80, 517)
    with pytest.raises(VoiceError, match="'me' carries no clips for CVVP to hear: make it anew .*, or set cvvp"):
        clip_mels(make(*clips, kept_seconds=0))


def test_the_shared_front_end_takes_clips_of_another_rate(networks: tuple[Autoregressive, Diffusion]) -> None:
    with torch.random.fork_rng(devices=[]):
        decoder = Autoregressive(AutoregressiveConfig(dim=16, heads=2, layers=1)).eval()

    def latents(clips: Sequence[np.ndarray], rate: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
        waveforms = [at_rate(clip, rate, OUTPUT_RATE) for clip in clips]
        return conditioning_latents(waveforms, decoder, networks[1], PUBLISHED_MEL_RANGE)

    clip = speech(2.0)
    wave = sinc_resample(torch.from_numpy(clip)[None], RATE, OUTPUT_RATE)[0].numpy()
    voices = [
        Voice.from_waveforms([audio], rate, encoder(latents), about={})
        for audio, rate in ((clip, RATE), (wave, OUTPUT_RATE))
    ]
    assert torch.equal(voices[0].autoregressive, voices[1].autoregressive)
    assert voices[0].info["seconds"] == voices[1].info["seconds"] == 2.0
