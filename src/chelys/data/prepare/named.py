"""Parts that the user may bring: named ``package.module:function`` in the settings, found when they are needed."""

from __future__ import annotations

from functools import lru_cache, reduce
from importlib import import_module
from typing import Any

from chelys.errors import ConfigError


@lru_cache
def named(name: str) -> Any:
    """What goes by a name.

    Raises:
        ConfigError: If there is no such thing.
    """
    module, _, inside = name.partition(":")
    try:
        return reduce(getattr, inside.split("."), import_module(module))
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"there is no {name!r} ({error}): name it package.module:function") from error
