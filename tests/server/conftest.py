"""A real server as a process of its own, speaking with the toy model."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

for package in ("fastapi", "uvicorn", "httpx", "prometheus_client", "pydantic_settings", "python_multipart"):
    pytest.importorskip(package, reason="needs the extra 'server'")

sys.path.insert(0, str(Path(__file__).parent))

import httpx  # noqa: E402


@dataclass
class Process:
    """A running server."""

    process: subprocess.Popen[str]
    url: str
    voices: Path
    log: Path
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=self.url, timeout=60)

    def metric(self, name: str) -> float:
        """Value of a metric without labels."""
        found = re.search(rf"^{name} (\S+)$", self.client.get("/metrics").text, re.MULTILINE)
        assert found, name
        return float(found[1])

    def stop(self) -> int:
        """Ask it to end; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


def start(folder: Path, work: Path, *options: str, **environment: str) -> Process:
    """Start a server of a model folder; it listens when this returns."""
    work.mkdir(parents=True, exist_ok=True)
    voices, log = work / "voices", work / "log.txt"
    command = [sys.executable, "-m", "chelys", "serve", "--model", str(folder), "--port", "0", *options]
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=work,
            env={**os.environ, "CHELYS_VOICES": str(voices), **environment},
        )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.wait()
        raise AssertionError(f"the server did not start: {log.read_text()}")
    return Process(process, line.rsplit(" ", 1)[1].strip(), voices, log)


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
