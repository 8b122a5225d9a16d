"""Plan a training run: memory of each process, FLOPs and hours, from one step that is counted without being run.

    python tools/memory_planner/plan_run.py plan --config nano/autoregressive --gpus 1 --gpu-memory 24
    python tools/memory_planner/plan_run.py plan --config tortoise_v2/diffusion --gpus 8 --gpu-memory 80 loop.steps=1000

Unlike ``chelys train plan`` it counts activations too, and proposes settings that fit. It uses private parts of torch.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer
from counting import matrix_rate
from plan import A100, Machine, Plan, make_plan

from chelys.cli.console import echo
from chelys.cli.main import OneLineErrors
from chelys.cli.train import (
    ClipSeconds,
    FlopsPerSecond,
    JsonOption,
    PlanOverrides,
    RunOption,
    StageOption,
    Utilisation,
    stage_of,
)

GB = 10**9
app = typer.Typer(cls=OneLineErrors, pretty_exceptions_enable=False)
app.callback()(lambda: None)  # so that the command keeps its name


@app.command("plan")
def plan(
    config: RunOption,
    gpus: Annotated[int, typer.Option("--gpus", help="GPUs; 0 is this machine's processor alone.")],
    gpu_memory: Annotated[float, typer.Option("--gpu-memory", metavar="GB", help="Of each GPU, or of the machine.")],
    overrides: PlanOverrides = None,
    stage: StageOption = None,
    hours_of_audio: Annotated[
        float | None, typer.Option("--hours-of-audio", help="Of the corpus: how often will the run go through it?")
    ] = None,
    clip_seconds: ClipSeconds = 6.0,
    flops_per_second: FlopsPerSecond = None,
    utilisation: Utilisation = 0.4,
    as_json: JsonOption = False,
) -> None:
    """Read the run, count a step, print what follows."""
    from chelys.training.run_stage import read_run
    from chelys.training.tasks import RUNS

    name = stage or stage_of(config, tuple(RUNS))
    run = read_run(name, config, overrides or [])
    if flops_per_second is None:
        flops_per_second = A100[run.loop.precision] if gpus else matrix_rate(run.loop.precision)
    machine = Machine(gpus, gpu_memory * GB, flops_per_second, utilisation)
    made = make_plan(name, run, machine, clip_seconds=clip_seconds, hours_of_audio=hours_of_audio)
    if as_json:
        echo(json.dumps(made.to_mapping(), indent=2))
    else:
        _show(made)


def _show(plan: Plan) -> None:
    """Tables for people."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    where = f"{plan.machine.gpus} GPU{'s' * (plan.machine.gpus > 1)}" if plan.machine.gpus else "this machine"
    memory = Table("memory of each process", "GB", title=f"{plan.stage} on {where}", title_justify="left")
    memory.columns[1].justify = "right"
    for what, size in vars(plan.memory).items():
        memory.add_row(what, f"{size / GB:.2f}")
    memory.add_section()
    memory.add_row("total", f"{plan.memory.total / GB:.2f}")
    memory.add_row("there is", f"{plan.machine.memory / GB:.2f}")
    console.print(memory)
    facts = Table("run", "")
    for what, value in _facts(plan):
        facts.add_row(what, value)
    console.print(facts)
    console.print(f"[bold]{escape(verdict(plan))}[/bold]")
    for assumption in plan.assumptions:
        console.print(f"- {escape(assumption)}")


def _facts(plan: Plan) -> list[tuple[str, str]]:
    loop, cost = plan.loop, plan.cost
    facts = [(f"parameters of {name}", f"{count:,}") for name, count in plan.parameters.items()]
    parts = min(loop.grad_accum_steps, cost.rows) if cost.splits else 1
    facts += [
        ("trained", f"{cost.trained:,}"),
        ("rows of each process", f"{cost.rows} in {parts} part(s)"),
        ("speech in a step", f"{plan.audio_a_step:,.0f} s"),
        ("steps", f"{loop.steps:,}"),
        ("operations of a step", f"{plan.flops_a_step:.3g}"),
        ("operations of the run", f"{plan.flops_a_step * loop.steps:.3g}"),
        ("hours", f"{plan.hours:,.1f}" + (f" ({plan.hours / 24:,.1f} days)" if plan.hours > 72 else "")),
    ]
    if plan.passes is not None:
        facts.append(("passes through the corpus", f"{plan.passes:,.2f}"))
    return facts


def verdict(plan: Plan) -> str:
    """Whether it fits, or what would."""
    if plan.fits:
        return "It fits."
    if plan.changes and plan.changed:
        return f"It does not fit; it does with {' '.join(plan.changes)}: {plan.changed.total / GB:.2f} GB."
    if plan.least_gpus:
        return (
            f"It does not fit, whatever is set; over {plan.least_gpus} such GPUs it does, with loop.strategy=fsdp "
            "loop.activation_checkpointing=true and a large loop.grad_accum_steps."
        )
    return "It does not fit, whatever is set: it needs more memory, smaller batches or a smaller network."


if __name__ == "__main__":
    app()
