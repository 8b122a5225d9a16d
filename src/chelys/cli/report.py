"""``chelys data report``: what became of recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chelys.cli.console import tell

HELP = "Show what became of recordings: one HTML page (report.html) and the data section of a model card."
EXAMPLE = "Example: chelys data report corpus --references transcripts.txt"


def report(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder that 'chelys data prepare' wrote.")],
    references: Annotated[
        Path | None, typer.Option("--references", help="Given transcripts, a line 'name: text' each, or JSONL.")
    ] = None,
    clips: Annotated[int, typer.Option("--clips", min=0, help="How many clips to listen to, drawn at random.")] = 20,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same clips.")] = 1,
) -> None:
    """Write them."""
    from chelys.data.prepare.report import write_report

    made = write_report(out, references=references, clips=clips, seed=seed)
    if found := made.summary.errors:
        tell(f"word error rate {found.kept.rate:.3f} of kept clips, {found.all.rate:.3f} of all recordings", error=True)
    tell(str(made.page))
    tell(str(made.card))
