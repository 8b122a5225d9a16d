"""One epoch of shards, read by 2 ranks with 2 workers each: every sample once, also after a kill in the middle.

What was read is told from the content of the batches, not from what was meant to be read.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import toy_corpus

import chelys
from chelys.audio.mel import MelRange
from chelys.data.pairs import PairConfig, load_pairs

SAMPLES = 90
#: A rank of the run: writes a line for each step, the numbers of the samples that it read.
RANK = """
import sys, time
from pathlib import Path
from chelys.audio.mel import MelRange
from chelys.data.loader import StepLoader
from chelys.data.pairs import PairConfig, load_pairs
from chelys.training.task import PairedData
from chelys.training.trainer import StepBatches

shards, text, out, budget, rank, start, stop, pause = sys.argv[1:]
pairs = load_pairs(
    Path(shards), Path(shards), Path(text), MelRange(-9, -3), PairConfig(budget=int(budget), reference_frames=8), 5
)
loader = StepLoader(StepBatches(PairedData(pairs), int(rank), 2, 2), int(start), int(stop), workers=2)
with open(out, "a") as lines:
    for step, (share, parts) in enumerate(loader, int(start)):
        numbers = [int(row[0]) for part in parts for row in part.codes]
        lines.write(f"{step} {' '.join(map(str, numbers))}\\n")
        lines.flush()
        time.sleep(float(pause))
"""


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four shards; the first code of a sample is its number."""
    folder = tmp_path_factory.mktemp("shards")
    rng = np.random.default_rng(0)
    for shard in range(4):
        with tarfile.open(folder / f"{shard:06d}.tar", "w") as tar:
            for number in range(shard, SAMPLES, 4):
                codes = rng.integers(SAMPLES, size=int(rng.integers(8, 60))).astype(np.uint16)
                codes[0] = number
                seconds = (len(codes) + 0.5) * 1024 / 24_000
                npy, flac = io.BytesIO(), io.BytesIO()
                np.save(npy, codes)
                sf.write(flac, 0.1 * rng.standard_normal(round(seconds * 24_000)), 24_000, format="FLAC")
                about = {"id": f"s{number:03d}", "text": "Calm.", "speaker": f"v{number % 3}", "seconds": seconds}
                for suffix, data in (
                    ("codes.npy", npy.getvalue()), ("flac", flac.getvalue()), ("json", json.dumps(about).encode()),
                ):  # fmt: skip
                    info = tarfile.TarInfo(f"s{number:03d}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return folder


def start_rank(
    shards: Path, text: Path, out: Path, budget: int, rank: int, start: int, stop: int, pause: float
) -> subprocess.Popen[bytes]:
    path = os.pathsep.join([str(Path(chelys.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    arguments = [str(value) for value in (shards, text, out, budget, rank, start, stop, pause)]
    return subprocess.Popen(
        [sys.executable, "-c", RANK, *arguments], env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    )


def read(out: Path) -> dict[int, list[int]]:
    lines = out.read_text().splitlines() if out.exists() else []
    return {int(step): [int(n) for n in numbers] for step, *numbers in map(str.split, lines)}


def test_two_ranks_with_two_workers_read_each_sample_once_though_killed(
    shards: Path, toy: toy_corpus.ToyCorpus, tmp_path: Path
) -> None:
    text = toy.text
    for budget in range(200, 400, 10):  # one row is read by both ranks: take batches of more
        config = PairConfig(budget=budget, reference_frames=8)
        pairs = load_pairs(shards, shards, text, MelRange(-9, -3), config, 5)
        sizes: list[int] = []
        while sum(sizes) < len(pairs.train):
            sizes.append(len(pairs.clips(len(sizes))))
        if min(sizes) > 1:
            break
    steps = len(sizes)
    assert min(sizes) > 1 and steps >= 8 and len(pairs.train) + len(pairs.test) == SAMPLES
    outs = [tmp_path / f"rank-{rank}" for rank in (0, 1)]
    ranks = [start_rank(shards, text, out, budget, rank, 0, steps, 0.3) for rank, out in enumerate(outs)]
    try:
        while any(len(read(out)) < 4 for out in outs):
            assert all(process.poll() is None for process in ranks)
            time.sleep(0.05)
    finally:
        for process in ranks:
            process.send_signal(signal.SIGKILL)
            process.wait()
    taken = [read(out) for out in outs]
    saved = min(map(len, taken))  # the step of the checkpoint that both ranks go on from
    assert 4 <= saved < steps
    taken = [{step: numbers for step, numbers in rank.items() if step < saved} for rank in taken]
    again = [tmp_path / f"again-{rank}" for rank in (0, 1)]
    ranks = [start_rank(shards, text, out, budget, rank, saved, steps, 0) for rank, out in enumerate(again)]
    assert [process.wait(120) for process in ranks] == [0, 0]
    taken = [before | read(out) for before, out in zip(taken, again, strict=True)]
    assert all(list(rank) == list(range(steps)) for rank in taken)
    counts = Counter(number for rank in taken for numbers in rank.values() for number in numbers)
    assert set(counts.values()) == {1} and len(counts) == len(pairs.train), "each sample once, none left out"
    assert all(sum(map(len, rank.values())) > len(pairs.train) / 3 for rank in taken), "and shared out evenly"
