"""The user's own voices: a folder of ``NAME.safetensors``, found by name alone.

The folder is ``voices`` in chelys' data folder of the platform, or wherever ``CHELYS_VOICES`` points.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import platformdirs

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SUFFIX = ".safetensors"

#: For messages that refuse a name.
ALLOWED_NAMES = "1 to 64 letters, digits, '-' or '_'"


def user_folder() -> Path:
    """Where the user's voices are kept; it need not exist yet."""
    chosen = os.environ.get("CHELYS_VOICES")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_data_dir("chelys")) / "voices"


def valid_name(name: str) -> bool:
    """Whether a voice can be called so; what passes is never a path."""
    return _NAME.fullmatch(name) is not None


def list_user_voices() -> dict[str, Path]:
    """Name -> file of the user's voices, sorted by name."""
    try:
        files = sorted(user_folder().iterdir())
    except OSError:  # no voice was ever added
        return {}
    return {file.stem: file for file in files if file.suffix == _SUFFIX and valid_name(file.stem) and file.is_file()}


def user_voice_path(name: str) -> Path:
    """Where a voice of that (valid) name is kept, there or not."""
    assert valid_name(name), name
    return user_folder() / f"{name}{_SUFFIX}"


def find_user_voice(name: str) -> Path | None:
    """File of the user's voice of that name, None if there is no such voice."""
    if not valid_name(name):
        return None
    path = user_voice_path(name)
    return path if path.is_file() else None
