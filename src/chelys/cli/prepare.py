"""``chelys data prepare`` and ``chelys data report``: recordings to training shards, and a report of them."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from chelys.cli.console import WorkersOption, echo, progress_bar
from chelys.errors import ConfigError
from chelys.machine import available_cores

HELP = "Cut, measure, filter, transcribe and pack recordings; an interrupted run continues where it stopped."
EXAMPLE = "Example: chelys data prepare recordings corpus transcribe.model=small --only segment --only measure"


class EngineName(str, Enum):
    """What does the work."""

    local = "local"
    ray = "ray"


def prepare(
    raw: Annotated[Path, typer.Argument(metavar="RAW", help="Folder of recordings; subfolders are searched too.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; finished work in it is not repeated.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Settings, applied after the file: segment.segmenter.min_silence=0.4"),
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="YAML file of settings.")] = None,
    rules: Annotated[Path | None, typer.Option("--rules", help="YAML file of the rules that drop clips.")] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", help="Of recordings of which no about.yaml says anything.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="A stage to do; may be given several times. Default: all.")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="Of the transcriber and the VQ-VAE: cpu, cuda. Default: see docs.")
    ] = None,
    engine: Annotated[
        EngineName, typer.Option("--engine", help="local: processes on this machine; ray: a cluster.")
    ] = EngineName.local,
    workers: WorkersOption = None,
    address: Annotated[str | None, typer.Option("--address", help="Of the Ray cluster.")] = None,
) -> None:
    from chelys.config import from_mapping
    from chelys.data.prepare.engine import Local, Ray
    from chelys.data.prepare.pipeline import PrepareSettings
    from chelys.data.prepare.pipeline import prepare as run

    values = _read_settings(config, overrides or [])
    if rules is not None:
        values["rules"] = str(rules)
    if licence is not None:
        values.setdefault("about", {})["licence"] = licence
    if device is not None:
        values["device"] = device
        values.setdefault("transcribe", {})["device"] = device.partition(":")[0]
    settings = from_mapping(PrepareSettings, values, where=str(config or "settings"))
    chosen: Local | Ray
    chosen = Ray(address, workers) if engine is EngineName.ray else Local(workers or available_cores())
    with progress_bar() as update, chosen:
        summary = run(raw, out, settings, only=only or (), engine=chosen, progress=update)
    echo(
        f"{summary.kept} of {summary.clips} clips kept, {summary.hours:.2f} h, of {summary.recordings} recordings"
        f" ({summary.unreadable} unreadable): {out / 'manifest.jsonl'}"
    )
    for reason, count in summary.failed.items():
        echo(f"failed, to be tried again by the next run: {count} times {reason}", error=True)


def _read_settings(config: Path | None, overrides: list[str]) -> dict[str, Any]:
    """A settings file with overrides applied; there need not be a file."""
    import tempfile

    from chelys.configs import read_config_file

    for override in overrides:
        if "=" not in override:
            raise ConfigError(f"{override!r} is not KEY=VALUE: write for example transcribe.model=small")
    if config is not None:
        return read_config_file(config, overrides)
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "settings.yaml"
        empty.write_text("{}")
        return read_config_file(empty, overrides)


REPORT_HELP = "Show what became of recordings: one HTML page (report.html) and the data section of a model card."
REPORT_EXAMPLE = "Example: chelys data report corpus --references transcripts.txt"


def report(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder that 'chelys data prepare' wrote.")],
    references: Annotated[
        Path | None, typer.Option("--references", help="Reference transcripts, a line 'name: text' each, or JSONL.")
    ] = None,
    clips: Annotated[int, typer.Option("--clips", min=0, help="How many random clips to put into the page.")] = 20,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same clips.")] = 1,
) -> None:
    from chelys.data.prepare.report import write_report

    made = write_report(out, references=references, clips=clips, seed=seed)
    if found := made.summary.errors:
        echo(f"word error rate {found.kept.rate:.3f} of kept clips, {found.all.rate:.3f} of all recordings", error=True)
    echo(str(made.page))
    echo(str(made.card))
