"""Is a model adapted with ``chelys finetune`` closer to the voice, and are its words still right?

    python benchmarks/finetune.py LJSpeech-1.1 --out eval/reader --judge "python judge.py --voices --json" [KEY=VALUE]

Takes any folder in LJSpeech's layout (or another that ``chelys finetune`` reads). The last clips are kept out: they are
what the voice is compared with. Four lists are spoken and judged, sentence i with seed i:

    own          the base model in its default voice: how right its words are at best
    before       the base model in the voice that it makes of the clips, unadapted
    after        the adapted model in the voice
    own after    the adapted model in the base's default voice: what it forgot

JUDGE is a command; it is given the path of a list (``{"audio", "text", "reference"}`` a line) and prints, last, a JSON
object with ``wer`` and ``sim``, the cosine of speaker embeddings. Without it the lists are left for another judge.
Whatever is there already is not made again. KEY=VALUE are settings of ``chelys finetune``.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import chelys
from chelys.data.manifest import Utterance, write_manifest
from chelys.inference.synthesizer import Synthesizer
from chelys.inference.voice import Voice
from chelys.training.finetune_data import read_source

HERE = Path(__file__).parent
NAME = "reader"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--judge", help="command; the list's path is put behind it")
    parser.add_argument("--sentences", type=Path, default=HERE / "sentences.txt")
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
    texts = [line for line in arguments.sentences.read_text(encoding="utf8").splitlines() if line.strip()]
    print(f"{len(learned)} clips, {sum(u.seconds for u in learned):.0f} s; adapted in {seconds:.0f} s of CPU time")
    for name, (tts, voice, references) in lists.items():
        path = speak(tts, voice, texts, references, out / name.replace(" ", "-"), arguments.preset)
        print(f"{name:10}", judged(arguments.judge, path) if arguments.judge else path, flush=True)


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


def judged(command: str, path: Path) -> str:
    """What a judge says of a list."""
    started = time.monotonic()
    told = subprocess.run([*shlex.split(command), str(path)], check=True, capture_output=True, text=True).stdout
    means = json.loads(told.strip().splitlines()[-1])
    figures = "  ".join(f"{key} {means[key]:.3f}" for key in ("wer", "sim") if key in means)
    return f"{figures}  (judged in {time.monotonic() - started:.0f} s)"


if __name__ == "__main__":
    main()
