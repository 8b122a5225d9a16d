"""Runs foretold: against runs that were trained, and against the published sizes."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from counting import Allocations, FlopCounter
from plan import CONTEXT, GB, Machine, make_plan, memory_of
from plan_run import app
from rehearsal import audio_seconds, build_without_numbers, imagined_settings, rehearse
from typer.testing import CliRunner

from chelys.cli.train import stage_of
from chelys.config import from_mapping
from chelys.configs import read_config_file
from chelys.errors import ConfigError
from chelys.models.autoregressive import Autoregressive
from chelys.training.config import Run
from chelys.training.task import tensors_of
from chelys.training.tasks import RUNS

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "src" / "chelys" / "configs" / "tortoise_v2"
#: Parameters of the published networks; where the run has discriminators, these are not among them.
PARAMETERS = {
    "autoregressive": 421_526_786,
    "diffusion_latents": 292_334_380,
    "clvp": 243_846_145,
    "cvvp": 37_780_225,
    "vocoder": 14_865_506,
    "detector": 15_224_002,
    "autoregressive_prior": 6_297_600,
    "diffusion_prior": 25_178_112,
    "hifigan": 17_844_226,
    "dvae": 51_567_184,
}
GPU = Machine(gpus=1, memory=24 * GB, flops=1e14, utilisation=0.5)
SECONDS = 1.5


def published(name: str, *overrides: str) -> Run:
    path = PUBLISHED / f"{name}.yaml"
    return from_mapping(RUNS[stage_of(path, tuple(RUNS))], read_config_file(path, overrides), where=path.name)


@pytest.fixture
def run(values):
    """A tiny run of a stage."""
    return lambda stage, /, **sections: from_mapping(RUNS[stage], values(stage, **sections))


@pytest.fixture(scope="module")
def throughput() -> ModuleType:
    spec = importlib.util.spec_from_file_location("throughput", ROOT / "benchmarks" / "throughput.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---- a rehearsed step ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_published_networks_have_their_parameters(name, tmp_path):
    stage, _ = build_without_numbers(imagined_settings(published(name), tmp_path, 3.0))
    assert sum(p.numel() for p in stage.network.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("stage", ["dvae", "autoregressive", "clvp", "diffusion", "vocoder"])
def test_a_rehearsed_step_costs_what_a_real_one_does(stage, run, tmp_path):
    sections = {"vocoder": {"discriminator_start": 0}, "clvp": {"corrupted_texts": 2, "corrupted_speech": 1}}
    settings = run(stage, stage=sections.get(stage, {}))
    cost = rehearse(settings, SECONDS, fused=False)
    imagined = imagined_settings(settings, tmp_path, SECONDS)
    real = imagined.build()
    if stage == "dvae":
        real.network.codebook.counts.fill_(1.0)
    batch = real.data.batch(0)
    memory, flops = Allocations(), FlopCounter()
    for module in real.modules.values():
        module.train()
        for tensor in (*module.parameters(), *module.buffers()):
            memory.watch(tensor)
    for tensor in tensors_of(batch).values():
        memory.watch(tensor)
    resident = memory.now
    with flops, memory:
        for name in real.modules:
            losses = real.training_step(name, batch, torch.Generator())
            torch.stack(list(losses.values())).sum().backward()
            del losses
    assert cost.flops == flops.total > 0
    kept = 1.1 * batch.nbytes if stage == "dvae" else 0  # torch's mean squared error holds on to what it averages
    assert cost.gradients + cost.working == pytest.approx(memory.peak - resident, rel=0.02, abs=kept)
    assert cost.parameters == {name: sum(p.numel() for p in m.parameters()) for name, m in real.modules.items()}
    assert cost.audio == pytest.approx(audio_seconds(batch))


def test_clips_of_a_length_fill_the_budget(run):
    cost = rehearse(run("autoregressive", pairs={"budget": 120}), SECONDS)  # 35 codes a clip
    assert cost.rows == 3
    assert cost.audio == pytest.approx(3 * SECONDS, rel=0.01)


def test_blocks_computed_again_keep_less_and_compute_more(run):
    deep = {"network": {"layers": 8}}
    kept, again = (
        rehearse(run("autoregressive", **deep, loop={"activation_checkpointing": r}), SECONDS) for r in (False, True)
    )
    assert again.working < 0.7 * kept.working
    assert kept.flops < again.flops < 1.4 * kept.flops


def test_parts_share_what_passes_and_nothing_else(run):
    whole, parts = (rehearse(run("autoregressive", loop={"grad_accum_steps": n}), SECONDS) for n in (1, 3))
    assert parts.working < 0.6 * whole.working
    assert (parts.gradients, parts.batch, parts.audio) == (whole.gradients, whole.batch, pytest.approx(whole.audio))
    assert parts.flops == pytest.approx(whole.flops, rel=0.01)


def test_processes_share_the_rows(run):
    alone, one_of_three = (rehearse(run("clvp"), SECONDS, world=n) for n in (1, 3))
    assert (alone.rows, one_of_three.rows, one_of_three.world) == (3, 1, 3)
    assert one_of_three.audio == pytest.approx(alone.audio / 3)


def test_a_frozen_decoder_is_counted_without_its_weights_at_hand(run):
    codes = rehearse(run("diffusion"), SECONDS)
    latents = rehearse(run("diffusion", stage={"conditioning": "latents"}, decoder=None), SECONDS)
    decoder = Autoregressive(run("diffusion").decoder_network)
    assert codes.frozen == 0
    assert latents.frozen == sum(4 * p.numel() for p in decoder.parameters())
    assert latents.flops > codes.flops


def test_the_global_generator_stays_as_it_was(run):
    before = torch.random.get_rng_state()
    rehearse(run("autoregressive"), SECONDS)
    assert torch.equal(torch.random.get_rng_state(), before)


# ---- the plan -----------------------------------------------------------------------------------------------------


def test_memory_by_what_it_is_for(run):
    settings = run("autoregressive")
    cost = rehearse(settings, SECONDS)
    weights = 4 * cost.trained
    one = memory_of(cost, settings.loop, GPU)
    assert (one.weights, one.gradients, one.optimizer, one.average) == (weights, weights, 2 * weights, weights)
    assert (one.exchange, one.context) == (0, CONTEXT)
    copies = memory_of(cost, settings.loop, replace(GPU, gpus=4))
    assert copies.exchange == weights
    pieces = memory_of(cost, replace(settings.loop, strategy="fsdp"), replace(GPU, gpus=4))
    assert (pieces.weights, pieces.gradients, pieces.optimizer) == (weights // 4, weights // 4, 2 * (weights // 4))
    assert 0 < pieces.exchange < weights
    none = memory_of(cost, settings.loop, replace(GPU, gpus=0))
    assert (none.context, none.exchange) == (0, 0)


def test_hours_and_passes(run):
    settings = run("autoregressive", loop={"steps": 7200})
    plan = make_plan("autoregressive", settings, GPU, clip_seconds=SECONDS, hours_of_audio=2.0)
    assert plan.hours == pytest.approx(7200 * plan.flops_a_step / (1e14 * 0.5) / 3600)
    assert plan.passes == pytest.approx(7200 * plan.audio_a_step / 3600 / 2.0)
    more = make_plan("autoregressive", settings, replace(GPU, gpus=3), clip_seconds=SECONDS)
    assert more.hours == pytest.approx(plan.hours / 3, rel=0.02)
    assert more.flops_a_step == pytest.approx(plan.flops_a_step, rel=0.02)


def test_steps_before_the_discriminators_join_are_cheaper(run):
    late, early = (
        make_plan("vocoder", run("vocoder", loop={"steps": 100}, stage={"discriminator_start": n}), GPU)
        for n in (50, 0)
    )
    never = make_plan("vocoder", run("vocoder", loop={"steps": 100}, stage={"discriminator_start": 100}), GPU)
    assert late.flops == pytest.approx((early.flops + never.flops) / 2)
    assert late.memory == early.memory != never.memory


def test_it_fits_and_nothing_needs_to_change(run):
    plan = make_plan("autoregressive", run("autoregressive"), GPU, clip_seconds=SECONDS)
    assert plan.fits and plan.changes == () and plan.changed is None


def test_what_is_proposed_makes_it_fit(run, values):
    settings = run("autoregressive", network={"layers": 6}, pairs={"budget": 2000, "max_codes": 50})
    need = make_plan("autoregressive", settings, GPU, clip_seconds=SECONDS).memory
    small = replace(GPU, memory=need.total - need.working // 2)
    plan = make_plan("autoregressive", settings, small, clip_seconds=SECONDS)
    assert not plan.fits
    assert plan.changes and plan.changed.total <= small.memory
    pairs = values("autoregressive")["pairs"] | {"budget": 2000, "max_codes": 50}
    proposed = dict(change.removeprefix("loop.").split("=") for change in plan.changes)
    changed = run(
        "autoregressive", network={"layers": 6}, pairs=pairs,
        loop={key: int(value) if value.isdigit() else value == "true" for key, value in proposed.items()},
    )  # fmt: skip
    again = make_plan("autoregressive", changed, small, clip_seconds=SECONDS)
    assert again.fits and again.memory == plan.changed


def test_more_processors_are_proposed_where_nothing_else_does(run):
    settings = run("autoregressive", network={"dim": 256, "layers": 3}, pairs={"max_codes": 40})
    cost = rehearse(settings, SECONDS)
    small = replace(GPU, memory=CONTEXT + 4 * cost.gradients)
    plan = make_plan("autoregressive", settings, small, clip_seconds=SECONDS)
    assert plan.changes is None and plan.least_gpus and plan.least_gpus > 1
    hopeless = make_plan("dvae", run("dvae"), replace(GPU, memory=CONTEXT / 2))
    assert hopeless.changes is None and hopeless.least_gpus is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"gpus": -1}, {"gpus": 10**6}, {"memory": 0.0}, {"memory": float("nan")}, {"memory": float("inf")},
        {"flops": 0.0}, {"flops": float("nan")}, {"utilisation": 0.0}, {"utilisation": 1.5},
    ],
)  # fmt: skip
def test_machines_that_there_are_not(wrong):
    with pytest.raises(ConfigError, match="it must be") as error:
        Machine(**{"gpus": 1, "memory": 1e9, "flops": 1e12, "utilisation": 0.4} | wrong)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrong", [{"clip_seconds": 0.0}, {"clip_seconds": 1e9}, {"hours_of_audio": -1.0}])
def test_corpora_that_there_are_not(wrong, run):
    with pytest.raises(ConfigError, match="it must be"):
        make_plan("autoregressive", run("autoregressive"), GPU, **wrong)


def test_a_file_is_named_after_its_stage():
    stages = tuple(RUNS)
    assert stage_of(Path("a/diffusion_latents.yaml"), stages) == "diffusion"
    assert stage_of(Path("diffusion_prior.yaml"), stages) == "diffusion_prior"
    with pytest.raises(ConfigError, match="--stage with one of dvae"):
        stage_of(Path("model.yaml"), stages)


# ---- the command --------------------------------------------------------------------------------------------------


@pytest.fixture
def command():
    return lambda *arguments: CliRunner().invoke(app, [*map(str, arguments)], prog_name="plan_run.py")


def test_the_plan_in_words(command, config_file):
    result = command("plan", "--config", config_file("clvp"), "--gpus", 2, "--gpu-memory", 24)
    assert result.exit_code == 0, result.output
    assert "clvp on 2 GPUs" in result.output and "It fits." in result.output and "exchange" in result.output


def test_the_plan_in_json(command, config_file):
    result = command("plan", "--config", config_file("dvae"), "--gpus", 1, "--gpu-memory", 24, "--json", "loop.steps=5")
    made = json.loads(result.stdout)
    assert made["steps"] == 5 and made["fits"] and made["flops"] == 5 * made["flops_a_step"]
    assert made["memory"]["total"] == sum(size for what, size in made["memory"].items() if what != "total")


def test_no_gpu_at_all(command, config_file):
    result = command("plan", "--config", config_file("dvae"), "--gpus", 0, "--gpu-memory", 8)
    assert result.exit_code == 0 and "this machine" in result.output, result.output


def test_a_run_that_does_not_fit_says_so(command, config_file):
    result = command("plan", "--config", config_file("dvae"), "--gpus", 1, "--gpu-memory", 0.1)
    assert result.exit_code == 0 and "It does not fit" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpus", "0.5", "--gpu-memory", "24"], "Invalid value for '--gpus'"),
        (["--gpus", "1", "--gpu-memory", "-3"], "--gpu-memory is -3 GB; it must be above 0"),
        (["--gpus", "1", "--gpu-memory", "24", "--stage", "voice"], "unknown stage 'voice': choose from dvae"),
        (["--gpus", "1", "--gpu-memory", "24", "loop.stepz=3"], "loop.stepz: unexpected keyword argument"),
        (["--gpus", "1"], "Missing option '--gpu-memory'"),
    ],
)
def test_nonsense_is_refused_in_one_line(command, config_file, arguments, message):
    result = command("plan", "--config", config_file("clvp"), *arguments)
    assert result.exit_code == 2
    line = result.stderr.strip()
    assert message in line and "\n" not in line


# ---- measured -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("index", range(4))  # of four stages
def test_memory_is_foretold_within_15_percent(throughput, index):
    name, overrides = throughput.MEMORY_RUNS[index]
    foretold, measured = throughput.foretold_memory(name, overrides), throughput.measured_memory(name, overrides)
    assert foretold == pytest.approx(measured, rel=0.15)
