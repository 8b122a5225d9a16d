"""All of nano in one go from packs: the code that an accelerator runs, at toy size on the CPU."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from toy_corpus import MEL_RANGE, SPEAKERS, ToyCorpus
from typer.testing import CliRunner

from chelys.cli.main import app
from chelys.config import from_mapping
from chelys.configs import read_config_file
from chelys.data.clip_pack import PackedClips, PackOptions, pack_clips, read_packs
from chelys.errors import ConfigError, ManifestError
from chelys.inference.synthesizer import Synthesizer
from chelys.text.tokenizer import Tokenizer
from chelys.training.accelerated import nano
from chelys.training.accelerated import stage as stage_module
from chelys.training.accelerated.batches import Batches
from chelys.training.accelerated.config import AcceleratedConfig
from chelys.training.accelerated.corpus import SPEAKER_SIZES, WIDTHS, DeviceCorpus, rows_of
from chelys.training.accelerated.cuda_graph import GraphedPass
from chelys.training.accelerated.nano import check_size, train_nano
from chelys.training.checkpoint import read_weights, write_parts

SMALL = {"layers": 1, "dim": 32, "heads": 2}
LOOP = {"learning_rate": 3e-3, "warmup": 5, "ema_decay": 0.9}
TOY: dict[str, Any] = {
    "mel_range": {"low": MEL_RANGE.low, "high": MEL_RANGE.high}, "sizes": 2, "reference_frames": 32,
    "stages": {
        "dvae": {"share": 0.3, "frames": 800, "run": {"loop": LOOP,
            "network": {"tokens": 16, "code_width": 4, "hidden": 16, "residual_blocks": 1, "clip_mean": True,
                        "text_tokens": 128}, "stage": {"start_at": 3, "revive_every": 5}}},
        "autoregressive": {"share": 0.2, "frames": 800, "graphs": True, "run": {"loop": LOOP,
            "network": SMALL | {"codes": 16, "conditioning_tokens": 3}, "stage": {"code_corruption": 0.1}}},
        "clvp": {"share": 0.2, "frames": 800, "run": {"loop": LOOP, "network": {
            "text_tokens": 128, "speech_tokens": 16, "dim": 32, "depth": 1, "heads": 1, "frames_per_token": 2}}},
        "diffusion": {"share": 0.2, "frames": 800, "run": {"loop": LOOP,
            "network": SMALL | {"latent_dim": 32, "codes": 16, "code_blocks": 0, "context_tokens": 4,
                                "clip_mean": True},
            "stage": {"conditioning": "latents"}}},
        "vocoder": {"share": 0.2, "frames": 100, "run": {"loop": LOOP,
            "network": {"dim": 16, "inner": 16, "blocks": 1},
            "stage": {"rows": 2, "frames": 16, "discriminator_start": 4}}},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory, toy: ToyCorpus) -> Path:
    """The toy corpus in two parts."""
    out = tmp_path_factory.mktemp("packs")
    options = PackOptions(part_mib=0.04, min_seconds=0.3, kbps=16)
    parts = pack_clips([toy.manifest], Tokenizer.load(toy.text), out, options)
    assert len(parts) > 1
    assert all(part.with_suffix(".opus").stat().st_size + part.stat().st_size < 0.06 * 2**20 for part in parts)
    return out


@pytest.fixture(scope="module")
def clips(packs: Path) -> PackedClips:
    return read_packs([packs])


@pytest.fixture
def corpus(clips: PackedClips) -> DeviceCorpus:
    made = DeviceCorpus(clips, MEL_RANGE, "cpu", sizes=2)
    made.codes = torch.arange(len(made.mel) // 4, dtype=torch.int16)
    return made


# ---- packs ----------------------------------------------------------------------------------------------------------


def test_a_pack_holds_the_clips_and_their_words(clips: PackedClips, toy: ToyCorpus) -> None:
    lines = [json.loads(line) for line in toy.manifest.read_text().splitlines()]
    tokenizer = Tokenizer.load(toy.text)
    assert sorted(map(tuple, clips.text)) == sorted(tuple(tokenizer.encode(line["text"])) for line in lines)
    seconds = sorted(len(audio) / rate for audio, rate in zip(clips.audio, clips.rates, strict=True))
    assert seconds == pytest.approx(sorted(line["seconds"] for line in lines), abs=0.03)
    assert set(clips.speakers) == {"ada", "bob", "cleo"} and set(clips.sources) == {"corpus"}
    assert 0 < clips.held_out.sum() < 6 and clips.read.all()
    assert any(len(a) != len(b) for a, b in zip(clips.text, clips.grapheme_text, strict=True))


def test_a_pack_holds_the_pitch_of_its_first_hours(clips: PackedClips, toy: ToyCorpus, tmp_path: Path) -> None:
    corpus = DeviceCorpus(clips, MEL_RANGE, "cpu", sizes=2)
    assert (corpus.pitched == ~corpus.resized).all() and len(corpus.f0_hz) == len(corpus.waveform) // 256
    names = np.unique(clips.speakers)
    for row in np.flatnonzero(corpus.pitched):
        _, f0_hz = corpus.waveforms(np.array([row]), np.array([0]), int(corpus.frames[row]))
        spoken = float(f0_hz[f0_hz > 0].median())
        assert spoken == pytest.approx(SPEAKERS[names[corpus.speaker[row]]], rel=0.1)
    options = PackOptions(min_seconds=0.3, pitch_hours=sum(clips.held_out) / 3600)
    pack_clips([toy.manifest], Tokenizer.load(toy.text), tmp_path, options)
    some = read_packs([tmp_path])
    tracked = np.array([len(f0_hz) > 0 for f0_hz in some.f0_hz])
    assert 0 < tracked.sum() < len(tracked) and tracked[some.held_out].any()


def test_speakers_are_kept_out(toy: ToyCorpus, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [
        "data", "pack", str(toy.manifest), "--text", str(toy.text), "--out", str(tmp_path / "p"), "--exclude-speaker",
        "ada", "--unread-source", "corpus", "--workers", "1"])  # fmt: skip
    assert result.exit_code == 0, result.output
    clips = read_packs([tmp_path / "p"])
    assert set(clips.speakers) == {"bob", "cleo"} and not clips.read.any()
    with pytest.raises(ManifestError, match="no clip is left"):
        options = PackOptions(exclude_speakers=["ada", "bob", "cleo"])
        pack_clips([toy.manifest], Tokenizer.load(toy.text), tmp_path / "none", options)
    with pytest.raises(ManifestError, match="chelys data pack"):
        read_packs([tmp_path / "nothing"])


# ---- the corpus on the device ---------------------------------------------------------------------------------------


def test_batches_have_one_shape_for_each_width(corpus: DeviceCorpus) -> None:
    config = from_mapping(AcceleratedConfig, TOY)
    for stage in ("autoregressive", "clvp", "diffusion", "dvae"):
        batches = Batches(stage, config.run(stage, Path("out")), config, corpus)
        stream = batches.train(np.random.default_rng(1))
        shapes = {tuple(tuple(x.shape) for x in next(stream) if isinstance(x, torch.Tensor)) for _ in range(30)}
        assert len(shapes) <= len(set(corpus.width.tolist())), stage


def test_references_are_other_clips_of_the_voice(corpus: DeviceCorpus) -> None:
    corpus.mel[:] = torch.repeat_interleave(torch.arange(len(corpus.frames)), corpus.lengths)[:, None]
    rows = np.arange(len(corpus.frames))
    found = corpus.references(rows, 40, 3, np.random.default_rng(0))
    assert found.shape == (len(rows), 3, 100, 40)
    for row, crops in enumerate(found[:, :, 0].long()):
        others = np.unique(crops.numpy())
        assert (corpus.voice[others] == corpus.voice[row]).all() and row not in others
        assert not corpus.held_out[others].any()


def test_other_sizes_are_other_voices(corpus: DeviceCorpus) -> None:
    assert corpus.resized.any() and not (corpus.resized & corpus.held_out).any()
    assert len(set(corpus.voice.tolist())) == 6
    own, resized = (set((corpus.voice[corpus.resized == kind] % len(SPEAKER_SIZES)).tolist()) for kind in (False, True))
    assert own == {0} and 0 not in resized


def test_codes_are_those_of_each_clip_alone(corpus: DeviceCorpus, toy: ToyCorpus) -> None:
    dvae = toy.dvae()
    corpus.encode(dvae)
    for row in range(0, len(corpus.frames), 5):
        mel = corpus.mels(np.array([row]), int(corpus.frames[row]))[0]
        first, codes = int(corpus.starts[row]) // 4, int(corpus.frames[row]) // 4
        assert torch.equal(corpus.codes[first : first + codes].long(), dvae.encode(mel)[0])


def test_sources_come_as_often_as_they_should(corpus: DeviceCorpus) -> None:
    corpus.source = np.where(corpus.speaker == 0, "a", "b")
    chance = corpus.chances({"a": 0.7, "other": 0.3}, 0.25)
    assert chance[corpus.source == "a"].sum() == pytest.approx(0.7)
    assert chance[corpus.resized].sum() == pytest.approx(0.25) and not chance[corpus.held_out].any()
    with pytest.raises(ManifestError, match="sources c"):
        corpus.chances({"c": 1.0}, 0.0)
    assert rows_of(WIDTHS[0], 1000, 4) == 4 and rows_of(WIDTHS[-1], 1000, 4) == 2


# ---- training -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(packs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every stage in this process, a few seconds each."""
    out = tmp_path_factory.mktemp("nano")
    config = replace(from_mapping(AcceleratedConfig, TOY), max_file_mib=0.45)
    clock = count(
        0.0, 0.1
    ).__next__  # time passes with each look at the clock, so that steps are as many on any machine
    with pytest.MonkeyPatch.context() as patch:
        for module in (nano, stage_module):
            patch.setattr(module, "time", SimpleNamespace(time=clock, monotonic=clock))
        train_nano(config, [packs], out, device="cpu", minutes=0.5, isolate=False)
    return out


