"""Runs the examples of a page of the documentation, block by block, as a reader would who copies them.

Every fenced block marked ``bash`` is run by bash in one folder, in the order of the page. What a page says at full size
is run at toy size: the commands themselves stay as they are printed, and the runner lays more settings behind them
(``toy``). Two comments in front of a block change what is done with it:

    <!-- not run: needs a GPU -->     it is left out; the reason must be given
    <!-- file: mine.yaml -->          the block (yaml, text, ...) is a file that the reader makes
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import chelys

SOURCE = Path(chelys.__file__).parents[1]  # of the source tree, or where a wheel was installed
_BLOCK = re.compile(r"(?:^<!-- (?P<note>[^\n]*?) -->\n+)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)

#: Stands for ``chelys`` (and ``torchrun``): lays settings behind the command that is run, and runs it.
_SHIM = """#!{python}
import json, os, runpy, sys

arguments = sys.argv[1:]
said = arguments[arguments.index("chelys") + 1 :] if {module!r} != "chelys" else arguments
for start, more in json.loads({toy!r}).items():
    if said[: len(start.split())] == start.split():
        arguments += more
sys.argv = [{module!r}, *arguments]
if __name__ == "__main__":  # worker processes import this file, too
    runpy.run_module({module!r}, run_name="__main__")
"""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        line: Where its fence stands, counted from 1.
        language: What it is marked as.
        text: What is in it.
        note: The comment in front of it, or nothing.
    """

    line: int
    language: str
    text: str
    note: str

    @property
    def file(self) -> str | None:
        """Name of the file that the block is, if it is one."""
        return self.note.removeprefix("file: ") if self.note.startswith("file: ") else None

    @property
    def is_run(self) -> bool:
        """Whether the reader is to run it."""
        return self.language == "bash" and not self.note.startswith("not run: ")


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    text = page.read_text(encoding="utf8")
    found = []
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("language")) + 1
        found.append(Block(line, match["language"], match["text"], match["note"] or ""))
    return found


def run_page(
    page: Path, folder: Path, *, toy: Mapping[str, Sequence[str]] | None = None, timeout: float = 600.0
) -> dict[int, str]:
    """Run the bash blocks of a page in a folder, after having put there the files that the page shows.

    Args:
        page: Markdown.
        folder: Where; what the page takes for granted is there already.
        toy: First words of a chelys command (``"train dvae"``) to what is laid behind all commands that begin so.
        timeout: Seconds for each block.

    Returns:
        Line of each block to what it printed.

    Raises:
        AssertionError: If a command fails; the message has the page, the line and what was printed.
    """
    environment = _environment(folder, toy or {})
    printed = {}
    for block in blocks(page):
        if block.file:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf8")
        elif block.is_run:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block.text],
                cwd=folder, env=environment, timeout=timeout, capture_output=True, text=True,
            )  # fmt: skip
            where = f"{page.name}, line {block.line}"
            assert done.returncode == 0, f"{where}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
            printed[block.line] = done.stdout
    return printed


def _environment(folder: Path, toy: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The reader's: commands first, the package from the source tree, one thread, no colours."""
    commands = folder / ".commands"
    commands.mkdir(exist_ok=True)
    written = json.dumps({start: list(more) for start, more in toy.items()})
    for name, module in {"chelys": "chelys", "torchrun": "torch.distributed.run"}.items():
        path = commands / name
        path.write_text(_SHIM.format(python=sys.executable, module=module, toy=written), encoding="utf8")
        path.chmod(0o755)
    (commands / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf8")
    (commands / "python").chmod(0o755)
    own = {
        "PATH": os.pathsep.join([str(commands), os.environ.get("PATH", os.defpath)]),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH", "")])),
        "OMP_NUM_THREADS": "1",
        "NO_COLOR": "1",
        "COLUMNS": "120",
    }
    return os.environ | own
