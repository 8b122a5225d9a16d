"""Runs of tiny networks on the toy corpus."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_corpus
from safetensors.torch import save_file
from toy_corpus import LOOP

from chelys.config import from_mapping
from chelys.models.autoregressive import Autoregressive, AutoregressiveConfig
from chelys.models.diffusion import Diffusion, DiffusionConfig
from chelys.training.config import LoopConfig
from chelys.training.task import Task, TaskData, map_tensors, tensors_of
from chelys.training.tasks import RUNS
from chelys.training.trainer import Trainer

IDS = toy_corpus.tokenizer().vocabulary_size
DECODER = {"text_tokens": IDS, "codes": 16, "dim": 32, "layers": 2, "heads": 2, "conditioning_blocks": 1}
NETWORKS: dict[str, dict[str, Any]] = {
    "dvae": {"tokens": 16, "code_width": 4, "hidden": 16, "residual_blocks": 1},
    "vocoder": {"dim": 32, "inner": 64, "blocks": 2, "pitches": 72},
    "autoregressive": DECODER,
    "diffusion": {
        "dim": 32, "heads": 2, "layers": 1, "latent_dim": 32, "latent_blocks": 1, "codes": 16, "code_blocks": 1
    },
    "clvp": {
        "text_tokens": IDS, "speech_tokens": 16, "dim": 32, "depth": 1, "heads": 2, "head_dim": 16, "rotary_dim": 8
    },
    "cvvp": {
        "bands": 100, "speech_tokens": 16, "dim": 32, "clip_depth": 1, "speech_depth": 1, "heads": 2,
        "head_dim": 16, "rotary_dim": 8,
    },
    "hifigan": {"latent_dim": 32, "voice_dim": 32, "channels": 32},
    "detector": {"channels": 8, "stages": 3, "blocks": 1, "dim": 32, "attention_blocks": 1, "heads": 2},
}  # fmt: skip
STAGES: dict[str, dict[str, Any]] = {
    "dvae": {"rows": 4, "frames": 48, "start_at": 5},
    "vocoder": {"rows": 2, "frames": 24},
    "hifigan": {"frames": 12, "discriminator_divisor": 8},
    "detector": {"rows": 4, "samples": 8192},
    "autoregressive_prior": {"rows": 8, "frames": 32},
    "diffusion_prior": {"rows": 8, "frames": 32},
}


@pytest.fixture
def frozen(tmp_path: Path) -> Callable[..., Path]:
    """Write weights of an autoregressive or a diffusion decoder, random but loud."""

    def make(kind: str, /, **sizes: Any) -> Path:
        network_type, config_type = {
            "autoregressive": (Autoregressive, AutoregressiveConfig), "diffusion": (Diffusion, DiffusionConfig)
        }[kind]  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            network = network_type(from_mapping(config_type, NETWORKS[kind] | sizes))
            for parameter in network.parameters():
                if parameter.ndim > 1:
                    torch.nn.init.normal_(parameter, std=0.3)
        path = tmp_path / f"{kind}{''.join(f'-{key}-{size}' for key, size in sizes.items())}.frozen.safetensors"
        save_file(network.state_dict(), path)
        return path

    return make


@pytest.fixture(scope="session")
def two_mel_specs(
    toy: toy_corpus.ToyCorpus, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], toy_corpus.TwoMelSpecs]:
    """The toy corpus once more as the published VQ-VAE hears it, beside what is rendered of it."""
    return lambda: toy_corpus.lay_out_twice(toy, tmp_path_factory.getbasetemp() / "toy_two")


@pytest.fixture
def values(
    toy: toy_corpus.ToyCorpus, tmp_path: Path, frozen: Callable[..., Path], two_mel_specs: Callable[..., Any]
) -> Callable[..., dict[str, Any]]:
    """Make a stage's configuration: run folder ``tmp_path / "run"``, sections as given laid over the tiny ones."""

    def make(stage: str, /, **sections: Any) -> dict[str, Any]:
        made: dict[str, Any] = {
            "run": str(tmp_path / "run"),
            "features": str(toy.features),
            "mel_range": {"low": toy_corpus.MEL_RANGE.low, "high": toy_corpus.MEL_RANGE.high},
            "network": NETWORKS.get(stage),
            "stage": STAGES.get(stage, {}),
            "loop": LOOP,
        }
        if stage == "detector":
            del made["features"], made["mel_range"]
            made |= {"real": [str(toy.manifest)], "synthetic": [str(toy.manifest)]}
        elif stage.endswith("_prior"):
            kind = stage.removesuffix("_prior")
            del made["network"]
            made |= {"encoder": str(frozen(kind)), "encoder_network": NETWORKS[kind]}
        elif stage not in ("dvae", "vocoder"):
            made |= toy.paths() | {"pairs": {"budget": 120, "reference_frames": 32}}
        if stage in ("diffusion", "hifigan"):
            made |= {"decoder_network": DECODER}
        if stage == "hifigan":
            two = two_mel_specs()
            network = DECODER | {"bands": 80}
            made |= two.codes_paths() | {"decoder": str(frozen("autoregressive", bands=80)), "decoder_network": network}
            made["mel_range"] = {"low": -1.0, "high": 1.0}
        for name, section in sections.items():
            made[name] = made.get(name, {}) | section if isinstance(section, dict) else section
        return made

    return make


@pytest.fixture
def config_file(values: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., Path]:
    """Write a stage's configuration."""

    def write(stage: str, /, **sections: Any) -> Path:
        path = tmp_path / f"{stage}.yaml"
        path.write_text(json.dumps(values(stage, **sections)))  # JSON is YAML
        return path

    return write


@pytest.fixture
def build(values: Callable[..., dict[str, Any]]) -> Callable[..., Task]:
    """Build a stage with fresh weights."""

    def make(stage: str, /, **sections: Any) -> Task:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return from_mapping(RUNS[stage], values(stage, **sections)).build()

    return make


@pytest.fixture
def learn(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Train a stage on its first batch, again and again; returns the log."""
    numbers = count()

    def run(stage: Task, /, **loop: Any) -> list[dict[str, Any]]:
        stage.data = OneBatch(stage.data)
        config = LoopConfig(**(LOOP | {"evaluate_every": 10**6, "checkpoint_every": 10**6} | loop))  # type: ignore
        folder = tmp_path / f"learned-{next(numbers)}"
        Trainer(stage, config, folder).run()
        return [line for line in read_log(folder) if "learning_rate" in line]

    return run


class OneBatch(TaskData):
    """The first batch of some data at every step; all else is theirs."""

    def __init__(self, data: TaskData) -> None:
        self.data, self.whole = data, data.batch(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.data, name)

    def rows(self, step: int) -> int:
        return len(next(iter(tensors_of(self.whole).values())))

    def load(self, step: int, rows: range) -> Any:
        batch = self.whole._replace(step=step) if hasattr(self.whole, "step") else self.whole
        return map_tensors(batch, lambda tensor: tensor[rows.start : rows.stop])


def read_log(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's log, without what the clock says."""
    lines = [json.loads(line, parse_constant=_refuse) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds_per_step"} for line in lines]


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")
