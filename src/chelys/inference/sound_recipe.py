"""The recipe that every sound file carries: what it was made of, so that it can be proved, repeated and compared.

It is JSON in the tag ``comment``: hashes of the text, the voices, the model and the files that were named, versions,
options, seed, settings, and a hash over what came of it. It names no folders, so it tells nothing of who made it, and a
file can be repeated where what it was made of lies elsewhere. Here are the recipes of ``chelys speak``, and what they
share with those of audiobooks.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chelys.audio.io import to_pcm, write
from chelys.audio.rates import OUTPUT_RATE
from chelys.audio.tags import read_tags
from chelys.errors import AudioError, UserError
from chelys.files import read_text
from chelys.inference.options import SpeechOptions
from chelys.inference.receipt import made_with
from chelys.parsing import ParseError, parse_json

if TYPE_CHECKING:
    from chelys.inference.synthesizer import Synthesizer
    from chelys.inference.voice import Voice

#: Version of the form of a recipe.
RECIPE = 1
#: Bytes of a text that stands in the recipe itself; of a longer one there is the hash alone.
MAX_TEXT = 16_000
_LARGEST_FILE = 1 << 26  # bytes of a text that is named


def digest_of(path: Path) -> str:
    """Hash of a file. Raises UserError if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:32]
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or os.strerror(error.errno or 0)}") from error


def without_folders(voice: str) -> str:
    """A voice, or a mix, as it is named, without the folders of its files."""
    return re.sub(r"[^+]*[/\\]", "", voice)


def read_recipe(path: Path) -> dict[str, Any]:
    """The recipe in a file. Raises UserError if it has none, or one of another version."""
    try:
        recipe = parse_json(read_tags(path).get("comment", ""))
        version = recipe["chelys_recipe"]
    except OSError as error:
        raise AudioError(f"cannot read {path}: {error.strerror or error}") from error
    except (ParseError, KeyError, TypeError):
        raise UserError(
            f"{path} carries no recipe: it is no file of chelys speak or read, or its tags were changed"
        ) from None
    if version != RECIPE or not isinstance(recipe.get("settings"), dict):
        raise UserError(f"{path} carries a recipe in form {str(version)[:20]}, this version of chelys reads {RECIPE}")
    return dict(recipe)


def is_speech(recipe: Mapping[str, Any]) -> bool:
    """Whether ``chelys speak`` made it, not ``chelys read``."""
    return recipe.get("kind") == "speech"


def differing(one: Mapping[str, Any], other: Mapping[str, Any], path: str = "") -> dict[str, tuple[Any, Any]]:
    """The inputs that differ, by their names (``options.steps``), with both values; None where one has it not."""
    found: dict[str, tuple[Any, Any]] = {}
    for name in dict.fromkeys([*one, *other]):
        left, right = one.get(name), other.get(name)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            found |= differing(left, right, f"{path}{name}.")
        elif left != right:
            found[f"{path}{name}"] = (left, right)
    return found


def found_beside(name: str, places: Iterable[Path], made: Path, option: str = "") -> Path:
    """A file that a recipe names, by its name alone, in one of some folders. Raises UserError if it is in none."""
    paths = [place / Path(name).name for place in places]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        how = f", or name it {option}" if option else ""
        raise UserError(f"{made} was made with {paths[0].name}, which is not beside it: put it there{how}")
    return path


def found_voice(named: str | None, places: Iterable[Path]) -> str | None:
    """A voice as a recipe names it: the file of that name in one of some folders, else the name."""
    if not named:
        return None
    name = without_folders(named)  # a foreign file names no paths
    return next((str(place / name) for place in places if (place / name).is_file()), name)


@dataclass(frozen=True)
class Replay:
    """What came of making a file again."""

    differing: dict[str, tuple[Any, Any]]  # inputs that are not those of the recipe any more
    same_bytes: bool = False
    same_sound: bool = False  # the same samples, whatever the file
    computed: int = 0  # sentences that had to be computed


