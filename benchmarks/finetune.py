"""Is a model adapted with ``chelys finetune`` closer to the voice, and are its words still right?

    python benchmarks/finetune.py LJSpeech-1.1 --out eval/reader --judge [KEY=VALUE]

Takes any folder in LJSpeech's layout (or another that ``chelys finetune`` reads). The last clips are kept out: they are
what the voice is compared with. Four lists are spoken and judged, sentence i with seed i:

    own          the base model in its default voice: how right its words are at best
    before       the base model in the voice that it makes of the clips, unadapted
    after        the adapted model in the voice
    own after    the adapted model in the base's default voice: what it forgot

``--judge`` hands the lists to ``chelys eval``: word error rate, and similarity to the references. Without it they are
left for another judge. Whatever is there already is not made again. KEY=VALUE are settings of ``chelys finetune``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import chelys
from chelys.data.manifest import Utterance, write_manifest
from chelys.evaluation.sets import read_texts
from chelys.inference.synthesizer import Synthesizer
from chelys.inference.voice import Voice
from chelys.training.finetune_data import read_source

NAME = "reader"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--judge", action="store_true", help="with chelys eval")
    parser.add_argument("--texts", default="harvard", help="see chelys eval")
    parser.add_argument("--keep-out", type=int, default=20, help="clips, from the end, that are references alone")
    parser.add_argument("--preset", default="fast")
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)

    clips = read_source(arguments.clips, out)
    learned, kept_out = clips[: -arguments.keep_out], clips[-arguments.keep_out :]
    manifest = out / "manifest.jsonl"
    write_manifest(manifest, learned)
    adapted, seconds = finetune(manifest, out, arguments.model, arguments.settings)

    base = chelys.load(arguments.model)
    after = chelys.load(str(adapted))
    zero_shot = base.voice([Path(u.audio) for u in learned], name=NAME)
    own: Any = base.voice_names[0]
    lists = {
        "own": (base, own, None), "before": (base, zero_shot, kept_out),
        "after": (after, NAME, kept_out), "own after": (after, own, None),
    }  # fmt: skip
    texts = [text.text for text in read_texts(arguments.texts)]
    print(f"{len(learned)} clips, {sum(u.seconds for u in learned):.0f} s; adapted in {seconds:.0f} s of CPU time")
    for name, (tts, voice, references) in lists.items():
        path = speak(tts, voice, texts, references, out / name.replace(" ", "-"), arguments.preset)
        print(f"{name:10}", judged(path) if arguments.judge else path, flush=True)


def finetune(manifest: Path, out: Path, model: str, settings: list[str]) -> tuple[Path, float]:
    """The adapted model's folder, and the CPU seconds that it took."""
    folder, note = out / "model", out / "seconds.txt"
    if not folder.is_dir():
        command = [sys.executable, "-m", "chelys", "finetune", str(manifest), "--name", NAME, "--model", model,
                   "--out", str(folder), *settings]  # fmt: skip
        before = os.times()
        subprocess.run(command, check=True)
        spent = os.times()
        seconds = spent.children_user + spent.children_system - before.children_user - before.children_system
        note.write_text(str(seconds))
    return folder, float(note.read_text()) if note.is_file() else float("nan")


def speak(
    tts: Synthesizer, voice: str | Voice, texts: list[str], references: list[Utterance] | None, folder: Path,
    preset: str,
) -> Path:  # fmt: skip
    """Speak the sentences, one file each; the list for the judge."""
    path = folder / "list.jsonl"
    if path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for seed, text in enumerate(texts, 1):
        tts.speak(text, voice=voice, preset=preset, seed=seed).save(folder / f"{seed:03d}.wav")
        line: dict[str, Any] = {"audio": f"{seed:03d}.wav", "text": text}
        if references:
            line["reference"] = references[(seed - 1) % len(references)].audio
        lines.append(json.dumps(line) + "\n")
    path.write_text("".join(lines), encoding="utf8")
    return path


def judged(path: Path) -> str:
    """What ``chelys eval`` says of a list."""
    started = time.monotonic()
    measures = "words,voice" if '"reference"' in path.read_text(encoding="utf8") else "words"
    command = [sys.executable, "-m", "chelys", "eval", str(path), "-o", str(path.parent / "eval")]
    command += ["--measures", measures, "--json"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["figures"]
    figures = "  ".join(f"{key} {found[key]['value']:.3f}" for key in ("wer", "similarity") if key in found)
    return f"{figures}  (judged in {time.monotonic() - started:.0f} s)"


if __name__ == "__main__":
    main()
