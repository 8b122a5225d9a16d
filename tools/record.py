"""The record of nano: docs/research/nano.md, from the logs of its training and of its measurements.

    python tools/record.py collect runs/nano/dvae runs/nano/autoregressive ...   # in the order they were trained
    python tools/record.py write

``collect`` keeps of each run what the page needs, beside what it kept of others before: its settings, its log thinned
to a hundred lines, what a step costs as the planner counts it. It lies in ``docs/results/nano/runs.json`` beside the
logs that the measurements leave (SECTIONS names them with their commands; of ``chelys eval`` it is ``clips.jsonl``) and
``notes.md``, written by hand. ``write`` needs nothing else.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from kept import log_of, settings_of

HERE = Path(__file__).parent
RESULTS = HERE.parent / "docs" / "results" / "nano"
PAGE = HERE.parent / "docs" / "research" / "nano.md"
CLIP_SECONDS = 3.6  # of a usual clip, at which a step is counted
LINES = 100


def collect(arguments: argparse.Namespace) -> None:
    """Keep what the page needs of runs."""
    sys.path.insert(0, str(Path(__file__).parent / "memory_planner"))
    from rehearsal import rehearse

    from chelys.config import from_mapping
    from chelys.training.tasks import RUNS

    kept = []
    for folder in arguments.runs:
        stage = next(file.stem for file in folder.glob("*.safetensors") if file.stem in RUNS)
        settings = settings_of(folder)
        if "bfloat16" in settings["loop"]:  # as it was called in the first runs
            settings["loop"]["precision"] = "bfloat16" if settings["loop"].pop("bfloat16") else "float32"
        cost = rehearse(from_mapping(RUNS[stage], settings, where=str(folder)), CLIP_SECONDS)
        log = log_of(folder)
        held_out, steps = log.held_out, max(line["step"] for line in log.lines)
        thinned = [line for line in log.lines if line not in held_out]
        kept.append({
            "name": folder.name, "stage": stage, "settings": settings, "steps": steps,
            "parameters": sum(cost.parameters.values()), "operations_a_step": cost.flops, "audio_a_step": cost.audio,
            "seconds_a_step": log.seconds_a_step, "held_out": held_out,
            "log": thinned[:: max(1, len(thinned) // LINES)],
        })  # fmt: skip
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / "runs.json"
    earlier = json.loads(file.read_text(encoding="utf8")) if file.exists() else []
    names = {run["name"] for run in kept}
    everything = [run for run in earlier if run["name"] not in names] + kept
    file.write_text(json.dumps(everything, indent=0) + "\n", encoding="utf8")


def training() -> list[str]:
    """Table of the runs and their curves."""
    runs = json.loads((RESULTS / "runs.json").read_text(encoding="utf8"))
    heads = ["run", "stage", "trained parameters", "steps", "audio h", "Peta-operations", "core hours", "held out"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for run in runs:
        steps = run["steps"]
        figures = run["held_out"][-1] if run["held_out"] else {}
        told = ", ".join(f"{k.split('/')[1]} {v:.3g}" for k, v in figures.items() if k != "step")
        lines.append(
            f"| `{run['name']}` | {run['stage']} | {run['parameters'] / 1e6:.2f} M | {steps:,} "
            f"| {steps * run['audio_a_step'] / 3600:.0f} | {steps * run['operations_a_step'] / 1e15:.2f} "
            f"| {steps * run['seconds_a_step'] / 3600:.1f} | {told} |"
        )
    draw_curves(runs, PAGE.parent / "images" / "nano_training.png")
    return [*lines, "", "![losses of all runs](images/nano_training.png)"]


def draw_curves(runs: list[dict[str, Any]], path: Path) -> None:
    """A panel a run: its losses, and what was held out."""
    from matplotlib.figure import Figure

    columns = 3
    figure = Figure(figsize=(4 * columns, 2.6 * -(-len(runs) // columns)), layout="constrained")
    quiet = ("step", "learning_rate", "seconds_per_step", "codebook_perplexity")
    for place, run in enumerate(runs, 1):
        axes = figure.add_subplot(-(-len(runs) // columns), columns, place)
        for name in run["log"][0] if run["log"] else ():
            if name not in quiet and "gradient" not in name:
                axes.plot(*zip(*((x["step"], x[name]) for x in run["log"] if name in x), strict=True), label=name, lw=1)
        for name in run["held_out"][-1] if run["held_out"] else ():
            if name.startswith("held_out/") and "codes_in_use" not in name and "wrong" not in name:
                points = [(x["step"], x[name]) for x in run["held_out"] if name in x]
                axes.plot(*zip(*points, strict=True), label=name, marker=".", lw=1, ls="--")
        axes.set_title(run["name"], fontsize="small")
        axes.set_yscale("log")
        axes.legend(fontsize="xx-small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def judged(path: Path) -> list[str]:
    """A line for each list that was judged."""
    from jiwer import wer

    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in path.read_text(encoding="utf8").splitlines():
        clip = json.loads(line)
        found[clip.get("of") or clip["voice"]].append(clip)
    lines = ["| speaker | clips | word error rate | Distill-MOS |", "|---|---|---|---|"]
    for name, clips in found.items():
        texts = [_texts(clip) for clip in clips]
        rate = wer([reference for reference, _ in texts], [transcript for _, transcript in texts])
        rating = sum(clip["mos"] for clip in clips) / len(clips)
        lines.append(f"| {name} | {len(clips)} | {rate:.3f} | {rating:.2f} |")
    return lines


def _texts(clip: dict[str, Any]) -> tuple[str, str]:
    """What was to be spoken and what was heard, by today's keys or those of the first logs."""
    return clip.get("reference") or clip["said"], clip.get("transcript") or clip["heard"]


