"""The configurations that come with chelys, and how a YAML file of settings is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chelys import parsing
from chelys.deprecation import warn_renamed
from chelys.errors import ConfigError
from chelys.parsing import ParseError

#: The configurations that come with chelys.
CONFIGS = Path(__file__).parent


def find_config(name: str | Path) -> Path:
    """The file that ``--config`` means: a file, or one of chelys' own by its name, such as ``nano/dvae``.

    Raises:
        ConfigError: If there is neither.
    """
    path = Path(name)
    if path.exists():
        return path
    own = CONFIGS / Path(*path.parts[path.parts[:1] == ("configs",) :]).with_suffix(".yaml")
    if own.is_file() and ".." not in path.parts:
        known = own.relative_to(CONFIGS).with_suffix("").as_posix()
        if path.parts[0] == "configs":  # where they were in a checkout
            warn_renamed(f"--config {path}", f"--config {known}")
        return own
    names = ", ".join(sorted(p.relative_to(CONFIGS).with_suffix("").as_posix() for p in CONFIGS.rglob("*.yaml")))
    raise ConfigError(f"cannot read {path}: there is no such file; chelys' own configurations are {names}")


def read_config_file(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """A YAML file, found as ``find_config`` does, with ``key.inner=value`` overrides laid over it, values as in YAML.

    Raises:
        ConfigError: If the file cannot be read or an override is malformed.
    """
    values = read_yaml(find_config(path))
    for override in overrides:
        key, equals, value = override.partition("=")
        *outer, last = key.split(".")
        if not equals or not last:
            raise ConfigError(f"override {override!r} is not key=value")
        inner = values
        for part in outer:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"override {override!r}: {part} holds no keys")
        try:
            inner[last] = parsing.parse_yaml(value)
        except ParseError as error:
            raise ConfigError(f"override {override[:200]!r}: {error}") from error
    return values


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file as a mapping.

    Raises:
        ConfigError: If the file is missing or no regular file, is no YAML or too large, or holds no mapping.
    """
    try:
        values = parsing.read_yaml(path)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except ParseError as error:
        raise ConfigError(f"{path} is {error}" if str(error).startswith("not ") else f"{path} {error}") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"{path} holds no keys")
    return values


def read_settings(path: Path) -> dict[str, Any]:
    """The ``config.json`` of a run. Raises ConfigError if it cannot be read."""
    try:
        values = parsing.read_json(path)
        if not isinstance(values, dict):
            raise ParseError("holds no keys")
    except (OSError, ParseError) as error:
        raise ConfigError(f"{path} is damaged ({error}): start the run again, it goes on where it stopped") from error
    return values
