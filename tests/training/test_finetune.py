"""Adapting a toy model to a voice: lengths, held-out clips, what learns, and going on after a kill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
import toy_corpus
import toy_voice

from chelys.audio.rates import OUTPUT_RATE, SAMPLES_PER_CODE
from chelys.data.dataset import Features
from chelys.data.loader import is_held_out
from chelys.data.manifest import Utterance, write_manifest
from chelys.errors import ConfigError, ManifestError
from chelys.training import finetune as adapt
from chelys.training.distributed import make_context
from chelys.training.finetune import ENCODERS
from chelys.training.finetune_data import (
    DEFAULT_BLEND,
    Adaptation,
    FinetuneConfig,
    Material,
    pairs_of,
    read_source,
    trim,
)
from chelys.weights.folder import Model, load_model

SHORT: dict[str, Any] = {
    "steps": 6, "rank": 4, "learning_rate": 3e-3, "budget": 300, "base_rise": 10.0, "warmup": 1, "evaluate_every": 3,
    "ema_decay": 0.0,
}  # fmt: skip
SPEAKERS = ["low"]


def config(**changes: Any) -> FinetuneConfig:
    settings: dict[str, Any] = {
        "autoregressive": Adaptation(**SHORT), "diffusion": Adaptation(**SHORT), "sentences": 8, "threads": 1,
        "precision": "float32",
    }  # fmt: skip
    return FinetuneConfig(**settings | changes)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(toy_voice.make_model(tmp_path_factory.mktemp("adapted") / "base"))


def say(text: str, voice: str, seed: int) -> np.ndarray:
    """What stands for the base's speech: another speaker's vowels, about two seconds of them."""
    return toy_corpus.speak(["calm", "moon", "slow", "three"] * 2, 100.0, np.random.default_rng(seed), rate=OUTPUT_RATE)


def prepare(model: Model, source: Path, work: Path, settings: FinetuneConfig | None = None, **rest: Any) -> Material:
    return adapt.prepare(
        model, source, work, settings or config(), speak=say, voices=SPEAKERS, level=lambda wave: wave, **rest
    )


@pytest.fixture(scope="module")
def material(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = tmp_path_factory.mktemp("material")
    return prepare(model, toy_voice.make_clips(folder / "clips"), folder / "work")


# ---- lengths --------------------------------------------------------------------------------------------------------


def test_lengths_are_counted_once_and_silence_is_no_part_of_them(model: Model, tmp_path: Path) -> None:
    """Two seconds of silence around clips of another rate: none of it becomes codes, or is learned as an end."""
    source = toy_voice.make_clips(tmp_path / "clips", silence=2.0)
    made = prepare(model, source, tmp_path / "work")
    waves = [sf.read(path)[0] for path in sorted((source / "wavs").iterdir(), key=lambda p: int(p.stem[4:]))]
    spoken = [len(wave) / toy_voice.RATE - 4.0 for wave in waves]
    clips = sorted((c for c in Features(made.features).clips if c.speaker == "voice"), key=lambda c: c.id)
    assert len(clips) == len(spoken) == 12
    for clip, seconds in zip(clips, spoken, strict=True):
        assert seconds - 0.1 < clip.codes * SAMPLES_PER_CODE / OUTPUT_RATE < seconds + 0.25
    stage_pairs = pairs_of(made, model, 300, config())
    for step in range(3):
        batch, meant = stage_pairs.batch(step), stage_pairs.clips(step)
        assert batch.code_lengths.tolist() == [clip.codes for clip in meant]
        assert batch.codes.shape[1] == max(clip.codes for clip in meant)
    ragged = next(stage_pairs.batch(step) for step in range(9) if len(set(stage_pairs.batch(step).code_lengths)) > 1)
    stage = adapt.autoregressive_task(adapt._copy(model.autoregressive), stage_pairs, 2, 1)
    padded = ragged._replace(codes=torch.nn.functional.pad(ragged.codes, (0, 50)))
    losses = [stage.training_step("", batch, torch.Generator()) for batch in (ragged, padded)]
    assert torch.allclose(losses[0]["code_nll"], losses[1]["code_nll"], rtol=1e-5)  # padding teaches nothing
    assert stage.element_counts("", ragged)["code_nll"] == sum(ragged.code_lengths) + len(ragged.text)


def test_trimming() -> None:
    tone = 0.3 * np.sin(np.arange(OUTPUT_RATE) / 10).astype(np.float32)
    quiet = np.zeros(OUTPUT_RATE, np.float32)
    kept = trim(np.concatenate((quiet, tone, quiet, tone, quiet)))
    assert 3.0 <= len(kept) / OUTPUT_RATE <= 3.25  # the pause within stays
    assert len(trim(tone)) == len(tone)
    assert len(trim(quiet)) == len(trim(quiet[:10])) == 0


# ---- what is held out -----------------------------------------------------------------------------------------------


def test_some_clips_of_each_kind_are_held_out_and_the_voice_is_generated_of_the_others(
    model: Model, material: Material
) -> None:
    clips = Features(material.features).clips
    kept = {kind: [c for c in clips if is_held_out(c.id) and (c.speaker == "voice") == (kind == "voice")]
            for kind in ("voice", "base")}  # fmt: skip
    assert len(kept["voice"]) == len(kept["base"]) == 4
    assert {Path(c.audio) for c in clips if c.speaker == "voice"} - {Path(c.audio) for c in kept["voice"]} == set(
        material.clips
    )
    pairs = pairs_of(material, model, 300, config())
    assert {c.id for c in pairs.test} == {c.id for clips in kept.values() for c in clips}


def test_the_share_of_replay(model: Model, material: Material) -> None:
    for share in (0.0, 0.5):
        pairs = pairs_of(material, model, 300, config(replay=share))
        frames = {True: 0, False: 0}
        for step in range(60):
            for clip in pairs.clips(step):
                frames[clip.speaker == "voice"] += clip.frames
        assert frames[False] / sum(frames.values()) == pytest.approx(share, abs=0.08)


# ---- what learns ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [4, 0])
def test_both_decoders_learn_and_the_listeners_do_not(
    model: Model, material: Material, tmp_path: Path, rank: int
) -> None:
    how = Adaptation(**SHORT | {"rank": rank})
    decoder, renderer, outcomes = adapt.adapt(model, material, tmp_path, config(autoregressive=how, diffusion=how))
    assert [outcome.decoder for outcome in outcomes] == ["autoregressive", "diffusion"]
    for outcome in outcomes:
        assert outcome.steps == 6 and outcome.best > 0 and outcome.after[0] < outcome.before[0]
        assert outcome.reason == "all 6 steps were taken"
    for network, base in ((decoder, model.autoregressive), (renderer, model.diffusion)):
        before = base.state_dict()
        assert list(network.state_dict()) == list(before)
        changed = {k for k, v in network.state_dict().items() if not torch.equal(v, before[k])}
        assert changed and not any(name.startswith(ENCODERS) for name in changed)
    if rank:
        assert torch.equal(decoder.code_embedding.weight, model.autoregressive.code_embedding.weight)
    else:
        assert not torch.equal(decoder.code_embedding.weight, model.autoregressive.code_embedding.weight)


def test_the_base_is_left_as_it_was(model: Model, material: Material, tmp_path: Path) -> None:
    before = {k: v.clone() for k, v in model.autoregressive.state_dict().items()}
    adapt.adapt(model, material, tmp_path, config(diffusion=Adaptation(**SHORT | {"steps": 0})))
    assert all(torch.equal(v, before[k]) for k, v in model.autoregressive.state_dict().items())
    assert not any(p.requires_grad for p in model.autoregressive.parameters())


def test_forgetting_ends_it_and_the_weights_before_are_kept(model: Model, material: Material, tmp_path: Path) -> None:
    harsh = Adaptation(**SHORT | {"learning_rate": 1.0, "base_rise": 1e-3, "rank": 0, "warmup": 0})
    decoder, _, outcomes = adapt.adapt(
        model, material, tmp_path, config(autoregressive=harsh, diffusion=Adaptation(**SHORT | {"steps": 0}))
    )
    assert outcomes[0].best == 0 and outcomes[0].steps == 3
    assert "held_out/base_code_nll rose" in outcomes[0].reason
    before = model.autoregressive.state_dict()
    assert all(torch.equal(v, before[k]) for k, v in decoder.state_dict().items())


def test_a_killed_run_goes_on_as_if_nothing_had_been(model: Model, material: Material, tmp_path: Path) -> None:
    settings = config()
    whole = adapt.adapt(model, material, tmp_path / "a", settings)

    def dying(decoder: str) -> Callable[[int, int, dict[str, float]], None]:
        def die(step: int, steps: int, metrics: dict[str, float]) -> None:
            if decoder == "diffusion" and step == 5:
                raise KeyboardInterrupt

        return die

    with pytest.raises(KeyboardInterrupt):
        adapt.adapt(model, material, tmp_path / "b", settings, dying)
    again = adapt.adapt(model, material, tmp_path / "b", settings)
    assert again[2] == whole[2]
    for one, other in zip(again[:2], whole[:2], strict=True):
        assert all(torch.equal(v, other.state_dict()[k]) for k, v in one.state_dict().items())


def test_the_folder(model: Model, tmp_path: Path) -> None:
    decoder, renderer = adapt._copy(model.autoregressive), adapt._copy(model.diffusion)
    with torch.no_grad():
        decoder.code_head.bias += 0.5
    adapt.write_model(model, decoder, renderer, "mary", tmp_path / "new")
    new = load_model(tmp_path / "new")
    assert new.config.name == new.config.default_voice == "mary"
    assert new.config.fingerprint != model.config.fingerprint
    assert new.config.hashes.keys() == model.config.hashes.keys() and new.config.dvae == model.config.dvae
    same = {k for k, v in new.config.hashes.items() if v == model.config.hashes[k]}
    assert same == model.config.hashes.keys() - {"autoregressive.safetensors"}


# ---- the base -------------------------------------------------------------------------------------------------------


def test_a_corpus_can_stand_for_the_base(model: Model, toy: toy_corpus.ToyCorpus, tmp_path: Path) -> None:
    made = prepare(model, toy_voice.make_clips(tmp_path / "clips"), tmp_path / "work", base=toy.manifest)
    speakers = {clip.speaker for clip in Features(made.features).clips}
    assert "voice" in speakers and len(speakers) > 1 and speakers <= {"voice", "base:ada", "base:bob", "base:cleo"}


# ---- bad input ------------------------------------------------------------------------------------------------------


def test_bad_clips_are_counted_and_left_out(model: Model, tmp_path: Path) -> None:
    source = toy_voice.make_clips(tmp_path / "clips", 14)
    (source / "wavs" / "clip1.wav").write_bytes(b"no sound")
    sf.write(source / "wavs" / "clip2.wav", np.zeros(30_000), toy_voice.RATE)
    write_manifest(tmp_path / "m.jsonl", [
        Utterance(f"u{i}", str(source / "wavs" / f"clip{i}.wav"), "calm moon slow", "x", 1.0) for i in range(14)
    ])  # fmt: skip
    made = prepare(model, tmp_path / "m.jsonl", tmp_path / "work")
    assert {clip.id for clip in made.bad_clips.all()} == {"u1", "u2"}
    assert len((tmp_path / "work" / "bad_clips.jsonl").read_text().splitlines()) == 2
    assert sum(clip.speaker == "voice" for clip in Features(made.features).clips) == 12


def test_too_little_speech(model: Model, tmp_path: Path) -> None:
    source = toy_voice.make_clips(tmp_path / "clips", 5)
    with pytest.raises(ManifestError, match=r"^5 usable clips of \d\.\d s in all: adapting to a voice takes 8 clips"):
        prepare(model, source, tmp_path / "work")


def test_no_transcripts(tmp_path: Path) -> None:
    source = toy_voice.make_clips(tmp_path / "clips")
    (source / "metadata.csv").unlink()
    with pytest.raises(ManifestError, match=r"no usable clip.*transcripts go into .*metadata\.csv"):
        read_source(source, tmp_path)
    with pytest.raises(ManifestError, match="no folder or manifest at"):
        read_source(tmp_path / "nowhere", tmp_path)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"held_out": 0.0}, "held_out"),
        ({"speaker_blend": 1.5}, "speaker_blend"),
        ({"replay": 1.0}, "replay"),
        ({"sentences": 2}, "sentences"),
    ],
)
def test_settings_out_of_range(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=f"^{named} is"):
        config(**changes)


def test_both_decoders_are_trained_on_the_device_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    config = FinetuneConfig(device="cuda:1")
    for adaptation in (config.autoregressive, config.diffusion):
        assert make_context(config.loop(adaptation)).device == torch.device("cuda:1")


def test_adaptation_out_of_range() -> None:
    for name, value in (("steps", -1), ("rank", -1), ("budget", 0), ("patience", 0), ("base_rise", 0.0)):
        with pytest.raises(ConfigError, match=f"^{name} is"):
            Adaptation(**SHORT | {name: value})


def test_no_vqvae(model: Model) -> None:
    bare = replace(model.config, dvae=None)
    with pytest.raises(Exception, match="has no VQ-VAE"):
        adapt.check_model(replace(model, config=bare))


def test_a_voice_is_borrowed_where_the_decoder_is_not_adapted() -> None:
    alone = Adaptation(**SHORT | {"steps": 0})
    assert config().blend == 0 and config(autoregressive=alone).blend == DEFAULT_BLEND
    assert config(autoregressive=alone, speaker_blend=0.25).blend == 0.25
    with pytest.raises(ConfigError, match="are both 0"):
        config(autoregressive=alone, diffusion=alone)
