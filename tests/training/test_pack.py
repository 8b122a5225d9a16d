"""Runs of every stage to a model folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from toy_corpus import MEL_RANGE, ToyCorpus
from typer.testing import CliRunner

from chelys.audio.mel import MelRange
from chelys.cli.main import app
from chelys.config import from_mapping, to_mapping
from chelys.errors import ConfigError
from chelys.inference.synthesizer import Synthesizer
from chelys.tortoise.model import TortoiseConfig
from chelys.training.checkpoint import load_trained
from chelys.training.pack import FURTHER, NEEDED, PackConfig, pack
from chelys.training.tasks import RUNS
from chelys.weights.folder import load_model

UNIVNET = {"channels": 8, "predictor_channels": 8, "noise_dim": 8, "predictor_blocks": 1}


@pytest.fixture
def trained(values: Callable[..., dict[str, Any]], frozen: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """A stage's run folder as training leaves it, without the training."""

    def make(stage: str, /, **sections: Any) -> Path:
        if stage == "diffusion":
            sections = {"decoder": str(frozen("autoregressive")), "stage": {"conditioning": "latents"}} | sections
        folder = tmp_path / "runs" / stage
        run = from_mapping(RUNS[stage], values(stage, **sections) | {"run": str(folder)})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            network = run.build().network
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(to_mapping(run)))
        save_file({k: v.contiguous() for k, v in network.state_dict().items()}, folder / f"{stage}.safetensors")
        return folder

    return make


@pytest.fixture
def config(trained: Callable[..., Path], toy: ToyCorpus) -> Callable[..., PackConfig]:
    def make(*further: str, **changes: Any) -> PackConfig:
        made = {
            "name": "toy", "runs": {stage: trained(stage) for stage in (*NEEDED, *further)}, "text": toy.text,
            "features": toy.features, "mel_range": MEL_RANGE, "default_voice": "ada",
        }  # fmt: skip
        return PackConfig(**made | changes)

    return make


def test_the_places_of_a_folder_are_those_of_the_stages() -> None:
    assert set(FURTHER) == set(TortoiseConfig.EXTRAS)
    assert set(RUNS) == {*NEEDED, *FURTHER}


@torch.inference_mode()
def test_every_network_comes_out_as_it_was_trained(config, tmp_path) -> None:
    made = config(*FURTHER)
    pack(made, tmp_path / "model")
    model = load_model(tmp_path / "model")
    for stage in FURTHER:
        assert model.has(stage)
        run = from_mapping(RUNS[stage], json.loads((made.runs[stage] / "config.json").read_text()))
        whole = run.build().network
        load_trained(whole, made.runs[stage] / f"{stage}.safetensors")
        if stage == "hifigan":
            whole.fold()
        for name, tensor in whole.state_dict().items():
            packed = model.extra(stage).state_dict()[name]
            assert torch.allclose(packed, tensor, rtol=2e-3, atol=2e-3), f"{stage}.{name}"


@torch.inference_mode()
def test_networks_as_int8_are_half_as_large_and_nearly_the_same(config, tmp_path) -> None:
    pack(config(), tmp_path / "half")
    pack(config(int8=("clvp", "dvae")), tmp_path / "int8")
    sizes = {
        name: [(tmp_path / kind / f"{name}.safetensors").stat().st_size for kind in ("half", "int8")]
        for name in NEEDED
    }  # fmt: skip
    assert all((int8 < half) == (name in ("clvp", "dvae")) for name, (half, int8) in sizes.items())
    half, int8 = (load_model(tmp_path / kind).clvp.state_dict() for kind in ("half", "int8"))
    for name, tensor in half.items():
        assert (int8[name] - tensor).abs().max() <= 0.005 * tensor.abs().max() + 1e-3
    with pytest.raises(ConfigError, match="int8 names vocos, which is not among the runs"):
        pack(config(int8=("vocos",)), tmp_path / "none")


def test_a_univnet_is_folded_and_sounds_the_same(config, trained, tmp_path) -> None:
    made = config()
    made.runs["vocoder"] = trained("vocoder", univnet=UNIVNET)
    pack(made, tmp_path / "model")
    vocoder = load_model(tmp_path / "model").vocoder
    run = from_mapping(RUNS["vocoder"], json.loads((made.runs["vocoder"] / "config.json").read_text()))
    whole = load_trained(run.build().network, made.runs["vocoder"] / "vocoder.safetensors")
    assert set(whole.state_dict()) != set(vocoder.state_dict()), "training holds directions and lengths"
    mel = torch.randn(1, 100, 20, generator=torch.Generator().manual_seed(0))
    waves = [network.vocode(mel, torch.Generator().manual_seed(0)) for network in (whole, vocoder)]
    assert waves[0].std() > 0 and torch.allclose(*waves, atol=5e-3)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({"voice": "x"}, "runs.voice: no such stage; choose from dvae"),
        ({"cvvp": "nowhere"}, "no run of cvvp in nowhere: train it first"),
    ],
)
def test_runs_that_cannot_be_packed(config, tmp_path, runs, message) -> None:
    made = config()
    made.runs.update({stage: Path(folder) for stage, folder in runs.items()})
    with pytest.raises(ConfigError, match=message) as error:
        pack(made, tmp_path / "model")
    assert "\n" not in str(error.value) and not (tmp_path / "model").exists()


def test_runs_that_do_not_go_together(config, trained, tmp_path) -> None:
    made = config()
    made.runs["cvvp"] = trained("cvvp", network={"bands": 80})
    with pytest.raises(ConfigError, match="do not go together: cvvp.bands must be autoregressive.bands"):
        pack(made, tmp_path / "model")


def test_other_mels_than_the_model_would_be_given(config, tmp_path) -> None:
    with pytest.raises(ConfigError, match="mel_range -9 to -3, but the model's would be -8 to -3"):
        pack(config(mel_range=MelRange(-8.0, -3.0)), tmp_path / "model")


def test_a_renderer_of_codes_does_not_speak(config, trained, tmp_path) -> None:
    made = config()
    made.runs["diffusion"] = trained("diffusion", decoder=None, stage={"conditioning": "codes"})
    with pytest.raises(ConfigError, match="renders codes; speech is rendered from latents"):
        pack(made, tmp_path / "model")


def test_a_needed_run_is_missing(config, tmp_path) -> None:
    made = config()
    del made.runs["clvp"]
    with pytest.raises(ConfigError, match="runs lacks clvp"):
        pack(made, tmp_path / "model")


def test_the_verb_packs_and_what_it_packed_speaks(config, tmp_path) -> None:
    made = config("autoregressive_prior", "diffusion_prior", voices={"ada": "ada", "bea": "bob"}, speaker_blend=0.25)
    path = tmp_path / "model.yaml"
    path.write_text(json.dumps(to_mapping(made)))
    run = CliRunner().invoke(app, ["pack", "--config", str(path), "--out", str(tmp_path / "model")])
    assert run.exit_code == 0, run.output
    synthesizer = Synthesizer.from_folder(tmp_path / "model")
    assert synthesizer.model.config.speaker_blend == 0.25
    assert all(voice.blended is None for voice in synthesizer.voices.values())
    for voice in ("ada", "random:3"):
        assert len(synthesizer.speak("Calm moon.", voice=voice, preset="ultra_fast", seed=1).audio) > 0
