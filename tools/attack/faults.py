"""Fail the n-th write, rename, fsync or large allocation of a command, for each n, and look what is left.

    python tools/attack/faults.py [speak] [voices] [convert] [train] [prepare] [--points 200] [--kinds write,rename]

Each try is a process of its own in which just one operation on a file below its output folder fails, as on a full disk
(or, with ``alloc``, one allocation of 64 kB or more). It must end well or in one line: a ``UserError``, or an
``OSError`` or ``MemoryError``, which the command line says in a line. After it every file under a final name must be as
undisturbed work leaves it; logs, journals, hidden files and those called partial may be unfinished. Then the work is
done again, and must succeed and leave the same bytes. Exit status 1 if anything of it does not hold. Needs Linux, with
glibc and a C compiler.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import logging
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
KINDS = {"write": 1, "rename": 2, "sync": 4, "alloc": 8}
LIBRARY = "CHELYS_FAULTS"
SECONDS = 120  # for one try


def preload() -> ctypes.CDLL:
    """The library that fails operations; this program is started again with it if need be."""
    built = os.environ.get(LIBRARY)
    if built:
        return ctypes.CDLL(built)
    built = str(Path(tempfile.mkdtemp(prefix="chelys-faults-")) / "faults.so")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", built, str(HERE / "faults.c"), "-ldl"], check=True)
    environment = os.environ | {LIBRARY: built, "LD_PRELOAD": built, "OMP_NUM_THREADS": "1"}
    os.execve(sys.executable, [sys.executable, *sys.argv], environment)


@dataclass
class Attempt:
    """What came of a try."""

    outcome: str  # ``well``, ``refused``, or what was raised
    operations: int  # how many were counted


def attempt(library: ctypes.CDLL, do: Callable[[Path], object], out: Path, kinds: int, failing: int) -> Attempt:
    """Do the work in a process in which one operation fails; none for 0."""
    from chelys.errors import UserError

    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        try:
            sink = os.open(os.devnull, os.O_WRONLY)
            os.dup2(sink, 1)
            os.dup2(sink, 2)
            library.faults_arm(kinds, ctypes.c_long(failing), os.fsencode(out))
            try:
                do(out)
                said = "well"
            except (UserError, OSError, MemoryError):
                said = "refused"
            except SystemExit as error:
                said = (
                    "well" if not error.code else "refused" if error.code in (2, 130) else f"exit status {error.code}"
                )
            except RuntimeError as error:  # torch's for an allocation
                said = "refused" if "memory" in str(error) else f"RuntimeError: {str(error)[:100]}"
            except BaseException as error:
                said = f"{type(error).__name__}: {str(error)[:100]}"
            library.faults_disarm()
            os.write(writing, f"{library.faults_count()} {said}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    begin, status = time.monotonic(), None
    while status is None:
        done, code = os.waitpid(child, os.WNOHANG)
        if done:
            status = code
        elif time.monotonic() - begin > SECONDS:
            os.kill(child, 9)
            os.waitpid(child, 0)
            os.close(reading)
            return Attempt(f"hung for {SECONDS} s", 0)
        else:
            time.sleep(0.005)
    with os.fdopen(reading, "rb") as answer:
        count, _, said = answer.read().decode().partition(" ")
    return Attempt(said or f"died with status {status}", int(count or 0))


#: What may be unfinished: it is told apart from finished work by its name, or line by line.
def is_final(name: str) -> bool:
    """Whether a file is under a final name."""
    parts = Path(name).parts
    hidden = any(part.startswith(".") or ".partial" in part or part.endswith((".part", ".lock")) for part in parts)
    return not hidden and parts[-1] != "log.jsonl" and not {"work", "partial"} & set(parts)


def judge(name: str, work: Any, folder: Path, library: ctypes.CDLL, kinds: int, points: int) -> bool:
    """Every try of a command; whether all held."""
    begin = time.monotonic()
    whole = attempt(library, work.do, folder / "whole", kinds, 0)
    if whole.outcome != "well":
        raise SystemExit(f"{name} does not work undisturbed: {whole.outcome}")
    expected = work.outcome(folder / "whole")
    outcomes: Counter[str] = Counter()
    faults: list[str] = []
    for point in range(1, min(points, whole.operations) + 1):
        out = folder / f"failing-{point}"
        first = attempt(library, work.do, out, kinds, point)
        outcomes[first.outcome if first.outcome in ("well", "refused") else "fault"] += 1
        if first.outcome not in ("well", "refused"):
            faults.append(f"operation {point}: {first.outcome}")
        if out.exists():
            left = work.final(out)
            half = [key for key in left if is_final(key) and left[key] not in (expected.get(key), None)]
            faults += [f"operation {point}: {key} is half written" for key in half]
        second = attempt(library, work.do, out, 0, 0)
        if second.outcome != "well":
            faults.append(f"operation {point}: the repeat says {second.outcome}")
        else:
            found = work.outcome(out)
            odd = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
            faults += [f"operation {point}: the repeat leaves another {', '.join(odd)}"] if odd else []
        subprocess.run(["rm", "-rf", str(out)], check=True)
        if not point % 20:
            print(
                f"{name}: {point} of {whole.operations} operations, {len(faults)} faults", file=sys.stderr, flush=True
            )
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    seconds = time.monotonic() - begin
    print(f"{name:<8} {whole.operations:>5} operations, failed one by one: {told or 'none'}; {len(faults)} faults"
          f" ({seconds:.0f} s)")  # fmt: skip
    for fault in faults[:20]:
        print(f"    {fault}")
    sys.stdout.flush()
    return not faults


def works(names: list[str], folder: Path) -> dict[str, Any]:
    """The commands, small."""
    sys.path[:0] = [str(HERE.parents[1] / "benchmarks")]
    import resume_kills
    import toy

    from chelys.audio.io import write
    from chelys.cli.main import app

    resume_kills.STEPS = 6
    made: dict[str, Any] = {}
    for name in names:
        place = folder / f"{name}-material"
        place.mkdir()
        if name == "train":
            made[name] = resume_kills.training(place)
        elif name == "prepare":
            made[name] = resume_kills.preparing(place)
        elif name == "convert":
            made[name] = resume_kills.converting(place)
        else:
            model = toy.make(place / "toy")
            clip = place / "clip.wav"
            write(clip, toy.tone(150.0, 1.5), 24_000)
            if name == "speak":
                asked = ["speak", "Hello there. One, two, three.", "--seed", "7", "-p", "ultra_fast", "-q", "--force"]
            else:
                asked = ["voices", "add", "me", str(clip), "--force"]

            def do(out: Path, asked: list[str] = asked, model: Path = model, speak: bool = name == "speak") -> None:
                out.mkdir(exist_ok=True)
                os.environ["CHELYS_VOICES"] = str(out / "voices")
                os.environ["CHELYS_MODELS"] = str(out / ".models")
                target = ["-o", str(out / "a.wav")] if speak else []
                app([*asked, "--model", str(model), *target])

            outcome = lambda out: {n: d for n, d in resume_kills.files_of(out).items() if is_final(n)}  # noqa: E731
            made[name] = resume_kills.Work(do, outcome, lambda out: "")
        made[name].final = _whole if name in ("train", "prepare") else resume_kills.files_of
    if "train" in made:  # a run that could not write an older checkpoint goes on without it
        made["train"].outcome = _without_older_checkpoints(made["train"].outcome)
    return made


def _without_older_checkpoints(outcome: Callable[[Path], dict[str, Any]]) -> Callable[[Path], dict[str, Any]]:
    def only_newest(out: Path) -> dict[str, Any]:
        found = outcome(out)
        checkpoints = sorted(name for name in found if name.startswith("checkpoints/"))
        return {name: data for name, data in found.items() if name not in checkpoints[:-1]}

    return only_newest


def _whole(out: Path) -> dict[str, Any]:
    """Files whose kind can be read to its end: None for each, or its bytes where it is half a file.

    Training in progress has other weights than finished training, and a preparation leaves out a recording whose clips
    it could not write, so that their files are not compared with those of undisturbed work.
    """
    import soundfile
    from safetensors import safe_open

    def read(path: Path) -> None:
        if path.suffix == ".safetensors":
            with safe_open(path, "np") as file:
                for key in file.keys():  # noqa: SIM118
                    file.get_tensor(key)
        elif path.suffix == ".tar":
            with tarfile.open(path) as tar:
                for member in tar:
                    if member.isfile() and len(tar.extractfile(member).read()) != member.size:  # type: ignore[union-attr]
                        raise ValueError("a member is cut")
            if not path.read_bytes().endswith(bytes(1024)):
                raise ValueError("its end is cut")
        elif path.suffix == ".flac":
            audio, _ = soundfile.read(path)
            if len(audio) != soundfile.info(path).frames:
                raise ValueError("its end is cut")
        elif path.suffix in (".json", ".jsonl"):
            text = path.read_text()
            for line in text.splitlines() if path.suffix == ".jsonl" else [text]:
                json.loads(line)
            if text and not text.endswith("\n"):
                raise ValueError("its last line is cut")
        elif not path.stat().st_size:
            raise ValueError("it is empty")

    found: dict[str, Any] = {}
    for path in out.rglob("*"):
        name = str(path.relative_to(out))
        if path.is_file() and is_final(name):
            try:
                read(path)
                found[name] = None
            except Exception:
                found[name] = path.read_bytes()
    return found


def main() -> int:
    """Run all that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="*", help="speak, voices, convert, train, prepare; default: all")
    parser.add_argument("--points", type=int, default=200, help="how many of the first operations fail, one a try")
    parser.add_argument("--kinds", default="write,rename,sync", help=f"of {', '.join(KINDS)}")
    asked = parser.parse_args()
    library = preload()
    warnings.simplefilter("ignore")
    logging.getLogger("chelys").setLevel(logging.CRITICAL)
    import torch
    import torch._dynamo  # noqa: F401  # the first optimiser would import it in every try

    torch.set_num_threads(1)
    kinds, held = sum(KINDS[kind] for kind in asked.kinds.split(",")), []
    with tempfile.TemporaryDirectory(prefix="chelys-faults-") as scratch:
        folder = Path(scratch)
        for name, work in works(asked.command or ["speak", "voices", "convert", "train", "prepare"], folder).items():
            (folder / name).mkdir()
            held.append(judge(name, work, folder / name, library, kinds, asked.points))
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
