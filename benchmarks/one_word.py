"""What a changed word, another format and another preset cost: sentences computed by ``chelys read``.

    python benchmarks/one_word.py --out eval/one_word [--model nano] [--preset ultra_fast]

The book is made of the two hundred texts of ``chelys eval``. Each reading is a process of its own with the same store;
a line for each: what was changed, sentences, those of which something was computed, seconds of the reading.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

#: Those of ``chelys eval``, by kind.
TEXTS = Path(__file__).parents[1] / "src" / "chelys" / "assets" / "evaluation" / "hard.tsv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--preset", default="ultra_fast")
    arguments = parser.parse_args()
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    lines = [line.split("\t")[1] for line in (TEXTS).read_text(encoding="utf8").splitlines()]
    book, word = "\n\n".join(lines), lines[100].split()[0]
    changed = "\n\n".join([*lines[:100], lines[100].replace(word, "Seven", 1), *lines[101:]])
    readings = [
        ("nothing, the first reading", book, "book.m4b", []), ("one word", changed, "book.m4b", []),
        ("the format", changed, "book.mp3", []), ("the steps", changed, "book.m4b", ["--set", "steps=7"]),
    ]  # fmt: skip
    print("| changed | sentences | computed | stages computed | seconds |\n|---|---|---|---|---|")
    for what, text, name, more in readings:
        (out / "book.txt").write_text(text, encoding="utf8")
        started = time.monotonic()
        command = [
            sys.executable,
            "-m",
            "chelys",
            "read",
            str(out / "book.txt"),
            "-o",
            str(out / name),
            "--json",
            "--force",
        ]
        command += ["--store", str(out / "store"), "--model", arguments.model, "-p", arguments.preset, *more]
        made = subprocess.run(command, check=True, capture_output=True, text=True)
        events = [json.loads(line) for line in made.stdout.splitlines()]
        spoken = [event for event in events if event["event"] == "sentence"]
        stages = Counter(stage for event in spoken for stage in event["computed"])
        print(f"| {what} | {events[-1]['sentences']} | {events[-1]['computed']} | {dict(stages) or 'none'} "
              f"| {time.monotonic() - started:.0f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
