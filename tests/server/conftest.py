"""A real server as a process of its own, speaking with the toy model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

NEEDED = ("fastapi", "uvicorn", "httpx", "openai", "prometheus_client", "pydantic_settings", "python_multipart")
if all(find_spec(package) for package in NEEDED):
    from server_process import Process, start
else:  # without the extra 'server', and what the extra 'dev' has for its tests
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="module")
def server(toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One server for the tests of a file."""
    running = start(toy_folder, tmp_path_factory.mktemp("server"))
    yield running
    if running.process.poll() is None:
        assert running.stop() == 0
    running.client.close()
    assert "Traceback" not in running.log.read_text()


@pytest.fixture
def start_server(toy_folder: Path, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start further ones, with options."""
    started: list[Process] = []

    def run(*options: str, **environment: str) -> Process:
        started.append(start(toy_folder, tmp_path / f"server{len(started)}", *options, **environment))
        return started[-1]

    yield run
    for running in started:
        running.client.close()
        if running.process.poll() is None:
            running.process.kill()
        running.process.wait()
