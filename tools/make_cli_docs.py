"""docs/cli.md, written from the commands themselves.

python tools/make_cli_docs.py           # writes the page
python tools/make_cli_docs.py --check   # exit status 1 if the page is not that of today
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from chelys.cli.main import app

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
INTRO = """# Command line

Written by `python tools/make_cli_docs.py` from the commands themselves; `--help` after any of them says the same.

A mistake is answered with one line on standard error and exit status 2. A command that is interrupted leaves no
half-written file.
"""


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """A command and those below it, with what is typed for each."""
    yield name, command
    for inner, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            yield from commands(child, f"{name} {inner}")


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def rows(command: Any, name: str) -> list[str]:
    """A table row for each argument and option."""
    context = command.context_class(command, info_name=name)
    found = []
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is None or parameter.name in ("help", "install_completion", "show_completion"):
            continue
        found.append(f"| `{cell(record[0])}` | {cell(record[1]).replace('[', chr(92) + '[')} |")
    return found


def usage(command: Any, name: str) -> str:
    return " ".join([name, *command.collect_usage_pieces(command.context_class(command, info_name=name))])


def example(epilog: str) -> list[str]:
    """The epilog of a command: what is to be typed, and what is said besides."""
    paragraphs = [text.removeprefix("Example: ").strip() for text in epilog.split("\n\n")]
    found = []
    for text in filter(None, paragraphs):
        prose = re.search(r"\. \w|\? ", re.sub(r"'[^']*'|\"[^\"]*\"", "", text))
        found += [cell(text), ""] if prose else ["```", *text.split(", then: "), "```", ""]
    return ["Example:", "", *found] if found else []


def section(name: str, command: Any) -> str:
    lines = [f"{'##' if name.count(' ') < 2 else '###'} {name}", "", (command.help or "").strip(), ""]
    unnamed = [child for child in getattr(command, "commands", {}).values() if child.hidden]  # chelys train STAGE
    typed = unnamed or [command]
    lines += ["```", *(usage(one, name) for one in typed), "```", ""]
    if table := [row for one in typed for row in rows(one, name)]:
        lines += ["| | |", "|---|---|", *table, ""]
    return "\n".join([*lines, *example(command.epilog or "")])


def page() -> str:
    root = typer.main.get_command(app)
    return (
        INTRO + "\n" + "\n".join(section(name, command) for name, command in commands(root, "chelys")).rstrip() + "\n"
    )


if __name__ == "__main__":
    text = page()
    if "--check" in sys.argv:
        sys.exit(text != PAGE.read_text(encoding="utf8"))
    PAGE.write_text(text, encoding="utf8")
