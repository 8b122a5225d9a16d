"""How many sentences are wrong without and with ``--verify``, and what the checking costs.

    python benchmarks/checked_takes.py speak --out eval/plain [--verify builtin] [--texts TEXTS.tsv]
    python benchmarks/checked_takes.py judge eval/plain eval/checked

``speak`` makes a take of each text (``KIND<TAB>TEXT`` a line, or plain text, a sentence a line) as one book at preset
``fast`` with seed 1; both runs share ``OUT/../store``, so the second computes only what checking adds. Samples,
candidates and seconds of work stand in ``OUT/list.jsonl``. A run that was stopped goes on.
``judge`` needs the extra ``eval`` and hears each take once, ``OUT/heard.jsonl``. A text is
*wrong* where any word is.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Those of ``chelys eval``, by kind.
TEXTS = Path(__file__).parents[1] / "src" / "chelys" / "assets" / "evaluation" / "hard.tsv"


def texts(path: Path) -> Iterator[tuple[str, str]]:
    """Kind and text of each line."""
    for line in path.read_text(encoding="utf8").splitlines():
        kind, tab, text = line.partition("\t")
        yield (kind, text) if tab else ("text", line)


def speak(arguments: argparse.Namespace) -> None:
    """Speak what is still missing."""
    import numpy as np
    import soundfile as sf
    import torch

    import chelys
    from chelys.audiobook.stages import SentenceRenderer, SentenceRequest, numbered
    from chelys.audiobook.store import StageStore
    from chelys.audiobook.verify import verifier

    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    tts = chelys.load("nano")
    options = tts.options("fast")
    asked, parts = [], []
    for _, text in texts(arguments.texts):
        sentences = tts.read_text(text).sentences
        asked += [SentenceRequest(one, seed=1, options=options) for one in sentences]
        parts.append(sentences)
    log = arguments.out / "list.jsonl"
    done = len(log.read_text(encoding="utf8").splitlines()) if log.exists() else 0
    skip = sum(map(len, parts[:done]))
    with StageStore(arguments.out.parent / "store") as store, log.open("a", encoding="utf8") as lines:
        renderer = SentenceRenderer(tts, store, verify=verifier(arguments.verify, tts))
        takes = renderer.takes(list(numbered(asked))[skip:])
        for number, (kind, text) in list(enumerate(texts(arguments.texts)))[done:]:
            own = [next(takes) for _ in parts[number]]
            pauses = [np.zeros(round(24_000 * one.pause_s), np.float32) for one in parts[number]]
            audio = np.concatenate(
                [piece for pair in zip((t.audio for t in own), pauses, strict=True) for piece in pair]
            )
            sf.write(arguments.out / f"{number:04d}.wav", audio, 24_000)
            line = {
                "audio": f"{number:04d}.wav", "kind": kind, "text": text, "seconds": round(len(audio) / 24_000, 3),
                "samples": hashlib.sha256(audio.tobytes()).hexdigest()[:16],
                "candidates": sum(t.tried for t in own), "work_s": round(sum(t.spent_s for t in own), 3),
                "verdicts": [t.verdict.as_json() for t in own if t.verdict],
            }  # fmt: skip
            lines.write(json.dumps(line) + "\n")
            lines.flush()


def judge(arguments: argparse.Namespace) -> None:
    """Hear what was not heard yet, and print a table."""
    import soundfile as sf
    import soxr

    from chelys.audio.recognition import RATE
    from chelys.evaluation.listening import load_recogniser
    from chelys.evaluation.words import listen

    recogniser, heard = load_recogniser(), dict[str, Any]()
    print("| takes | texts | wrong | word error rate | flagged | candidates a text | seconds of work | of speech |")
    print("|---|---|---|---|---|---|---|---|")
    for folder in arguments.folders:
        lines = [json.loads(line) for line in (folder / "list.jsonl").read_text(encoding="utf8").splitlines()]
        log = folder / "heard.jsonl"
        if log.exists():
            heard |= {h["samples"]: h for h in map(json.loads, log.read_text(encoding="utf8").splitlines())}
        with log.open("a", encoding="utf8") as file:
            for line in lines:
                if line["samples"] not in heard:  # the same samples sound the same
                    audio = soxr.resample(sf.read(folder / line["audio"], dtype="float32")[0], 24_000, RATE)
                    words = listen(recogniser, audio.astype("float32"), line["text"])
                    one = {"samples": line["samples"], "said": words.reference, "heard": words.transcript}
                    heard[line["samples"]] = one | {"errors": words.errors, "words": words.words}
                    file.write(json.dumps(heard[line["samples"]]) + "\n")
                    file.flush()
        own = [heard[line["samples"]] for line in lines]
        wrong, errors, words = (
            sum(h["errors"] > 0 for h in own), sum(h["errors"] for h in own), sum(h["words"] for h in own),
        )  # fmt: skip
        flagged = sum(any(not verdict["passed"] for verdict in line["verdicts"]) for line in lines)
        work, speech = sum(line["work_s"] for line in lines), sum(line["seconds"] for line in lines)
        candidates = sum(line["candidates"] for line in lines) / len(lines)
        print(f"| {folder.name} | {len(lines)} | {wrong} | {errors / words:.4f} | {flagged} | {candidates:.1f} "
              f"| {work:.0f} | {speech:.0f} |", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    speaking = commands.add_parser("speak")
    speaking.add_argument("--out", type=Path, required=True)
    speaking.add_argument("--verify", default=None)
    speaking.add_argument("--texts", type=Path, default=TEXTS)
    speaking.set_defaults(do=speak)
    judging = commands.add_parser("judge")
    judging.add_argument("folders", type=Path, nargs="+")
    judging.set_defaults(do=judge)
    arguments = parser.parse_args()
    arguments.do(arguments)


if __name__ == "__main__":
    main()