# ---- chelys speak ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SpeechRecipe:
    """What one call of ``chelys speak`` is made of."""

    tts: Synthesizer
    voices: Mapping[str | None, Voice]  # of ``Synthesizer.voices_of``
    options: SpeechOptions
    seed: int
    preset: str | None  # None if the options say all
    text: str
    reading: Mapping[str, str]  # format and locale
    voice: str | None = None  # as it was named
    lexicon: Path | None = None
    early: bool = False

    def comment(self, sound: str, place: int = 0) -> str:
        """The tag of one file: ``sound`` is the hash of its samples, ``place`` that of its candidate, 0 the best."""
        return json.dumps(self.as_json() | {"place": place, "sound": sound})

    def as_json(self) -> dict[str, Any]:
        """All of it but for what came of it."""
        voices = {name or voice.name: voice for name, voice in self.voices.items()}
        short = len(json.dumps(self.text)) <= MAX_TEXT
        return {
            "chelys_recipe": RECIPE,
            "kind": "speech",
            "text_hash": hashlib.sha256(self.text.encode()).hexdigest()[:32],
            **made_with(self.tts, voices, self.options, self.seed, self.preset),
            "compat": self.tts.family.compat,
            "file_hashes": {"lexicon": digest_of(self.lexicon)} if self.lexicon else {},
            "settings": {
                "text": self.text if short else None, **self.reading, "early": self.early,
                "voice": without_folders(self.voice) if self.voice else None,
                "lexicon": self.lexicon.name if self.lexicon else None,
            },
        }  # fmt: skip


def sound_of(pcm: bytes | Iterable[bytes]) -> str:
    """Hash of samples of 16 bits."""
    found = hashlib.sha256()
    for piece in (pcm,) if isinstance(pcm, bytes) else pcm:
        found.update(piece)
    return found.hexdigest()[:32]


def replay_speech(made: Path, tts: Synthesizer, folder: Path, *, text_file: Path | None = None) -> Replay:
    """Speak the text of a file once more, into an empty folder, and compare.

    Nothing is computed if an input is another one; then it is said which. ``text_file``: where the text stands, if it
    is too long for the recipe. Raises UserError if the recipe is damaged, or a file that it names is missing.
    """
    recipe = read_recipe(made)
    settings, place, seed = recipe["settings"], recipe.get("place"), recipe.get("seed")
    names = ("text", "format", "locale", "voice", "lexicon")
    if not all(isinstance(settings.get(name) or "", str) for name in names) or not (
        type(place) is int and type(seed) is int
    ):
        raise UserError(f"the recipe of {made} is damaged: settings of another kind")
    try:
        options = SpeechOptions(**recipe["options"])
    except (TypeError, KeyError) as error:
        raise UserError(f"the recipe of {made} has options of another version of chelys: {error}") from None
    text = settings.get("text")
    if text_file is not None:
        try:
            text = read_text(text_file, _LARGEST_FILE)
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{text_file} cannot be read: {error}") from None
    if text is None:
        raise UserError(f"the text of {made} is too long for its recipe: name its file with --book")
    places = [made.parent, Path()]
    lexicon = found_beside(settings["lexicon"], places, made) if settings.get("lexicon") else None
    named, early = found_voice(settings.get("voice"), places), bool(settings.get("early"))
    reading = {name: settings.get(name) or default for name, default in (("format", "auto"), ("locale", "en-US"))}
    voice = tts.resolve_voice(named, seed=seed)
    document = tts.read_text(text, lexicon=lexicon, voice=named, options=options, **reading)
    voices = tts.voices_of(document, options, voice, seed)
    now = SpeechRecipe(tts, voices, options, seed, recipe.get("preset"), text, reading, named, lexicon, early)
    made_by = {"versions": 0, "settings": 0, "place": 0, "sound": 0}  # of other versions the samples may be the same
    found = differing({**recipe, **made_by}, {**now.as_json(), **made_by})
    if found:
        return Replay(found)
    if early:
        audio = np.concatenate([chunk.audio for chunk in tts.stream(
            document, voice=voice, seed=seed, options=options, early=True
        )])  # fmt: skip
    else:
        audio = tts.speak(document, voice=voice, seed=seed, options=options, keep=place + 1).candidates[place].audio
    sound = sound_of(to_pcm(audio).tobytes())
    again = folder / made.name
    write(again, audio, OUTPUT_RATE, comment=now.comment(sound, place))
    return Replay({}, made.read_bytes() == again.read_bytes(), sound == recipe.get("sound"), len(document.sentences))
