"""How well and how fast text is read: lines as they are written and as they are said, and the pace of the front end.

    python benchmarks/text.py [--pairs PAIRS.tsv] [--misses] [--repeat 5]

``PAIRS.tsv`` has a heading and ``id<TAB>as written<TAB>as said`` lines. A line is *right* where its words are the
same after lower-casing and dropping punctuation; hyphens and the colons within times part words. It is *right but for
titles* where they are the same once "Mr." and other titles that the reference leaves short are said in full there too.
Lines of even and of odd number (the first is 0) are counted apart: the rules were written with the even ones in sight.

The pace is that of one thread after a warm-up, in CPU time: of `normalize` alone, and of the whole front end down to
phonemes, on the texts beside this script, on one long text, and on the pairs, whose every line has a figure or a short
form. Import and load, and the memory that they take, are those of a fresh process, beyond the interpreter's own, with
modules compiled, as an installation leaves them; the least of five.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from chelys.evaluation.sets import read_texts
from chelys.text.abbreviations import STOPPED_TITLES, TITLES
from chelys.text.front_end import read_text
from chelys.text.lexicon import NANO_LEXICON
from chelys.text.normalize import normalize
from chelys.text.tokenizer import Tokenizer

_TITLE = re.compile(rf"\b({'|'.join(TITLES | STOPPED_TITLES)})\.")
_FRESH = """
import resource, time
def memory():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 2**20
before, started = memory(), time.process_time()
from chelys.text.front_end import read_text
from chelys.text.lexicon import NANO_LEXICON
from chelys.text.tokenizer import Tokenizer
tokenizer = Tokenizer.load(NANO_LEXICON.parent)
loaded = time.process_time()
read_text("Dr. Smith paid $5 on May 3, 2021.", tokenizer)
print(f"{(loaded - started) * 1000:.0f} {(time.process_time() - loaded) * 1000:.0f} {memory() - before:.0f}")
"""


def words(text: str) -> list[str]:
    """What is compared."""
    return re.sub(r"[^a-z0-9 ]", "", re.sub(r"[-:]", " ", text.lower())).split()


def full_titles(text: str) -> str:
    """The reference with its short titles in full."""
    return _TITLE.sub(lambda match: (TITLES | STOPPED_TITLES)[match[1]], text)


def pace(read: Callable[[str], object], texts: Sequence[str], repeat: int) -> float:
    """Characters a second of CPU time, the best of so many runs after a first."""
    seconds = []
    for _ in range(repeat + 1):
        started = time.process_time()
        for text in texts:
            read(text)
        seconds.append(time.process_time() - started)
    return sum(map(len, texts)) / min(seconds[1:])


def show_pairs(lines: list[tuple[str, str, str]], *, misses: bool) -> None:
    """Print the shares, and what was missed."""
    found = []
    for number, (name, written, said) in enumerate(lines):
        spoken = words(normalize(written).text)
        right, but_for_titles = spoken == words(said), spoken == words(full_titles(said))
        found.append((number % 2, right, but_for_titles))
        if misses and not right:
            kind = "title" if but_for_titles else "miss"
            print(f"{kind} {name}\n  written {written}\n  said    {said}\n  here    {normalize(written).text}")
    for half, label in ((0, "even, in sight"), (1, "odd"), (None, "all")):
        of = [one for one in found if half in (None, one[0])]
        print(
            f"{label:15s} {len(of):4d} lines: right {sum(one[1] for one in of) / len(of):.4f}, "
            f"but for titles {sum(one[2] for one in of) / len(of):.4f}"
        )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--misses", action="store_true", help="print every line that is not right")
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    own = [text.text for name in ("harvard", "hard") for text in read_texts(name)]
    corpora = {"short texts": own, "a long text": [read_texts("long")[1].text]}
    if arguments.pairs:
        rows = [line.split("\t") for line in arguments.pairs.read_text(encoding="utf8").splitlines()[1:]]
        lines = [(row[0], row[1], row[2]) for row in rows]
        show_pairs(lines, misses=arguments.misses)
        corpora["pairs"] = [written for _, written, _ in lines]
    tokenizer = Tokenizer.load(NANO_LEXICON.parent)
    for name, texts in corpora.items():
        print(
            f"{name}: normalize {pace(lambda text: normalize(text), texts, arguments.repeat):,.0f} characters/s, "
            f"whole front end {pace(lambda text: read_text(text, tokenizer), texts, arguments.repeat):,.0f}"
        )
    compiled = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    fresh = [
        subprocess.run([sys.executable, "-c", _FRESH], capture_output=True, text=True, check=True, env=compiled)
        for _ in range(5)
    ]
    load, first, memory = (min(column) for column in zip(*(map(int, run.stdout.split()) for run in fresh), strict=True))
    print(f"import and load {load} ms, first sentence {first} ms more, {memory} MB")


if __name__ == "__main__":
    main()
