"""From a configuration file to a run: what it leaves, and what it refuses in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from toy_corpus import MEL_RANGE

from chelys.config import from_mapping
from chelys.configs import CONFIGS, read_config_file, read_yaml
from chelys.errors import ConfigError, ManifestError, ModelError, UserError
from chelys.models.autoregressive import Autoregressive
from chelys.models.clvp import CLVPConfig
from chelys.training.accelerated.config import STAGES, AcceleratedConfig
from chelys.training.checkpoint import load_trained
from chelys.training.run_stage import run_stage
from chelys.training.tasks import RUNS
from chelys.training.tasks.dvae import trained_dvae

ConfigFile = Callable[..., Path]
SHORT = {"steps": 3, "evaluate_every": 3, "checkpoint_every": 2}


@pytest.mark.parametrize("stage", RUNS)
def test_a_run_leaves_weights_configuration_log_and_checkpoints(
    config_file: ConfigFile, tmp_path: Path, stage: str
) -> None:
    sections = {"stage": {"discriminator_start": 1}} if stage == "vocoder" else {}
    path = run_stage(stage, config_file(stage, loop=SHORT, **sections))
    run = tmp_path / "run"
    assert path == run / f"{stage}.safetensors"
    assert {p.name for p in run.iterdir()} == {path.name, "config.json", "log.jsonl", "checkpoints", ".lock"}
    newest = load_file(run / "checkpoints" / "000000003.safetensors")
    weights = load_file(path)
    assert weights and all(torch.equal(v, newest[f"ema.{k}"]) for k, v in weights.items())
    config = from_mapping(RUNS[stage], json.loads((run / "config.json").read_text()))
    assert config == from_mapping(RUNS[stage], read_yaml(tmp_path / f"{stage}.yaml"))
    network = load_trained(config.build().network, path)
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    held_out = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()][-1]
    assert held_out["step"] == 3 and any(key.startswith("held_out/") for key in held_out)


def test_initial_weights_are_those_of_the_seed(config_file: ConfigFile, tmp_path: Path) -> None:
    def trained(name: str, *overrides: str) -> dict[str, torch.Tensor]:
        torch.rand(7)  # wherever the global generator stands
        return load_file(run_stage("clvp", config_file("clvp", loop=SHORT), [f"run={tmp_path / name}", *overrides]))

    first, same, other = trained("a"), trained("b"), trained("c", "loop.seed=2")
    assert all(torch.equal(v, same[k]) for k, v in first.items())
    assert not torch.equal(first["text_encoder.embedding.weight"], other["text_encoder.embedding.weight"])


def test_overrides_are_laid_over_the_file(config_file: ConfigFile, tmp_path: Path) -> None:
    overrides = [f"run={tmp_path / 'other'}", "loop.learning_rate=5e-4", "loop.betas=[0.8, 0.9]", "stage.rows=2"]
    run_stage("dvae", config_file("dvae", loop=SHORT), overrides)
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    assert (config["loop"]["learning_rate"], config["loop"]["betas"]) == (5e-4, [0.8, 0.9])
    assert config["stage"] | {"rows": 2, "frames": 48} == config["stage"]
    assert not (tmp_path / "run").exists()


def test_the_second_phase_goes_on_from_the_first(config_file: ConfigFile, tmp_path: Path) -> None:
    decoder = run_stage("autoregressive", config_file("autoregressive", loop=SHORT), [f"run={tmp_path / 'a'}"])
    first = run_stage("diffusion", config_file("diffusion", loop=SHORT), [f"run={tmp_path / 'codes'}"])
    frozen = {"learning_rate": 1e-12, "weight_decay": 0.0} | SHORT
    second = run_stage(
        "diffusion",
        config_file(
            "diffusion", loop=frozen, stage={"conditioning": "latents"}, start=str(first), decoder=str(decoder)
        ),
    )
    for key, value in load_file(second).items():
        torch.testing.assert_close(value, load_file(first)[key], rtol=0, atol=1e-6)


@pytest.mark.parametrize("stage", ["dvae", "autoregressive", "clvp", "vocoder"])
def test_a_stage_goes_on_from_an_earlier_leg(config_file: ConfigFile, tmp_path: Path, stage: str) -> None:
    first = run_stage(stage, config_file(stage, loop=SHORT), [f"run={tmp_path / 'first'}"])
    begun = from_mapping(RUNS[stage], read_yaml(config_file(stage, start=str(first)))).build_or_load()
    network = begun.modules[stage]
    for key, value in network.state_dict().items():
        assert torch.equal(value, load_file(first)[key])
    assert all(p.requires_grad for p in network.parameters())


def test_the_dvae_of_a_run(config_file: ConfigFile, tmp_path: Path) -> None:
    weights = load_file(run_stage("dvae", config_file("dvae", loop=SHORT)))
    dvae, mel_range = trained_dvae(tmp_path / "run")
    assert mel_range == MEL_RANGE and torch.equal(dvae.codebook.vectors, weights["codebook.vectors"])
    with pytest.raises(ConfigError, match="no run of the dvae stage in .*nowhere"):
        trained_dvae(tmp_path / "nowhere")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_shipped_configurations_are_understood(path: Path) -> None:
    stage = path.stem.removesuffix("_latents")
    if stage == "accelerated":  # all stages in one file
        accelerated = from_mapping(AcceleratedConfig, read_yaml(path), where=str(path))
        assert all(accelerated.run(name, path.parent).loop for name in STAGES)
    elif stage != "model":
        assert from_mapping(RUNS[stage], read_yaml(path), where=str(path)).loop.steps > 1000


def test_every_stage_has_its_published_configuration() -> None:
    found = {path.stem for path in (CONFIGS / "tortoise_v2").glob("*.yaml")}
    assert found == {*RUNS, "diffusion_latents"}


def test_sizes_by_name(config_file: ConfigFile) -> None:
    published: Any = from_mapping(RUNS["clvp"], read_yaml(CONFIGS / "tortoise_v2" / "clvp.yaml"))
    assert published.network == CLVPConfig.tortoise_v2()
    shallow = read_config_file(CONFIGS / "tortoise_v2" / "clvp.yaml", ["network.depth=2"])
    made: Any = from_mapping(RUNS["clvp"], shallow)
    assert made.network == replace(CLVPConfig.tortoise_v2(), depth=2)
    other = config_file("clvp", network={"like": "tortoise-v3"})
    assert "like is 'tortoise-v3'; it must be tortoise-v2" in refused("clvp", other)


# ---- mistakes -------------------------------------------------------------------------------------------------------


def refused(stage: str, path: Path, *overrides: str) -> str:
    """Run what must be refused; the one line of the answer."""
    with pytest.raises(UserError) as caught:
        run_stage(stage, path, list(overrides))
    message = str(caught.value)
    assert "\n" not in message and isinstance(caught.value, ConfigError | ManifestError | ModelError)
    return message


def test_unknown_stage(config_file: ConfigFile) -> None:
    message = refused("vocos", config_file("dvae"))
    start, _, choice = message.partition(": choose from ")
    assert start == "unknown stage 'vocos'" and sorted(choice.split(", ")) == sorted(RUNS)


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("speed=3", "speed: "),
        ("loop.stepz=3", "loop.stepz: "),
        ("network.depth=3", "network.depth: "),
        ("loop.steps=many", "loop.steps: "),
        ("loop.steps=0", "steps is 0; it must be 1 or more"),
        ("loop.betas=[1]", "loop.betas"),
        ("loop.steps", "'loop.steps' is not key=value"),
        ("=3", "is not key=value"),
        ("run.folder=x", "run holds no keys"),
        ("loop.steps=[3", "not YAML"),
        ("mel_range=3", "mel_range"),
    ],
)
def test_bad_keys_and_values(config_file: ConfigFile, tmp_path: Path, override: str, complaint: str) -> None:
    assert complaint in refused("dvae", config_file("dvae"), override)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "cannot read"), ("[1, 2", "is not YAML"), ("- 1", "holds no keys"), ("run: x", "features: ")],
)
def test_bad_files(tmp_path: Path, content: str | None, complaint: str) -> None:
    path = tmp_path / "bad.yaml"
    if content is not None:
        path.write_text(content)
    message = refused("dvae", path)
    assert str(path) in message and complaint in message


def test_missing_data(config_file: ConfigFile, tmp_path: Path) -> None:
    config, nowhere = config_file("autoregressive"), tmp_path / "nowhere"
    assert "no features in" in refused("autoregressive", config, f"features={nowhere}")
    assert "no codes at" in refused("autoregressive", config, f"codes={nowhere}")
    assert "tokenizer.json" in refused("autoregressive", config, f"text={nowhere}")
    assert "no clip to train on" in refused("autoregressive", config, "pairs.max_codes=2")


@pytest.mark.parametrize(
    ("stage", "override", "complaint"),
    [
        ("autoregressive", "network.codes=8", "network.codes is 8, fewer than the 16 codes in"),
        ("clvp", "network.speech_tokens=8", "network.speech_tokens is 8, fewer than the 16 codes in"),
        ("diffusion", "network.codes=8", "network.codes is 8, fewer than the 16 codes in"),
        ("clvp", "network.text_tokens=20", "network.text_tokens is 20, fewer than the"),
        ("dvae", "network.text_tokens=90", "network.text_tokens needs texts: name the folder of the tokenizer"),
        ("dvae", "text=text", "text=FOLDER is for a network that reads texts from codes"),
        ("autoregressive", "network={text_tokens: 90, codes: 16, positions: learned, code_positions: 60}",
         "pairs.max_codes is 400, but network has places for 59"),
        ("autoregressive", "network={text_tokens: 90, codes: 16, positions: learned, text_positions: 60}",
         "pairs.max_text_ids is 400, but network has places for 58"),
    ],
)  # fmt: skip
def test_data_beyond_a_networks_tables(config_file: ConfigFile, stage: str, override: str, complaint: str) -> None:
    assert complaint in refused(stage, config_file(stage), override)


def test_missing_or_unfit_weights_of_earlier_stages(config_file: ConfigFile, tmp_path: Path) -> None:
    gone = tmp_path / "gone.safetensors"
    assert f"no weights at {gone}" in refused("vocoder", config_file("vocoder"), f"start={gone}")
    assert f"no weights at {gone}" in refused("diffusion", config_file("diffusion"), f"start={gone}")
    latents = config_file("diffusion", stage={"conditioning": "latents"})
    assert "needs decoder=PATH" in refused("diffusion", latents)
    assert f"no weights at {gone}: train that stage first" in refused("diffusion", latents, f"decoder={gone}")

    sizes: Any = from_mapping(RUNS["diffusion"], read_yaml(latents)).decoder_network
    save_file(Autoregressive(sizes).state_dict(), tmp_path / "narrow.safetensors")
    message = refused("diffusion", latents, f"decoder={tmp_path / 'narrow.safetensors'}", "decoder_network.dim=64")
    assert "narrow.safetensors does not fit the configured network" in message
    shutil.copy(tmp_path / "narrow.safetensors", tmp_path / "torn.safetensors")
    (tmp_path / "torn.safetensors").write_bytes((tmp_path / "torn.safetensors").read_bytes()[:-9])
    assert "torn.safetensors is damaged" in refused("diffusion", latents, f"decoder={tmp_path / 'torn.safetensors'}")


@pytest.mark.parametrize(
    ("stage", "override"),
    [
        ("dvae", "network.hidden=-1"),
        ("dvae", "network.hidden=1000000"),
        ("dvae", "network.residual_blocks=100000"),
        ("dvae", "stage.frames=-9223372036854775808"),
        ("dvae", "stage.frames=0"),
        ("dvae", "stage.frames=3"),  # less than a code
        ("dvae", "stage.rows=0"),
        ("clvp", "network.dim=0"),
        ("dvae", "run=" + "1" * 5000),
        ("dvae", "loop.seed=" + "9" * 25),
        ("autoregressive", "network.dim=18446744073709551615"),
        ("autoregressive", "network.heads=3"),
        ("autoregressive", "network.layers=1001"),
        ("autoregressive", "pairs.reference_frames=32000000"),
        ("diffusion", "network.heads=0"),
        ("diffusion", "network.dim=16777216"),
        ("clvp", "network.head_dim=16777216"),
    ],
)
def test_settings_that_no_machine_can_build_are_refused_in_one_line(
    config_file: ConfigFile, stage: str, override: str
) -> None:
    assert len(refused(stage, config_file(stage), override)) < 500
