"""``chelys render``, ``board``, ``replay`` and ``diff``: what is done with an audiobook once there is one."""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from chelys.cli.console import (
    DeviceOption,
    DtypeOption,
    ForceOption,
    JsonOption,
    ModelOption,
    PresetOption,
    QuietOption,
    StoreOption,
    ThreadsOption,
    echo,
    load_model,
    open_store,
    warn,
)

RENDER_HELP = "Render a draft of an audiobook with another preset: the same words in the same time, a better sound."
RENDER_EXAMPLE = "Example: chelys render draft.m4b -o book.m4b --preset standard"
BOARD_HELP = "Write a page with the takes of an audiobook, to listen to and to choose from."
BOARD_EXAMPLE = "Example: chelys board book.m4b, then open book.board.html"
REPLAY_HELP = "Make a file again by the recipe that it carries, and compare."
REPLAY_EXAMPLE = "Example: chelys replay book.m4b"
DIFF_HELP = "Say which inputs of two files differ, by the recipes that they carry."
DIFF_EXAMPLE = "Example: chelys diff old.m4b new.m4b"

DIFFERENT = 1  # exit status

MadeArgument = Annotated[Path, typer.Argument(metavar="FILE", help="An audiobook that 'chelys read' made.")]
BookOption = Annotated[
    Path | None, typer.Option("--book", metavar="FILE", help="The book, if it does not lie beside FILE.")
]
NoStoreOption = Annotated[bool, typer.Option("--no-store", help="Look nothing up: compute all again.")]


def render(
    file: MadeArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="File, or folder of chapters, to write.")],
    preset: PresetOption = "standard",
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change an option of rendering: --set steps=30."),
    ] = None,
    book: BookOption = None,
    store: StoreOption = None,
    model: ModelOption = "nano",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    threads: ThreadsOption = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
) -> None:
    """Take the codes of the draft from the store, or sample them again, and render them otherwise."""
    from dataclasses import replace

    from chelys.audiobook.choices import choices_beside
    from chelys.audiobook.reading import read
    from chelys.audiobook.recipe import found_settings, rendered
    from chelys.inference.options import parse_options
    from chelys.inference.sound_recipe import read_recipe

    changes = parse_options(assignments or [])
    recipe = read_recipe(file)
    settings = found_settings(recipe, file, book, output)
    beside = choices_beside(file.parent if settings.each_chapter else file)
    if beside.is_file():  # of the board of the draft
        settings = replace(settings, choices=str(beside))
    tts = load_model(model, device, "repaired", dtype, threads)
    settings = rendered(settings, tts, preset, **changes)
    if not settings.each_chapter:
        settings = replace(settings, format="")  # by the suffix
    read_in = settings.book()
    with open_store(store) as kept:
        made = read(settings, read_in, settings.script(read_in, tts), settings.renderer(tts, kept).takes, force=force)
    if not quiet:
        echo(f"{made.files[0]}  {made.seconds:.1f} s, {made.computed} of {made.sentences} sentences rendered")


def board(
    file: MadeArgument,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Page to write. Default: FILE.board.html.")
    ] = None,
    candidates: Annotated[int, typer.Option("--candidates", min=1, max=9, help="Takes of each sentence.")] = 3,
    all_sentences: Annotated[
        bool, typer.Option("--all", help="Show every sentence, not only those that may be wrong.")
    ] = False,
    book: BookOption = None,
    store: StoreOption = None,
    model: ModelOption = "nano",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    threads: ThreadsOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a page that exists.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Look up the takes, render those that are not there, and write the page."""
    from chelys.audiobook.board import page, shown
    from chelys.audiobook.choices import choices_beside
    from chelys.audiobook.recipe import found_settings
    from chelys.files import output_file, refuse_existing
    from chelys.inference.sound_recipe import read_recipe

    output = output or file.with_name(f"{file.stem}.board.html")
    if not force:
        refuse_existing(output)
    settings = found_settings(read_recipe(file), file, book, file)
    tts = load_model(model, device, "repaired", dtype, threads)
    read_in = settings.book()
    script = settings.script(read_in, tts)
    with open_store(store) as kept:
        renderer = settings.renderer(tts, kept)
        found = list(shown(renderer, settings.seed, script, count=candidates, all_sentences=all_sentences))
    sentences = [one for one in found if one is not None]
    made = file.parent if settings.each_chapter else file
    choices = choices_beside(made).name
    text = page(read_in.title, made.name, choices, sentences, len(found), dict(renderer.choices))
    with output_file(output, "w") as out:
        out.write(text)
    if not quiet:
        echo(f"{output}  {len(sentences)} of {len(found)} sentences; save the choices as {choices} beside {made.name}")


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that 'chelys speak' or 'chelys read' made.")],
    book: Annotated[
        Path | None,
        typer.Option("--book", metavar="FILE", help="The book, or a long text, if it does not lie beside FILE."),
    ] = None,
    store: StoreOption = None,
    no_store: NoStoreOption = False,
    model: ModelOption = "nano",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Repeat a file, or say which input is another one; exit status 1 unless it is the same."""
    from chelys.inference.sound_recipe import is_speech, read_recipe, replay_speech

    recipe = read_recipe(file)
    compat = recipe.get("compat") if is_speech(recipe) else "repaired"
    tts = load_model(model, device, str(compat), dtype, threads)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if is_speech(recipe):
            found = replay_speech(file, tts, folder, text_file=book)
        else:
            from chelys.audiobook.recipe import replay as repeat

            kept = None if no_store else stack.enter_context(open_store(store))
            found = repeat(file, tts, kept, folder, book=book)
    if as_json:
        echo(json.dumps({
            "same_bytes": found.same_bytes, "same_takes": found.same_sound, "computed": found.computed,
            "differing": found.differing,
        }, indent=2))  # fmt: skip
    elif found.differing:
        echo(f"{file} cannot be repeated, other inputs than when it was made:")
        _print(found.differing)
    else:
        words = "repeated to the byte" if found.same_bytes else "repeated, the same sound in another file"
        words = words if found.same_sound else "NOT repeated: other takes"
        echo(f"{file} is {words}; {found.computed} sentences computed")
    if not found.same_sound:
        raise typer.Exit(DIFFERENT)
    if not found.same_bytes and not as_json:
        warn("files differ where chelys or what encodes are of another version, and every Ogg has a number of its own")


def diff(
    one: Annotated[Path, typer.Argument(metavar="A", help="A file that 'chelys speak' or 'chelys read' made.")],
    other: Annotated[Path, typer.Argument(metavar="B", help="Another.")],
    as_json: JsonOption = False,
) -> None:
    """Compare two recipes; exit status 1 if they differ."""
    from chelys.inference.sound_recipe import differing, read_recipe

    hidden = ("settings.output", "settings.options.")  # the names of the files; what is in the options too
    found = {
        name: values
        for name, values in differing(read_recipe(one), read_recipe(other)).items()
        if not name.startswith(hidden)
    }
    if as_json:
        echo(json.dumps({name: list(values) for name, values in found.items()}, indent=2))
    elif found:
        _print(found)
    else:
        echo("made of the same")
    if found:
        raise typer.Exit(DIFFERENT)


def _print(found: dict[str, tuple[Any, Any]]) -> None:
    for name, (one, other) in found.items():
        echo(f"{name}: {_value(one)} -> {_value(other)}")


def _value(value: Any) -> str:
    return "none" if value is None or value == "" else str(value)[:80]
