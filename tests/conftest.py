"""What the tests of several rooms share: a toy model, and sums that come out alike however many cores there are."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

import fake_hub  # noqa: E402
import tiny_published  # noqa: E402
import toy  # noqa: E402

from chelys.inference.synthesizer import Synthesizer  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks are no faster on many threads, and sums in another order differ in their last bits.

    The environment says so to commands, which set the threads of the whole process, and to processes of tests.
    """
    threads = torch.get_num_threads()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def nothing_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever runs the tests may have voices, models and measurements of their own."""
    monkeypatch.setenv("CHELYS_VOICES", str(tmp_path / "shelf"))
    monkeypatch.setenv("CHELYS_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("CHELYS_STORE", str(tmp_path / "stages"))
    monkeypatch.setattr("chelys.machine.measured_file", lambda: tmp_path / "measured.json")


@pytest.fixture(scope="session", name="toy")
def toy_corpus_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A corpus with features and codes; not to be changed."""
    import toy_corpus  # late: most tests do without

    return toy_corpus.make(tmp_path_factory.getbasetemp() / "toy_corpus")


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder; not to be changed."""
    return toy.make(tmp_path_factory.mktemp("models") / "toy")


@pytest.fixture(scope="session")
def tts(toy_folder: Path) -> Synthesizer:
    """The toy model, loaded."""
    return Synthesizer.from_folder(toy_folder)


@pytest.fixture
def toy_copy(toy_folder: Path, tmp_path: Path) -> Callable[[], Path]:
    """Make a model folder of one's own, to be damaged."""

    def copy() -> Path:
        return Path(shutil.copytree(toy_folder, tmp_path / "model"))

    return copy


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


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> fake_hub.Hub:
    """The hub, empty."""
    played = fake_hub.Hub(tmp_path)
    monkeypatch.setattr(fake_hub.huggingface_hub, "HfApi", lambda: played)
    for name in ("hf_hub_download", "try_to_load_from_cache", "snapshot_download"):
        monkeypatch.setattr(fake_hub.huggingface_hub, name, getattr(played, name))
    return played
