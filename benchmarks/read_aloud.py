"""Words that are heard wrong in the sentences of `read_aloud.tsv`, with the front end of version 0.1 and with this one.

    git worktree add /tmp/before 3755f3a
    python benchmarks/read_aloud.py --before /tmp/before [--voice heart] [--out FOLDER]

The other version only makes phonemes; this one speaks both, preset `fast`, sentence i with seed i, so that all but the
phonemes is equal. Whisper base hears them (extra `eval`); words are compared in its plain spelling with the third
column of the file, the right reading written by hand.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import soxr

import chelys
from chelys.audio.recognition import RATE, hear
from chelys.evaluation.listening import load_recogniser
from chelys.evaluation.words import compare_words, plain
from chelys.text.document import Document

_PHONEMES_BEFORE = """
import json, sys
from pathlib import Path
import chelys
from chelys.text.tokenizer import Tokenizer
tokenizer = Tokenizer.load(Path(chelys.__file__).parent / "assets" / "nano")
print(json.dumps([tokenizer.analyse(text).symbols for text in json.load(sys.stdin)]))
"""


def phonemes_before(tree: Path, texts: list[str]) -> list[str]:
    """What the front end of version 0.1 (3755f3a) makes of the texts, by its own code in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _PHONEMES_BEFORE], input=json.dumps(texts), text=True, capture_output=True, check=False,
        env=os.environ | {"PYTHONPATH": str(tree / "src")},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr)
    found: list[str] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="a tree of version 0.1")
    parser.add_argument("--voice", default="heart")
    parser.add_argument("--texts", type=Path, default=Path(__file__).with_suffix(".tsv"))
    parser.add_argument("--out", type=Path, help="a folder for the waves")
    arguments = parser.parse_args()
    with arguments.texts.open(encoding="utf8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    before = phonemes_before(arguments.before, [written for _, written, _ in rows])
    speaker, recogniser = chelys.load(), load_recogniser()
    wrong: Counter[tuple[str, str]] = Counter()
    words: Counter[str] = Counter()
    for i, ((kind, written, said), phonemes) in enumerate(zip(rows, before, strict=True)):
        reference = plain(said)
        words.update({kind: len(reference.split()), "all": len(reference.split())})
        now = speaker.read_text(written)
        old = Document(written, [dataclasses.replace(now.sentences[0], phonemes=phonemes)])
        print(f"{kind}: {written}")
        for version, document in (("before", old), ("now", now)):
            speech = speaker.speak(document, voice=arguments.voice, seed=i)
            if arguments.out is not None:
                speech.save(arguments.out / f"{i:02d}-{version}.wav")
            heard = plain(hear(recogniser, soxr.resample(speech.audio, speech.sample_rate, RATE)))
            errors = compare_words(reference, heard).errors
            wrong.update({(kind, version): errors, ("all", version): errors})
            print(f"  {version}: {errors} wrong of {len(reference.split())}: {heard}", flush=True)
    print("\n| kind | words | before | now |\n|---|---|---|---|")
    for kind, count in words.items():
        print(f"| {kind} | {count} | {wrong[kind, 'before'] / count:.3f} | {wrong[kind, 'now'] / count:.3f} |")


if __name__ == "__main__":
    main()
