"""Killed at any moment and started again, a preparation ends as if nothing had happened, byte for byte."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import made_up
import pytest
import soundfile as sf
from made_up import talk, tree

import chelys
from chelys.data.prepare.engine import Local
from chelys.data.prepare.pipeline import PrepareSettings, prepare

#: Prepares, and tells of each piece of work that is done.
CHILD = """
import sys
from pathlib import Path
from chelys.config import from_mapping
from chelys.data.prepare.engine import Local
from chelys.data.prepare.pipeline import PrepareSettings, prepare

if __name__ == "__main__":
    settings = from_mapping(PrepareSettings, {
        "segment": {"detector": "energy"},
        "measure": {"classifier": None},
        "transcribe": {"transcriber": "made_up:Sleepy", "model": ""},
        "pack": {"clips": 4},
    })
    with Local(int(sys.argv[3])) as engine:
        prepare(Path(sys.argv[1]), Path(sys.argv[2]), settings, engine=engine,
                progress=lambda *_: print("done", flush=True))
"""


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen]:
    (tmp_path / "child.py").write_text(CHILD)
    folders = [str(Path(chelys.__file__).parents[1]), str(Path(made_up.__file__).parent)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders), "OMP_NUM_THREADS": "1"}

    def make(raw: Path, out: Path, workers: int) -> subprocess.Popen:
        command = [sys.executable, str(tmp_path / "child.py"), str(raw), str(out), str(workers)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)

    return make


@pytest.mark.parametrize(
    ("kills", "workers"),
    [(5, 0), (2, 2), pytest.param(20, 0, marks=pytest.mark.slow), pytest.param(20, 2, marks=pytest.mark.slow)],
)
def test_killed_again_and_again(
    kills: int, workers: int, tmp_path: Path, start: Callable[..., subprocess.Popen],
    settings: Callable[..., PrepareSettings],
) -> None:  # fmt: skip
    raw = tmp_path / "raw"
    raw.mkdir()
    for i in range(12):
        sf.write(raw / f"{i}.flac", talk([1.0 + 0.1 * i, 2.0, 1.5 - 0.05 * i], seed=50 + i), made_up.RATE)
    undisturbed = tmp_path / "undisturbed"
    told: list[str] = []
    prepare(raw, undisturbed, settings(transcribe={"transcriber": "made_up:Sleepy"}), engine=Local(0),
            progress=lambda stage, *_: told.append(stage))  # fmt: skip
    chance, died, out = random.Random(kills), 0, tmp_path / "out"
    for _ in range(kills):
        child = start(raw, out, workers)
        assert child.stdout is not None
        for _ in range(chance.randrange(2 * len(told) // kills)):
            child.stdout.readline()
        time.sleep(chance.uniform(0, 0.05))
        os.kill(child.pid, signal.SIGKILL)
        died += child.wait() == -signal.SIGKILL
    assert died > kills // 2, "most came to their end before they could be killed"
    child = start(raw, out, workers)
    child.communicate(timeout=300)
    assert child.returncode == 0
    wanted = tree(undisturbed)
    assert tree(out) == wanted and len(wanted) > 12 + 4
    assert not [p for p in out.rglob("*") if p.name.endswith(".part") or p.parent.name == "partial"]
