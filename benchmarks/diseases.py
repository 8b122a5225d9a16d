"""The diseases of autoregressive speech: lost, doubled and wrong words, runaway and cut endings, by kind of text.

    python benchmarks/diseases.py --out eval/diseases [--model nano] [--voice heart] [--texts benchmarks/diseases.tsv]

Two hundred texts (``KIND<TAB>TEXT`` a line), each spoken once at preset ``fast``, text i with seed i counted from 1,
and heard by the judge's Whisper. ``OUT/heard.jsonl`` has a line a text (a run that was stopped goes on); the table has
a line a kind. A text is *wrong* where any word is; an ending is *cut* where the last word was not heard and the take
is short for its text, and *runs away* where words came after the end or the take is long for its text.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
#: Seconds a character; fluent English lies between 0.05 and 0.09. Below a text of 20 characters this says nothing.
SHORT, LONG, LEAST = 0.035, 0.13, 20


def speak(arguments: argparse.Namespace, log: Path) -> None:
    """Speak and hear what is still missing."""
    import numpy as np
    import soxr
    from judge import RATE, Judge

    import chelys

    arguments.out.mkdir(parents=True, exist_ok=True)
    done = len(log.read_text(encoding="utf8").splitlines()) if log.exists() else 0
    synthesizer, judge = chelys.load(arguments.model), Judge()
    for seed, line in enumerate(arguments.texts.read_text(encoding="utf8").splitlines(), 1):
        if seed <= done:
            continue
        kind, text = line.split("\t")
        speech = synthesizer.speak(text, voice=arguments.voice, preset="fast", seed=seed)
        speech.save(arguments.out / f"{seed:03d}.wav")
        words = judge.words(soxr.resample(speech.audio, speech.sample_rate, RATE).astype(np.float32), text)
        found = {"kind": kind, "said": words.said, "heard": words.heard, "seconds": round(speech.seconds, 3),
                 "characters": len(text), "substituted": words.substituted, "deleted": words.deleted,
                 "inserted": words.inserted}  # fmt: skip
        with log.open("a", encoding="utf8") as lines:
            lines.write(json.dumps(found) + "\n")
        if words.errors:
            print(f"{kind}: {words.said} | {words.heard}", flush=True)


def table(found: list[dict[str, Any]]) -> str:
    """A line a kind, and one for all."""
    rows = ["| texts | number | word error rate | wrong texts | lost words | added words | cut | run away |"]
    rows.append("|---|---|---|---|---|---|---|---|")
    for kind in [*dict.fromkeys(f["kind"] for f in found), "all"]:
        own = [f for f in found if kind in (f["kind"], "all")]
        words = sum(len(f["said"].split()) for f in own)
        errors = sum(f["substituted"] + f["deleted"] + f["inserted"] for f in own)
        wrong = sum(f["said"] != f["heard"] for f in own)
        lost, added = sum(f["deleted"] for f in own), sum(f["inserted"] for f in own)
        cut, away = sum(map(is_cut, own)), sum(map(runs_away, own))
        rows.append(f"| {kind} | {len(own)} | {errors / words:.3f} | {wrong} | {lost} | {added} | {cut} | {away} |")
    return "\n".join(rows)


def is_cut(found: dict[str, Any]) -> bool:
    """Whether the end is missing."""
    if found["characters"] < LEAST:
        return False
    short = found["seconds"] < SHORT * found["characters"]
    return bool(short and found["deleted"] and found["said"].split()[-1] != found["heard"].split()[-1])


def runs_away(found: dict[str, Any]) -> bool:
    """Whether speech went on after the text."""
    long = found["characters"] >= LEAST and found["seconds"] > LONG * found["characters"]
    return bool(long or found["inserted"] > max(2, len(found["said"].split()) // 4))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--voice", default=None)
    parser.add_argument("--texts", type=Path, default=HERE / "diseases.tsv")
    arguments = parser.parse_args()
    log = arguments.out / "heard.jsonl"
    speak(arguments, log)
    print(table([json.loads(line) for line in log.read_text(encoding="utf8").splitlines()]))


if __name__ == "__main__":
    main()
