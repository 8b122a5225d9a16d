"""``chelys train``, ``train plan`` and ``pack``: one stage of training, what it takes, and a model of all stages."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from chelys import registry
from chelys.cli.console import DeviceOption, ThreadsOption, WorkersOption, check_place, echo
from chelys.errors import ConfigError
from chelys.machine import available_cores, set_threads

STAGES = ("dvae", "autoregressive", "clvp", "diffusion", "vocoder", *registry.STAGES)
HELP = "Train one network; a run that was stopped goes on from its last checkpoint."
EXAMPLE = (
    "Example: chelys train dvae --config nano/dvae loop.steps=1000. "
    "On several processors: torchrun --nproc-per-node 8 -m chelys train dvae --config nano/dvae"
)


def train(
    stage: Annotated[str, typer.Argument(metavar="STAGE", help=f"Which network: {', '.join(STAGES)}.")],
    config: Annotated[Path, typer.Option("--config", help="YAML file of the run.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Laid over the file, for example loop.steps=10.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="Go on from the newest checkpoint.")] = True,
    device: Annotated[
        str | None, typer.Option("--device", help="As loop.device: auto, cpu, mps, cuda or cuda:N.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="As loop.precision: auto, float32, bfloat16 or float16.")
    ] = None,
    threads: ThreadsOption = None,
) -> None:
    """Read the run, and train it."""
    check_place(device, dtype)
    for override in overrides or []:
        if not override.partition("=")[0] or "=" not in override:
            raise ConfigError(f"{override!r} is not KEY=VALUE: write for example loop.steps=1000")
    from chelys.training.distributed import end_processes
    from chelys.training.run_stage import read_run, train_run

    given = {"device": device, "precision": dtype, "threads": threads}
    laid_over = [f"loop.{name}={value}" for name, value in given.items() if value is not None]
    run = read_run(stage, config, [*(overrides or []), *laid_over])
    set_threads(run.loop.threads)
    first = os.environ.get("RANK", "0") == "0"  # one of several processes prints
    listener = None
    if run.loop.listen:
        from chelys.evaluation.previews import PreviewListener

        listener = PreviewListener(run.loop.listen)
    with training_bar(stage, shown=first and sys.stderr is not None and sys.stderr.isatty()) as progress:
        weights = train_run(stage, run, resume=resume, progress=progress, listener=listener)
    if first:
        echo(str(weights))
    end_processes()


NANO_HELP = "Train all of nano on one device within some minutes; 'chelys pack' makes a model of the run folders."
NANO_EXAMPLE = "Example: chelys train nano packs --out runs/nano3 --device cuda --minutes 8"


def train_nano(
    packs: Annotated[
        list[Path], typer.Argument(metavar="PACK", help="What 'chelys data pack' wrote: files or folders.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the run folders and the log.")],
    config: Annotated[str, typer.Option("--config", help="YAML file of all stages.")] = "nano/accelerated",
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Laid over the file, may be repeated.")
    ] = None,
    device: DeviceOption = "auto",
    minutes: Annotated[float, typer.Option("--minutes", help="In all, reading the packs included.")] = 8.0,
    workers: WorkersOption = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Measure some steps of each stage, and print what fits into the time.")
    ] = False,
) -> None:
    """Read the packs, train stage by stage."""
    from chelys.config import from_mapping
    from chelys.configs import read_config_file
    from chelys.training.accelerated.config import AcceleratedConfig
    from chelys.training.accelerated.nano import train_nano as train_all
    from chelys.weights.checks import place

    set_threads(workers)
    settings = from_mapping(AcceleratedConfig, read_config_file(Path(config), overrides or []), where=config)
    plans = train_all(
        settings, packs, out, device=place(device, None)[0], minutes=minutes, workers=workers or available_cores(),
        only_plan=plan,
    )  # fmt: skip
    echo("\n".join(map(str, plans)) or str(out))


@contextmanager
def training_bar(stage: str, *, shown: bool) -> Iterator[Callable[[int, int, dict[str, float]], None] | None]:
    """A progress bar on standard error: steps done, time left, the losses of the moment.

    ``stage``: what is trained; ``shown``: whether standard error is a terminal. Yields the trainer's progress callback,
    called with (step, steps, metrics), or None.
    """
    if not shown:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn as TimeLeftColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeLeftColumn(compact=True), TextColumn("{task.fields[losses]}"),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, speed_estimate_period=300) as progress:
        task = None

        def update(step: int, steps: int, metrics: dict[str, float]) -> None:
            nonlocal task
            losses = _losses(metrics, console.width - len(stage) - 2 * len(str(steps)) - 45)
            if task is None:  # a resumed run did not do its first steps just now
                task = progress.add_task(stage, total=steps, completed=step, losses=losses)
            progress.update(task, completed=step, total=steps, losses=losses, refresh=True)

        yield update


def _losses(metrics: dict[str, float], width: int) -> str:
    """As many of a step's losses as there is room for."""
    from chelys.training.logging import NO_LOSS

    shown = ""
    for name, value in metrics.items():
        if name.endswith(NO_LOSS):
            continue
        longer = f"{shown} {name} {value:.3g}".strip()
        if len(longer) > width:
            break
        shown = longer
    return shown


