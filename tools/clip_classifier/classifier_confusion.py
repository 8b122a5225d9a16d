"""What the clip classifier takes for what: the confusion matrix on mixes with one fault or none, of unheard speakers.

    python tools/clip_classifier/classifier_confusion.py runs/nano/corpus/*/manifest.jsonl --speakers s01,s03,s16
    python tools/clip_classifier/classifier_confusion.py --recordings lj=DATA/LJSpeech-1.1/wavs

Rows are what was mixed, columns what was heard: the likeliest fault where one is likelier than not, else clean. The
second form says how recordings are heard as they are.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from mixes import MixConfig, Mixes, Recordings, Speech

from chelys.audio.io import clip_paths, read
from chelys.audio.rates import OUTPUT_RATE
from chelys.data.prepare.classifier import CLASSES, FAULTS, ClipClassifier


def heard_as(probabilities: dict[str, float], threshold: float) -> str:
    """The one class that counts: clean where no fault reaches the threshold."""
    likeliest = max(FAULTS, key=lambda fault: probabilities[fault])
    return likeliest if probabilities[likeliest] > threshold else "clean"


def confusion(classifier: ClipClassifier, mixes: Mixes, arguments: argparse.Namespace) -> None:
    """Print the matrix in per cent, and how often each fault is found and wrongly found at some thresholds."""
    heard = {name: Counter[str]() for name in CLASSES}
    scores: dict[str, list[dict[str, float]]] = {name: [] for name in CLASSES}
    lengths = np.random.default_rng(arguments.seed).uniform(*arguments.seconds, (arguments.each, len(CLASSES)))
    for index in range(arguments.each):
        for column, name in enumerate(CLASSES):
            n = int(lengths[index, column] * OUTPUT_RATE)
            mix = mixes.mix(index * len(CLASSES) + column, n, frozenset({name} - {"clean"}))
            scores[name].append(classifier.classify(mix.wave))
            heard[name][heard_as(scores[name][-1], arguments.threshold)] += 1
    print(f"| mixed \\ heard | {' | '.join(CLASSES)} |\n|---|{'---|' * len(CLASSES)}")
    for name in CLASSES:
        print(f"| {name} | {' | '.join(f'{100 * heard[name][other] / arguments.each:.0f}' for other in CLASSES)} |")
    right = sum(heard[name][name] for name in CLASSES) / (arguments.each * len(CLASSES))
    print(f"\n{100 * right:.1f} % of {arguments.each * len(CLASSES)} mixes in the right class.\n")
    print("| likeliest fault above | clean mixes kept | faulty mixes kept |\n|---|---|---|")
    worst = {name: np.array([1 - score["clean"] for score in each]) for name, each in scores.items()}
    for threshold in (0.3, 0.5, 0.7, 0.9):
        kept = {name: float(np.mean(values <= threshold)) for name, values in worst.items()}
        faulty = np.mean([kept[fault] for fault in FAULTS])
        print(f"| {threshold} | {100 * kept['clean']:.0f} % | {100 * faulty:.0f} % |")


def recordings(classifier: ClipClassifier, folders: dict[str, Path], arguments: argparse.Namespace) -> None:
    """Print the share of each class among recordings as they are."""
    print(f"| recordings | clips | {' | '.join(CLASSES)} | no fault above 0.9 |\n|---|---|---|{'---|' * len(CLASSES)}")
    for name, folder in folders.items():
        paths = clip_paths([folder])
        if 0 < arguments.each < len(paths):
            paths = [paths[i] for i in np.linspace(0, len(paths) - 1, arguments.each).astype(int)]
        most = int(arguments.most_seconds * OUTPUT_RATE)
        scores = [classifier.classify(read(path, OUTPUT_RATE)[:most]) for path in paths]
        heard = Counter(heard_as(score, arguments.threshold) for score in scores)
        shares = [100 * heard[other] / len(paths) for other in CLASSES]
        shares.append(100 * float(np.mean([score["clean"] >= 0.1 for score in scores])))
        print(f"| {name} | {len(paths)} | {' | '.join(f'{share:.0f}' for share in shares)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", type=Path, nargs="*", help="clean speech to mix from")
    parser.add_argument("--speakers", default="", help="those that the classifier has not heard, A,B,C; default: all")
    parser.add_argument("--recordings", nargs="*", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--music", type=Path, nargs="*", default=[], help="recordings of music, in place of made ones")
    parser.add_argument("--noise", type=Path, nargs="*", default=[], help="recordings of noise, in place of made ones")
    parser.add_argument("--model", type=Path, default=None, help="folder; default the classifier inside the package")
    parser.add_argument("--each", type=int, default=200, help="mixes of each class; most recordings of a folder")
    parser.add_argument("--seconds", type=float, nargs=2, default=(1.5, 8.0), help="shortest and longest mix")
    parser.add_argument("--most-seconds", type=float, default=20.0, help="of a recording; the rest is left out")
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=2024)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    classifier = ClipClassifier.load(arguments.model)
    if arguments.manifests:
        speakers = tuple(filter(None, arguments.speakers.split(",")))
        speech = Speech(arguments.manifests, held_out=bool(speakers), held_out_speakers=speakers)
        real = {
            name: Recordings(clip_paths(paths)) for name in ("music", "noise") if (paths := getattr(arguments, name))
        }
        confusion(classifier, Mixes(speech, MixConfig(), arguments.seed, **real), arguments)
    if arguments.recordings:
        recordings(classifier, {n: Path(f) for n, _, f in (r.partition("=") for r in arguments.recordings)}, arguments)


if __name__ == "__main__":
    main()
