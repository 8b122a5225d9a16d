"""Strict reading and writing of dataclass configurations: unknown keys are refused, wrong values named."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
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


#: Names of sizes that say how many parts a network has, of which each takes time to build.
COUNTS = re.compile(r"(^|_)(layers|depth|blocks|stages|strides)$")
#: What sizes of such names are at most; others are at most `_LARGEST`.
_MOST = {
    COUNTS: 1000, re.compile(r"(^|_)(dim|hidden|inner|channels|width|mult|forward)$"): 1 << 14,
    re.compile(r"(^|_)frames$"): 1 << 16,
}  # fmt: skip
_LARGEST = (1 << 31) - 1
#: Sizes without which there is nothing to compute; where the default is 0, 0 says that there is no such part.
_NEEDED = re.compile(r"(^|_)(dim|heads|hidden|inner|channels|width|rows|frames)$")


def check_sizes(config: Any, *, where: str, key: str = "") -> None:
    """Refuse numbers in a (nested) configuration of networks that no network has.

    Raises:
        ConfigError: If a whole number is negative or too large, a size is 0, or another number is not finite; the key
            is named.
    """
    for field in fields(config):
        value, name = getattr(config, field.name), f"{key}{field.name}"
        if is_dataclass(value):
            check_sizes(value, where=where, key=f"{name}.")
        for number in value if isinstance(value, tuple) else (value,):
            most = next((most for names, most in _MOST.items() if names.search(field.name)), _LARGEST)
            least = int(bool(_NEEDED.search(field.name)) and field.default != 0)
            if isinstance(number, int) and not least <= number <= most:
                raise ConfigError(f"{where}: {name} is {number}; it must be {least} to {most}")
            if isinstance(number, float) and not abs(number) <= _LARGEST:
                raise ConfigError(f"{where}: {name} is {number}; it must be a number up to {_LARGEST}")


def to_mapping(config: Any) -> dict[str, Any]:
    """Plain values of a dataclass, ready for JSON."""
    return json.loads(json.dumps(asdict(config), default=str))


__getattr__ = renamed_names(__name__)
