"""The files of a model against the SHA-256 that its ``config.json`` has of them.

A file is read for it once: what was found right is remembered, with its size and times of change, in ``verified.json``
beside the downloaded models. So a damaged or exchanged file is noticed when a model is first loaded, and whenever a
file has changed since.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from chelys.errors import ModelError
from chelys.files import write_text
from chelys.parsing import read_json
from chelys.weights.tensor_file import sha256

log = logging.getLogger(__name__)

_REMEMBERED = 500  # files


def verify(folder: Path, hashes: Mapping[str, str], names: Iterable[str]) -> None:
    """Hold files of a model folder against the hashes; those that have none pass.

    Raises:
        ModelError: If one is not what it was when the model was written.
    """
    known = _remembered()
    found: dict[str, Any] = {}
    for name in names:
        if name not in hashes:
            continue
        path = folder / name
        try:
            status = os.stat(path)
            key = os.path.realpath(path)
            version = [hashes[name], status.st_size, status.st_mtime_ns, status.st_ctime_ns]
            if known.get(key) == version:
                continue
            if sha256(path) != hashes[name]:
                raise ModelError(f"{path} is damaged: its SHA-256 is not the one in config.json; get the model again")
        except OSError as error:
            raise ModelError(f"{path} cannot be read ({error.strerror}); get the model again") from error
        found[key] = version
    if found:
        _remember({key: value for key, value in known.items() if key not in found} | found)


def _file() -> Path:
    from chelys.weights.hub import models_folder  # late: the hub is beyond model folders

    return models_folder() / "verified.json"


def _remembered() -> dict[str, Any]:
    try:
        known = read_json(_file(), limit=1 << 20)
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _remember(known: Mapping[str, Any]) -> None:
    newest = dict(list(known.items())[-_REMEMBERED:])
    try:
        _file().parent.mkdir(parents=True, exist_ok=True)
        write_text(_file(), json.dumps(newest), sync=False)
    except OSError as error:
        log.debug("what was verified is not remembered: %s", error)
