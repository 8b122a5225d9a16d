"""Finetuning: a model and clips of a voice to a model that speaks in it.

`prepare` lays out the clips beside speech of the base model (`finetune_data`), `adapt` trains the decoders on both and
stops early, `write_model` writes the folder.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from chelys.config import to_mapping
from chelys.data.dataset import Features
from chelys.data.pairs import Pairs
from chelys.errors import ModelError, OutputError
from chelys.models.autoregressive import Autoregressive
from chelys.models.diffusion import Diffusion
from chelys.models.dvae import DVAE
from chelys.nn.lora import add_adapters, merge_adapters
from chelys.parsing import read_json_lines
from chelys.training.finetune_data import (
    SENTENCES,
    VOICE,
    Adaptation,
    FinetuneConfig,
    Level,
    Material,
    Speak,
    copy_base,
    copy_voice,
    extract_material,
    pairs_of,
    read_source,
    speak_base,
)
from chelys.training.run_stage import execute
from chelys.training.task import Task
from chelys.training.tasks.autoregressive import AutoregressiveTask, AutoregressiveTaskConfig
from chelys.training.tasks.diffusion import DiffusionData, DiffusionTask, DiffusionTaskConfig, TargetMels
from chelys.training.trainer import Progress
from chelys.weights.folder import DISTILLED_FILE, Model, ModelConfig, build, write_config
from chelys.weights.tensor_file import load_network, read_head, write_tensors

N = TypeVar("N", Autoregressive, Diffusion)
#: The held-out loss that decides, of each decoder.
MONITORED = {"autoregressive": "code_nll", "diffusion": "mse"}
#: Encoders of reference clips stay as they are, so that the conditioning latents of all voices stay valid.
ENCODERS = ("conditioning_encoder", "contextual_embedder")


# ---- tasks ----------------------------------------------------------------------------------------------------------


class Adapted(Task):
    """A decoder's task, evaluated on the voice's held-out clips, ``voice_...``, and on the base's, ``base_...``."""

    pairs: Pairs

    def evaluate(self) -> dict[str, float]:
        everything, metrics = self.pairs.test, dict[str, float]()
        try:
            for kind in ("voice", "base"):
                wanted = np.array([(c.speaker == VOICE) == (kind == "voice") for c in everything])
                self.pairs.test = everything.take(wanted)
                metrics |= {f"{kind}_{name}": value for name, value in super().evaluate().items()}  # type: ignore[safe-super]
        finally:
            self.pairs.test = everything
        return metrics


class AdaptedAutoregressive(Adapted, AutoregressiveTask): ...


class AdaptedDiffusion(Adapted, DiffusionTask): ...


def autoregressive_task(network: Autoregressive, pairs: Pairs, rank: int, seed: int) -> Task:
    """The task of the first decoder; see `make_trainable`."""
    task = AdaptedAutoregressive(network, pairs, AutoregressiveTaskConfig(test_clips=1000))
    make_trainable(network, rank, seed)
    return task


def diffusion_task(
    network: Diffusion, decoder: Autoregressive, pairs: Pairs, targets: TargetMels, rank: int, seed: int
) -> Task:
    """The task of the second decoder, on latents of the first, which is not trained here."""
    config = DiffusionTaskConfig(conditioning="latents", test_clips=1000)
    task = AdaptedDiffusion(network, decoder, DiffusionData(pairs, targets, config))
    make_trainable(network, rank, seed)
    return task


def make_trainable(network: nn.Module, rank: int, seed: int) -> None:
    """Put adapters beside a network's layers, or with rank 0 train the layers; its encoders of clips stay frozen."""
    if rank:
        wanted = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
        chosen = {name for name in wanted if name.partition(".")[0] not in ENCODERS}
        add_adapters(network, rank, torch.Generator().manual_seed(seed), wanted=lambda n: f"{n}.weight" in chosen)
        return
    for name in ENCODERS:
        if encoder := getattr(network, name, None):
            encoder.requires_grad_(False)


# ---- a model adapted ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """How the adaptation of one decoder went."""

    decoder: str  # its name
    steps: int  # taken
    best: int  # step whose weights were kept; 0 are the base's own
    before: tuple[float, float]  # held-out loss on the voice and on the base, of the base's weights
    after: tuple[float, float]  # the same of those that were kept
    reason: str  # why it ended


def check_model(model: Model) -> None:
    """Refuse a model that cannot be adapted. Raises ModelError if it has no VQ-VAE, or two mel specs."""
    if model.config.dvae is None or not (model.folder / "dvae.safetensors").is_file():
        raise ModelError(
            f"model {model.config.name!r} has no VQ-VAE (dvae.safetensors), without which recordings cannot be turned "
            "into codes; the published TorToise came without: adapt nano or a model trained with chelys"
        )
    if getattr(model.config, "mel_spec", "shared") != "shared":
        raise ModelError(f"model {model.config.name!r} has two mel specs; chelys finetune adapts models with one")


