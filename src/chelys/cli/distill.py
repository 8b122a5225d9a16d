"""``chelys distill``: a model that speaks in few diffusion steps, taught by its own guided many."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chelys.cli.console import DeviceOption, DtypeOption, ModelOption, ThreadsOption, echo, load_model, progress_bar
from chelys.cli.train import training_bar
from chelys.errors import ConfigError, OutputError, TextError

if TYPE_CHECKING:
    from chelys.inference.synthesizer import Synthesizer
    from chelys.inference.voice import Voice

HELP = (
    "Teach a model's diffusion decoder to give in a few steps of one pass each what it gives in many guided ones. The "
    "result is a model folder; what was made so far is kept in OUT.work, and goes on with the same command."
)
EXAMPLE = "Example: chelys distill sentences.txt --model my-model --out my-fast-model sentences=2000"


def distill(
    texts: Annotated[Path, typer.Argument(metavar="TEXTS", help="File of sentences to learn from, one a line.")],
    out: Annotated[Path, typer.Option("--out", help="Model folder to write.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="A setting, for example steps=4 or sentences=500.")
    ] = None,
    model: ModelOption = "nano",
    voices: Annotated[
        list[Path] | None,
        typer.Option("--voices", metavar="PATH", help="Further voices beside the built-in ones, as many of the "
                     "sentences: a clip or voice file, or a folder in which each is of one; may be repeated."),
    ] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    threads: ThreadsOption = None,
) -> None:  # fmt: skip
    """Make the trajectories, train, write the folder."""
    if out.exists():
        raise OutputError(f"{out} exists: choose another folder with --out, or remove it")
    from chelys.config import from_mapping
    from chelys.inference.trajectories import make_trajectories
    from chelys.training import distillation

    known = [field.name for field in fields(distillation.DistillationConfig)]
    values: dict[str, Any] = {"device": device, "precision": dtype, "threads": threads or 0}
    for override in overrides or []:
        key, equals, value = override.partition("=")
        if not equals or key not in known:
            raise ConfigError(f"{override!r} is no setting: write KEY=VALUE with one of {', '.join(known)}")
        values[key] = value
    config = from_mapping(distillation.DistillationConfig, values, where="KEY=VALUE")
    lines = _lines(texts)
    tts = load_model(model, config.device, threads=config.threads, brief=False)
    speakers = _speakers(tts, voices or [])
    work = out.with_name(f"{out.name}.work")
    with progress_bar() as progress:
        paths = make_trajectories(
            tts, lines, speakers, work / "trajectories", sentences=config.sentences, kept=config.steps,
            steps=config.teacher_steps, guidance=config.guidance, seed=config.seed, progress=progress,
        )  # fmt: skip
    with training_bar("distillation", shown=sys.stderr is not None and sys.stderr.isatty()) as bar:
        adapters = distillation.distill(tts.model, paths, work / "run", config, bar)
    distillation.write_distilled(tts.model, adapters, config, out)
    echo(str(out))


def _lines(path: Path) -> list[str]:
    """The sentences of a file. Raises TextError if there are none, or it cannot be read."""
    from chelys.files import read_text

    try:
        lines = [line.strip() for line in read_text(path, 1 << 26).splitlines()]
    except (OSError, ValueError) as error:
        raise TextError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if not any(lines):
        raise TextError(f"{path} holds no sentences: write one a line")
    return [line for line in lines if line]


def _speakers(tts: Synthesizer, paths: list[Path]) -> list[Voice]:
    """The built-in voices and the further ones; the built-in ones again and again, so that each kind has half."""
    own = [tts.resolve_voice(name) for name in tts.voice_names]
    files = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    others = [tts.resolve_voice(file) for file in files if not file.name.startswith(".")]
    if not own + others:
        raise ConfigError("the model has no voices of its own: give some with --voices")
    return own * max(1, round(len(others) / max(1, len(own)))) + others
