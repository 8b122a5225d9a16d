"""What a run leaves to look at: pictures, samples, curves, the losses, the list of clips that were left out."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
from toy_corpus import LOOP, ToyCorpus

from chelys.training.config import LoopConfig
from chelys.training.logging import Picture, PreviewCopy, RunLog, draw_pictures, plot_losses
from chelys.training.run_stage import run_stage
from chelys.training.task import Task
from chelys.training.trainer import Trainer

SHORT = {"steps": 2, "evaluate_every": 1, "checkpoint_every": 2}
#: Pictures that each stage draws.
PICTURES = {
    "dvae": {"codebook", "reconstruction"},
    "autoregressive": {"alignment", "attention"},
    "clvp": {"scores"},
    "diffusion": {"conditioning"},
    "vocoder": set(),
}


def shapes(folder: Path) -> dict[str, Any]:
    image = pytest.importorskip("matplotlib.image")
    return {path.name: image.imread(path).shape for path in folder.glob("*.png")}


@pytest.mark.parametrize("stage", PICTURES)
def test_pictures_and_samples_of_a_run(config_file: Callable[..., Path], tmp_path: Path, stage: str) -> None:
    pytest.importorskip("matplotlib")
    config = config_file(stage, loop=SHORT)
    without = run_stage(stage, config, [f"run={tmp_path / 'without'}"])
    assert not any((tmp_path / "without" / name).exists() for name in ("pictures", "samples", "losses.png"))
    drawn = run_stage(stage, config, ["loop.pictures=true"])
    run = tmp_path / "run"
    expected = {f"{step:09d}-{name}.png" for step in (1, 2) for name in PICTURES[stage]}
    assert set(shapes(run / "pictures")) == expected
    assert all(height > 200 and width > 400 for height, width, *_ in shapes(run / "pictures").values())
    assert set(shapes(run)) == {"losses.png"}
    waves = {path.name for path in run.glob("samples/*.wav")}
    names = {f"{n:09d}-{k}{i}.wav" for n in (1, 2) for k in ("real", "generated") for i in ("", "-2", "-3")}
    assert waves == (names if stage == "vocoder" else set())
    assert drawn.read_bytes() == without.read_bytes(), "who looks changes nothing"


def test_samples_are_the_held_out_clip(build: Callable[..., Task]) -> None:
    stage: Any = build("vocoder")
    wave, rate, *_ = stage.samples()["real"]
    expected, _ = sf.read(stage.data.test_clips[0].audio, dtype="float32")
    assert rate == 24_000 and np.array_equal(wave.numpy()[: len(expected)], expected[: len(wave)])


def test_who_listens_hears_the_copies_and_changes_nothing(build: Callable[..., Task], tmp_path: Path) -> None:
    heard: list[list[PreviewCopy]] = []

    def listener(copies: Sequence[PreviewCopy]) -> dict[str, float]:
        heard.append(list(copies))
        torch.rand(3)  # as networks of others do
        return {"wer": len(heard) / 4}

    weights = []
    for name, one in (("alone", None), ("heard", listener)):
        stage = build("vocoder")
        torch.manual_seed(1)
        trainer = Trainer(stage, LoopConfig(**(LOOP | SHORT)), tmp_path / name, listener=one)
        trainer.run()
        weights.append(trainer.weights())
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert [len(copies) for copies in heard] == [3, 3]
    clip = stage.data.test_clips[1]  # type: ignore[attr-defined]
    assert heard[0][1].text == clip.text and heard[0][1].audio.name == "000000001-generated-2.wav"
    assert heard[0][1].original.name == "000000001-real-2.wav" and heard[0][1].original.is_file()
    lines = [json.loads(line) for line in (tmp_path / "heard" / "log.jsonl").read_text().splitlines()]
    found = [(line["step"], line["heard/wer"]) for line in lines if "heard/wer" in line]
    assert found == [(1, 0.25), (2, 0.5)] and all("held_out/mel" in line for line in lines if "heard/wer" in line)


def test_attention_is_what_the_decoder_computes(build: Callable[..., Task]) -> None:
    stage: Any = build("autoregressive")
    with torch.no_grad():
        for parameter in stage.network.parameters():
            parameter.mul_(8 if parameter.ndim > 1 else 1)  # looks somewhere rather than everywhere
        weights = stage.pictures()["attention"].values
        block, seen = stage.decoder.blocks[-1], []
        block.out.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        stage.pictures()
    x, attended = seen
    assert torch.allclose(weights.sum(1), torch.ones(len(weights)), atol=1e-5)
    assert not weights.triu(1).any(), "nobody looks ahead"
    value = block.qkv(block.attention_norm(x))[0, :, 2 * x.shape[2] :]
    one_head = value[:, : x.shape[2]]
    assert torch.allclose(weights[0] @ one_head, attended[0, 0], atol=1e-4), "the first column sees itself alone"


def test_without_matplotlib_nothing_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with caplog.at_level(logging.INFO):
        draw_pictures(tmp_path / "pictures", 3, {"x": Picture(torch.zeros(3, 4))})
    assert not (tmp_path / "pictures").exists() and "matplotlib is not installed" in caplog.text


def test_losses_are_drawn_over_the_steps(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    lines = [
        {"step": n, "learning_rate": 1.0, "near": 1 / n, "held_out/near": 2 / n, "x_grad_norm": 3.0} for n in (1, 2, 3)
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    plot_losses(tmp_path / "log.jsonl", tmp_path / "losses.png")
    two = shapes(tmp_path)["losses.png"]
    (tmp_path / "log.jsonl").write_text(json.dumps({"step": 1} | {f"loss{n}": 1.0 for n in range(6)}) + "\n")
    plot_losses(tmp_path / "log.jsonl", tmp_path / "losses.png")
    assert shapes(tmp_path)["losses.png"][0] > 2 * two[0], "three rows of them, not one"
    (tmp_path / "log.jsonl").write_text("")
    plot_losses(tmp_path / "log.jsonl", tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


# ---- the log --------------------------------------------------------------------------------------------------------


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder), purge_orphaned_data=True).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_has_the_curves_of_the_log(config_file: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run_stage("dvae", config_file("dvae", loop={"steps": 4, "evaluate_every": 2}), ["loop.tensorboard=true"])
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    found = curves(tmp_path / "run" / "tensorboard")
    for name in ("reconstruction", "learning_rate", "held_out/mel_l1", "dvae_grad_norm"):
        expected = [(line["step"], line[name]) for line in lines if name in line]
        assert [step for step, _ in found[name]] == [step for step, _ in expected]
        assert [value for _, value in found[name]] == pytest.approx([value for _, value in expected], rel=1e-5)


def test_curves_go_on_where_the_log_does(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    for start, past, value in ((0, 6, 1.0), (3, 8, 2.0)):  # the first run was killed after its sixth step
        log = RunLog(tmp_path, tensorboard=True)
        log.open(start)
        for step in range(start + 1, past + 1):
            log.write(step, {"loss": value})
        log.close()
    expected = [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0), (6, 2.0), (7, 2.0), (8, 2.0)]
    assert curves(tmp_path / "tensorboard")["loss"] == expected
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == expected


def test_a_torn_line_that_another_was_written_behind(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"step": 2, "lo{"step": 3}\n[4]\n{"step": 4}\n{"step": 9}\n')
    RunLog(tmp_path, tensorboard=False).open(5)
    assert (tmp_path / "log.jsonl").read_text() == '{"step": 1}\n{"step": 4}\n'


# ---- clips and settings ---------------------------------------------------------------------------------------------


def with_bad_clips(toy: ToyCorpus, folder: Path) -> Path:
    """The toy features with a text that nobody can say, and a clip that was left out when they were made."""
    shutil.copytree(toy.features, folder)
    index = folder / "index.jsonl"
    lines = [json.loads(line) for line in index.read_text(encoding="utf8").splitlines()]
    lines[2]["text"] = "..."
    index.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "bad_clips.jsonl").write_text('{"id": "gone", "reason": "missing"}\n')
    return folder


def test_bad_clips_are_counted_listed_and_left_out(
    config_file: Callable[..., Path], toy: ToyCorpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    features = with_bad_clips(toy, tmp_path / "features")
    with caplog.at_level(logging.WARNING):
        run_stage("clvp", config_file("clvp", loop=SHORT, features=str(features)))
    listed = tmp_path / "run" / "bad_clips.jsonl"
    assert f"2 clips are left out (1 missing, 1 text cannot be spoken): see {listed}" in caplog.text
    lines = [json.loads(line) for line in listed.read_text().splitlines()]
    assert [line["reason"] for line in lines] == ["missing", "text cannot be spoken"]
    assert lines[1]["id"] == json.loads((features / "index.jsonl").read_text().splitlines()[2])["id"]


def test_recordings_that_are_gone_are_left_out(
    config_file: Callable[..., Path], toy: ToyCorpus, tmp_path: Path
) -> None:
    shutil.copytree(toy.features, tmp_path / "features")
    index = tmp_path / "features" / "index.jsonl"
    lines = [json.loads(line) for line in index.read_text().splitlines()]
    lines[1]["audio"] = str(tmp_path / "gone.wav")
    index.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run_stage("vocoder", config_file("vocoder", loop=SHORT, features=str(tmp_path / "features")))
    (line,) = (tmp_path / "run" / "bad_clips.jsonl").read_text().splitlines()
    assert json.loads(line) == {"id": lines[1]["id"], "reason": "missing", "detail": str(tmp_path / "gone.wav")}


def test_a_sound_corpus_leaves_no_list(config_file: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "bad_clips.jsonl").write_text('{"id": "of another corpus", "reason": "missing"}\n')
    run_stage("clvp", config_file("clvp", loop=SHORT))
    assert not (tmp_path / "run" / "bad_clips.jsonl").exists()


def test_a_run_that_goes_on_with_other_settings_says_so(
    config_file: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    config = config_file("dvae", loop=SHORT)
    run_stage("dvae", config)
    with caplog.at_level(logging.WARNING):
        run_stage("dvae", config, ["loop.steps=3", "loop.save_total_limit=3"])
        assert not caplog.records, "longer, that is all"
        run_stage("dvae", config, ["loop.steps=4", "stage.rows=3"])
    (record,) = caplog.records
    assert "goes on with other settings than it began with" in record.getMessage()
    assert "stage.rows=3 (was 4)" in record.getMessage() and "learning_rate" not in record.getMessage()
