"""Texts that models are judged by: three sets of the package, or a file of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from chelys.errors import ConfigError
from chelys.files import read_text

#: Name of a set to its file in ``assets/evaluation``, where the README says where each comes from.
SETS = {"harvard": "harvard.txt", "hard": "hard.tsv", "long": "long.tsv"}
_MOST_BYTES = 1 << 24


@dataclass(frozen=True)
class Text:
    """Something to say."""

    text: str
    kind: str = ""  # of several in a set, such as ``names``
    reference: Path | None = None  # recording of who is to say it; None leaves it to the voices that are asked for


def read_texts(name: str) -> list[Text]:
    """The texts of a set, or of a file: one a line, with a kind and a tab before it where there are kinds.

    Raises ConfigError if there is neither set nor file, or nothing is in it.
    """
    if name in SETS:
        raw = (resources.files("chelys") / "assets" / "evaluation" / SETS[name]).read_text("utf8")
    else:
        try:
            raw = read_text(Path(name), _MOST_BYTES)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            known = ", ".join(SETS)
            raise ConfigError(
                f"no texts {name!r} ({reason}): choose {known}, or give a file of a text a line"
            ) from error
    found = []
    for line in raw.removeprefix("\ufeff").splitlines():
        if line.strip():
            kind, tab, text = line.partition("\t")
            found.append(Text(text.strip(), kind.strip()) if tab else Text(line.strip()))
    if not found:
        raise ConfigError(f"{name} holds no text: write one a line")
    return found
