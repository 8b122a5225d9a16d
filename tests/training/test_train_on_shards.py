"""Recordings to shards to runs: stages train on what ``chelys data prepare`` packed, and on nothing beside it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import toy_corpus

from chelys.config import from_mapping
from chelys.data.prepare.engine import Local
from chelys.data.prepare.pipeline import PrepareSettings, prepare
from chelys.data.shards import ShardFeatures
from chelys.training.run_stage import run_stage
from chelys.training.tasks import RUNS
from chelys.training.tasks.dvae import trained_dvae

sys.path.insert(0, str(Path(__file__).parents[1] / "data" / "prepare"))

Values = Callable[..., dict[str, Any]]
SETTINGS = {
    "segment": {"detector": "energy"},
    "measure": {"classifier": None},
    "transcribe": {"transcriber": "made_up:Listener", "model": ""},
    "pack": {"clips": 5},
}
SHORT = {"steps": 2, "evaluate_every": 2, "checkpoint_every": 2}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six tapes of four hummed utterances each, which chelys' own rules would not keep."""
    folder = tmp_path_factory.mktemp("tapes")
    (folder / "raw").mkdir()
    (folder / "rules.yaml").write_text("seconds: {min: 0.6}\n")
    rng = np.random.default_rng(4)
    for tape in range(6):
        parts = [np.zeros(12_000, np.float32)]
        for _ in range(4):
            words = [str(word) for word in rng.choice(list(toy_corpus.WORDS), 5)]
            parts += [toy_corpus.speak(words, 110 + 20 * tape, rng), np.zeros(24_000, np.float32)]
        wave = np.concatenate(parts)
        sf.write(folder / "raw" / f"{tape}.wav", wave + 1e-4 * rng.standard_normal(len(wave)), toy_corpus.RATE)
    return folder / "raw"


def settings(raw: Path, **changes: Any) -> PrepareSettings:
    return from_mapping(PrepareSettings, SETTINGS | {"rules": str(raw.parent / "rules.yaml")} | changes)


@pytest.fixture(scope="module")
def packed(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared, without codes."""
    out = tmp_path_factory.mktemp("packed") / "out"
    with Local(0) as engine:
        summary = prepare(raw, out, settings(raw), engine=engine)
    assert summary.kept >= 20
    return out


def write(values: dict[str, Any], path: Path) -> Path:
    path.write_text(json.dumps(values))
    return path


def test_from_recordings_to_an_autoregressive_decoder(
    raw: Path, packed: Path, values: Values, toy: toy_corpus.ToyCorpus, tmp_path: Path
) -> None:
    dvae = values("dvae", features=str(packed / "shards"), run=str(tmp_path / "dvae"), loop=SHORT)
    weights = run_stage("dvae", write(dvae, tmp_path / "dvae.yaml"))
    out = tmp_path / "coded"
    shutil.copytree(packed, out)
    encoding = {"encode": {"model": str(weights.parent)}, "pack": {"clips": 5, "contents": "both"}}
    with Local(0) as engine:
        prepare(raw, out, settings(raw, **encoding), engine=engine)
    data = {"features": str(out / "shards"), "codes": str(out / "shards"), "text": str(toy.text)}
    decoder = values("autoregressive", run=str(tmp_path / "ar"), loop=SHORT) | data
    assert run_stage("autoregressive", write(decoder, tmp_path / "ar.yaml")).is_file()
    pairs = from_mapping(RUNS["autoregressive"], decoder).load_pairs()  # type: ignore[attr-defined]
    assert len(pairs.train) + len(pairs.test) == len(pairs.features.clips) == 24
    assert {clip.speaker for clip in pairs.train} == {f"{tape}.wav" for tape in range(6)}
    clip = pairs.train[0]
    heard = from_mapping(RUNS["dvae"], dvae).mel_range.normalize(pairs.features.mel(clip))  # type: ignore[attr-defined]
    assert (trained_dvae(tmp_path / "dvae")[0].encode(heard[None])[0] == pairs.codes.of(clip)).float().mean() > 0.95


def test_a_vocoder_hears_the_sound_in_the_shards(packed: Path, values: Values, tmp_path: Path) -> None:
    made = values("vocoder", features=str(packed), loop=SHORT, stage={"discriminator_start": 1})
    assert run_stage("vocoder", write(made, tmp_path / "vocoder.yaml")).is_file()
    features = ShardFeatures(packed)
    kept = {line["id"]: line for line in map(json.loads, (packed / "manifest.jsonl").read_text().splitlines())}
    clip = features.clips[3]
    line = kept[clip.id]
    whole, rate = sf.read(packed / line["audio"], dtype="float32")
    first = round(line["start"] * rate) + 8 * 256
    assert np.array_equal(features.waveform(clip, 8, 20).numpy(), whole[first : first + 20 * 256])
    beyond = features.waveform(clip, clip.frames - 4, 40).numpy()
    assert beyond.shape == (40 * 256,) and not beyond[20 * 256 :].any() and beyond[: 4 * 256].any()


@pytest.mark.parametrize(("stage", "mel_spec"), [("autoregressive_prior", "shared"), ("dvae", "codes")])
def test_shards_are_heard_with_the_mel_spec_of_the_network(
    packed: Path, values: Values, frozen: Callable[..., Path], stage: str, mel_spec: str
) -> None:
    sizes = {"network": {"bands": 80}} if stage == "dvae" else {}
    built = from_mapping(RUNS[stage], values(stage, features=str(packed), **sizes)).build()
    assert built.data.features.mel_spec == mel_spec and built.data.batch(0) is not None  # type: ignore[attr-defined]