def test_every_stage_learns_and_says_what_it_did(trained: Path) -> None:
    rows = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    for stage in TOY["stages"]:
        mine = [row for row in rows if row["stage"] == stage]
        held_out = [row["held_out"]["loss"] for row in mine if "held_out" in row]
        assert mine[1]["step_flops"] > 0 and mine[1]["steps"] > 0 and "FLOP" in mine[1]["plan"]
        assert mine[-1]["step"] > 20 and mine[-1]["flops"] > 0
        assert np.isfinite(held_out).all() and (stage == "vocoder" or held_out[-1] < held_out[0]), (stage, held_out)
    assert any("ctc" in row for row in rows) and any("codebook_perplexity" in row for row in rows)


def test_the_runs_become_a_model_that_clones(trained: Path, toy: ToyCorpus, tmp_path: Path) -> None:
    runs = [f"runs.{stage}={trained / stage}" for stage in TOY["stages"]]
    result = CliRunner().invoke(app, [
        "pack", "--config", "nano/model", "--out", str(tmp_path / "m"), *runs, f"text={toy.text}",
        f"features={toy.features}", "voices={ada: ada}", "default_voice=ada",
        f"mel_range={{low: {MEL_RANGE.low}, high: {MEL_RANGE.high}}}"])  # fmt: skip
    assert result.exit_code == 0, result.output
    synthesizer = Synthesizer.from_folder(tmp_path / "m")
    voice = synthesizer.resolve_voice("ada")
    assert voice.autoregressive.shape == (3, 32) and voice.diffusion.shape == (6 + 4, 32)
    assert synthesizer.model.diffusion.mean_spectrum.abs().max() > 0.05, "it was taken of the corpus"
    clip = next(iter((toy.manifest.parent / "audio").glob("*.wav")))
    made = synthesizer.voice([clip], name="bo", speaker_blend=0.5)
    made.save(tmp_path / "bo.safetensors")
    loaded = synthesizer.resolve_voice(tmp_path / "bo.safetensors")
    assert torch.equal(loaded.sampling_latent, made.sampling_latent)
    options = replace(synthesizer.family.presets["ultra_fast"], max_new_tokens=20, steps=2, candidates=2)
    speech = synthesizer.speak("Calm moon.", voice=loaded, seed=1, options=options)
    assert np.isfinite(speech.audio).all() and len(speech.audio)


