"""The recipe of an audiobook, with a hash over its takes, and what is done by it; see ``inference.sound_recipe``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chelys.audiobook.reading import ReadSettings, read
from chelys.audiobook.stages import RENDERING
from chelys.errors import UserError
from chelys.inference.receipt import made_with
from chelys.inference.sound_recipe import (
    RECIPE,
    Replay,
    differing,
    digest_of,
    found_beside,
    found_voice,
    is_speech,
    read_recipe,
    without_folders,
)

if TYPE_CHECKING:
    from chelys.audiobook.book import Book
    from chelys.audiobook.script import Script
    from chelys.audiobook.store import StageStore
    from chelys.inference.synthesizer import Synthesizer

#: Settings that name files.
FILES = ("source", "speakers", "lexicon", "choices")


def recipe_of(settings: ReadSettings, book: Book, script: Script, taken: str) -> dict[str, Any]:
    """The recipe of one file; ``taken``: hash over the keys of its takes."""
    tts = script.tts
    voices = {"narrator": tts.resolve_voice(script.speaker, seed=settings.seed)}
    for name in script.speakers.voices if script.speakers else ():
        voices[without_folders(name)] = tts.resolve_voice(name, seed=settings.seed)
    values = settings.as_json()
    hashes = {name: digest_of(Path(values[name])) for name in FILES if name != "source" and values[name]}
    values |= {name: Path(values[name]).name for name in (*FILES, "output") if values[name]}
    values["voice"] = without_folders(settings.voice) if settings.voice else None
    return {
        "chelys_recipe": RECIPE,
        "text_hash": text_hash(book),
        **made_with(tts, voices, script.options, settings.seed, settings.preset),
        "file_hashes": hashes,
        "settings": values,
        "takes": taken,
    }


def text_hash(book: Book) -> str:
    """Of all paragraphs, their kinds and the titles."""
    found = hashlib.sha256(f"{book.title}\n{book.author}".encode())
    for chapter in book.chapters:
        found.update(f"\n\n{chapter.title}".encode())
        for paragraph in chapter.paragraphs:
            found.update(f"\n{paragraph.kind} {paragraph.text}".encode())
    return found.hexdigest()[:32]


def found_settings(recipe: Mapping[str, Any], made: Path, book: Path | None, output: Path) -> ReadSettings:
    """Settings that read the same book again, to another place.

    The files that a recipe names are looked for beside the ``book``, beside the file that was ``made`` of it, and here.
    Raises UserError if one is missing.
    """
    if is_speech(recipe):
        raise UserError(f"{made} is no audiobook: chelys speak made it")
    values = dict(recipe["settings"])
    if not all(isinstance(values.get(name) or "", str) for name in (*FILES, "voice", "chapters", "pauses", "verify")):
        raise UserError(f"the recipe of {made} is damaged: settings that are no texts")
    places = [*([book.parent] if book else []), made.parent, Path()]
    for name in FILES:
        if not values.get(name):
            continue
        if name == "source" and book is not None:
            values[name] = str(book)
            continue
        if values[name] == "-":
            raise UserError(f"{made} was read from standard input: name the book with --book")
        option = "with --book" if name == "source" else ""
        values[name] = str(found_beside(values[name], places, made, option))
    values["voice"] = found_voice(values.get("voice"), places)
    return ReadSettings.from_json(values | {"output": str(output)})


def rendered(settings: ReadSettings, tts: Synthesizer, preset: str, **changes: object) -> ReadSettings:
    """The same reading with the codes as they are, and rendered as another preset does.

    Raises UserError if the preset or an option is unknown, or one that changes the codes.
    """
    for name in changes:
        if name not in RENDERING:
            raise UserError(f"{name} changes the words: choose from {', '.join(RENDERING)}, or read the book again")
    wanted = asdict(tts.options(preset, **changes))
    kept = ("speed", "decoder", "redact")  # of the draft, unless it is asked for
    options = {name: wanted[name] for name in RENDERING if name not in kept or name in changes}
    return replace(settings, options={**settings.options, **options})


def replay(made: Path, tts: Synthesizer, store: StageStore | None, folder: Path, *, book: Path | None = None) -> Replay:
    """Read the book of a file once more into an empty folder, and compare.

    Nothing is computed if an input is another one; then it is said which.
    """
    recipe = read_recipe(made)
    each = bool(recipe["settings"].get("each_chapter"))
    settings = found_settings(recipe, made, book, folder if each else folder / made.name)
    read_in = settings.book()
    script = settings.script(read_in, tts)
    now = recipe_of(settings, read_in, script, recipe["takes"])
    about = {"settings": 0, "versions": 0}  # of other versions the takes may be the same
    found = differing({**recipe, **about}, {**now, **about})
    if found:
        return Replay(found)
    result = read(settings, read_in, script, settings.renderer(tts, store).takes)
    again = folder / made.name
    if not again.exists():
        return Replay({}, computed=result.computed)
    same = read_recipe(again)["takes"] == recipe["takes"]
    return Replay({}, made.read_bytes() == again.read_bytes(), same, result.computed)
