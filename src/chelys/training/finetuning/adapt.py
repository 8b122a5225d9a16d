"""A model and clips of a voice to a model that speaks in it."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file

from chelys.config import to_mapping
from chelys.data.dataset import Features
from chelys.data.pairs import Pairs
from chelys.errors import ModelError, OutputError
from chelys.models.autoregressive import Autoregressive
from chelys.models.diffusion import Diffusion
from chelys.models.dvae import DVAE
from chelys.nn.lora import merge_adapters
from chelys.training.execute import Progress, execute
from chelys.training.finetuning.config import Adaptation, FinetuneConfig
from chelys.training.finetuning.material import (
    Level,
    Material,
    Speak,
    borrow_base,
    lay_out,
    lay_out_base,
    lay_out_voice,
    pairs_of,
    read_source,
)
from chelys.training.finetuning.sentences import SENTENCES
from chelys.training.finetuning.stages import autoregressive_stage, diffusion_stage, figures_of
from chelys.training.stage import Stage
from chelys.training.tasks.rendering import Rendering
from chelys.weights.folder import Model, ModelConfig, build, write_config
from chelys.weights.tensor_file import load_network, read_head, write_tensors

N = TypeVar("N", Autoregressive, Diffusion)
#: The loss that decides, of each decoder.
DECIDES = {"autoregressive": "code", "diffusion": "error"}


@dataclass(frozen=True)
class Outcome:
    """What became of one decoder.

    Attributes:
        decoder: Its name.
        steps: Taken.
        best: Step whose weights were kept; 0 are the base's own.
        before: Held-out loss on the voice and on the base, of the base's weights.
        after: The same of those that were kept.
        why: Why it ended.
    """

    decoder: str
    steps: int
    best: int
    before: tuple[float, float]
    after: tuple[float, float]
    why: str


def check_model(model: Model) -> None:
    """Refuse a model that cannot be adapted.

    Raises:
        ModelError: If it has no VQ-VAE, or hears with the published front end.
    """
    if model.config.dvae is None or not (model.folder / "dvae.safetensors").is_file():
        raise ModelError(
            f"model {model.config.name!r} has no VQ-VAE (dvae.safetensors), without which recordings cannot be turned "
            "into codes; the published TorToise came without: adapt nano or a model trained with chelys"
        )
    if getattr(model.config, "mel_spec", "shared") != "shared":
        raise ModelError(f"model {model.config.name!r} has two front ends; chelys finetune adapts models with one")


def prepare(
    model: Model, source: Path, work: Path, config: FinetuneConfig, *, speak: Speak, voices: Sequence[str],
    level: Level, base: Path | None = None,
) -> Material:  # fmt: skip
    """Make the corpus of clips of the voice and the base's speech.

    Args:
        model: To be adapted.
        source: Folder of clips with transcripts, or a manifest.
        work: Folder of all that is made on the way.
        config: Shares and seed.
        speak: Speaks with the model.
        voices: Built-in ones.
        level: Brings a wave to one loudness.
        base: Manifest of a corpus that the model is not to forget, in place of its own speech.

    Raises:
        ManifestError: If the clips cannot be used.
    """
    folder = work / "corpus"
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    utterances, bad = lay_out_voice(read_source(source, folder), folder / "clips", level, config)
    if base:
        utterances += borrow_base(base, folder / "clips", level, config)
    else:
        utterances += lay_out_base(speak, voices, SENTENCES, folder / "clips", config)
    dvae = build(model.config, "dvae")
    assert isinstance(dvae, DVAE)
    load_network(model.folder / "dvae.safetensors", dvae)
    material = lay_out(utterances, folder, dvae.eval(), model, bad)
    material.bad_clips.write(work / "bad_clips.jsonl")
    return material


def adapt(
    model: Model, material: Material, work: Path, config: FinetuneConfig,
    progress: Callable[[str], Progress | None] = lambda stage: None,
) -> tuple[Autoregressive, Diffusion, list[Outcome]]:  # fmt: skip
    """Adapt the autoregressive decoder, then the diffusion decoder to what it thinks.

    Args:
        model: The base.
        material: From ``prepare``.
        work: Run folders go here; a run that was stopped goes on.
        config: How.
        progress: Gives what is called with (step, steps, figures) of a decoder.

    Returns:
        Both decoders in float32, adapters merged, and what became of them.
    """
    decoder = _copy(model.autoregressive)
    renderer = _copy(model.diffusion)
    outcomes = []
    if config.autoregressive.steps:
        pairs = pairs_of(material, model, config.autoregressive.budget, config)
        how = config.autoregressive
        outcomes.append(
            _run("autoregressive", decoder, how, work, config, pairs, progress,
                 lambda: autoregressive_stage(decoder, pairs, how.rank, config.seed))
        )  # fmt: skip
    if config.diffusion.steps:
        pairs = pairs_of(material, model, config.diffusion.budget, config)
        rendering = Rendering(Features(material.features), model.config.mel_range)
        how = config.diffusion
        outcomes.append(
            _run("diffusion", renderer, how, work, config, pairs, progress,
                 lambda: diffusion_stage(renderer, decoder, pairs, rendering, how.rank, config.seed))
        )  # fmt: skip
    return decoder, renderer, outcomes


def _run(
    name: str, network: torch.nn.Module, how: Adaptation, work: Path, config: FinetuneConfig, pairs: Pairs,
    progress: Callable[[str], Progress | None], stage: Callable[[], Stage],
) -> Outcome:  # fmt: skip
    """Train one decoder, put its best weights in place, and tell what became of it."""
    stopping, run = how.stopping(DECIDES[name]), work / name
    facts = {"decoder": name} | to_mapping(config)
    best = execute(name, stage, config.loop(how), run, facts, progress=progress(name), stopping=stopping)
    network.load_state_dict(load_file(best))
    merge_adapters(network.cpu())
    network.eval().requires_grad_(False)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf8").splitlines()]
    evaluations = [(line["step"], line) for line in lines if stopping.watched in line]
    kept = evaluations[stopping.best(evaluations)]
    return Outcome(
        name,
        steps=evaluations[-1][0],
        best=kept[0],
        before=figures_of(evaluations[0][1], DECIDES[name]),
        after=figures_of(kept[1], DECIDES[name]),
        why=stopping.reason(evaluations) or f"all {how.steps} steps were taken",
    )


def _copy(network: N) -> N:
    return copy.deepcopy(network).cpu().float().requires_grad_(True)


def write_model(model: Model, decoder: Autoregressive, renderer: Diffusion, name: str, folder: Path) -> ModelConfig:
    """Write the adapted model, without voices: two new networks, all else as the base has it.

    Args:
        model: The base.
        decoder: Adapted.
        renderer: Adapted.
        name: Of the model and of the voice that speaks when none is named.
        folder: Must not exist.

    Raises:
        OutputError: If it cannot be written.
    """
    config, hashes = model.config, dict[str, str]()
    try:
        folder.mkdir(parents=True)
        for file in config.hashes:
            if (model.folder / file).is_file():  # a folder may lack what speech does without
                shutil.copyfile(model.folder / file, folder / file)
                hashes[file] = config.hashes[file]
        for kind, network in (("autoregressive", decoder), ("diffusion", renderer)):
            file = f"{kind}.safetensors"
            tensors: dict[str, Any] = network.state_dict()
            hashes[file] = write_tensors(folder / file, tensors, network=kind, dtype=_dtype(model.folder / file))
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error
    return write_config(folder, replace(config, name=name, default_voice=name, hashes={}, origin=""), hashes)


def _dtype(path: Path) -> torch.dtype:
    """Of the floating-point tensors in a file."""
    return next(entry.dtype for entry in read_head(path).values() if entry.dtype.is_floating_point)
