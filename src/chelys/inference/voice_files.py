"""Where voices lie, and what their files say of them, without the model and without torch.

The user's voices are ``NAME.safetensors`` in the folder ``voices`` of chelys' data folder, or in ``CHELYS_VOICES``; a
model's own lie in its folder ``voices``, with what their files do not say of them in ``about.json`` beside them.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

import platformdirs

from chelys.errors import VoiceError
from chelys.files import open_regular
from chelys.parsing import ParseError, parse_json, read_json

SUFFIX = ".safetensors"
#: For messages that refuse a name.
ALLOWED_NAMES = "1 to 64 letters, digits, '-' or '_', and not 'random'"

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ABOUT_FILE = "about.json"
_MAX_HEAD, _MAX_ABOUT = 1 << 20, 1 << 20  # bytes
_RATE = 24_000  # Hz, of the clips in a voice file


def user_folder() -> Path:
    """Where the user's voices are kept; it need not exist yet."""
    chosen = os.environ.get("CHELYS_VOICES")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_data_dir("chelys")) / "voices"


def valid_name(name: str) -> bool:
    """Whether a voice can be called so; a valid name is never a path, nor the name of a random voice."""
    return _NAME.fullmatch(name) is not None and name != "random"


def list_user_voices() -> dict[str, Path]:
    """Name -> file of the user's voices, sorted by name."""
    try:
        files = sorted(user_folder().iterdir())
    except OSError:  # no voice was ever added
        return {}
    return {file.stem: file for file in files if file.suffix == SUFFIX and valid_name(file.stem) and file.is_file()}


def user_voice_path(name: str) -> Path:
    """Where a voice of that (valid) name is kept, whether it exists or not."""
    assert valid_name(name), name
    return user_folder() / f"{name}{SUFFIX}"


def find_user_voice(name: str) -> Path | None:
    """File of the user's voice of that name, None if there is no such voice."""
    if not valid_name(name):
        return None
    path = user_voice_path(name)
    return path if path.is_file() else None


def built_in_voices(folder: Path) -> dict[str, Path]:
    """Name -> file of the voices of a model folder, sorted by name."""
    return {path.stem: path for path in sorted((folder / "voices").glob(f"*{SUFFIX}"))}


def read_about(path: Path) -> dict[str, Any]:
    """What a voice file says of its voice; the latents and the sound are not read.

    Raises VoiceError if it is missing, damaged, or no voice file.
    """
    try:
        with open_regular(path) as file:
            size = int.from_bytes(file.read(8), "little")
            if not 2 <= size <= _MAX_HEAD:
                raise ParseError("no head")
            head = parse_json(file.read(size))
        about = dict(parse_json(head["__metadata__"]["voice"]))
        clips = [entry["shape"][0] for name, entry in head.items() if name.startswith("clip.")]
        beside = path.with_name(_ABOUT_FILE)
        if beside.is_file():
            about |= dict(read_json(beside, _MAX_ABOUT).get(path.stem, {}))
        return {**about, "kept_seconds": round(sum(clips) / _RATE, 2)}
    except (OSError, ParseError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise VoiceError(
            f"{path} is no voice file, or is damaged: make one with 'chelys voices add NAME CLIP...'"
        ) from error


def list_voices(folder: Path) -> list[dict[str, Any]]:
    """What is known of every voice that a model folder's synthesizer finds by name, the default one first.

    ``name``, ``kind`` (built in, yours, unusable), ``default``, ``seconds``, ``pitch`` (Hz), ``description`` and what
    else the files say; a file that cannot be read is unusable, and its ``description`` says why.
    """
    try:
        default = read_json(folder / "config.json").get("default_voice")
    except (OSError, ParseError, AttributeError):
        default = None
    own = built_in_voices(folder)
    found = [(name, "built in", own[name]) for name in sorted(own, key=lambda name: (name != default, name))]
    found += [(name, "yours", path) for name, path in list_user_voices().items() if name not in own]
    rows = []
    for name, kind, path in found:
        try:
            about = read_about(path)
        except VoiceError as error:  # one bad file does not hide the others
            kind, about = "unusable", {"description": str(error)}
        rows.append({**about, "name": name, "kind": kind, "default": name == default})
    return rows


def describe(about: dict[str, Any]) -> str:
    """A voice in a line: length of its recordings, pitch, description; whatever stands in its file."""
    seconds, pitch = (_number(about.get(key)) for key in ("seconds", "pitch"))
    length = f"{seconds:7.1f} s" if seconds is not None else " " * 9
    height = f"{pitch:4.0f} Hz" if pitch is not None else " " * 7
    words = about.get("description")
    if not isinstance(words, str):
        sources = about.get("sources")
        words = f"from {', '.join(map(str, sources))}" if isinstance(sources, list) and sources else ""
    return f"{length}  {height}  {' '.join(words.split())}".rstrip()


def _number(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) and math.isfinite(value) and abs(value) < 1e6 else None
