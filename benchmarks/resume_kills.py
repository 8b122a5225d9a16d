"""Kill work at random moments, start it again each time, and compare its end with that of undisturbed work.

    python benchmarks/resume_kills.py [train] [prepare] [convert] [speak] [speak-whole] [read] [read-nano]
        [--kills 50] [--seed 1]

Each life is a process of its own, ended by SIGKILL after a random time: while it starts, within a step, while it writes
a line of a log, a journal or a file. Work that came to its end in spite of that is compared byte for byte (safetensors
by their contents: their heads have no order) with work that was not disturbed, and begun anew until there were as many
kills as asked for. Exit status 1 if anything differs.

train: a training run of a small VQ-VAE (its averages, optimisers and log too). prepare: ``chelys data prepare`` of
twelve recordings. convert: TorToise v2's ten files in small. speak: ``chelys speak --stream --resume -o FILE.wav`` of
sixteen sentences; after each kill the file is opened. speak-whole: the same without ``--stream``, two FLAC files. read:
``chelys read`` of a book of sixteen sentences, to an .m4b with subtitles; beside the files, the log of the store is
compared, where each stage of each sentence must have been computed once. Its model makes noises; read-nano: nano does.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile as sf
import torch
import torch._dynamo  # noqa: F401  # the first optimiser would import it: once here, rather than in every life
from safetensors import safe_open

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "data" / "prepare")]
import made_up  # noqa: E402
import tiny_published  # noqa: E402
import toy  # noqa: E402
import toy_corpus  # noqa: E402

from chelys.audiobook.store import StageStore  # noqa: E402
from chelys.cli.main import app  # noqa: E402
from chelys.config import from_mapping  # noqa: E402
from chelys.data.prepare.engine import Local  # noqa: E402
from chelys.data.prepare.pipeline import PrepareSettings, prepare  # noqa: E402
from chelys.tortoise.convert import convert, find_checkpoints  # noqa: E402
from chelys.training.run_stage import run_stage  # noqa: E402

STEPS = 150


@dataclass
class Work:
    """One kind of work, which a call with an output folder does or goes on with."""

    do: Callable[[Path], object]
    outcome: Callable[[Path], dict[str, Any]]  # everything that must be the same
    look: Callable[[Path], str]  # what a killed life left, in words


def files_of(folder: Path) -> dict[str, Any]:
    """Every file by its name, but for the work files of a preparation and empty lock files."""
    return {name: data for name, data in made_up.tree(folder).items() if data or not name.endswith(".lock")}


def half_written(folder: Path) -> str:
    """Files that a killed life left under temporary names."""
    return f"{sum(path.name.endswith('.part') for path in folder.rglob('.chelys-*'))} .part"


def training(folder: Path) -> Work:
    """A run whose steps take milliseconds."""
    made = toy_corpus.make(folder / "corpus")
    values = {
        "run": "unset", "network": {"tokens": 16, "code_width": 4, "hidden": 16, "residual_blocks": 1},
        "loop": {
            "steps": STEPS, "warmup": 20, "threads": 1, "log_every": 1, "evaluate_every": 25, "pictures": False,
            "tensorboard": False, "checkpoint_every": 4, "learning_rate": 2e-3,
        },
        "features": str(made.features), "stage": {"rows": 4, "frames": 48, "start_at": 20, "revive_every": 5},
        "mel_range": {"low": toy_corpus.MEL_RANGE.low, "high": toy_corpus.MEL_RANGE.high},
    }  # fmt: skip
    config = folder / "run.yaml"
    config.write_text(json.dumps(values))  # JSON is YAML

    def outcome(out: Path) -> dict[str, Any]:
        files = files_of(out)
        for name in [name for name in files if name.endswith(".safetensors")]:  # whose head is in any order
            with safe_open(out / name, "np") as file:
                tensors = {key: file.get_tensor(key).tobytes() for key in file.keys()}  # noqa: SIM118
                files[name] = (tensors, file.metadata())
        lines = [json.loads(line) for line in files.pop("log.jsonl").splitlines()]
        files["log"] = [{key: value for key, value in line.items() if key != "seconds_per_step"} for line in lines]
        files["config.json"] = json.loads(files["config.json"]) | {"run": ""}
        return files

    def look(out: Path) -> str:
        newest = max((int(path.stem) for path in out.glob("checkpoints/*.safetensors")), default=0)
        return f"checkpoint {newest}, {half_written(out)}"

    return Work(lambda out: run_stage("dvae", config, [f"run={out}"]), outcome, look)


def preparing(folder: Path) -> Work:
    """Every stage, with a transcriber made by code."""
    raw = folder / "raw"
    raw.mkdir()
    for i in range(12):
        audio = made_up.talk([1.0 + 0.1 * i, 2.0, 1.5 - 0.05 * i], seed=50 + i)
        sf.write(raw / f"{i}.flac", audio, made_up.RATE)
    values = {
        "segment": {"detector": "energy"}, "measure": {"classifier": None}, "pack": {"clips": 4},
        "transcribe": {"transcriber": "made_up:Sleepy", "model": ""},
    }  # fmt: skip

    def do(out: Path) -> None:
        with Local(0) as engine:
            prepare(raw, out, from_mapping(PrepareSettings, values), engine=engine)

    return Work(do, files_of, lambda out: f"{len(files_of(out))} files, {half_written(out)}")


def converting(folder: Path) -> Work:
    """All ten networks."""
    source = tiny_published.make(folder / "published")
    look = lambda out: f"{len(list(out.glob('*.safetensors')))} networks, {half_written(out)}"  # noqa: E731
    return Work(lambda out: convert(find_checkpoints(source), out, dtype="float16"), files_of, look)


def speaking(folder: Path, *, stream: bool) -> Work:
    """A long text with a model that makes noises."""
    model = toy.make(folder / "toy")
    text = " ".join(f"Sentence {number} has one, two, three words." for number in range(16))
    more = ["--stream"] if stream else ["--keep", "2"]
    name = "long.wav" if stream else "long.flac"

    def do(out: Path) -> None:
        out.mkdir(exist_ok=True)
        asked = ["--seed", "7", "--model", str(model), "-p", "ultra_fast", "-q", "--resume", *more]
        app(["speak", text, "-o", str(out / name), *asked], standalone_mode=False)

    def look(out: Path) -> str:
        found = sorted(path for path in out.glob("*.wav") if path.stat().st_size)
        return ", ".join(f"{path.name} {len(sf.read(path)[0]) / 24_000:.1f} s" for path in found)

    return Work(do, files_of, look)


def reading(folder: Path, *, nano: bool = False) -> Work:
    """A book of two chapters."""
    model, book = "nano" if nano else toy.make(folder / "toy"), folder / "book.md"
    said = [f"Sentence {number} has one, two, three words." for number in range(16)]
    book.write_text("# One\n\n" + " ".join(said[:10]) + "\n\n# Two\n\n" + " ".join(said[10:]) + "\n")

    def do(out: Path) -> None:
        out.mkdir(exist_ok=True)
        if (out / "book.sentences.jsonl").exists():  # it came to its end: the same command says that the file exists
            return
        asked = ["--store", str(out / "store"), "--model", str(model), "-p", "ultra_fast", "-q", "--subtitles", "srt"]
        app(["read", str(book), "-o", str(out / "book.m4b"), *asked], standalone_mode=False)

    def outcome(out: Path) -> dict[str, Any]:
        found = {name: (out / name).read_bytes() for name in ("book.m4b", "book.srt")}
        record = [json.loads(line) for line in (out / "book.sentences.jsonl").read_text().splitlines()]
        found["record"] = [{key: value for key, value in line.items() if key != "computed"} for line in record]
        with StageStore(out / "store") as store:
            found["times each was computed"] = store.computed()
        found["most times"] = max(found["times each was computed"].values())
        print(f"  {len(found['times each was computed'])} stages computed, none more than {found['most times']} times")
        return found

    def look(out: Path) -> str:
        return f"{len(list(out.glob('store/entries/*/*.safetensors')))} entries, {half_written(out)}"

    return Work(do, outcome, look)


def start(work: Work, out: Path) -> int:
    """Start a life in a process of its own; returns its number."""
    child = os.fork()
    if child:
        return child
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        work.do(out)
        os._exit(0)
    except BaseException as error:  # whatever it is, it must not go on as a second parent
        print(f"the work ended by itself: {error!r}", file=sys.stderr)
        os._exit(1)


def survived(child: int, seconds: float) -> bool:
    """Wait, then kill; whether the life came to its end before."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if status:
                raise SystemExit(f"the work failed by itself, status {status}")
            return True
        time.sleep(min(0.001, max(0.0, deadline - time.monotonic())))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def judge(name: str, work: Work, folder: Path, kills: int, chance: random.Random) -> bool:
    """Kill the work as often as asked for, and say how it ended; whether always in the same bytes."""
    began = time.monotonic()
    assert survived(start(work, folder / "whole"), 3600)
    whole, expected = time.monotonic() - began, work.outcome(folder / "whole")
    print(f"{name}: {whole:.1f} s undisturbed, {len(expected)} things to compare", flush=True)
    killed, ended, differing = 0, 0, 0
    while killed < kills:
        out, ends = folder / f"killed-{ended}", False
        while not ends:
            life = chance.uniform(0, 0.9 * whole) if killed < kills else 3600.0
            ends = survived(start(work, out), life)
            if not ends:
                killed += 1
                print(f"  kill {killed:>3} after {life:6.2f} s: {work.look(out)}", flush=True)
        ended += 1
        outcome = work.outcome(out)
        odd = [key for key in expected.keys() | outcome.keys() if expected.get(key) != outcome.get(key)]
        differing += bool(odd)
        print(f"  came to its end: {'DIFFERENT in ' + ', '.join(sorted(odd)) if odd else 'the same bytes'}", flush=True)
    print(f"{name}: {killed} kills, {ended} times to the end, {ended - differing} times byte-identical\n", flush=True)
    return not differing


def main() -> int:
    """Run the benchmark."""
    makers: dict[str, Callable[[Path], Work]] = {
        "train": training, "prepare": preparing, "convert": converting,
        "speak": lambda folder: speaking(folder, stream=True),
        "speak-whole": lambda folder: speaking(folder, stream=False), "read": reading,
        "read-nano": lambda folder: reading(folder, nano=True),
    }  # fmt: skip
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", nargs="*", choices=[*makers, []], help="default: all")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    same = []
    for name in wanted.work or makers:
        with tempfile.TemporaryDirectory() as folder:
            work = makers[name](Path(folder))
            same.append(judge(name, work, Path(folder), wanted.kills, random.Random(wanted.seed)))
    return 0 if all(same) else 1


if __name__ == "__main__":
    sys.exit(main())