def test_files_are_of_bounded_size_and_read_as_one(trained: Path, tmp_path: Path) -> None:
    files = [path for path in trained.rglob("*.safetensors")]
    assert max(path.stat().st_size for path in files) <= 0.45 * 2**20
    assert any("-1-of-" in path.name for path in files), "one stage at least is split"
    tensors = {"a": torch.randn(1000, 100), "codebook.b": torch.randn(1000, 100), "c": torch.arange(4)}
    write_parts(tmp_path / "x.safetensors", tensors, 500_000)
    found = read_weights(tmp_path / "x.safetensors")
    assert torch.equal(found["codebook.b"], tensors["codebook.b"]) and torch.equal(found["c"], tensors["c"])
    assert torch.equal(found["a"], tensors["a"].half())
    next(iter(tmp_path.glob("x-2-of-*"))).unlink()
    with pytest.raises(ConfigError, match="no weights"):
        read_weights(tmp_path / "x.safetensors")


def test_a_plan_says_what_fits_and_leaves_nothing(packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_module, "WARM", 1)
    monkeypatch.setattr(stage_module, "TIMED", 2)
    plans = train_nano(
        from_mapping(AcceleratedConfig, TOY), [packs], tmp_path / "out", device="cpu", minutes=2.0, only_plan=True
    )
    assert [plan.stage for plan in plans] == list(TOY["stages"]) and all(plan.steps > 0 for plan in plans)
    assert sum(plan.seconds for plan in plans) > 60 and not (tmp_path / "out").exists()


def test_what_cannot_be_carried_off_is_refused(packs: Path, tmp_path: Path) -> None:
    check_size(from_mapping(AcceleratedConfig, read_config_file(Path("nano/accelerated"))))
    small = replace(from_mapping(AcceleratedConfig, TOY), max_total_mib=1.01)
    with pytest.raises(ConfigError, match="make them smaller"):
        train_nano(small, [packs], tmp_path, device="cpu", minutes=1.0)
    with pytest.raises(ConfigError, match="minutes"):
        train_nano(small, [packs], tmp_path, device="cpu", minutes=0.0)
    with pytest.raises(ConfigError, match="stages lacks autoregressive"):
        from_mapping(AcceleratedConfig, TOY | {"stages": {}})


def test_a_pass_without_graphs_gives_the_gradients_of_one_batch() -> None:
    network = torch.nn.Linear(2, 1)
    graphed = GraphedPass(lambda batch: network(batch["x"]).sum(), network, torch.Generator())
    graphed.enabled = False
    for _ in range(5):
        graphed({"x": torch.ones(3, 2)})
    assert network.weight.grad is not None and torch.equal(network.weight.grad, torch.full((1, 2), 3.0))
