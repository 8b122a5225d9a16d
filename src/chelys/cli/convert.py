"""``chelys convert``: TorToise v2's published files to a model folder, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chelys.cli.console import echo, progress_bar
from chelys.errors import UserError

HELP = "Make a model folder of TorToise v2's .pth files; or, given such a model folder, the .pth files again."
EXAMPLE = "Example: chelys convert ~/Downloads/tortoise models/tortoise && chelys speak Hello. --model models/tortoise"


def convert(
    source: Annotated[
        Path,
        typer.Argument(metavar="SRC", help="Folder that has autoregressive.pth and the others, itself or in .models."),
    ],
    target: Annotated[
        Path,
        typer.Argument(metavar="DST", help="Folder to write: new, empty, or left by a conversion that was stopped."),
    ],
    dtype: Annotated[
        str,
        typer.Option("--dtype", help="Of the weights on disk: float32 (exact), float16 or bfloat16 (half as large)."),
    ] = "float32",
    weight_norm: Annotated[
        str, typer.Option("--weight-norm", help="keep the vocoder's kernels as they are published, or fold them.")
    ] = "keep",
    without: Annotated[
        str, typer.Option("--without", metavar="NAMES", help="Optional networks to leave out, with commas: cvvp,dvae.")
    ] = "",
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing but warnings and errors.")] = False,
) -> None:
    """The folder tells which way: one that has a config.json is a model."""
    if weight_norm not in ("keep", "fold"):
        raise UserError(f"unknown weight norm {weight_norm!r}: choose keep or fold")
    left_out = [name for name in without.split(",") if name]
    from chelys.tortoise.convert import convert as to_folder
    from chelys.tortoise.convert import export, find_checkpoints
    from chelys.weights.checks import gigabytes
    from chelys.weights.folder import CONFIG_FILE

    source, target = source.expanduser(), target.expanduser()
    with progress_bar(quiet=quiet) as progress:
        if (source / CONFIG_FILE).is_file():
            if left_out or weight_norm != "keep":
                raise UserError(f"{source} is a model folder already: --without and --weight-norm are for .pth files")
            files = export(source, target, dtype=dtype, progress=progress)
        else:
            found = find_checkpoints(source, left_out)
            config = to_folder(found, target, dtype=dtype, weight_norm=weight_norm, progress=progress)  # type: ignore[arg-type]
            files = [target / name for name in config.hashes]
    if not quiet:
        size = sum(file.stat().st_size for file in files)
        echo(f"{target}  {len(files)} files, {gigabytes(size)}")
