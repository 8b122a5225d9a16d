"""Old names that keep working for one release: Python names, modules, arguments, configuration keys, CLI options.

Each use of an old name gives a ``ChelysDeprecationWarning`` that names the new one. The command line shows these
warnings, and the tests turn them into errors, so nothing inside the package uses an old name.
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import importlib.util
import sys
import typing
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from types import ModuleType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class ChelysDeprecationWarning(DeprecationWarning):
    """An old name of chelys is used; the message names the new one."""


def warn_renamed(old: str, new: str | None, *, stacklevel: int = 3) -> None:
    """Warn that ``old`` is used, and name what to use instead; None if it has no effect any more.

    A stacklevel of 2 blames the caller of this function, 3 the caller of that one.
    """
    use = f"use {new}" if new else "it has no effect"
    warnings.warn(f"{old} is deprecated and goes with the next release: {use}", ChelysDeprecationWarning, stacklevel)


# ---- Python names -----------------------------------------------------------------------------------------------


def renamed_names(module: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module that has old names in ``chelys.old_names``.

    In the module::

        __getattr__ = renamed_names(__name__)
    """

    def getattr_(name: str) -> Any:
        new = None
        if not name.startswith("__"):  # imports ask every module for __path__
            from chelys.old_names import RENAMED_NAMES

            new = RENAMED_NAMES[module].get(name)
        if new is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn_renamed(f"{module}.{name}", new)
        home, _, attribute = new.rpartition(".")
        return getattr(importlib.import_module(home), attribute)

    return getattr_


class MovedModules:
    """Makes old module names of ``chelys.old_names`` importable: ``import old.name`` gives the module ``new.name``.

    It is asked last, for modules that do not exist. A finder and a loader by what it has: to import their abstract
    classes would take longer than all else here.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith("chelys.") or fullname == "chelys.old_names":
            return None
        from chelys.old_names import MOVED_MODULES

        if fullname not in MOVED_MODULES:
            return None
        return importlib.util.spec_from_loader(fullname, self)  # type: ignore[arg-type]  # it has what is asked for

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """The usual module will do."""

    def exec_module(self, module: ModuleType) -> None:
        from chelys.old_names import MOVED_MODULES

        new = MOVED_MODULES[module.__name__]
        warn_renamed(module.__name__, new, stacklevel=2)
        sys.modules[module.__name__] = importlib.import_module(new)


def renamed_arguments(**renamed: str) -> Callable[[F], F]:
    """Decorate a function or a dataclass so that old keyword arguments work: ``@renamed_arguments(old="new")``."""

    def decorate(function: F) -> F:
        inner: Callable[..., Any] = function.__init__ if isinstance(function, type) else function  # type: ignore[misc]

        @functools.wraps(inner)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            for old in kwargs.keys() & renamed.keys():
                new = renamed[old]
                warn_renamed(f"{function.__qualname__}({old}=...)", new)
                if new in kwargs:
                    raise TypeError(f"{function.__qualname__}() got both {old!r} and {new!r}: give {new!r} alone")
                kwargs[new] = kwargs.pop(old)
            return inner(*args, **kwargs)

        if isinstance(function, type):
            function.__init__ = wrapper  # type: ignore[misc]
            return function
        return typing.cast(F, wrapper)

    return decorate


# ---- configuration keys -----------------------------------------------------------------------------------------


def rename_keys(values: Mapping[str, Any], renamed: Mapping[str, str | None], *, where: str) -> dict[str, Any]:
    """Give the keys of a mapping their new names; the mapping itself is left alone.

    Of a value that is given under both names the later one counts, so an override by either name replaces the value of
    a file that has the other.

    Args:
        values: As read from a file.
        renamed: Old key -> new key; None drops the key. Keys of this mapping only, not of those inside.
        where: Named in warnings and errors.
    """
    result: dict[str, Any] = {}
    for key, value in values.items():
        if key in renamed:
            new = renamed[key]
            warn_renamed(f"{where}: {key}", new)
            if new is None:
                continue
            key = new
        result[key] = value
    return result


def rename_config_keys(hint: Any, value: Any, *, where: str) -> Any:
    """Give the keys of a configuration, plain values, their new names, those of nested dataclasses too.

    A dataclass lists its old keys in a class variable::

        RENAMED: ClassVar[dict[str, str | None]] = {"average": "ema_decay"}

    Args:
        hint: The dataclass, or any type that holds dataclasses: ``X | None``, ``list[X]``, ``dict[str, X]``.
        value: As read from a file.
        where: Named in warnings and errors.
    """
    if is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            return value
        value = rename_keys(value, getattr(hint, "RENAMED", {}), where=where)
        hints = typing.get_type_hints(hint)
        return {k: rename_config_keys(hints.get(k), v, where=f"{where}: {k}") for k, v in value.items()}
    arguments = typing.get_args(hint)
    if isinstance(value, list) and arguments:
        return [rename_config_keys(arguments[0], inner, where=where) for inner in value]
    if isinstance(value, Mapping) and typing.get_origin(hint) in (dict, Mapping) and len(arguments) == 2:
        return {k: rename_config_keys(arguments[1], v, where=f"{where}: {k}") for k, v in value.items()}
    for argument in arguments:  # of a union, the dataclass
        if is_dataclass(argument):
            return rename_config_keys(argument, value, where=where)
    return value


# ---- tensors in files -------------------------------------------------------------------------------------------

#: Parts of names of tensors, as older versions wrote them, to those of today. No warning: files cannot be edited.
RENAMED_TENSORS = {
    "unconditioned": "uncond_embedding",
    "integrator": "timestep_encoder",
    "content_norm": "conditioning_norm",
    "reader": "ctc_head",
}


def current_tensor_name(name: str) -> str:
    """The name of today of a tensor in a file of weights or a checkpoint."""
    return ".".join(RENAMED_TENSORS.get(part, part) for part in name.split("."))
