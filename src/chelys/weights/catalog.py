"""Which models chelys knows by name."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from chelys import registry
from chelys.errors import ModelError

BUILT_IN = "nano"


def find_model(name: str | Path) -> Path:
    """Folder of a model; one of the hub's is fetched if it is not there.

    The name is ``nano``, which lies inside the package; ``tortoise-v2``; a path of a model folder; or a model of the
    hub, ``OWNER/NAME`` or ``OWNER/NAME@REVISION``.

    Raises:
        ModelError: If there is no such model, or it cannot be fetched.
    """
    if not isinstance(name, (str, Path)):
        raise ModelError(f"the model is {type(name).__name__}: give a name or a folder")
    if str(name) == BUILT_IN:
        return Path(str(resources.files("chelys") / "assets" / BUILT_IN))
    if str(name) in registry.MODELS:
        fetched: Path = registry.find(registry.MODELS[str(name)])()
        return fetched
    try:
        folder = Path(name).expanduser()
        if folder.is_dir():
            return folder
    except (OSError, RuntimeError, ValueError):  # longer than a name can be; an unknown home; a zero in it
        pass
    from chelys.weights import hub

    if hub.is_hub_name(str(name)):
        return hub.fetch_model(str(name))
    raise ModelError(
        f"no model {str(name)!r}: name '{BUILT_IN}' or a folder that has a config.json,"
        f" {', '.join(map(repr, registry.MODELS))}, or OWNER/NAME of the hub"
    )
