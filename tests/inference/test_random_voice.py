"""``random:SEED``: the same voice for a seed, always, and another for another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import toy
from torch import Tensor

from chelys.errors import VoiceError
from chelys.inference.synthesizer import Synthesizer
from chelys.inference.voice import Voice
from chelys.inference.voice_library import VoiceLibrary, seed_of
from chelys.tortoise.speaking import TortoiseFamily
from chelys.tortoise.voice_prior import VoicePrior, VoicePriorConfig
from chelys.weights.folder import make_config, save_model


def draw_voice(family: Any, seed: int) -> Voice:
    return VoiceLibrary(family).random(seed)


@pytest.fixture(scope="module")
def priors() -> dict[str, VoicePrior]:
    """Both priors, for a model of the toy's sizes."""
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng(devices=[]):
        made = {
            "diffusion_prior": VoicePrior(VoicePriorConfig(dim=64)).eval(),
            "autoregressive_prior": VoicePrior(VoicePriorConfig(dim=32)).eval(),
        }
    for prior in made.values():
        toy.stir(prior, generator)
        for layer in prior.layers[:-1]:
            layer.weight.data *= layer.in_features**0.5 / prior.config.rate  # else the biases would drown the noise
    return made


@pytest.fixture
def published(priors: dict[str, VoicePrior]) -> Any:
    """A model with priors, of which it keeps no more than what drawing asks for."""
    settings: dict[str, Any] = {name: prior.config for name, prior in priors.items()}
    config = SimpleNamespace(name="toy-v2", fingerprint="abc", mel_spec="published", text_stops=0, **settings)
    model: Any = SimpleNamespace(config=config, extra=priors.__getitem__, folder=Path("nowhere"))
    return TortoiseFamily(model)


@torch.no_grad()
def test_priors_are_fed_as_the_original_feeds_them(published: Any, priors: dict[str, VoicePrior]) -> None:
    """Its noise comes from torch's own generator: first that of the decoder, then that of the renderer."""
    voice = draw_voice(published, 7)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        first, second = torch.randn(1, 32), torch.randn(1, 64)
    torch.testing.assert_close(voice.autoregressive, priors["autoregressive_prior"](first)[0])
    torch.testing.assert_close(voice.diffusion, priors["diffusion_prior"](second)[0])
    assert (voice.name, voice.model, voice.clips) == ("random:7", "abc", ())


def test_a_model_folder_with_priors(priors: dict[str, VoicePrior], published: Any, tmp_path: Path) -> None:
    sizes = {name: prior.config for name, prior in priors.items()}
    config = make_config({**vars(toy.config("toy-v2")), **sizes})
    saved = save_model(tmp_path / "model", config, toy.networks(config) | priors, toy.tokenizer(), dtype=torch.float32)
    synthesizer = Synthesizer.from_folder(tmp_path / "model")
    voice = draw_voice(synthesizer.family, 7)
    torch.testing.assert_close(vectors(voice), vectors(draw_voice(published, 7)))
    assert voice.model == saved.fingerprint and synthesizer.resolve_voice(voice) is voice
    assert torch.equal(vectors(synthesizer.resolve_voice("random:7")), vectors(voice))
    assert voice.info["description"] == "drawn from the model's priors"


def test_drawing_from_priors_hangs_on_the_seed_alone(published: Any) -> None:
    one = draw_voice(published, 7)
    state = torch.random.get_rng_state()
    torch.rand(3)
    again, other = draw_voice(published, 7), draw_voice(published, 8)
    torch.random.set_rng_state(state)
    assert torch.equal(vectors(one), vectors(again))
    assert (vectors(one) != vectors(other)).all()


def test_drawing_changes_no_state_of_anyone(published: Any, tts: Synthesizer) -> None:
    before, theirs = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    draw_voice(published, 1)
    draw_voice(tts.family, 1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], theirs)  # noqa: NPY002


def vectors(voice: Voice) -> Tensor:
    return torch.cat((voice.autoregressive, voice.diffusion))


def shares(voice: Voice, tts: Synthesizer) -> Tensor:
    """How much of each of the two toy voices is in a blend."""
    basis = [vectors(tts.resolve_voice(name)) for name in ("low", "high")]
    return torch.linalg.lstsq(torch.stack(basis, dim=1), vectors(voice)[:, None]).solution[:, 0]


def test_a_model_without_priors_blends_its_voices(tts: Synthesizer) -> None:
    drawn = [draw_voice(tts.family, seed) for seed in range(200)]
    low = torch.tensor([shares(voice, tts)[0] for voice in drawn])
    high = torch.tensor([shares(voice, tts)[1] for voice in drawn])
    torch.testing.assert_close(low + high, torch.ones(200), rtol=0, atol=1e-3)
    assert low.min() > -1e-3 and high.min() > -1e-3
    assert abs(low.mean() - 0.5) < 0.1  # no voice is favoured
    assert abs(low.var() - 0.125) < 0.03  # of Dirichlet's distribution with concentration 1/2, for two voices
    assert torch.equal(vectors(draw_voice(tts.family, 3)), vectors(drawn[3]))


def test_a_blend_tells_what_it_is_made_of(tts: Synthesizer, tmp_path: Path) -> None:
    voice = draw_voice(tts.family, 3)
    names = {round(100 * share): name for share, name in zip(shares(voice, tts).tolist(), ("low", "high"), strict=True)}
    expected = ", ".join(f"{share}% {names[share]}" for share in sorted(names, reverse=True))
    assert voice.info["description"] == f"a blend of {expected}" and voice.name == "random:3"
    assert tts.resolve_voice(voice) is voice
    voice.save(tmp_path / "stranger.safetensors")
    assert Voice.load(tmp_path / "stranger.safetensors").about == voice.about


def test_a_model_with_nothing_to_draw_from(toy_copy: Callable[[], Path]) -> None:
    folder = toy_copy()
    for file in (folder / "voices").iterdir():
        file.unlink()
    with pytest.raises(VoiceError, match="toy cannot draw a voice, it has no priors and no voices to blend"):
        draw_voice(Synthesizer.from_folder(folder).family, 1)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_out_of_range(tts: Synthesizer, seed: int) -> None:
    with pytest.raises(VoiceError, match=f"is {seed}; it must lie between 0 and 4294967295"):
        draw_voice(tts.family, seed)


def test_names_of_random_voices() -> None:
    assert [seed_of(name) for name in ("random:0", "random:007", "random:4294967295")] == [0, 7, 2**32 - 1]
    assert seed_of("random:7+heart") is None and seed_of("random:7:0.5+heart:0.5") is None  # mixes
    assert [seed_of(name) for name in ("heart", "randomly", "Random:1", "my random", "", "random1")] == [None] * 6
    fresh = {seed_of("random") for _ in range(3)}
    assert len(fresh) == 3 and all(seed is not None and 0 <= seed < 2**32 for seed in fresh)
    for seed in ("", "x", "-1", "1.5", "4294967296", " 7", "٣", "1\n"):
        with pytest.raises(VoiceError) as raised:
            seed_of(f"random:{seed}")
        assert "write random:SEED" in str(raised.value) and "\n" not in str(raised.value)
