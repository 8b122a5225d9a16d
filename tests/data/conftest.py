"""The toy corpus."""

from __future__ import annotations

import pytest
import toy_corpus


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> toy_corpus.ToyCorpus:
    """One for the whole session; not to be changed."""
    return toy_corpus.make(tmp_path_factory.getbasetemp() / "toy_corpus")
