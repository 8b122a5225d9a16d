"""``chelys detect``: did TorToise make this file?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from chelys.cli.console import DeviceOption, echo
from chelys.errors import UserError

HELP = "Tell how likely TorToise made a recording."
EXAMPLE = "Example: chelys detect suspicious.wav --model tortoise-v2"

_COMPAT = ("repaired", "reference")


def detect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The recording: wav, flac, ogg or mp3.")],
    model: Annotated[
        str, typer.Option("--model", help="Name or folder of the model with the detector.")
    ] = "tortoise-v2",
    device: DeviceOption = "cpu",
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

    network = load_detector(find_model(model), device=place(device, None)[0])
    windows = listen(network, waveform, reference=reference)
    probability = sum(window.probability for window in windows) / len(windows)
    if as_json:
        parts = [{key: round(value, 4) for key, value in vars(window).items()} for window in windows]
        answer = {"file": str(file), "model": model, "compat": compat, "probability": round(probability, 4)}
        echo(json.dumps({**answer, "seconds": round(len(waveform) / OUTPUT_RATE, 3), "windows": parts}, indent=2))
    else:
        echo(f"{file}  {probability:.1%} likely made by TorToise  ({windows[-1].end_s:.1f} s analysed)")
