"""The configurations that come with chelys, and how a YAML file of settings is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chelys.deprecation import warn_renamed
from chelys.errors import ConfigError

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
