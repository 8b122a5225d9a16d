"""Strict reading and writing of dataclass configurations: unknown keys are refused, wrong values named."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from chelys.deprecation import rename_config_keys, warn_renamed
from chelys.errors import ConfigError

T = TypeVar("T")


def from_mapping(cls: type[T], values: Mapping[str, Any], *, where: str = "configuration") -> T:
    """Build a (nested) dataclass from plain values, as read from JSON or YAML.

    Old keys that a class lists in ``RENAMED`` are taken too, with a warning. ``where`` is named in the error.

    Raises:
        ConfigError: If a key is unknown or missing or a value is of the wrong kind; one line, the first fault.
    """
    values = rename_config_keys(cls, dict(values), where=where)
    _forbid_extra(cls)
    try:
        return TypeAdapter(cls).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "(top)"
        raise ConfigError(f"{where}: {key}: {first['msg'].lower()}") from error


def _forbid_extra(cls: Any) -> None:
    """Tell pydantic that the dataclass, and those inside it, take no other keys."""
    if not is_dataclass(cls) or "__pydantic_config__" in cls.__dict__:
        return
    with_config(ConfigDict(extra="forbid"))(cls)  # type: ignore[type-var]
    import typing

    for hint in typing.get_type_hints(cls).values():
        for part in (hint, *typing.get_args(hint)):
            _forbid_extra(part)


def to_mapping(config: Any) -> dict[str, Any]:
    """Plain values of a dataclass, ready for JSON."""
    return json.loads(json.dumps(asdict(config), default=str))


#: The configurations that come with chelys.
CONFIGS = Path(__file__).parent / "configs"


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
    import yaml

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
            inner[last] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"override {override!r}: {value!r} is not YAML") from error
    return values


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file as a mapping.

    Raises:
        ConfigError: If the file is missing, is no YAML or holds no mapping.
    """
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no keys")
    return values
