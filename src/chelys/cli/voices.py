"""``chelys voices``: the model's voices and the user's own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from chelys.cli.console import DeviceOption, DtypeOption, ModelOption, ThreadsOption, echo, load_model, renamed
from chelys.errors import OutputError, VoiceError
from chelys.files import atomic_path

app = typer.Typer(
    no_args_is_help=True, help="List, make and look at voices.", epilog="Example: chelys voices add me clip1.wav"
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list", help="List the model's voices and your own.", epilog="Example: chelys voices list --json")
def list_voices(model: ModelOption = "nano", as_json: JsonOption = False) -> None:
    """Every voice that ``speak -v NAME`` finds."""
    from chelys.inference.voice_library import list_user_voices

    synthesizer = load_model(model)
    built_in = synthesizer.voice_names
    found: list[tuple[str, str, str | Path]] = [(name, "built in", name) for name in built_in]
    # the model's own come first
    found += [(name, "yours", path) for name, path in list_user_voices().items() if name not in built_in]
    rows = []
    for name, kind, source in found:
        try:
            rows.append(_entry(name, kind, synthesizer.resolve_voice(source).info))
        except VoiceError as error:  # one bad file does not hide the others
            rows.append({"name": name, "kind": "unusable", "description": str(error)})
    if as_json:
        echo(json.dumps(rows, indent=2, default=str))
        return
    width = max(len(row["name"]) for row in rows) if rows else 0
    for row in rows:
        seconds = f"{row['seconds']:6.1f} s" if row.get("seconds") is not None else " " * 8
        echo(f"{row['name']:{width}}  {row['kind']:8}  {seconds}  {row.get('description') or ''}".rstrip())


@app.command(
    "add",
    cls=renamed(borrowed="speaker-blend"),
    help="Make a voice from clips of one speaker, and keep it under a name.",
    epilog="Example: chelys voices add me clip1.wav clip2.flac, then: chelys speak -v me 'Hello.'",
)
def add_voice(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it: letters, digits, '-' and '_'.")],
    clips: Annotated[list[Path], typer.Argument(metavar="CLIP", help="Recordings, or folders of them.")],
    model: ModelOption = "nano",
    speaker_blend: Annotated[
        float | None,
        typer.Option(
            "--speaker-blend",
            metavar="SHARE",
            min=0.0,
            max=1.0,
            help="Share of the default voice in the pronunciation: more is clearer, less keeps more of the speaker. "
            "[default: the model's]",
        ),
    ] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    threads: ThreadsOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace your voice of that name.")] = False,
) -> None:
    """Refuse a bad name before anything is loaded; keep the voice whole or not at all."""
    path = _new_path(name, force)
    from chelys.audio.io import clip_paths

    try:
        files = clip_paths(clips)
        refusal = None
    except VoiceError as error:
        if len(clips) > 1:
            raise
        files, refusal = [], error  # unless it is a voice in another format
    synthesizer = load_model(model, device, dtype=dtype, threads=threads)
    _check_not_built_in(name, synthesizer, model)
    latents = synthesizer.read_voice(clips[0]) if len(clips) == 1 else None
    if latents is not None:
        source = ", ".join(latents.about["sources"])
        if speaker_blend:
            raise VoiceError(f"{source} holds latents, and only a voice of clips blends: leave out --speaker-blend")
        _save(_named(latents, name), path)
        echo(f"{name}  latents of {source}  {path}")
        return
    if refusal is not None:
        raise refusal
    voice = synthesizer.voice(files, name=name, speaker_blend=speaker_blend)
    _save(voice, path)
    clips_used = f"{len(files)} clip{'s' if len(files) > 1 else ''}"
    echo(f"{name}  {voice.info['seconds']:.1f} s from {clips_used}  {path}")


@app.command(
    "random",
    help="Make a random voice and keep it.",
    epilog="Example: chelys voices random --seed 7 --save stranger, then: chelys speak -v stranger 'Hello.'",
)
def draw_random_voice(
    seed: Annotated[int | None, typer.Option("--seed", help="Which one. Default: a new one each time.")] = None,
    save: Annotated[str | None, typer.Option("--save", metavar="NAME", help="Keep it under a name.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write it as a .safetensors file.")] = None,
    model: ModelOption = "nano",
    force: Annotated[bool, typer.Option("--force", help="Replace your voice of that name.")] = False,
) -> None:
    """Refuse what cannot be kept before anything is loaded."""
    if save is None and output is None:
        raise OutputError("nowhere to keep the voice: give a name with --save NAME, or a file with -o FILE.safetensors")
    path = None if save is None else _new_path(save, force)
    if output is not None and output.suffix != ".safetensors":
        raise OutputError(f"cannot write {output}: a voice is a .safetensors file, give it that suffix")
    from chelys.inference.synthesizer import random_seed

    synthesizer = load_model(model)
    if save is not None:
        _check_not_built_in(save, synthesizer, model)
    voice = synthesizer.random_voice(random_seed() if seed is None else seed)
    if output is not None:
        voice.save(output)
        echo(f"{voice.name}  {voice.info['description']}  {output}")
    if save is not None and path is not None:
        _save(_named(voice, save), path)
        echo(f"{save}  {voice.name}, {voice.info['description']}  {path}")


@app.command("info", help="Show the metadata of a voice.", epilog="Example: chelys voices info heart")
def show_voice(
    voice: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A voice's name, or its .safetensors file.")],
    model: ModelOption = "nano",
    as_json: JsonOption = False,
) -> None:
    """Print what the voice file says of the voice."""
    info: dict[str, Any] = load_model(model).resolve_voice(voice).info
    if as_json:
        echo(json.dumps(info, indent=2, default=str))
        return
    for key, value in info.items():
        shown = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
        echo(f"{key:12} {shown}")


def _entry(name: str, kind: str, info: dict[str, Any]) -> dict[str, Any]:
    return {"kind": kind, **info, "name": name}


def _named(voice: Any, name: str) -> Any:
    """The same voice under another name; ``origin`` is its old one."""
    return replace(voice, about={**voice.about, "name": name, "origin": voice.name})


def _new_path(name: str, force: bool) -> Path:
    """File of a new voice of the user's, if the name is allowed and free."""
    from chelys.inference.voice_library import ALLOWED_NAMES, user_voice_path, valid_name

    if not valid_name(name):
        raise VoiceError(f"a voice cannot be called {name!r}: choose {ALLOWED_NAMES}")
    path = user_voice_path(name)
    if path.exists() and not force:
        raise VoiceError(f"you already have a voice {name!r} ({path}): choose another name, or replace it with --force")
    return path


def _check_not_built_in(name: str, synthesizer: Any, model: str) -> None:
    if name in synthesizer.voice_names:
        raise VoiceError(f"{name!r} is a built-in voice of {model}: choose another name")


def _save(voice: Any, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path, suffix=".safetensors") as partial:
            voice.save(partial)
    except OSError as error:
        raise OutputError(f"cannot keep the voice as {path}: {error.strerror or error}; set CHELYS_VOICES") from error
