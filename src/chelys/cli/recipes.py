"""``chelys data recipe`` and ``chelys data check``: manifests of corpora, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chelys.cli.console import WorkersOption, counting, echo, progress_bar
from chelys.errors import UserError

RECIPE_HELP = (
    "Write the manifest of a corpus: ljspeech, libritts, hifitts, vctk, common-voice, a folder of clips (folder), or "
    "sentences for a teacher to speak (synthetic). Audio stays where it is."
)
RECIPE_EXAMPLE = "Example: chelys data recipe ljspeech LJSpeech-1.1 lj/manifest.jsonl"


def recipe(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The corpus.")],
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Its folder; for synthetic, a file of sentences.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Manifest to write (*.jsonl), or a folder for it.")],
    licence: Annotated[str | None, typer.Option("--licence", help="Of a folder of clips, to be noted.")] = None,
) -> None:
    """Write it, and print what was left out."""
    from chelys.data.recipes.corpora import CORPORA, make_manifest

    if name == "synthetic":
        _speak(source, out)
        return
    if name not in CORPORA:
        raise UserError(f"unknown recipe {name!r}: choose from {', '.join(CORPORA)}, synthetic")
    with progress_bar() as update:
        made = make_manifest(name, source, out, licence=licence, progress=counting(update, "clips"))
    echo(made.line(source), error=True)
    echo(str(made.manifest))


def _speak(source: Path, out: Path) -> None:
    """Let hibari speak each sentence of a file; 'chelys data make synthetic' has more options."""
    from chelys.data.recipes.synthetic import SyntheticRecipe, make, read_sentences

    clips = len(read_sentences(source))
    with progress_bar() as update:
        echo(str(make(SyntheticRecipe(out=out, clips=clips, text=source), progress=counting(update, "blocks"))))


CHECK_HELP = (
    "Check a manifest and every clip in it. The bad ones are counted on standard output and listed in a file; "
    "the exit status is 1 if there are any."
)
CHECK_EXAMPLE = "Example: chelys data check lj/manifest.jsonl --fix lj/good.jsonl"


def check(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="JSONL manifest.")],
    fix: Annotated[Path | None, typer.Option("--fix", help="Write a manifest without the bad clips.")] = None,
    bad: Annotated[
        Path | None, typer.Option("--list", help="Where to list the bad clips; default: MANIFEST's name, .bad.jsonl.")
    ] = None,
    allow: Annotated[
        list[str] | None, typer.Option("--allow", help="A kind of fault to ignore, such as 'repeated text'.")
    ] = None,
    min_seconds: Annotated[float, typer.Option("--min-seconds", help="Seconds of the shortest clip.")] = 0.6,
    max_seconds: Annotated[float, typer.Option("--max-seconds", help="Seconds of the longest clip.")] = 20.0,
    rate: Annotated[int, typer.Option("--rate", help="Lowest sample rate, Hz.")] = 22_050,
    workers: WorkersOption = None,
) -> None:
    """Check it."""
    from chelys.data.check import KINDS, CheckLimits, check

    limits = CheckLimits(min_seconds=min_seconds, max_seconds=max_seconds, rate=rate, allowed=frozenset(allow or ()))
    with progress_bar() as update:
        checked = check(manifest, limits, workers=workers, progress=counting(update, "files"))
    listed = bad or manifest.with_suffix(".bad.jsonl")
    checked.write_bad(listed)
    for kind, count in checked.counts().items():
        echo(f"{count:8d}  {kind:<15} {KINDS[kind]}")
    good = len(checked.lines) - len(checked.bad)
    echo(f"{good:8d}  of {len(checked.lines)} clips are good")
    if checked.bad:
        echo(f"the bad ones are listed in {listed}", error=True)
    if fix is not None:
        checked.write_good(fix)
    if checked.bad:
        raise typer.Exit(1)
