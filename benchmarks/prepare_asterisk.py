"""Does ``chelys data prepare`` find what is said, and leave out what is spoilt? On 568 real recordings, 25 minutes.

    apt-get download asterisk-core-sounds-en-g722 asterisk-core-sounds-en
    for package in *.deb; do dpkg -x $package asterisk; done
    pip install -e '.[prepare,eval]'
    python benchmarks/prepare_asterisk.py recover asterisk work            # all; --sample 60 for a part
    python benchmarks/prepare_asterisk.py find asterisk work --hours 1 --files 3

``recover`` prepares the audio alone with Whisper base and compares the transcripts with the given ones: WER after
Whisper's own rules for English text, of the kept recordings and of all (of a dropped one every word is wrong).

``find`` joins prompts with pauses into long files, half of them as they are, half under noise or music (0 to 10 dB),
with stretches of noise and music alone between, and counts which of them are in kept clips. A prompt counts as found
if kept clips hold nine tenths of its speech, as dropped if they hold less than one tenth.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile as sf
import soxr

from chelys.audio.recognition import whisper_folder
from chelys.audio.stream import open_audio
from chelys.config import from_mapping
from chelys.data.prepare.engine import Local
from chelys.data.prepare.metadata import ClipMetadata, read_clips
from chelys.data.prepare.pipeline import STAGES, PrepareSettings, prepare
from chelys.data.prepare.report import write_report

sys.path.append(str(Path(__file__).parents[1] / "tools" / "clip_classifier"))

from sounds import decibels, music, noise, unit  # noqa: E402

RATE = 24_000
SOUNDS = Path("usr/share/asterisk/sounds/en_US_f_Allison")
TRANSCRIPTS = Path("usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")


def transcripts(asterisk: Path) -> dict[str, str]:
    """Name of a recording to what is said, of those in which something is."""
    with gzip.open(asterisk / TRANSCRIPTS, "rt", encoding="utf8") as lines:
        pairs = (line.strip().partition(": ") for line in lines if not line.startswith(";"))
        said = {name: text for name, _, text in pairs if text and text[0] not in "[("}  # tones, silence
    return {name: text for name, text in said.items() if (asterisk / SOUNDS / f"{name}.g722").is_file()}


def recover(arguments: argparse.Namespace) -> dict[str, Any]:
    """Prepare, and compare."""
    from jiwer import wer
    from whisper_normalizer.english import EnglishTextNormalizer

    said = transcripts(arguments.asterisk)
    names = sorted(said)
    if arguments.sample:
        names = sorted(random.Random(1).sample(names, arguments.sample))
    raw, out = arguments.work / "raw", arguments.work / "out"
    shutil.rmtree(raw, ignore_errors=True)
    for name in names:
        target = raw / f"{name}.g722"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(arguments.asterisk / SOUNDS / f"{name}.g722", target)
    settings = {"about": {"licence": "CC BY-SA 3.0", "speaker": "Allison Smith"},
                "transcribe": {"model": str(whisper_folder())}, **arguments.settings}  # fmt: skip
    with Local(arguments.workers) as engine:
        stages = [stage for stage in STAGES if stage not in ("align", "encode")]  # when a word is said is not asked
        summary = prepare(raw, out, from_mapping(PrepareSettings, settings), only=stages, engine=engine)
    heard: dict[str, list[str]] = {name: [] for name in names}
    kept: dict[str, list[str]] = {name: [] for name in names}
    reasons: dict[str, set[str]] = {name: set() for name in names}
    for clip in read_clips(out):
        name = clip.source.removesuffix(".g722")
        heard[name].append(clip.text or "")
        reasons[name].update(clip.reasons)
        if clip.kept or clip.same_as:  # a repeat is dropped although it was understood
            kept[name].append(clip.text or "")
    plain = EnglishTextNormalizer()

    def rate(which: list[str], texts: dict[str, list[str]]) -> float:
        pairs = [(plain(said[name]), plain(" ".join(texts[name])) or "_") for name in which if plain(said[name])]
        return round(wer([a for a, _ in pairs], [b for _, b in pairs]), 4)

    for name in names:
        if plain(said[name]) != plain(" ".join(kept[name])):
            print(f"{name}: {said[name]} | {' '.join(heard[name])} | {', '.join(sorted(reasons[name]))}")
    references = arguments.work / "references.txt"
    references.write_text("".join(f"{name}.g722: {said[name]}\n" for name in names), encoding="utf8")
    write_report(out, references=references)  # the page says it too, by chelys' own rules for text
    complete = [name for name in names if kept[name]]
    return {
        "recordings": len(names), "hours": summary.hours, "kept": len(complete),
        "wer_of_kept": rate(complete, kept), "wer_of_all_heard": rate(names, heard), "wer_of_all": rate(names, kept),
    }  # fmt: skip


class Placed(NamedTuple):
    """Something in a joined file: its kind, and where its speech (or all of it) begins and ends (seconds)."""

    file: str
    kind: str
    start: float
    end: float


def load(path: Path) -> np.ndarray:
    """A prompt, its own silence cut off, at ``RATE``; ``(n,)``."""
    with open_audio(path) as stream:
        audio = soxr.resample(np.concatenate(list(stream.blocks())), stream.sample_rate, RATE)
    levels = np.abs(audio) > 0.01 * np.abs(audio).max()
    first, last = np.flatnonzero(levels)[[0, -1]]
    return audio[first : last + 1].astype(np.float32)


def join(
    prompts: list[np.ndarray], seconds: float, file: str, rng: np.random.Generator
) -> tuple[np.ndarray, list[Placed]]:
    """A long file, and what is in it."""
    parts: list[np.ndarray] = []
    placed: list[Placed] = []
    at = 0
    while at < seconds * RATE:
        pause = 1e-4 * rng.standard_normal(int(rng.uniform(0.7, 2.5) * RATE), dtype=np.float32)
        kind = str(rng.choice(["clean", "noise", "music", "noise alone", "music alone"], p=[0.5, 0.2, 0.2, 0.05, 0.05]))
        if kind.endswith("alone"):
            count = int(rng.uniform(3, 15) * RATE)
            sound = 0.08 * (noise if kind.startswith("noise") else music)(count, rng)
            margin = 0
        else:
            speech = prompts[int(rng.integers(len(prompts)))]
            sound, margin = speech, 0
            if kind != "clean":
                margin = RATE // 4  # it begins a little before, as it would
                padded = np.pad(speech, margin)
                other = (noise if kind == "noise" else music)(len(padded), rng)
                level = np.sqrt(np.mean(np.square(speech))) * decibels(-rng.uniform(0, 10))
                sound = padded + level * unit(other)
        parts += [pause, sound.astype(np.float32)]
        start = (at + len(pause) + margin) / RATE
        at += len(pause) + len(sound)
        placed.append(Placed(file, kind, start, at / RATE - margin / RATE))
    return np.clip(np.concatenate(parts), -1.0, 1.0), placed


def find(arguments: argparse.Namespace) -> dict[str, Any]:
    """Join, prepare, and count."""
    rng = np.random.default_rng(1)
    loaded = (load(arguments.asterisk / SOUNDS / f"{name}.g722") for name in sorted(transcripts(arguments.asterisk)))
    prompts = [prompt for prompt in loaded if len(prompt) >= 0.6 * RATE]
    raw, out = arguments.work / "joined", arguments.work / "found"
    raw.mkdir(parents=True, exist_ok=True)
    placed: list[Placed] = []
    for i in range(arguments.files):
        audio, here = join(prompts, 3600 * arguments.hours, f"{i}.flac", rng)
        sf.write(raw / f"{i}.flac", audio, RATE)
        placed += here
    with Local(arguments.workers) as engine:
        stages = ("segment", "measure", "filter")  # no repeats are dropped: most prompts come several times
        prepare(raw, out, from_mapping(PrepareSettings, arguments.settings), only=stages, engine=engine)
    clips: dict[str, list[ClipMetadata]] = {}
    for clip in read_clips(out):
        clips.setdefault(clip.source, []).append(clip)
    table: dict[str, dict[str, float]] = {}
    for kind in sorted({p.kind for p in placed}):
        shares = np.array([kept_share(p, clips.get(p.file, [])) for p in placed if p.kind == kind])
        table[kind] = {"count": len(shares), "found": round(float((shares >= 0.9).mean()), 4),
                       "dropped": round(float((shares < 0.1).mean()), 4)}  # fmt: skip
        print(f"{kind:12s} {len(shares):5d} found {table[kind]['found']:.3f}  dropped {table[kind]['dropped']:.3f}")
    if arguments.verbose:
        explain(placed, clips)
    spoilt = np.array([kept_share(p, clips.get(p.file, [])) for p in placed if p.kind in ("noise", "music")])
    return {"clean_found": table["clean"]["found"], "spoilt_dropped": round(float((spoilt < 0.1).mean()), 4),
            "hours": arguments.files * arguments.hours, "table": table}  # fmt: skip


def kept_share(placed: Placed, clips: list[ClipMetadata]) -> float:
    """Share of something that lies in kept clips."""
    inside = sum(max(0.0, min(c.end, placed.end) - max(c.start, placed.start)) for c in clips if c.kept)
    return inside / (placed.end - placed.start)


def explain(placed: list[Placed], clips: dict[str, list[ClipMetadata]]) -> None:
    """Why clean prompts were missed, and what let spoilt ones pass."""
    for p in placed:
        share = kept_share(p, clips.get(p.file, []))
        wrong = share < 0.9 if p.kind == "clean" else share >= 0.1
        if wrong:
            near = [c for c in clips.get(p.file, []) if c.end > p.start and c.start < p.end]
            measured = [{k: v for k, v in c.measured.items() if v is not None} for c in near]
            reasons = [c.reasons for c in near]
            print(p.kind, p.file, f"{p.start:.1f}-{p.end:.1f}", round(share, 2), reasons, json.dumps(measured))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["recover", "find"])
    parser.add_argument("asterisk", type=Path, help="where the packages were unpacked")
    parser.add_argument("work", type=Path, help="folder to work in")
    parser.add_argument("--sample", type=int, default=0, help="so many recordings, drawn by chance; 0: all")
    parser.add_argument("--hours", type=float, default=1.0, help="length of each joined file")
    parser.add_argument("--files", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--settings", type=json.loads, default={}, help="JSON, of the preparation")
    parser.add_argument("--verbose", action="store_true", help="name what went wrong")
    arguments = parser.parse_args()
    print(json.dumps((recover if arguments.what == "recover" else find)(arguments)))


if __name__ == "__main__":
    main()
