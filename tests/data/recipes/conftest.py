"""Tiny trees in the layouts of published corpora, and what the recipes make of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile as sf

from chelys.data.recipes.corpora import ManifestSummary, make_manifest


class Outcome(NamedTuple):
    """What a recipe made.

    Attributes:
        made: What it says.
        lines: The manifest's lines.
        faults: The list of what was left out.
    """

    made: ManifestSummary
    lines: list[dict[str, Any]]
    faults: list[dict[str, str]]

    def by_id(self) -> dict[str, dict[str, Any]]:
        return {line["id"]: line for line in self.lines}

    def left_out(self) -> set[tuple[str, str]]:
        return {(fault["where"], fault["kind"]) for fault in self.faults}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Where to lay out a corpus."""
    folder = tmp_path / "corpora" / "the corpus"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def put(corpus: Path) -> Callable[..., Path]:
    """Put a file into the corpus: a tone of so many seconds, or a text, or bytes."""

    def write(name: str, content: float | str | bytes = 0.5, rate: int = 8000) -> Path:
        path = corpus / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, str):
            path.write_text(content, encoding="utf8")
        else:
            tone = 0.3 * np.sin(np.arange(round(content * rate)) / 5)
            sf.write(path, tone, 44_100 if path.suffix == ".mp3" else rate)
        return path

    return write


@pytest.fixture
def run(corpus: Path, tmp_path: Path) -> Callable[..., Outcome]:
    """Make the manifest; every path in it must lead to a file from where the manifest lies."""

    def make(name: str, source: Path = corpus, **settings: Any) -> Outcome:
        made = make_manifest(name, source, tmp_path / "made" / "m.jsonl", **settings)
        lines = [json.loads(line) for line in made.manifest.read_text(encoding="utf8").split("\n")[:-1]]
        for line in lines:
            assert line["audio"].startswith("../") and (made.manifest.parent / line["audio"]).is_file()
        faults = made.faults.read_text(encoding="utf8").splitlines() if made.faults else []
        assert len(faults) == sum(made.left_out.values())
        return Outcome(made, lines, [json.loads(line) for line in faults])

    return make