def best_of(log: Path) -> list[str]:
    """Table and plot of ranking by CLVP."""
    import best_of as bench

    found = bench.rates(log)
    bench.plot(found, PAGE.parent / "images" / "best_of.png")
    return [*bench.table(found), "", "![word errors of the best of N candidates](images/best_of.png)"]


def diseases(log: Path) -> list[str]:
    """A line a kind of text, and one for all."""
    from chelys.evaluation.words import compare_words, is_cut, runs_away

    found = [json.loads(line) for line in log.read_text(encoding="utf8").splitlines()]
    lines = ["| texts | number | word error rate | wrong texts | lost words | added words | cut | run away |"]
    lines.append("|" + "---|" * 8)
    for kind in [*dict.fromkeys(x["kind"] for x in found), "all"]:
        own = [x for x in found if kind in (x["kind"], "all")]
        words = [compare_words(*_texts(x)) for x in own]
        rate = sum(w.errors for w in words) / sum(w.words for w in words)
        ends = [sum(ill(w, x["seconds"], x["characters"]) for w, x in zip(words, own, strict=True))
                for ill in (is_cut, runs_away)]  # fmt: skip
        wrong, lost, added = (
            sum(w.reference != w.transcript for w in words),
            sum(w.deleted for w in words),
            sum(w.inserted for w in words),
        )
        lines.append(f"| {kind} | {len(own)} | {rate:.3f} | {wrong} | {lost} | {added} | {ends[0]} | {ends[1]} |")
    return lines


