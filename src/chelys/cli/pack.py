"""``chelys pack``: the runs of all stages to a model folder that speaks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chelys.cli.console import echo

HELP = "Put the trained networks of all stages and the built-in voices into a model folder."
EXAMPLE = "Example: chelys pack --config nano/model --out runs/nano/model"


def pack(
    config: Annotated[Path, typer.Option("--config", help="YAML file: which runs, which voices.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Laid over the file, for example clips=2.")
    ] = None,
) -> None:
    """Weights first, then the voices, which those weights make of clips of the corpus."""
    from chelys.config import from_mapping, read_config_file
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
