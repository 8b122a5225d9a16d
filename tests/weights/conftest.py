"""Published files in small, and folders of one's own to damage."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_published


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of published files in small; not to be changed."""
    return tiny_published.make(tmp_path_factory.mktemp("published") / "tiny")


@pytest.fixture
def tiny_copy(tiny: Path, tmp_path: Path) -> Callable[[], Path]:
    """Make such a folder of one's own, to be damaged."""

    def copy() -> Path:
        return Path(shutil.copytree(tiny, tmp_path / "published"))

    return copy
