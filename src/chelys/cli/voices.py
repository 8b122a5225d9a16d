"""``chelys voices``: the model's voices and the user's own."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from chelys.cli.console import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    PresetOption,
    ThreadsOption,
    complete_own_voices,
    complete_voices,
    echo,
    load_model,
    progress_bar,
    renamed,
    warn,
)
from chelys.errors import OutputError, VoiceError
from chelys.files import atomic_path, output_errors, refuse_existing, write_bytes

PREVIEW_TEXT = "The tortoise was slow. But she was never late, and she knew the way."

app = typer.Typer(
    no_args_is_help=True, help="List, make and look at voices.", epilog="Example: chelys voices add me clip1.wav"
)

ForceOption = Annotated[bool, typer.Option("--force", help="Replace what exists.")]
NewNameArgument = Annotated[str, typer.Argument(metavar="NAME", help="What to call it: letters, digits, '-' and '_'.")]
VoiceArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME|FILE", help="A voice's name, its .safetensors file, or a mix.", autocompletion=complete_voices
    ),
]


@app.command("list", help="List the model's voices and your own.", epilog="Example: chelys voices list --json")
def list_voices(model: ModelOption = "nano", as_json: JsonOption = False) -> None:
    """Every voice that ``speak -v NAME`` finds; neither the model nor torch is loaded."""
    from chelys.inference import voice_files
    from chelys.weights.catalog import find_model

    rows = voice_files.list_voices(find_model(model))
    if as_json:
        echo(json.dumps(rows, indent=2, default=str))
        return
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        default = "  (default)" if row["default"] else ""
        echo(f"{row['name']:{width}}  {row['kind']:8}  {voice_files.describe(row)}{default}")


@app.command(
    "add",
    cls=renamed(borrowed="speaker-blend"),
    help="Make a voice from clips of one speaker, and keep it under a name.",
    epilog="Example: chelys voices add me clip1.wav clip2.flac, then: chelys speak -v me 'Hello.'",
)
def add_voice(
    name: NewNameArgument,
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
    force: ForceOption = False,
) -> None:
    """Refuse a bad name before anything is loaded; keep the voice whole or not at all."""
    path = _new_path(name, force, model)
    from chelys.audio.io import clip_paths, read, read_clips, resample

    try:
        files = clip_paths(clips)
        refusal = None
    except VoiceError as error:
        if len(clips) > 1:
            raise
        files, refusal = [], error  # unless it is a voice in another format
    synthesizer = load_model(model, device, dtype=dtype, threads=threads)
    if len(clips) == 1 and clips[0].suffix == ".safetensors":  # a voice that was exported
        voice = synthesizer.resolve_voice(clips[0])
        _save(_named(voice, name), path)
        echo(f"{name}  {voice.name} of {clips[0]}  {path}")
        return
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
    rate = synthesizer.family.clip_rate
    recordings = list(zip([file.name for file in files], read_clips(files, rate, reader=read), strict=True))
    voice = synthesizer.voice(recordings, sample_rate=rate, name=name, speaker_blend=speaker_blend)
    _save(voice, path)
    from chelys.data.voice_check import MOST_SECONDS, RATE, check_clips

    shortened = ((clip, audio[: int(MOST_SECONDS * rate)]) for clip, audio in recordings)
    for line in check_clips([(clip, resample(audio, rate, RATE)) for clip, audio in shortened]).faults():
        warn(line)
    clips_used = f"{len(files)} clip{'s' if len(files) > 1 else ''}"
    echo(f"{name}  {voice.info['seconds']:.1f} s from {clips_used}  {path}")


@app.command(
    "check",
    help="Say whether recordings are fit to make a voice of, and what to do; exit status 1 if they are not.",
    epilog="Example: chelys voices check clip1.wav clip2.flac",
)
def check_recordings(
    clips: Annotated[list[Path], typer.Argument(metavar="CLIP", help="Recordings, or folders of them.")],
    as_json: JsonOption = False,
) -> None:
    """The measurements of 'data prepare', in plain words."""
    from chelys.audio.io import clip_paths
    from chelys.data.voice_check import check_files

    found = check_files(clip_paths(clips))
    echo(json.dumps(found.to_json(), indent=2) if as_json else "\n".join(found.lines()))
    raise typer.Exit(0 if found.good else 1)


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
    force: ForceOption = False,
) -> None:
    """Refuse what cannot be kept before anything is loaded."""
    if save is None and output is None:
        raise OutputError("nowhere to keep the voice: give a name with --save NAME, or a file with -o FILE.safetensors")
    path = None if save is None else _new_path(save, force, model)
    if output is not None:
        _check_voice_output(output, force)
    from chelys.inference.synthesizer import random_seed

    synthesizer = load_model(model)
    voice = synthesizer.random_voice(random_seed() if seed is None else seed)
    if output is not None:
        voice.save(output)
        echo(f"{voice.name}  {voice.info['description']}  {output}")
    if save is not None and path is not None:
        _save(_named(voice, save), path)
        echo(f"{save}  {voice.name}, {voice.info['description']}  {path}")


@app.command(
    "mix",
    help="Keep a mix of voices under a name.",
    epilog="Example: chelys voices mix calm heart:0.7+rowan:0.3, then: chelys speak -v calm 'Hello.'",
)
def mix_voices(
    name: NewNameArgument,
    recipe: Annotated[str, typer.Argument(metavar="MIX", help="Voices with their weights: 'heart:0.7+rowan:0.3'.")],
    model: ModelOption = "nano",
    force: ForceOption = False,
) -> None:
    """The mix as ``speak -v`` makes it."""
    path = _new_path(name, force, model)
    voice = load_model(model).resolve_voice(recipe)
    _save(_named(voice, name), path)
    echo(f"{name}  {voice.name}  {path}")


@app.command("remove", help="Remove voices of your own.", epilog="Example: chelys voices remove me")
def remove_voices(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME", help="Your voices to remove.", autocompletion=complete_own_voices)
    ],
) -> None:
    """All of them or, if one is unknown, none."""
    paths = [_own_path(name) for name in names]
    for name, path in zip(names, paths, strict=True):
        with output_errors(path):
            path.unlink()
        echo(f"{name}  removed  {path}")


@app.command(
    "rename", help="Give a voice of your own another name.", epilog="Example: chelys voices rename me narrator"
)
def rename_voice(
    old: Annotated[str, typer.Argument(metavar="OLD", help="Your voice.", autocompletion=complete_own_voices)],
    name: NewNameArgument,
    model: ModelOption = "nano",
    force: ForceOption = False,
) -> None:
    """The new file first, so that nothing is lost if it cannot be written."""
    from chelys.inference.voice import Voice

    source = _own_path(old)
    path = _new_path(name, force, model)
    voice = Voice.load(source)
    _save(replace(voice, about={**voice.about, "name": name}), path)
    if source != path:
        with output_errors(source):
            source.unlink()
    echo(f"{name}  was {old}  {path}")


@app.command(
    "export",
    help="Write any voice as a file of its own, which 'voices add' takes elsewhere.",
    epilog="Example: chelys voices export me -o me.safetensors",
)
def export_voice(
    voice: VoiceArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The .safetensors file. [default: NAME.safetensors]")
    ] = None,
    model: ModelOption = "nano",
    force: ForceOption = False,
) -> None:
    """A file of the user's or the model's as it is; what must be made first, by the model."""
    file = _voice_file(voice, model)
    if output is None and file is None:
        raise OutputError(f"{voice!r} is no name of a voice: say with -o FILE.safetensors where to write it")
    output = output or Path(f"{voice if file is None else file.stem}.safetensors")
    _check_voice_output(output, force)
    if file is None:
        load_model(model).resolve_voice(voice).save(output)
    else:
        with output_errors(output):
            write_bytes(output, file.read_bytes())
    echo(f"{voice}  {output}")


@app.command(
    "preview",
    help="Speak a sentence in each of some voices, into NAME.wav.",
    epilog="Example: chelys voices preview heart rowan me --to previews",
)
def preview_voices(
    names: Annotated[
        list[str], typer.Argument(metavar="VOICE", help="Voices as for 'speak -v'.", autocompletion=complete_voices)
    ],
    folder: Annotated[Path, typer.Option("--to", help="An existing folder.")] = Path("."),
    text: Annotated[str, typer.Option("--text", help="What to say.")] = PREVIEW_TEXT,
    preset: PresetOption = "fast",
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="The same for all of them.")] = 1,
    model: ModelOption = "nano",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    threads: ThreadsOption = None,
    force: ForceOption = False,
) -> None:
    """All files are checked before the model is loaded."""
    from chelys.audio.io import check_output

    files = {name: folder / f"{_file_stem(name)}.wav" for name in names}
    for file in files.values():
        check_output(file)
        if not force:
            refuse_existing(file)
    synthesizer = load_model(model, device, dtype=dtype, threads=threads)
    voices = {name: synthesizer.resolve_voice(name, seed=seed) for name in names}
    for name, file in files.items():
        with progress_bar() as progress:
            speech = synthesizer.speak(text, voice=voices[name], preset=preset, seed=seed, progress=progress)
        speech.save(file)
        echo(f"{name}  {file}  {speech.seconds:.2f} s")


@app.command("info", help="Show the metadata of a voice.", epilog="Example: chelys voices info heart")
def show_voice(voice: VoiceArgument, model: ModelOption = "nano", as_json: JsonOption = False) -> None:
    """What the voice's file says of it; of a mix or of clips, what the model makes of them."""
    from chelys.inference.voice_files import read_about

    file = _voice_file(voice, model)
    info: dict[str, Any] = load_model(model).resolve_voice(voice).info if file is None else read_about(file)
    if as_json:
        echo(json.dumps(info, indent=2, default=str))
        return
    for key, value in info.items():
        shown = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
        echo(f"{key:12} {' '.join(str(shown).split())}")