def prepare(
    model: Model, source: Path, work: Path, config: FinetuneConfig, *, speak: Speak, voices: Sequence[str],
    level: Level, base: Path | None = None,
) -> Material:  # fmt: skip
    """Make the corpus of clips of the voice and the base's speech.

    ``source``: folder of clips with transcripts, or a manifest; ``work``: folder of all that is made on the way;
    ``config``: shares and seed; ``speak``: speaks with the model; ``voices``: built-in ones; ``level``: brings a
    waveform to one loudness; ``base``: manifest of a corpus that the model is not to forget, in place of its own
    speech. Raises ManifestError if the clips cannot be used.
    """
    folder = work / "corpus"
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    utterances, bad = copy_voice(read_source(source, folder), folder / "clips", level, config)
    if base:
        utterances += copy_base(base, folder / "clips", level, config)
    else:
        utterances += speak_base(speak, voices, SENTENCES, folder / "clips", config)
    dvae = build(model.config, "dvae")
    assert isinstance(dvae, DVAE)
    load_network(model.folder / "dvae.safetensors", dvae)
    material = extract_material(utterances, folder, dvae.eval(), model, bad)
    material.bad_clips.write(work / "bad_clips.jsonl")
    return material


def adapt(
    model: Model, material: Material, work: Path, config: FinetuneConfig,
    progress: Callable[[str], Progress | None] = lambda decoder: None,
) -> tuple[Autoregressive, Diffusion, list[Outcome]]:  # fmt: skip
    """Adapt the autoregressive decoder, then the diffusion decoder to its latents; a run that was stopped continues.

    ``progress`` gives the progress callback of a decoder. Returns both in float32, adapters merged, and how it went.
    """
    decoder = _copy(model.autoregressive)
    renderer = _copy(model.diffusion)
    outcomes = []
    if config.autoregressive.steps:
        pairs = pairs_of(material, model, config.autoregressive.budget, config)
        how = config.autoregressive
        first = partial(autoregressive_task, decoder, pairs, how.rank, config.seed)
        outcomes.append(_run("autoregressive", decoder, how, work, config, progress, first))
    if config.diffusion.steps:
        pairs = pairs_of(material, model, config.diffusion.budget, config)
        targets = TargetMels(Features(material.features), model.config.mel_range)
        how = config.diffusion
        second = partial(diffusion_task, renderer, decoder, pairs, targets, how.rank, config.seed)
        outcomes.append(_run("diffusion", renderer, how, work, config, progress, second))
    return decoder, renderer, outcomes


def _run(
    name: str, network: torch.nn.Module, how: Adaptation, work: Path, config: FinetuneConfig,
    progress: Callable[[str], Progress | None], task: Callable[[], Task],
) -> Outcome:  # fmt: skip
    """Train one decoder and put its best weights in place."""
    stopping, run = how.stopping(MONITORED[name]), work / name
    settings = {"decoder": name} | to_mapping(config)
    best = execute(name, task, config.loop(how), run, settings, progress=progress(name), stopping=stopping)
    network.load_state_dict(load_file(best))
    merge_adapters(network.cpu())
    network.eval().requires_grad_(False)
    lines = list(read_json_lines(run / "log.jsonl", nan=True))
    evaluations = [(line["step"], line) for line in lines if stopping.monitor in line]
    kept = evaluations[stopping.best(evaluations)]
    return Outcome(
        name,
        steps=evaluations[-1][0],
        best=kept[0],
        before=metric_of(evaluations[0][1], MONITORED[name]),
        after=metric_of(kept[1], MONITORED[name]),
        reason=stopping.reason(evaluations) or f"all {how.steps} steps were taken",
    )


def _copy(network: N) -> N:
    return copy.deepcopy(network).cpu().float().requires_grad_(True)


def write_model(model: Model, decoder: Autoregressive, renderer: Diffusion, name: str, folder: Path) -> ModelConfig:
    """Write the adapted model, without voices: two new networks, all else as the base has it but a distilled decoder.

    ``name``: of the model and of the voice that speaks when none is named; ``folder``: must not exist. Raises
    OutputError if it cannot be written.
    """
    config, hashes = model.config, dict[str, str]()
    try:
        folder.mkdir(parents=True)
        for file in config.hashes:
            if file != DISTILLED_FILE and (model.folder / file).is_file():  # a folder may lack what speech does without
                shutil.copyfile(model.folder / file, folder / file)
                hashes[file] = config.hashes[file]
        for kind, network in (("autoregressive", decoder), ("diffusion", renderer)):
            file = f"{kind}.safetensors"
            tensors: dict[str, Any] = network.state_dict()
            hashes[file] = write_tensors(folder / file, tensors, network=kind, dtype=_dtype(model.folder / file))
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error
    made = replace(config, name=name, default_voice=name, distillation=None, hashes={}, origin="")
    return write_config(folder, made, hashes)


def _dtype(path: Path) -> torch.dtype:
    """Of the floating-point tensors in a file."""
    return next(entry.dtype for entry in read_head(path).values() if entry.dtype.is_floating_point)


def metric_of(evaluation: Mapping[str, float], name: str) -> tuple[float, float]:
    """A held-out metric on the voice and on the base."""
    return evaluation[f"held_out/voice_{name}"], evaluation[f"held_out/base_{name}"]
