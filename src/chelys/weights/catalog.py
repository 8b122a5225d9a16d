"""Which models chelys knows by name."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from chelys.errors import ModelError

BUILT_IN = "nano"


def find_model(name: str | Path) -> Path:
    """Folder of a model.

    Args:
        name: ``nano``, which lies inside the package, or a path of a model folder.

    Raises:
        ModelError: If there is no such model.
    """
    if str(name) == BUILT_IN:
        return Path(str(resources.files("chelys") / "assets" / BUILT_IN))
    try:
        folder = Path(name).expanduser()
        if folder.is_dir():
            return folder
    except (OSError, RuntimeError):  # longer than a name can be; the home of nobody
        pass
    raise ModelError(f"no model {str(name)!r}: name '{BUILT_IN}' or a folder that has a config.json")
