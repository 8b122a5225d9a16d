"""``chelys distill``: from a model to one that takes few diffusion steps, and what both refuse in one line."""

from __future__ import annotations

import copy
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import chelys
from chelys.cli.main import app
from chelys.errors import ModelError, UserError
from chelys.inference.diffusion_sampling import dpm_step, sampling_schedule
from chelys.inference.options import SpeechOptions
from chelys.models.diffusion import STEP_PARTS
from chelys.models.diffusion_steps import DiffusionSteps
from chelys.training.distillation import DistillationConfig, DistillationData, DistillationTask, step_weights
from chelys.training.finetune import write_model

sys.path.insert(0, str(Path(__file__).parents[1]))

import toy_voice  # noqa: E402

QUICK = ["sentences=40", "steps=2", "teacher_steps=4", "rank=8", "train_steps=60", "rows=2", "threads=1",
         "precision=float32"]  # fmt: skip
HELLO = "Hello there."


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_voice.make_model(tmp_path_factory.mktemp("distill") / "toy")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("Hello there.\n\nOne two.\nThree.\n")
    return path


@pytest.fixture(scope="module")
def run() -> Callable[..., Any]:
    return lambda *arguments: CliRunner().invoke(app, ["distill", *map(str, arguments)])


@pytest.fixture(scope="module")
def made(run: Callable[..., Any], base: Path, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "fast"
    result = run(texts, "--model", base, "--out", out, *QUICK)
    assert result.exit_code == 0, (result.output, result.exception)
    assert result.stdout == f"{out}\n"
    return out


def test_the_result_speaks_in_few_steps(made: Path, base: Path) -> None:
    before, after = chelys.load(str(base)), chelys.load(str(made))
    receipt = after.speak(HELLO, seed=1).receipt["options"]
    assert (receipt["sampler"], receipt["steps"], receipt["guidance"]) == ("distilled", 2, 3.5)
    assert after.options("standard").sampler == before.options("fast").sampler == "dpm++2m"
    for changes in ({"steps": 10}, {"guidance": 1.0}, {"sampler": "ddim"}):  # who sets one wants the other network
        options = after.options("fast", **changes)
        assert options == before.options("fast", **changes)
        same = [tts.speak(HELLO, seed=1, options=options).audio for tts in (before, after)]
        assert np.array_equal(*same)
    assert after.fingerprint != before.fingerprint
    assert after.model.config.fingerprint == before.model.config.fingerprint  # voices stay valid


def test_adapters_are_what_merged_layers_would_be(made: Path) -> None:
    model = chelys.load(str(made)).model
    assert model.adapters and {name.partition(".")[0] for name in model.adapters} <= set(STEP_PARTS)
    generator = torch.Generator().manual_seed(1)
    x, conditioning = (torch.randn(1, n, 12, generator=generator) for n in (100, 32))
    steps = DiffusionSteps(model.diffusion, conditioning[:, :, :6], guided=False, adapters=model.adapters)
    plain = steps(x, 1000)
    steps.adapted = True
    found = steps(x, 1000)
    merged = copy.deepcopy(model.diffusion)
    for name, (down, up) in model.adapters.items():
        weight = merged.get_submodule(name).weight
        weight.data = weight + (up.flatten(1) @ down.flatten(1)).view_as(weight)
    torch.testing.assert_close(found, merged(x, torch.tensor([1000]), conditioning[:, :, :6]), rtol=1e-4, atol=1e-4)
    assert (found - plain).abs().max() > 0.01


def test_the_last_step_is_the_networks_own(made: Path) -> None:
    tts = chelys.load(str(made))
    audio = tts.speak(HELLO, seed=1).audio
    tts.model.adapters = {name: (down, 0 * up) for name, (down, up) in (tts.model.adapters or {}).items()}
    assert not np.array_equal(tts.speak(HELLO, seed=1).audio, audio)


def test_the_student_comes_nearer_to_the_teacher(made: Path, base: Path) -> None:
    work = made.with_name("fast.work")
    files = sorted((work / "trajectories").glob("*.safetensors"))
    assert load_file(files[0])["mels"].shape[0] == 2  # the noise, and the mel before the last step
    model = chelys.load(str(base)).model
    data = DistillationData(files, DistillationConfig(steps=2, teacher_steps=4))
    before = DistillationTask(model.diffusion, data, model.config.mel_range.bounds, data.config).evaluate()
    last = json.loads((work / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert last["held_out/mel_l1"] < 0.97 * before["mel_l1"]


def test_a_run_that_was_stopped_goes_on(
    run: Callable[..., Any], base: Path, texts: Path, made: Path, tmp_path: Path
) -> None:
    out, work = tmp_path / "again", tmp_path / "again.work"
    shutil.copytree(made.with_name("fast.work"), work)
    for number, path in enumerate(sorted((work / "trajectories").iterdir())):
        if number % 3 == 0:
            path.unlink()
    for path in (work / "trajectories").glob("*.done"):
        path.unlink()
    shutil.rmtree(work / "run")
    result = run(texts, "--model", base, "--out", out, *QUICK)
    assert result.exit_code == 0, (result.output, result.exception)
    assert (out / "distilled.safetensors").read_bytes() == (made / "distilled.safetensors").read_bytes()


def test_an_adapted_model_has_none(made: Path, tmp_path: Path) -> None:
    model = chelys.load(str(made)).model
    config = write_model(model, model.autoregressive, model.diffusion, "mary", tmp_path / "mary")
    assert config.distillation is None and not (tmp_path / "mary" / "distilled.safetensors").exists()


def test_steps_of_first_order() -> None:
    schedule = sampling_schedule("distilled", 5)
    x, x0 = torch.randn(2, 1, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).unbind()
    for index, (kept, moved) in enumerate(step_weights(schedule)):
        torch.testing.assert_close(kept * x + moved * x0, dpm_step(schedule, index, x, x0, None), rtol=0, atol=1e-6)


def test_what_speaking_refuses(made: Path, base: Path) -> None:
    plain, distilled = chelys.load(str(base)), chelys.load(str(made))
    with pytest.raises(UserError, match="has no distilled decoder"):
        plain.speak(HELLO, options=SpeechOptions(sampler="distilled"))
    with pytest.raises(UserError, match="takes 2 steps with guidance 3.5, not 7 with 3.5"):
        distilled.speak(HELLO, options=SpeechOptions(sampler="distilled", steps=7))


@pytest.mark.parametrize("damage", ["rank", "elsewhere", "shape", "less", "nothing"])
def test_a_file_that_does_not_fit_is_refused(made: Path, tmp_path: Path, damage: str) -> None:
    folder = shutil.copytree(made, tmp_path / "m")
    path = folder / "distilled.safetensors"
    tensors = load_file(path)
    first = next(name for name in tensors if name.endswith("up.weight"))
    if damage == "rank":
        tensors = {k: torch.cat((v, v), 1 if ".up." in k else 0) for k, v in tensors.items()}
    elif damage == "elsewhere":
        tensors["latent_in.up.weight"] = tensors[first].clone()
        tensors["latent_in.down.weight"] = tensors[first.replace("up", "down")].clone()
    elif damage == "shape":
        tensors[first] = torch.cat((tensors[first], tensors[first]))
    elif damage == "less":
        del tensors[first]
    else:
        tensors = {"x": torch.zeros(1)}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    with pytest.raises(ModelError, match="distilled"):
        chelys.load(str(folder))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["steps=3"], "teacher_steps is 20; it must be a multiple of 3"),
        (["stepz=3"], "'stepz=3' is no setting"),
        (["sentences=4"], "sentences is 4; it must be 32 or more"),
        (["--voices", "nowhere.wav"], "nowhere.wav"),
    ],
)
def test_what_the_command_refuses(
    run: Callable[..., Any], base: Path, texts: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    result = run(texts, "--model", base, "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 2 and said in result.stderr and len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("out*"))


def test_texts_that_are_none(run: Callable[..., Any], base: Path, made: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    for texts, out, said in (
        (tmp_path / "empty.txt", tmp_path / "out", "holds no sentences"),
        (tmp_path / "none.txt", tmp_path / "out", "cannot read"),
        (tmp_path / "empty.txt", made, "exists: choose another folder"),
    ):
        result = run(texts, "--model", base, "--out", out)
        assert result.exit_code == 2 and said in result.stderr
