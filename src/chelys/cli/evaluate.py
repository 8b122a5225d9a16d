"""``chelys eval``: how good a model's speech is, or any folder of speech."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import chelys
from chelys.cli.console import (
    DeviceOption,
    DtypeOption,
    PresetOption,
    QuietOption,
    ThreadsOption,
    complete_models,
    complete_voices,
    counting,
    echo,
    load_model,
    progress_bar,
    warn,
)
from chelys.errors import OutputError, UserError
from chelys.files import digest, json_line, write_json, write_json_lines

if TYPE_CHECKING:
    from chelys.evaluation.speaking import JudgedClip

HELP = "Judge a model's speech, or a folder of finished audio: words, voice, naturalness, diseases, speed."
EXAMPLE = "Example: chelys eval nano -o eval/nano, then: chelys eval my-model -o eval/mine --against eval/nano"

ROWS, SUMMARY, PAGE, REQUEST = "clips.jsonl", "summary.json", "report.html", "request.json"


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|AUDIO",
            help="A model; or a folder of audio with list.jsonl or a text file beside each clip.",
            autocompletion=complete_models,
        ),
    ] = "nano",
    texts: Annotated[
        str,
        typer.Option(
            "--texts", help="harvard (20 sentences), hard (200), long, a file of a text a line, or a .jsonl of clips."
        ),
    ] = "harvard",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first texts.")] = None,
    voices: Annotated[
        list[str] | None,
        typer.Option(
            "-v",
            "--voice",
            autocompletion=complete_voices,
            help="As for 'speak'; may be repeated. Default: the model's own default.",
        ),
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for audio, rows, summary and page.")] = Path(
        "eval"
    ),
    measures: Annotated[
        str | None,
        typer.Option(
            "--measures",
            help="words, voice, naturalness, noise, clvp, copy, with commas between. Default: all that can be.",
        ),
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="FOLDER", help="Output of an earlier run, to compare with.")
    ] = None,
    recordings: Annotated[
        Path | None,
        typer.Option("--recordings", metavar="FOLDER", help="Recorded speech, for the CLVP Fréchet distance from it."),
    ] = None,
    preset: PresetOption = "fast",
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change an option of the preset: --set candidates=1."),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=2**31, help="Of the first text; the next has the next.")
    ] = 1,
    whisper: Annotated[
        str, typer.Option("--whisper", help="Model of faster-whisper that hears words: a name, or a folder.")
    ] = "base",
    clvp: Annotated[
        str, typer.Option("--clvp", help="Model whose CLVP and VQ-VAE score.", autocompletion=complete_models)
    ] = "nano",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    threads: ThreadsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON in place of the table.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what another request left in the folder.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Speak what is not spoken yet, measure what is not measured yet, show all of it."""
    from chelys.evaluation import measures as measuring
    from chelys.evaluation import results
    from chelys.evaluation.sets import read_texts
    from chelys.evaluation.speaking import kept_lines, listed_texts, read_clips, speak_texts
    from chelys.inference.options import parse_options
    from chelys.machine import set_threads

    other = _rows_of(against) if against is not None else None
    names = [name.strip() for name in measures.split(",") if name.strip()] if measures is not None else None
    measuring.check_names(names)
    request: dict[str, Any] = {"version": chelys.__version__, "whisper": whisper, "clvp": clvp}
    with progress_bar(quiet=quiet or as_json) as update:
        if _is_audio(model):
            set_threads(threads)
            clips = read_clips(Path(model))
            _begin(output, request | {"of": _state(clips)}, force=force)
        else:
            given = listed_texts(Path(texts)) if texts.endswith(".jsonl") else read_texts(texts)
            chosen_texts, changes = given[:limit], parse_options(assignments or [])
            unvoiced = any(text.reference is None for text in chosen_texts)
            if voices and not unvoiced:
                raise UserError(f"each text of {texts} has its own voice: leave out -v")
            tts = load_model(model, device, dtype=dtype, threads=threads)
            asked: dict[str, Any] = {"options": tts.options(preset, **changes), "seed": seed}
            speakers = [tts.resolve_voice(voice, seed=seed) for voice in (voices or (None,)) if unvoiced]
            references = [text.reference for text in chosen_texts if text.reference is not None]
            what = {"of": tts.fingerprint, "texts": [text.text for text in chosen_texts], "seed": seed,
                    "options": asdict(asked["options"]), "voices": [one.fingerprint for one in speakers],
                    **({"references": _stamp(references, [])} if references else {})}  # fmt: skip
            _begin(output, request | what, force=force)
            clips = speak_texts(tts, chosen_texts, speakers, output, **asked, progress=counting(update, "speaking"))
        chosen, left_out = measuring.choose(names, measuring.Settings(whisper=whisper, clvp=clvp), clips)
        rows = [row for row in kept_lines(output / ROWS) if row.get("measures") == list(chosen)]
        write_json_lines(output / ROWS, rows)
        done = {(row["audio"], row["text"]) for row in rows}
        with (output / ROWS).open("a", encoding="utf8") as lines:
            for clip in clips:
                if (str(clip.audio), clip.text) in done:
                    continue
                rows.append(measuring.measure(clip, chosen))
                lines.write(json_line(rows[-1]))
                lines.flush()
                if update is not None:
                    update("listening", len(rows), len(clips))
        summary = {"of": model, **results.summarize(rows, other), "left_out": left_out}
        if recordings is not None:
            summary["frechet"] = _frechet(recordings, clips, clvp, update)
    write_json(output / SUMMARY, summary)
    results.write_page(output / PAGE, Path(model).name, summary, rows)
    if as_json:
        echo(json.dumps(summary, indent=2))
    elif not quiet:
        _print(summary, output)


