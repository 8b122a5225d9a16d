"""What a run takes, before it starts: parameters, bytes of weights, gradients and optimizer, operations, hours.

The task is built without storage, on torch's meta device, over synthetic clips of one length, and the operations of a
training step are counted by torch's `FlopCounterMode`. Activations are not estimated; activation checkpointing and
micro-batches (``loop.activation_checkpointing``, ``loop.grad_accum_steps``) make room for them.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from chelys.audio.rates import FRAMES_PER_CODE, HOP, MEL_22K, MEL_24K, OUTPUT_RATE, SAMPLES_PER_CODE, MelSpec
from chelys.data.dataset import Clip
from chelys.data.loader import is_held_out
from chelys.data.manifest import Utterance, write_manifest
from chelys.errors import ConfigError
from chelys.text.lexicon import Lexicon
from chelys.text.tokenizer import make_tokenizer
from chelys.tortoise.tokenizer import make_tortoise_tokenizer
from chelys.training.config import LoopConfig, Run
from chelys.training.task import RowGenerator, Task, map_tensors

GB = 10**9
#: FLOP/s of an A100 in matrix products, by precision; its float32 products do not use the tensor cores.
A100 = {"float32": 19.5e12, "bfloat16": 312e12, "float16": 312e12}
_CHARACTERS_PER_SECOND = 16
_SENTENCE = "the tortoise crossed the road without hurry while the hare slept beneath a tree "


@dataclass(frozen=True)
class Estimate:
    """Cost of a run; bytes are those of one process."""

    stage: str  # name
    parameters: dict[str, int]  # of each trained module
    trained: int  # of these, the ones that are trained
    weights: int  # bytes of the modules' weights, and of the frozen networks'
    gradients: int  # one for each trained parameter, float32
    optimizer: int  # AdamW's two moments, float32
    ema: int  # moving average of the network's weights
    flops_per_step: float  # floating-point operations of all processes; a multiply-add is two
    rows: int  # rows of a step's batch
    steps: int  # of the run
    hours: float  # of the run, at the stated utilisation; loading, evaluation and communication are not counted

    @property
    def memory(self) -> int:
        """Bytes without activations."""
        return self.weights + self.gradients + self.optimizer + self.ema


def estimate(
    stage: str, run: Run, *, gpus: int = 1, flops_per_second: float | None = None, utilisation: float = 0.4,
    clip_seconds: float = 6.0,
) -> Estimate:  # fmt: skip
    """Estimate a run.

    ``run``: its settings; where its data are does not matter. ``gpus``: processes. ``flops_per_second``: of each in
    matrix products; by default an A100's. ``utilisation``: share of that which training reaches. ``clip_seconds``:
    length of the clips. Raises ConfigError if a number makes no sense.
    """
    if gpus < 1:
        raise ConfigError(f"--gpus is {gpus}; it must be 1 or more")
    if not 0 < utilisation <= 1:
        raise ConfigError(f"--utilisation is {utilisation:g}; it must be above 0 and at most 1")
    rate = (
        A100[{"auto": "bfloat16"}.get(run.loop.precision, run.loop.precision)]
        if flops_per_second is None
        else flops_per_second
    )
    if not 0 < rate < float("inf"):
        raise ConfigError(f"--flops-per-second is {rate:g}; it must be above 0, for example 312e12")
    if not 0.1 <= clip_seconds <= 60:
        raise ConfigError(f"--clip-seconds is {clip_seconds:g}; it must be 0.1 to 60")
    with tempfile.TemporaryDirectory(prefix="chelys-plan-") as folder:
        settings = _synthetic_run(run, Path(folder), clip_seconds)
        with torch.device("meta"):
            task = settings.build()
        if codebook := getattr(task.network, "codebook", None):
            codebook.counts = torch.ones(len(codebook.counts))  # as if k-means had started it
        weights = getattr(settings, "stage", None)
        step = min(run.loop.steps - 1, getattr(weights, "discriminator_start", 0))  # when all have joined
        try:
            flops, rows = _flops(task, run.loop, step), task.data.rows(step)
        except NotImplementedError as error:  # of weight normalisation, before 2.13
            raise ConfigError(f"torch {torch.__version__} cannot count this stage: install 2.13 or newer") from error
    trained = [p for module in task.modules.values() for p in module.parameters() if p.requires_grad]
    return Estimate(
        stage,
        parameters={name: sum(p.numel() for p in module.parameters()) for name, module in task.modules.items()},
        trained=sum(p.numel() for p in trained),
        weights=sum(map(_bytes, (*task.modules.values(), *task.frozen.values()))),
        gradients=4 * sum(p.numel() for p in trained),
        optimizer=8 * sum(p.numel() for p in trained),
        ema=_bytes(task.network),
        flops_per_step=flops,
        rows=rows,
        steps=run.loop.steps,
        hours=run.loop.steps * flops / (gpus * rate * utilisation) / 3600,
    )


def _flops(task: Task, loop: LoopConfig, step: int) -> float:
    """Operations of a step of all modules, counted on some rows on the meta device."""
    rows = task.data.rows(step)
    some = range(min(4, rows))
    batch = map_tensors(task.data.load(step, some), lambda x: x.to("meta"))
    counter = FlopCounterMode(display=False)
    with counter, _NoAlignment():
        for name, module in task.modules.items():
            module.train()
            if losses := task.training_step(name, batch, RowGenerator(loop.seed, step, some)):
                torch.stack([loss.float() for loss in losses.values()]).sum().backward()
    return counter.get_total_flops() * rows / len(some) * (4 / 3 if loop.activation_checkpointing else 1)


class _NoAlignment(TorchFunctionMode):
    """CTC has no meta kernel; a sum of the same shape stands for it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.ctc_loss:
            return args[0].sum((0, 2))  # (frames, b, ids) -> (b,)
        return func(*args, **(kwargs or {}))


