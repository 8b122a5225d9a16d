"""What `ablations.py` asks of every arm of an ablation alike, from its weights: figures clip by clip, and a profile.

A measure answers ``{"each": {figure: {clip: value}}, "whole": {figure: value}, "profile": {"x", "y", "lines"}}``;
``lines`` are curves ``{label: [xs, ys]}``. Clip by clip, so that arms can be compared in pairs.

b rows, m codes, f bands, s mel frames.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from chelys.config import from_mapping
from chelys.data.dataset import Clip
from chelys.data.loader import is_held_out
from chelys.data.pairs import Pairs
from chelys.models.diffusion_schedule import TRAIN_STEPS, q_sample
from chelys.training.checkpoint import load_strictly, read_weights
from chelys.training.task import Task
from chelys.training.tasks import RUNS
from chelys.training.tasks.dvae import perplexity

MOST_CLIPS = 64  # of a set; contrasts take all that are held out, up to
MOST_CONTRASTED = 256
LONGEST = 400  # codes of the longest clip that is judged
JOINED = 150  # codes that two joined clips have at least
LONGEST_PART = 120  # codes of each of them, at most
LEVELS = 8  # steps of the diffusion at which each clip is judged
JUDGED_FRAMES = 384  # of a clip, at most: what a crop of 96 codes has
SPARE_FRAMES = 6  # at its end: the two front ends cut a clip to whole codes of different length
NEIGHBOURS = 16
BIN = 10  # codes

Measured = dict[str, Any]


def loaded(folder: Path, longest: int | None = None) -> tuple[Any, Task]:
    """Settings and stage of a finished run, its weights in place; ``longest`` replaces that of its clips."""
    torch.set_num_threads(1)
    name = next(file.stem for file in folder.glob("*.safetensors") if file.stem in RUNS)
    settings = json.loads((folder / "config.json").read_text(encoding="utf8"))
    run: Any = from_mapping(RUNS[name], settings, where=str(folder))
    if longest is not None:
        run = dataclasses.replace(run, pairs=dataclasses.replace(run.pairs, max_codes=longest))
    stage = run.build()
    load_strictly(stage.network, read_weights(folder / f"{name}.safetensors"), str(folder))
    stage.network.eval()
    return run, stage


def by_length(clip: Clip) -> tuple[int, str]:
    """Sorts clips, the same way in all arms."""
    return clip.codes, clip.id


def spaced(clips: Iterable[Clip], most: int) -> list[Clip]:
    """So many clips at most, evenly out of all, by length."""
    ordered = sorted(clips, key=by_length)
    return ordered[:: -(-len(ordered) // most) or 1]


def generator_of(clip: Clip) -> np.random.Generator:
    """What is drawn for a clip, the same in all arms."""
    return np.random.default_rng([7, zlib.crc32(clip.id.encode())])


# ---- VQ-VAE ---------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def measure_dvae(folder: Path) -> Measured:
    """Mean absolute error of held-out mels, and the perplexity of their codes."""
    run, stage = loaded(folder)
    features, network = stage.data.features, stage.network
    errors: dict[str, float] = {}
    counts = torch.zeros(run.network.tokens)
    for clip in spaced(features.split(features.clips)[1], MOST_CONTRASTED):
        mel = run.mel_range.normalize(features.mel(clip))[None]
        out = network(mel)
        errors[clip.id] = float((out.mel - mel).abs().mean())
        counts += torch.bincount(out.codes.flatten(), minlength=len(counts))
    share = counts / counts.sum()
    ordered = share.sort(descending=True).values.cumsum(0)[:: max(1, len(share) // 64)]
    at = [i * max(1, len(share) // 64) + 1 for i in range(len(ordered))]
    return {
        "each": {"mel L1": errors},
        "whole": {"perplexity of the codes": perplexity(counts), "codes used": int((counts > 0).sum())},
        "profile": {"x": "codes, most used first", "y": "share of speech", "lines": {"": [at, ordered.tolist()]}},
    }


# ---- autoregressive decoder -----------------------------------------------------------------------------------------


@torch.inference_mode()
def measure_positions(folder: Path) -> Measured:
    """Nats a code on clips of trained lengths, on longer ones, and on two clips joined."""
    pairs_of_run = json.loads((folder / "config.json").read_text(encoding="utf8"))["pairs"]
    trained = pairs_of_run.get("max_codes", pairs_of_run.get("longest"))  # runs made before have the old name
    _, stage = loaded(folder, LONGEST)
    pairs: Pairs = stage.pairs
    unseen = [c for c in (*pairs.train, *pairs.test) if c.codes > trained or is_held_out(c.id)]
    sets: dict[str, list[tuple[Clip, ...]]] = {
        "trained lengths": [(c,) for c in spaced((c for c in unseen if c.codes <= trained), MOST_CLIPS)],
        "longer clips": [(c,) for c in spaced((c for c in unseen if c.codes > trained), MOST_CLIPS)],
        "joined clips": joined(unseen),
    }
    each: dict[str, dict[str, float]] = defaultdict(dict)
    lines: dict[str, list[list[float]]] = {}
    for label, utterances in sets.items():
        bins: dict[int, list[float]] = defaultdict(list)
        for clips in utterances:
            nats = code_losses(stage, clips)
            each[f"nats a code, {label}"]["+".join(c.id for c in clips)] = float(nats.mean())
            if label != "trained lengths":
                each[f"past {trained} codes, {label}"]["+".join(c.id for c in clips)] = float(nats[trained:].mean())
            for place, value in enumerate(nats.tolist()):
                bins[place // BIN].append(value)
        full = [(b, values) for b, values in sorted(bins.items()) if len(values) >= 5 * BIN]
        lines[label] = [[(b + 0.5) * BIN for b, _ in full], [float(np.mean(values)) for _, values in full]]
    return {"each": dict(each), "whole": {}, "profile": {"x": "code", "y": "nats a code", "lines": lines}}


def joined(clips: list[Clip]) -> list[tuple[Clip, ...]]:
    """Two clips of one speaker and another two, each more than `JOINED` codes together."""
    found: list[tuple[Clip, ...]] = []
    waiting: dict[str, Clip] = {}
    for clip in sorted((c for c in clips if JOINED // 2 < c.codes <= LONGEST_PART), key=by_length):
        if other := waiting.pop(clip.speaker, None):
            found.append((other, clip))
        else:
            waiting[clip.speaker] = clip
    return found[:: -(-len(found) // MOST_CLIPS) or 1]


def code_losses(stage: Any, clips: tuple[Clip, ...]) -> Tensor:
    """Nats of each code of clips spoken in a row, and of the stop behind them: ``(m + 1,)``."""
    pairs, decoder = stage.pairs, stage.decoder
    text = torch.tensor(pairs.tokenizer.encode(" ".join(c.text.strip() for c in clips)))[None]
    codes = torch.cat([pairs.codes.of(c) for c in clips])
    voice = decoder.condition(pairs.reference(clips[0], generator_of(clips[0]))[None])
    lengths = torch.tensor([text.shape[1]]), torch.tensor([len(codes)])
    logits = decoder(voice, text, lengths[0], codes[None], lengths[1])[1][0]
    targets = torch.cat((codes, torch.tensor([decoder.config.stop_code])))
    return F.cross_entropy(logits.float(), targets, reduction="none")


# ---- diffusion decoder ----------------------------------------------------------------------------------------------


@torch.inference_mode()
def measure_diffusion(folder: Path) -> Measured:
    """Squared error of the clean mel, mean over steps from nearly clean to nearly noise; clips and noise are shared."""
    _, stage = loaded(folder)
    steps = torch.tensor([(2 * level + 1) * TRAIN_STEPS // (2 * LEVELS) for level in range(LEVELS)])
    errors, alone, by_level = {}, {}, []
    for clip in sorted(stage.pairs.test, key=lambda c: c.id)[:MOST_CLIPS]:
        mel, guess, content = rendered(stage, clip, steps)
        found = (guess - mel).square().mean((1, 2))
        errors[clip.id], alone[clip.id] = float(found.mean()), float((content - mel).square().mean())
        by_level.append(found)
    curve = torch.stack(by_level).mean(0).tolist()
    return {
        "each": {"error": errors, "error of the content alone": alone},
        "whole": {},
        "profile": {"x": "step of the diffusion", "y": "squared error", "lines": {"": [steps.tolist(), curve]}},
    }


def rendered(stage: Any, clip: Clip, steps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A clip's mel, what the network makes of it at each of the steps, what it reads off the content: ``(b, f, s)``."""
    network, rendering = stage.diffusion, stage.data.targets
    rng = generator_of(clip)
    frames = min(rendering.twin(clip).frames, JUDGED_FRAMES) - SPARE_FRAMES
    drawn = rng.standard_normal((len(steps), network.config.bands, JUDGED_FRAMES), dtype=np.float32)
    codes = min(rendering.codes(clip), stage.config.crop)
    mel = rendering.mel(clip, 0, codes)[None]
    noise = torch.from_numpy(drawn)[:, :, : mel.shape[2]]
    x = q_sample(stage.noise_schedule, steps, mel.expand(len(steps), -1, -1), noise).float()
    content = content_of(stage, clip, codes, mel.shape[2] // network.config.patch, rng)
    guess = network(x, steps, content.expand(len(steps), -1, -1))
    return mel[..., :frames], guess[..., :frames], network.mel_from_conditioning(content)[..., :frames]


def content_of(stage: Any, clip: Clip, codes: int, positions: int, rng: np.random.Generator) -> Tensor:
    """The first codes of a clip, or their latents, as the steps read them: ``(1, d, p)``."""
    network, pairs = stage.diffusion, stage.pairs
    batch = pairs.collate([clip], rng)
    shared = stage.config.voice_from == "speaker" and not stage.data.targets.published
    heard = batch.reference if shared else stage.data.targets.reference(clip, stage.config.voice_frames, rng)[None]
    voice = network.contextual_embedder(heard).mean(2)
    if stage.config.conditioning == "codes":
        return network.conditioning_of_codes(batch.codes[:, :codes], voice, positions)
    latents = stage.decoder.latents(stage.decoder.condition(batch.reference), batch.text, batch.codes)
    return network.conditioning(latents[:, :codes], voice, positions)


# ---- CLVP -----------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def measure_clvp(folder: Path) -> Measured:
    """How often a held-out take finds its text: out of all, and out of those whose takes are of like length."""
    _, stage = loaded(folder, LONGEST)
    pairs, network = stage.pairs, stage.network
    clips = spaced(pairs.test, MOST_CONTRASTED)
    rows = [pairs.collate([clip], generator_of(clip)) for clip in clips]  # one by one: without padding
    texts = torch.cat([network.encode_text(row.text) for row in rows])
    takes = torch.cat([network.encode_speech(row.codes) for row in rows])
    scores = network.similarity(texts, takes)  # (texts, takes), both by length
    at = torch.arange(len(clips))
    right = (scores.argmax(0) == at).float()
    first = (at - NEIGHBOURS // 2).clamp(0, max(0, len(clips) - NEIGHBOURS))
    near = (at[:, None] >= first) & (at[:, None] < first + NEIGHBOURS)
    right_near = (scores.masked_fill(~near, -torch.inf).argmax(0) == at).float()
    each = {
        f"out of all {len(clips)}": dict(zip((c.id for c in clips), right.tolist(), strict=True)),
        f"out of {NEIGHBOURS} alike": dict(zip((c.id for c in clips), right_near.tolist(), strict=True)),
    }
    parts = [part for part in np.array_split(np.arange(len(clips)), 6) if len(part)]
    xs = [float(np.mean([clips[i].codes for i in part])) for part in parts]
    ys = [float(right_near[torch.from_numpy(part)].mean()) for part in parts]
    label = f"share right out of {NEIGHBOURS} alike"
    return {"each": each, "whole": {}, "profile": {"x": "codes of the clip", "y": label, "lines": {"": [xs, ys]}}}


MEASURES: dict[str, Callable[[Path], Measured]] = {
    "dvae": measure_dvae,
    "positions": measure_positions,
    "diffusion": measure_diffusion,
    "clvp": measure_clvp,
}
