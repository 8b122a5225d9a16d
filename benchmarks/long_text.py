"""Is a sentence lost or said twice? A sentence of sixty words, and a text of six hundred.

    python benchmarks/long_text.py --out eval/long [--model nano] [--voice heart] [--seed 1]

Both are spoken at preset ``fast`` and heard by the judge's Whisper; what was heard is aligned with what was to be said.
A sentence is *lost* where fewer than half of its words were heard, and *repeated* where half as many words as it has,
or more, were added within it or behind it and are words of it. ``OUT/long.json`` keeps the figures.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import soxr
from judge import RATE, Judge, Words

import chelys
from chelys.text.split import split

HERE = Path(__file__).parent
SIXTY = (
    "When the last of the guests had gone and the lamps were low, the old woman took the letter from the drawer, sat "
    "down beside the fire, and read it slowly from the beginning to the end, as she had done on every winter evening "
    "since the day it came to her house, although she knew every word by heart."
)


def sentences_heard(sentences: list[str], heard: Words) -> dict[str, Any]:
    """Which sentences are lost or repeated.

    Args:
        sentences: What was to be said, each in the judge's plain spelling.
        heard: What the judge made of all of them together.
    """
    words = [word for sentence in sentences for word in sentence.split()]
    of_word = [i for i, sentence in enumerate(sentences) for _ in sentence.split()]
    aligned = jiwer.process_words(" ".join(words), heard.heard)
    hits: Counter[int] = Counter()
    added: dict[int, list[str]] = {}
    for chunk in aligned.alignments[0]:
        if chunk.type == "equal":
            hits.update(of_word[chunk.ref_start_idx : chunk.ref_end_idx])
        elif chunk.type == "insert":
            place = of_word[max(0, chunk.ref_start_idx - 1)]
            added.setdefault(place, []).extend(heard.heard.split()[chunk.hyp_start_idx : chunk.hyp_end_idx])
    lost = [s for i, s in enumerate(sentences) if hits[i] < len(s.split()) / 2]
    repeated = [
        s
        for i, s in enumerate(sentences)
        if sum(w in s.split() for w in added.get(i, ())) >= max(2, len(s.split()) / 2)
    ]
    return {"sentences": len(sentences), "words": len(words), "wer": round(aligned.wer, 4), "lost": lost,
            "repeated": repeated}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--voice", default=None)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    synthesizer, judge = chelys.load(arguments.model), Judge()
    story = re.sub(r"\s+", " ", (HERE / "long_text.txt").read_text(encoding="utf8")).strip()
    found = []
    for name, text in (("a sentence of sixty words", SIXTY), ("a text of six hundred words", story)):
        speech = synthesizer.speak(text, voice=arguments.voice, preset="fast", seed=arguments.seed)
        speech.save(arguments.out / f"{name.split()[-2]}.wav")
        heard = judge.words(soxr.resample(speech.audio, speech.sample_rate, RATE).astype(np.float32), text)
        plain = [judge.plain(piece.text) for piece in split(text, max_chars=len(text))]
        found.append({"text": name, "seconds": round(speech.seconds, 1), **sentences_heard(plain, heard)})
        print(json.dumps(found[-1], indent=1), flush=True)
    (arguments.out / "long.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
