"""Strict reading and writing of dataclass configurations: unknown keys are refused, wrong values named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from chelys.deprecation import rename_config_keys, renamed_names
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


__getattr__ = renamed_names(__name__)