def _is_audio(model: str) -> bool:
    """Whether what was named is finished audio: a list, or a folder that is no model's and has no model's name."""
    from chelys import registry
    from chelys.weights.catalog import BUILT_IN

    if model in (BUILT_IN, *registry.MODELS):
        return False
    with suppress(OSError, ValueError):  # longer than a name can be
        path = Path(model)
        return path.suffix == ".jsonl" or (path.is_dir() and not (path / "config.json").is_file())
    return False


def _state(clips: list[JudgedClip]) -> str:
    """Changes with the files, so that nothing is kept of others of their names."""
    paths = [path for clip in clips for path in (clip.audio, clip.reference, clip.original) if path is not None]
    return _stamp(paths, [clip.text for clip in clips])


def _stamp(paths: list[Path], texts: list[str]) -> str:
    with suppress(OSError):  # reading says what is wrong
        found = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
        return digest(json.dumps([found, texts]).encode())
    return ""


def _begin(output: Path, request: dict[str, Any], *, force: bool) -> None:
    """Make the folder, or go on in it where the same was asked for. Raises OutputError where something else was."""
    from chelys.evaluation.speaking import LIST
    from chelys.parsing import read_json

    with suppress(OSError, ValueError):
        if read_json(output / REQUEST) == json.loads(json.dumps(request)):
            return
    if output.exists() and any(output.iterdir()):
        if not force:
            raise OutputError(
                f"{output} has something else in it: name another folder with -o, or replace with --force"
            )
        for name in (LIST, ROWS, SUMMARY, PAGE):
            (output / name).unlink(missing_ok=True)
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / REQUEST, request)


def _rows_of(folder: Path) -> list[dict[str, Any]]:
    from chelys.parsing import read_json_lines

    rows: list[dict[str, Any]] = []
    with suppress(OSError, ValueError):
        rows = [row for row in read_json_lines(folder / ROWS) if {"text", "voice"} <= set(row)]
    if not rows:
        raise UserError(f"{folder} has no {ROWS} of an earlier run of 'chelys eval' to compare with")
    return rows


def _frechet(recordings: Path, clips: list[JudgedClip], clvp: str, update: Any) -> dict[str, Any] | None:
    from chelys.audio.io import clip_paths
    from chelys.evaluation.measures import latents
    from chelys.evaluation.results import frechet_summary
    from chelys.evaluation.speaking import LIST, read_clips

    listed = recordings / LIST
    paths = [clip.audio for clip in read_clips(listed)] if listed.is_file() else clip_paths([recordings])
    spoken = latents([clip.audio for clip in clips], clvp, counting(update, "latents of speech"))
    recorded = latents(paths, clvp, counting(update, "latents of recordings"))
    found = frechet_summary(spoken, recorded)
    if found is None:
        warn("a Fréchet distance needs two clips and two recordings of up to 30 s")
    return found


def _print(summary: dict[str, Any], output: Path) -> None:
    from chelys.evaluation.results import aligned, frechet_table, group_table, main_table

    echo("\n".join(aligned(main_table(summary))))
    for group in ("kinds", "voices"):
        if group in summary:
            echo("\n" + "\n".join(aligned(group_table(summary[group]))))
    if summary.get("frechet"):
        echo("\nCLVP Fréchet distance from recordings, which falls with the number of clips:")
        echo("\n".join(aligned(frechet_table(summary["frechet"]))))
    for measure, why in summary["left_out"].items():
        echo(f"not measured: {measure} ({why})")
    echo(f"{output / PAGE}")
