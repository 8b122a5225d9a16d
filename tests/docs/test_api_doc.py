"""docs/api.md: its tables are those of today, and what it names exists."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import keys

PAGE = Path(__file__).parents[2] / "docs" / "api.md"


def test_the_tables_of_fields_are_those_of_today() -> None:
    page = PAGE.read_text(encoding="utf8")
    assert keys.renewed(page) == page, "run: python tests/docs/keys.py docs/api.md"
    assert all(f"<!-- keys: {name} -->" in page for name in keys.PUBLIC)


def test_what_it_names_exists() -> None:
    page = PAGE.read_text(encoding="utf8")
    named = re.findall(r"^::: ([\w.]+)(?:\n    options:\n      members: \[(.*)\])?", page, re.M)
    assert len(named) >= 4
    for name, members in named:
        module, _, attribute = name.rpartition(".")
        found = getattr(import_module(module), attribute)
        assert all(hasattr(found, member.strip()) for member in members.split(",") if member)