def _bytes(module: nn.Module) -> int:
    return sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))


# ---- a synthetic corpus ---------------------------------------------------------------------------------------------


def _synthetic_run(run: Run, folder: Path, seconds: float) -> Run:
    """The run with a corpus of silence, as many clips of one length as make a batch, in place of its own data."""
    values: dict[str, Any] = {field.name: getattr(run, field.name) for field in fields(run)}
    sizes = [values[key] for key in ("decoder_network", "encoder_network", "network") if key in values]
    published = values.get("target_features") is not None or any(
        getattr(s, "bands", 0) == MEL_22K.bands or getattr(s, "text_tokens", 0) >= 255 for s in sizes
    )
    spec, clips, pairs = MEL_22K if published else MEL_24K, 16, values.get("pairs")
    if pairs is not None:
        longest = (pairs.max_codes - 1) * SAMPLES_PER_CODE / spec.sample_rate
        seconds = min(seconds, longest)
        clips = max(1, pairs.budget // max(2, round(seconds * spec.sample_rate / SAMPLES_PER_CODE)))
        values["pairs"] = replace(pairs, voices=None)
    if getattr(values.get("stage"), "voices", None):
        values["stage"] = replace(values["stage"], voices=None)
    written = _write_corpus(folder, clips, seconds, published, pairs.max_text_ids if pairs else 400)
    shared = "univnet" in values or not published
    written |= {"features": written["features"] if shared else written["published"], "run": folder / "run"}
    written |= {"target_features": folder / "features" if published else None, "start": None}
    if pairs is None:  # a VQ-VAE that learns from crops
        del written["text"]
    if getattr(values.get("stage"), "conditioning", "") == "latents":
        values["decoder"] = folder  # on the meta device no weights are read
    return replace(run, **values | {key: value for key, value in written.items() if key in values})


def _write_corpus(folder: Path, count: int, seconds: float, published: bool, longest_text: int) -> dict[str, Any]:
    """Silence, sparse files of zeros; keys of a run -> what was written."""
    names = [f"synthetic-{number}" for number in range(300 + 2 * count)]  # one of them is held out
    ids = [next(filter(is_held_out, names)), *islice((n for n in names if not is_held_out(n)), count)]
    characters = min(longest_text, max(1, round(seconds * _CHARACTERS_PER_SECOND)))
    text, audio = (_SENTENCE * (characters // len(_SENTENCE) + 1))[:characters], folder / "silence.wav"
    sf.write(audio, np.zeros(int(seconds * OUTPUT_RATE) + HOP, np.int16), OUTPUT_RATE)
    manifest = folder / "manifest.jsonl"
    write_manifest(manifest, [Utterance(i, str(audio), text, f"s{n % 8}", seconds) for n, i in enumerate(ids)])
    for name, spec in (("features", MEL_24K), ("published", MEL_22K)):
        _write_features(folder / name, [Clip(i, str(audio), text, f"s{n % 8}", 0, 0) for n, i in enumerate(ids)],
                        _frames(seconds, spec), spec)  # fmt: skip
    codes = len(ids) * _frames(seconds, MEL_22K if published else MEL_24K) // FRAMES_PER_CODE
    np.lib.format.open_memmap(folder / "codes.npy", "w+", np.uint16, (codes,)).flush()
    tokenizer = make_tortoise_tokenizer() if published else make_tokenizer(Lexicon({"a": "ə"}))
    tokenizer.save(folder / "text")
    return {name: folder / name for name in ("features", "published", "text")} | {
        "codes": folder / "codes.npy", "real": [manifest], "synthetic": [manifest]
    }  # fmt: skip


def _frames(seconds: float, spec: MelSpec) -> int:
    """Mel frames of a clip, whole codes."""
    return max(2, round(seconds * spec.sample_rate / HOP / FRAMES_PER_CODE)) * FRAMES_PER_CODE


def _write_features(folder: Path, clips: list[Clip], frames: int, spec: MelSpec) -> None:
    folder.mkdir()
    lines = (json.dumps(asdict(c) | {"first": n * frames, "frames": frames}) + "\n" for n, c in enumerate(clips))
    (folder / "index.jsonl").write_text("".join(lines), encoding="utf8")
    with (folder / "mel.f16").open("wb") as file:
        file.truncate(len(clips) * frames * spec.bands * np.dtype(np.float16).itemsize)
    statistics = {"mean": 0.0, "std": 1.0, "hours": len(clips) * frames * HOP / spec.sample_rate / 3600}
    statistics |= {"bands": spec.bands, "min_held_out": 0}
    (folder / "statistics.json").write_text(json.dumps(statistics), encoding="utf8")