def _named(voice: Any, name: str) -> Any:
    """The same voice under another name; ``origin`` is its old one."""
    return replace(voice, about={**voice.about, "name": name, "origin": voice.name})


def _new_path(name: str, force: bool, model: str) -> Path:
    """File of a new voice of the user's, if the name is allowed and free."""
    from chelys.inference.voice_files import ALLOWED_NAMES, user_voice_path, valid_name

    if not valid_name(name):
        raise VoiceError(f"a voice cannot be called {name!r}: choose {ALLOWED_NAMES}")
    if name in _built_in(model):
        raise VoiceError(f"{name!r} is a built-in voice of {model}: choose another name")
    path = user_voice_path(name)
    if path.exists() and not force:
        raise VoiceError(f"you already have a voice {name!r} ({path}): choose another name, or replace it with --force")
    return path


def _built_in(model: str) -> dict[str, Path]:
    from chelys.inference.voice_files import built_in_voices
    from chelys.weights.catalog import find_model

    return built_in_voices(find_model(model))


def _own_path(name: str) -> Path:
    from chelys.inference.voice_files import find_user_voice, list_user_voices

    path = find_user_voice(name)
    if path is None:
        yours = ", ".join(list_user_voices()) or "you have none"
        raise VoiceError(f"you have no voice {name!r}: choose from your own ({yours})")
    return path


def _voice_file(voice: str, model: str) -> Path | None:
    """The file of a voice that is one; None for a mix, a random voice or clips."""
    from chelys.inference.voice_files import SUFFIX, find_user_voice

    path = _built_in(model).get(voice) or find_user_voice(voice)
    return Path(voice) if path is None and voice.endswith(SUFFIX) else path


def _file_stem(voice: str) -> str:
    """What to call a file of a voice's sound: its name, or the last part of a path; a mix keeps letters and digits."""
    stem = Path(voice).stem if Path(voice).exists() else voice
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-.")[:64] or "voice"


def _check_voice_output(output: Path, force: bool) -> None:
    if output.suffix != ".safetensors":
        raise OutputError(f"cannot write {output}: a voice is a .safetensors file, give it that suffix")
    if not force:
        refuse_existing(output)


def _save(voice: Any, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path, suffix=".safetensors") as partial:
            voice.save(partial)
    except OSError as error:
        raise OutputError(f"cannot keep the voice as {path}: {error.strerror or error}; set CHELYS_VOICES") from error
