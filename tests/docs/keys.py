"""Tables of configuration keys, made of the dataclasses, for pages of the documentation.

    python tests/docs/keys.py docs/training.md

writes anew what stands between ``<!-- keys: NAME -->`` and ``<!-- /keys -->``.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import chelys
from chelys.data.pairs import PairConfig
from chelys.inference.speech import Candidate, Chunk
from chelys.text.document import Document, Sentence
from chelys.training.config import LoopConfig

#: Sections of a run's configuration.
CLASSES: dict[str, type] = {"loop": LoopConfig, "pairs": PairConfig}
#: Classes of the Python API.
PUBLIC: dict[str, type] = {
    kind.__name__: kind
    for kind in (chelys.SpeechOptions, chelys.Speech, Document, Sentence, Candidate, Chunk, chelys.Voice)
}
_SECTION = re.compile(r"<!-- keys: (?P<name>\w+) -->\n.*?<!-- /keys -->", re.S)


def table(section: str) -> str:
    """Markdown table of the keys of a section of a run's configuration, or of the fields of a public class."""
    kind = (CLASSES | PUBLIC)[section]
    prefix = f"{section}." if section in CLASSES else ""
    fields = dataclasses.fields(kind)
    required = all(field.default is dataclasses.MISSING for field in fields)
    lines = ["| field | |", "|---|---|"] if required else ["| key | default | what it does |", "|---|---|---|"]
    meanings = attributes(kind)
    for field in fields:
        text = meanings[field.name].replace("``", "`").replace("|", "\\|")
        given = field.default if field.default is not dataclasses.MISSING else None
        default = [] if required else [f"`{_written(given)}`" if given is not None or field.default is None else ""]
        lines.append(f"| {' | '.join([f'`{prefix}{field.name}`', *default, text])} |")
    return "\n".join(lines) + "\n"


def attributes(kind: type) -> dict[str, str]:
    """What is said of each field of a class: in its docstring, or in the comment above or behind the field."""
    _, _, listed = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    entries = re.split(r"\n(?=    \w+:)", listed.rstrip()) if listed else []
    found = dict(entry.strip().partition(":")[::2] for entry in entries)
    above: list[str] = []
    for line in inspect.getsource(kind).splitlines():
        if comment := re.match(r"    #: (.*)", line):
            above.append(comment[1])
        elif field := re.match(r"    (\w+): [^#]*(?:  # (.*))?$", line):
            if above or field[2]:
                found.setdefault(field[1], " ".join(above) or field[2])
            above = []
    return {name: _sentence(" ".join(text.split())) for name, text in found.items()}


def _sentence(text: str) -> str:
    """With a capital and a full stop, unless it begins with code."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def renewed(page: str) -> str:
    """A page whose tables are those of today."""
    return _SECTION.sub(lambda match: f"<!-- keys: {match['name']} -->\n{table(match['name'])}<!-- /keys -->", page)


def _written(value: Any) -> str:
    """As one writes it in YAML."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(list(value)) if isinstance(value, tuple) else str(value)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(renewed(path.read_text(encoding="utf8")), encoding="utf8")
