"""Which model a program means that was written for the original."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import platformdirs

#: The file that every folder of published weights has.
_MARK = "autoregressive.pth"
#: Where in it; the older of the two published repositories keeps its files in a folder of their own.
_INSIDE = ("", ".models")
_logger = logging.getLogger(__name__)


def resolve_model(models_dir: str | Path | None) -> str:
    """What to hand to ``chelys.load``.

    Args:
        models_dir: A folder of published ``.pth`` files, which is converted once; a model folder; the name of a model;
            None is the original's own folder if it holds the weights, else ``tortoise-v2``.

    Raises:
        ModelError: If a published file cannot be converted.
    """
    if models_dir is None:
        folder = Path(os.environ.get("TORTOISE_MODELS_DIR") or "~/.cache/tortoise/models")
        return _converted(folder) if _is_published(folder) else "tortoise-v2"
    return _converted(Path(models_dir)) if _is_published(Path(models_dir)) else str(models_dir)


def _is_published(folder: Path) -> bool:
    try:
        return any((folder.expanduser() / inside / _MARK).is_file() for inside in _INSIDE)
    except (OSError, RuntimeError, ValueError):  # longer than a name can be; the home of nobody; a null character
        return False


def _converted(folder: Path) -> str:
    """A model folder of these weights in chelys' cache, made on first use."""
    from chelys.tortoise.convert import convert, find_checkpoints

    folder = folder.expanduser().resolve()
    files = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(folder.rglob("*.pth"))]
    digest = hashlib.sha256(repr((str(folder), files)).encode()).hexdigest()[:12]
    made = Path(platformdirs.user_cache_dir("chelys")) / "models" / f"tortoise-{digest}"
    if not (made / "config.json").is_file():
        made.parent.mkdir(parents=True, exist_ok=True)
        _logger.info("converting the weights in %s into %s, once", folder, made)
        convert(find_checkpoints(folder), made, origin=str(folder), spare=True)
    return str(made)
