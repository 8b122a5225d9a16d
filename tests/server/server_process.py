"""Starts servers, and asks them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import httpx


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