def apart(path: Path) -> list[str]:
    """A line a built-in voice."""
    found = json.loads(path.read_text(encoding="utf8"))
    heads = ["voice", "pitch", "identified", "similarity to itself", "most similar", "word error rate", "Distill-MOS"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return lines + [
        f"| {x['voice']} | {x['pitch_hz']} Hz | {x['told']} of {x['clips']} | {x['likeness']:.2f} "
        f"| {x['nearest']}, {x['nearest_likeness']:.2f} | {x['wer']:.3f} | {x['mos']:.2f} |"
        for x in found
    ]


def long(path: Path) -> list[str]:
    """A line a long text."""
    lines = ["| text | sentences | word error rate | lost sentences | repeated sentences |", "|---|---|---|---|---|"]
    return lines + [
        f"| {x['text']} | {x['sentences']} | {x['wer']:.3f} | {len(x['lost'])} | {len(x['repeated'])} |"
        for x in json.loads(path.read_text(encoding="utf8"))
    ]


def lost(path: Path) -> list[str]:
    """A line a step on the way from a recording to speech."""
    lines = ["| model | voices | audio | clips | word error rate | Distill-MOS |", "|---|---|---|---|---|---|"]
    for line in path.read_text(encoding="utf8").splitlines():
        x = json.loads(line)
        lines.append(f"| {x['model']} | {x['of']} | {x['step']} | {x['clips']} | {x['wer']:.3f} | {x['mos']:.2f} |")
    return lines


def cloning(path: Path) -> list[str]:
    """A line a held-out speaker."""
    found = json.loads(path.read_text(encoding="utf8"))
    lines = ["| speaker | similarity | identified | word error rate |", "|---|---|---|---|"]
    return lines + [f"| {x['speaker']} | {x['likeness']:.3f} | {x['known']} | {x['wer']:.3f} |" for x in found]


def blends(path: Path) -> list[str]:
    """A line a share of the default voice in the sampling latent of cloned voices."""
    found = [x for x in json.loads(path.read_text(encoding="utf8")) if x["speaker"] == "all"]
    lines = ["| speaker blend | similarity | identified | word error rate |", "|---|---|---|---|"]
    return lines + [f"| {x['speaker_blend']:g} | {x['likeness']:.3f} | {x['known']} | {x['wer']:.3f} |" for x in found]


SECTIONS = (
    ("judged.jsonl", "Words and naturalness", judged,
     "chelys eval nano -v VOICE ... -o eval/voices"),
    ("judged_before.jsonl", "Words and naturalness, sixth leg", judged,
     "chelys eval nano -v VOICE ... -o eval/voices"),
    ("voices.json", "Are the built-in voices distinct? Sixth leg", apart,
     "python benchmarks/voices_apart.py --out eval/voices"),
    ("words.jsonl", "Where words go", lost,
     "python benchmarks/where_words_go.py corpus/kokoro/manifest.jsonl --log docs/results/nano/words.jsonl"),
    ("heard_before.jsonl", "Two hundred texts of nine kinds, second leg", diseases,
     "chelys eval nano --texts hard -o eval/hard, with the weights of the second leg"),
    ("heard.jsonl", "Two hundred texts of nine kinds", diseases,
     "chelys eval nano --texts hard -o eval/hard"),
    ("long.json", "Long texts", long,
     "chelys eval nano --texts long -o eval/long"),
    ("takes.jsonl", "Ranking by CLVP, sixth leg", best_of,
     "python benchmarks/best_of.py listen --out eval/best_of"),
    ("cloning.json", "Cloned voices", cloning,
     "python benchmarks/cloned_readers.py MANIFEST --speakers ls460,... --texts harvard.txt --out eval/readers; blends "
     "with a clip of five to twelve seconds, or their longest"),
    ("cloning_before.json", "Cloned voices, sixth leg", cloning,
     "chelys eval nano --limit 8 -v CLIP ... -o eval/cloning; on six seconds of each"),
    ("cloning_shares.json", "Cloned voices by speaker blend, fifth leg", blends,
     "chelys voices add NAME CLIP --speaker-blend SHARE; chelys eval nano --texts runs/sentences.txt "
     "--limit 8 -v NAME"),
    ("cloning_real.json", "Real voices, sixth leg", cloning,
     "chelys eval nano --limit 8 -v lj.flac -v en_US_f_Allison/demo-congrats.g722 "
     "-v fr_CA_f_June/demo-congrats.g722 -o eval/real (a reader of LJSpeech, two of Debian's "
     "asterisk-core-sounds-*-g722)"),
)  # fmt: skip


def write(_: argparse.Namespace) -> None:
    """The page."""
    page = ["# The record of nano", "", "Written by `python tools/record.py write` from `docs/results/nano/`."]
    page += ["Where the command is `chelys eval`, figures are of the scripts that it replaced, by the same listeners."]
    page += ["", (RESULTS / "notes.md").read_text(encoding="utf8").strip()]
    for file, title, section, command in SECTIONS:
        if (RESULTS / file).exists():
            page += ["", f"## {title}", "", f"`{command}`", "", *section(RESULTS / file)]
    page += [
        "",
        "## Training",
        "",
        "`runs/nano.sh`, kept by `python tools/record.py collect RUN ...`",
        "",
        *training(),
    ]
    PAGE.write_text("\n".join(page) + "\n", encoding="utf8")
    print(PAGE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("collect", help="keep what the page needs of runs")
    verb.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    verb.set_defaults(run=collect)
    verb = verbs.add_parser("write", help="write docs/research/nano.md")
    verb.set_defaults(run=write)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
