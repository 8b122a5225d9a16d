"""``chelys data prepare``: from a folder of recordings to training shards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chelys.cli.console import progress_bar, tell
from chelys.errors import ConfigError

if TYPE_CHECKING:
    from chelys.data.prepare.engine import Engine

HELP = "Cut, measure, filter, transcribe and pack recordings; an interrupted run goes on where it stopped."
EXAMPLE = "Example: chelys data prepare recordings corpus transcribe.model=small --only segment --only measure"


class EngineName(str, Enum):
    """Who does the work."""

    local = "local"
    ray = "ray"


def prepare(
    raw: Annotated[Path, typer.Argument(metavar="RAW", help="Folder of recordings; what lies deeper is found too.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; what is done in it is not done again.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Settings, laid over the file, for example segment.cut.pause=0.4."),
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="YAML file of settings.")] = None,
    rules: Annotated[Path | None, typer.Option("--rules", help="YAML file of the rules that drop clips.")] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", help="Of recordings of which no about.yaml says anything.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="A stage to do; may be given several times. Default: all.")
    ] = None,
    engine: Annotated[
        EngineName, typer.Option("--engine", help="local: processes here; ray: a cluster.")
    ] = EngineName.local,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes; default one for each core.")
    ] = None,
    address: Annotated[str | None, typer.Option("--address", help="Of the Ray cluster.")] = None,
) -> None:
    """Hand it over to the pipeline."""
    from chelys.config import from_mapping, read_config_file
    from chelys.data.prepare.pipeline import PrepareSettings
    from chelys.data.prepare.pipeline import prepare as run

    values = read_settings(config, overrides or [], read_config_file)
    if rules is not None:
        values["rules"] = str(rules)
    if licence is not None:
        values.setdefault("about", {})["licence"] = licence
    settings = from_mapping(PrepareSettings, values, where=str(config or "settings"))
    with progress_bar() as update, _engine(engine, workers, address) as who:
        summary = run(raw, out, settings, only=only or (), engine=who, progress=update)
    tell(
        f"{summary.kept} of {summary.clips} clips kept, {summary.hours:.2f} h, of {summary.recordings} recordings"
        f" ({summary.unreadable} unreadable): {out / 'manifest.jsonl'}"
    )
    for reason, count in summary.failed.items():
        tell(f"failed, to be tried again by the next run: {count} times {reason}", error=True)


def read_settings(config: Path | None, overrides: list[str], read: Any) -> dict[str, Any]:
    """A settings file with overrides laid over it; the file may be missing from the command line."""
    for override in overrides:
        if "=" not in override:
            raise ConfigError(f"{override!r} is not KEY=VALUE: write for example transcribe.model=small")
    if config is not None:
        return read(config, overrides)
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "settings.yaml"
        empty.write_text("{}")
        return read(empty, overrides)


@contextmanager
def _engine(name: EngineName, workers: int | None, address: str | None) -> Iterator[Engine]:
    if name is EngineName.ray:
        from chelys.data.prepare.engine import Ray

        with Ray(address, workers) as cluster:
            yield cluster
        return
    from chelys.data.prepare.engine import Local

    with Local(workers or os.cpu_count() or 1) as local:
        yield local
