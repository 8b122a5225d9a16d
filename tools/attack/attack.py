"""Attack chelys with inputs of strangers, and count what came of it: ``python tools/attack/attack.py [CATEGORY ...]``.

    texts        100,000 texts through the front end (markup, sentences, words, phonemes, ids), with nano's tokenizer
    recordings    20,000 damaged sound files, read as clips of a voice
    models         5,000 damaged model folders, which are loaded and spoken with, and voice files and checkpoints
    manifests      5,000 damaged manifests, feature folders, packs of arrays and shards
    settings       1,000 settings of training, each of which is built and, if that succeeds, trained for a step

An input is ``fine``, or ``refused`` in one line (a UserError). Faults are any other exception, a hang (more than 10
seconds of CPU time, or 60 asleep), and more than 1 GB of memory beyond the process's own; their inputs are numbers,
so that ``--only N`` repeats one. The exit status is 1 if there was a fault.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import random
import re
import shutil
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parent))

CPU_SECONDS, SECONDS, EXTRA_BYTES, POLL = 10.0, 60.0, 10**9, 0.5
TICK = os.sysconf("SC_CLK_TCK")

Case = Callable[[random.Random], None]


def texts() -> Case:
    from texts import text

    from chelys.text.front_end import FORMATS, read_text
    from chelys.text.tokenizer import Tokenizer
    from chelys.weights.catalog import find_model

    tokenizer = Tokenizer.load(find_model("nano"))
    size = tokenizer.vocabulary_size

    def case(rng: random.Random) -> None:
        document = read_text(text(rng), tokenizer, format=rng.choice(("auto", *FORMATS)), tags=rng.random() < 0.7)
        for sentence in document.sentences:
            assert all(0 <= number < size for number in tokenizer.ids(sentence.phonemes))

    return case


def recordings() -> Case:
    import readers
    from mutate import damaged

    names = ["a.wav", "a.flac", "a.mp3", "a.ogg", "a.m4a", "a.webm", "a", "a.raw", "a.opus", "a.avi"]

    def case(rng: random.Random) -> None:
        readers.audio(damaged("audio", readers.seeds("audio"), rng), rng.choice(names))

    return case


def models() -> Case:
    import readers
    from mutate import bytes_of, damaged

    from chelys.inference.options import SpeechOptions
    from chelys.inference.synthesizer import Synthesizer
    from chelys.weights.folder import sha256

    quick = SpeechOptions(candidates=1, steps=1)
    toy, folder = readers.toy_model(), readers.scratch() / "model"
    os.environ["CHELYS_MODELS"] = str(readers.scratch() / "models")
    kinds = {"config.json": "config", "tokenizer.json": "tokenizer", "lexicon.txt.gz": "lexicon"}
    files = [path.relative_to(toy) for path in sorted(toy.rglob("*")) if path.is_file()]

    def case(rng: random.Random) -> None:
        if rng.random() < 0.4:
            kind = rng.choice(("voice", "latents", "checkpoint", "safetensors"))
            readers.READERS[kind](damaged(kind, readers.seeds(kind), rng))
            return
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(toy, folder)
        name = rng.choice(files)
        path = folder / name
        kind = kinds.get(name.name, "voice" if name.parts[0] == "voices" else "safetensors")
        path.write_bytes(damaged(kind, [path.read_bytes()], rng) if rng.random() < 0.9 else bytes_of(b"x" * 99, rng))
        if rng.random() < 0.8 and name.name != "config.json":  # a stranger knows how to write hashes
            config = json.loads((folder / "config.json").read_bytes())
            config["hashes"] = {file: sha256(folder / file) for file in config["hashes"]}
            (folder / "config.json").write_text(json.dumps(config))
        Synthesizer.from_folder(folder).speak("Hello there, 3.", seed=1, options=quick)

    return case


def manifests() -> Case:
    import readers
    from mutate import damaged

    kinds = ["manifest", "manifest", "tar", "tar", "index", "statistics", "mels", "codes", "npz", "json", "yaml"]

    def case(rng: random.Random) -> None:
        kind = rng.choice(kinds)
        readers.READERS[kind](damaged(kind, readers.seeds(kind), rng))

    return case


def settings() -> Case:
    import readers
    import yaml
    from mutate import STRANGE, value_of
    from training_values import values

    from chelys.training.run_stage import run_stage
    from chelys.training.tasks import RUNS

    stages = [stage for stage in RUNS if stage in values(readers.corpus(), readers.scratch() / "run")]
    path = readers.scratch() / "run.yaml"

    def case(rng: random.Random) -> None:
        run = readers.scratch() / "run"
        shutil.rmtree(run, ignore_errors=True)
        stage = rng.choice(stages)
        made, overrides = values(readers.corpus(), run)[stage], []
        if rng.random() < 0.8:
            made = value_of(made, rng)
        else:
            section = rng.choice(("loop", "stage", "network", "mel_range"))
            key = rng.choice(list((made.get(section) or {"x": 1}).keys()))
            overrides = [f"{section}.{key}={rng.choice(STRANGE)}"]
        if isinstance(made, dict):
            if not str(made.get("run", "")).startswith(str(readers.scratch())):
                made["run"] = str(run)  # wherever else it points, it would be written to
            loop = made.setdefault("loop", {})
            if isinstance(loop, dict):  # without it a run would be as long as nano's
                steps = loop.get("steps", 1)
                loop["steps"] = min(steps, 1) if isinstance(steps, (int, float)) else steps
            rows = stage_of.get("rows") if isinstance(stage_of := made.get("stage"), dict) else None
            if isinstance(rows, (int, float)):
                stage_of["rows"] = min(rows, 8)  # a run that is merely large is no fault
        overrides = [one for one in overrides if not one.startswith(("loop.steps=", "stage.rows="))]
        path.write_text(yaml.safe_dump(made) if rng.random() < 0.95 else json.dumps(made))
        run_stage(stage, path, overrides)

    return case


CATEGORIES: dict[str, tuple[Callable[[], Case], int]] = {
    "texts": (texts, 100_000),
    "recordings": (recordings, 20_000),
    "models": (models, 5_000),
    "manifests": (manifests, 5_000),
    "settings": (settings, 1_000),
}


# ---- the process that is attacked -----------------------------------------------------------------------------------


def work(name: str, numbers: list[int], seed: int, channel: Any, verbose: bool) -> None:
    """Do cases, and send what came of each: its number, ``fine``, ``refused`` or a fault, and details."""
    from chelys.errors import UserError

    logging.getLogger("chelys").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
    case = CATEGORIES[name][0]()
    try:  # whatever is made or imported late is not to be counted as a case's
        case(random.Random(f"{seed} warm"))
    except Exception:
        pass
    channel.send((-1, "ready", ""))
    for number in numbers:
        base, _ = _reset_peak()
        outcome, details = "fine", ""
        try:
            case(random.Random(f"{seed} {name} {number}"))
        except UserError as error:
            outcome, details = "refused", type(error).__name__
            if "\n" in str(error):
                outcome, details = "fault", f"{type(error).__name__} of several lines: {str(error)[:200]!r}"
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            frames = traceback.extract_tb(error.__traceback__)
            ours = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames if "chelys" in frame.filename]
            where, said = ours[-1] if ours else "?", re.sub("[0-9]+", "N", str(error))[:100]
            outcome, details = "fault", f"{type(error).__name__} at {where}: {said}"
            if verbose:
                traceback.print_exc()
        _, peak = _reset_peak()
        if peak - base > EXTRA_BYTES:
            outcome, details = "memory", f"{(peak - base) / 1e9:.1f} GB beyond the base"
        channel.send((number, outcome, details))
    if "readers" in sys.modules:
        shutil.rmtree(sys.modules["readers"].scratch(), ignore_errors=True)


def _reset_peak() -> tuple[int, int]:
    """Resident bytes now, and the most of them since this was last called."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = {line.split(":")[0]: line for line in lines if line.startswith(("VmHWM", "VmRSS"))}
    now, peak = (int(found[key].split()[1]) * 1024 for key in ("VmRSS", "VmHWM"))
    Path("/proc/self/clear_refs").write_text("5")
    return now, peak


