"""``chelys convert`` and ``chelys detect``: TorToise v2's published files to a model folder and back; what it made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from chelys.cli.console import DeviceOption, QuietOption, ThreadsOption, echo, progress_bar
from chelys.errors import UserError
from chelys.machine import set_threads

CONVERT_HELP = "Make a model folder of TorToise v2's .pth files; or, given such a model folder, the .pth files again."
CONVERT_EXAMPLE = (
    "Example: chelys convert ~/Downloads/tortoise models/tortoise && chelys speak Hello. --model models/tortoise"
)


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
    quiet: QuietOption = False,
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


# ---- detect ---------------------------------------------------------------------------------------------------------

DETECT_HELP = "Tell how likely TorToise made a recording."
DETECT_EXAMPLE = "Example: chelys detect suspicious.wav --model tortoise-v2"

_COMPAT = ("repaired", "reference")


def detect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The recording: wav, flac, ogg or mp3.")],
    model: Annotated[
        str, typer.Option("--model", help="Name or folder of the model with the detector.")
    ] = "tortoise-v2",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    compat: Annotated[
        str, typer.Option("--compat", help="repaired: the whole recording; reference: the first 9.2 s, as TorToise.")
    ] = "repaired",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with the answer for each window.")] = False,
) -> None:
    """Read the file before the model, which takes longer."""
    if compat not in _COMPAT:
        raise UserError(f"unknown --compat {compat!r}: choose {' or '.join(_COMPAT)}")
    from chelys.audio.io import read
    from chelys.audio.rates import OUTPUT_RATE
    from chelys.tortoise.mel import read_published

    reference = compat == "reference"
    waveform = (read_published if reference else read)(file, OUTPUT_RATE)
    from chelys.tortoise.detector import detect as listen
    from chelys.tortoise.detector import load_detector
    from chelys.weights.catalog import find_model
    from chelys.weights.checks import place

    set_threads(threads)
    network = load_detector(find_model(model), device=place(device, None)[0])
    windows = listen(network, waveform, reference=reference)
    probability = sum(window.probability for window in windows) / len(windows)
    if as_json:
        parts = [{key: round(value, 4) for key, value in vars(window).items()} for window in windows]
        answer = {"file": str(file), "model": model, "compat": compat, "probability": round(probability, 4)}
        echo(json.dumps({**answer, "seconds": round(len(waveform) / OUTPUT_RATE, 3), "windows": parts}, indent=2))
    else:
        echo(f"{file}  {probability:.1%} likely made by TorToise  ({windows[-1].end_s:.1f} s analysed)")