# ---- plan -----------------------------------------------------------------------------------------------------------

if TYPE_CHECKING:
    from chelys.training.estimate import Estimate

PLAN_HELP = (
    "Estimate parameters, memory without activations, operations and hours of a run, from its configuration alone."
)
PLAN_EXAMPLE = "Example: chelys train plan --config tortoise_v2/autoregressive --gpus 8"
GB = 10**9
STAGE = "stage"


class StageOrPlan(TyperGroup):
    """``train plan`` and ``train nano`` are commands of their own; everything else after ``train`` is for a stage."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the name of the hidden command where the user leaves it out."""
        return super().parse_args(ctx, args if args[:1] in (["plan"], ["nano"]) else [STAGE, *args])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Keep that name out of what is printed."""
        name, command, rest = super().resolve_command(ctx, args)
        return "" if name == STAGE else name, command, rest


# Options that `tools/memory_planner` has as well.
RunOption = Annotated[Path, typer.Option("--config", help="YAML file of the run.")]
PlanOverrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Laid over the file, for example loop.grad_accum_steps=4."),
]
StageOption = Annotated[str | None, typer.Option("--stage", help="Which network, if the file's name does not say.")]
ClipSeconds = Annotated[float, typer.Option("--clip-seconds", help="Usual length of a clip.")]
FlopsPerSecond = Annotated[
    float | None, typer.Option("--flops-per-second", help="Of a GPU's matrix products; default: an A100's.")
]
Utilisation = Annotated[float, typer.Option("--utilisation", help="Share of that which training reaches.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]


def plan(
    config: RunOption,
    gpus: Annotated[int, typer.Option("--gpus", help="GPUs that share each batch.")] = 1,
    overrides: PlanOverrides = None,
    stage: StageOption = None,
    clip_seconds: ClipSeconds = 6.0,
    flops_per_second: FlopsPerSecond = None,
    utilisation: Utilisation = 0.4,
    gpu_memory: Annotated[float | None, typer.Option("--gpu-memory", hidden=True)] = None,
    hours_of_audio: Annotated[float | None, typer.Option("--hours-of-audio", hidden=True)] = None,
    as_json: JsonOption = False,
) -> None:
    """Read the run, count a step, print what follows."""
    from chelys.deprecation import warn_renamed
    from chelys.training.estimate import estimate
    from chelys.training.run_stage import read_run
    from chelys.training.tasks import RUNS

    for option, value in (("--gpu-memory", gpu_memory), ("--hours-of-audio", hours_of_audio)):
        if value is not None:
            warn_renamed(option, None)
    name = stage or stage_of(config, tuple(RUNS))
    made = estimate(
        name, read_run(name, config, overrides or []), gpus=gpus, flops_per_second=flops_per_second,
        utilisation=utilisation, clip_seconds=clip_seconds,
    )  # fmt: skip
    if as_json:
        echo(json.dumps(asdict(made) | {"memory": made.memory}, indent=2))
        return
    rows = _rows(made)
    width = max(len(label) for label, _ in rows)
    for label, text in rows:
        echo(f"{label.ljust(width)}  {text}")
    echo(f"memory is without activations; hours are at {utilisation:.0%} of the GPUs' rate, loading not counted")


def stage_of(config: Path, stages: tuple[str, ...]) -> str:
    """The stage that a configuration file is named after: ``diffusion_latents.yaml`` is of ``diffusion``.

    Raises ConfigError if it is named after none.
    """
    found = [stage for stage in stages if config.stem == stage or config.stem.startswith((f"{stage}_", f"{stage}-"))]
    if not found:
        raise ConfigError(f"{config.name} is named after no stage: say --stage with one of {', '.join(stages)}")
    return max(found, key=len)


def _rows(made: Estimate) -> list[tuple[str, str]]:
    sizes = {"weights": made.weights, "gradients": made.gradients, "optimizer": made.optimizer, "EMA": made.ema}
    return [
        *((f"parameters of {name}", f"{count:,}") for name, count in made.parameters.items()),
        ("trained parameters", f"{made.trained:,}"),
        *((f"memory: {what}", f"{size / GB:.2f} GB") for what, size in sizes.items()),
        ("memory: total", f"{made.memory / GB:.2f} GB"),
        ("rows of a step", f"{made.rows:,}"),
        ("operations of a step", f"{made.flops_per_step:.3g} FLOP"),
        ("steps", f"{made.steps:,}"),
        ("hours", f"{made.hours:,.1f}" + (f" ({made.hours / 24:,.1f} days)" if made.hours > 72 else "")),
    ]


# ---- pack -----------------------------------------------------------------------------------------------------------

PACK_HELP = "Put the trained networks of all stages and the built-in voices into a model folder."
PACK_EXAMPLE = "Example: chelys pack --config nano/model --out runs/nano/model"


def pack(
    config: Annotated[Path, typer.Option("--config", help="YAML file: which runs, which voices.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Laid over the file, for example clips=2.")
    ] = None,
) -> None:
    """Weights first, then the voices, which those weights make of clips of the corpus."""
    from chelys.config import from_mapping
    from chelys.configs import read_config_file
    from chelys.inference.synthesizer import Synthesizer
    from chelys.training.pack import PackConfig, voice_clips
    from chelys.training.pack import pack as pack_weights

    wanted = from_mapping(PackConfig, read_config_file(config, overrides or []), where=str(config))
    pack_weights(wanted, out)
    synthesizer = Synthesizer.from_folder(out)
    folder = out / "voices"
    folder.mkdir(exist_ok=True)
    for name, speaker in wanted.voices.items():
        clips = voice_clips(wanted, speaker)
        # the decoder was trained on them, so they read for themselves
        voice = synthesizer.voice(clips, name=name, kept_seconds=wanted.kept_seconds, speaker_blend=0.0)
        voice.save(folder / f"{name}.safetensors")
    echo(str(out))


_EPILOG = f"{EXAMPLE}\n\nHow long will it take? chelys train plan --help"
#: ``train`` with ``plan`` and ``nano`` beside the stages.
app = typer.Typer(cls=StageOrPlan, help=HELP, epilog=_EPILOG)
app.command(STAGE, hidden=True, help=HELP, epilog=_EPILOG)(train)
app.command("plan", help=PLAN_HELP, epilog=PLAN_EXAMPLE)(plan)
app.command("nano", help=NANO_HELP, epilog=NANO_EXAMPLE)(train_nano)
