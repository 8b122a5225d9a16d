"""What CLVP is worth: word errors of the best of 1, 2, 4, 8 and 16 candidates, as CLVP, chance and an oracle choose.

    python benchmarks/best_of.py listen --out eval/best_of [--model nano] [--voices heart,alder] [--candidates 16]
    python benchmarks/best_of.py draw eval/best_of/takes.jsonl docs/research/images/best_of.png

``listen`` speaks every candidate of every sentence, with the voices in turn, transcribes each with Whisper, and writes
a line for it; a run that was stopped continues. ``draw`` makes the table and the plot. Groups of N are N consecutive
candidates of a sentence, which are independent; chance is the mean over a group, the oracle its fewest errors.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

GROUPS = (1, 2, 4, 8, 16)


def listen(arguments: argparse.Namespace) -> None:
    """Speak and transcribe all candidates."""
    import chelys
    from chelys.audio.io import resample
    from chelys.audio.recognition import RATE
    from chelys.evaluation.listening import load_recogniser
    from chelys.evaluation.sets import read_texts
    from chelys.evaluation.words import listen as judge

    log = arguments.out / "takes.jsonl"
    arguments.out.mkdir(parents=True, exist_ok=True)
    done = {json.loads(line)["sentence"] for line in log.read_text().splitlines()} if log.exists() else set()
    synthesizer, recogniser = chelys.load(arguments.model), load_recogniser()
    voices = arguments.voices.split(",")
    for number, text in enumerate((text.text for text in read_texts(arguments.texts)), 1):
        if number in done:
            continue
        voice = voices[(number - 1) % len(voices)]
        speech = synthesizer.speak(
            text, voice=voice, preset="fast", seed=number, keep=arguments.candidates, candidates=arguments.candidates
        )
        lines = []
        for take in speech.candidates:
            heard = judge(recogniser, resample(take.audio, speech.sample_rate, RATE), text)
            lines.append({"sentence": number, "voice": voice, "score": take.score,
                          "errors": heard.errors, "words": heard.words,
                          "seconds": len(take.audio) / speech.sample_rate, "heard": heard.transcript})  # fmt: skip
        with log.open("a", encoding="utf8") as file:  # a sentence at a time
            file.writelines(json.dumps(line) + "\n" for line in lines)
        print(number, " ".join(str(line["errors"]) for line in lines), flush=True)


def rates(log: Path, seed: int = 1) -> dict[str, list[float]]:
    """Who chooses -> word error rate for each of GROUPS.

    Takes were logged best first; a group is drawn without regard to that, a thousand times.
    """
    takes: dict[int, list[tuple[float, int, int]]] = defaultdict(list)
    for line in log.read_text(encoding="utf8").splitlines():
        take = json.loads(line)
        takes[take["sentence"]].append((take["score"], take["errors"], take["words"]))
    rng = np.random.default_rng(seed)
    words = sum(own[0][2] for own in takes.values())
    result: dict[str, list[float]] = {"CLVP": [], "chance": [], "oracle": []}
    for size in GROUPS:
        totals = dict.fromkeys(result, 0.0)
        for own in takes.values():
            scores, errors = np.array([t[0] for t in own]), np.array([t[1] for t in own], dtype=float)
            groups = np.stack([rng.permutation(len(own))[:size] for _ in range(1000)])
            best = groups[np.arange(len(groups)), scores[groups].argmax(1)]
            totals["CLVP"] += errors[best].mean()
            totals["chance"] += errors.mean()
            totals["oracle"] += errors[groups].min(1).mean()
        for who, total in totals.items():
            result[who].append(total / words)
    return result


def table(found: dict[str, list[float]]) -> list[str]:
    """Lines of markdown."""
    lines = ["| best of | " + " | ".join(map(str, GROUPS)) + " |", "|---|" + "---|" * len(GROUPS)]
    return lines + [
        f"| {who} | " + " | ".join(f"{value:.3f}" for value in values) + " |" for who, values in found.items()
    ]


def plot(found: dict[str, list[float]], path: Path) -> None:
    """Word errors over the number of candidates."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for who, values in found.items():
        axes.plot(GROUPS, values, marker="o", label=who)
    axes.set_xscale("log", base=2)
    axes.set_xticks(GROUPS, [str(size) for size in GROUPS])
    axes.set(xlabel="candidates", ylabel="word error rate", ylim=(0, None))
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def draw(arguments: argparse.Namespace) -> None:
    """Print the table, draw the plot."""
    found = rates(arguments.log)
    print("\n".join(table(found)))
    plot(found, arguments.plot)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("listen")
    verb.add_argument("--out", type=Path, required=True)
    verb.add_argument("--model", default="nano")
    verb.add_argument("--voices", default="heart,hazel,willow,robin,alder,rowan", help="with commas between")
    verb.add_argument("--candidates", type=int, default=max(GROUPS))
    verb.add_argument("--texts", default="harvard", help="see chelys eval")
    verb.set_defaults(run=listen)
    verb = verbs.add_parser("draw")
    verb.add_argument("log", type=Path)
    verb.add_argument("plot", type=Path)
    verb.set_defaults(run=draw)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