def cpu_seconds(process: int) -> tuple[float, bool]:
    """CPU seconds of a process, and whether it sleeps; waiting for a core, or stopped, it does not."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK, fields[0] in "SD"


def attack(name: str, numbers: list[int], seed: int, verbose: bool) -> tuple[Counter[str], dict[str, list[int]]]:
    """All cases of a category; one that hangs is killed, and the rest goes on in another process."""
    counts: Counter[str] = Counter()
    faults: dict[str, list[int]] = {}
    context = multiprocessing.get_context("spawn")
    todo, begin = list(numbers), time.monotonic()
    while todo:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(name, todo, seed, theirs, verbose))
        process.start()
        theirs.close()
        assert process.pid is not None
        before, asleep, ready = 0.0, 0.0, False
        while todo:
            try:
                arrived = ours.poll(POLL)
                message = ours.recv() if arrived else None
            except EOFError:
                process.join()
                if not ready:
                    raise SystemExit(f"{name}: the process died before it began") from None
                _note(counts, faults, todo.pop(0), "fault", f"the process died ({process.exitcode})")
                break
            if message is not None:
                number, outcome, details = message
                before, asleep = cpu_seconds(process.pid)[0] if process.is_alive() else 0.0, 0.0
                if number < 0:
                    ready = True
                    continue
                todo.remove(number)
                _note(counts, faults, number, outcome, details)
                done = sum(counts.values())
                if done % max(1, len(numbers) // 10) == 0:
                    print(f"{name}: {done} of {len(numbers)}, {dict(counts)}", file=sys.stderr, flush=True)
                continue
            spent, sleeps = cpu_seconds(process.pid)
            asleep += POLL if sleeps else 0.0
            if ready and (spent - before > CPU_SECONDS or asleep > SECONDS):
                process.kill()
                process.join()
                _note(counts, faults, todo.pop(0), "hang", f"{spent - before:.0f} CPU s, {asleep:.0f} s asleep")
                break
        if process.is_alive():
            process.join(10)
            process.kill()
    print(f"{name}: {time.monotonic() - begin:.0f} s", file=sys.stderr)
    return counts, faults


def _note(counts: Counter[str], faults: dict[str, list[int]], number: int, outcome: str, details: str) -> None:
    counts[outcome] += 1
    if outcome not in ("fine", "refused"):
        print(f"    {number}: {outcome}: {details}", file=sys.stderr, flush=True)
        faults.setdefault(f"{outcome}: {details}", []).append(number)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("category", nargs="*", help=", ".join(CATEGORIES))
    parser.add_argument("--share", type=float, default=1.0, help="of the counts above")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--numbers", metavar="FROM:TO", help="a part of the inputs, to be done in several runs")
    parser.add_argument("--only", type=int, help="repeat one input, with its traceback")
    parser.add_argument("--json", type=Path, help="write the counts there")
    asked = parser.parse_args()
    if unknown := set(asked.category) - set(CATEGORIES):
        parser.error(f"unknown category {', '.join(unknown)}: choose from {', '.join(CATEGORIES)}")
    found: dict[str, Any] = {}
    for name in asked.category or CATEGORIES:
        count = max(1, round(asked.share * CATEGORIES[name][1]))
        first, _, last = (asked.numbers or f"0:{count}").partition(":")
        numbers = list(range(int(first), int(last))) if asked.only is None else [asked.only]
        counts, faults = attack(name, numbers, asked.seed, asked.only is not None)
        found[name] = {"counts": dict(counts), "faults": faults}
        shown = ", ".join(f"{counts[key]} {key}" for key in ("fine", "refused", "fault", "hang", "memory"))
        print(f"{name:<11} {sum(counts.values()):>7}  {shown}")
        for fault, where in sorted(faults.items(), key=lambda item: -len(item[1])):
            print(f"    {len(where)} times {fault} (--only {where[0]})")
        sys.stdout.flush()
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2) + "\n")
    return int(any(part["faults"] for part in found.values()))


if __name__ == "__main__":
    sys.exit(main())
