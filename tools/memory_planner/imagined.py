"""A corpus that nobody recorded: files as large as real ones and empty, to build a run on before there is data.

Whatever a stage reads is there, so a run is built, and its batches made, by the very code that trains.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from torch import Tensor

from chelys.audio.rates import FRAMES_PER_CODE, HOP, MEL_22K, MEL_24K, OUTPUT_RATE, MelSpec
from chelys.data.dataset import Clip
from chelys.data.loader import is_held_out
from chelys.data.manifest import Utterance, write_manifest
from chelys.text.lexicon import Lexicon
from chelys.text.tokenizer import make_tokenizer
from chelys.tortoise.tokenizer import make_tortoise_tokenizer

#: Characters spoken in a second: 17 in the corpus of nano, whose teacher is quick.
CHARACTERS_A_SECOND = 16
SPEAKERS = 8
_SENTENCE = "the tortoise crossed the road without hurry while the hare slept beneath a tree "
_SAFETENSORS = {torch.float32: "F32", torch.int64: "I64", torch.bool: "BOOL"}


@dataclass(frozen=True)
class ImaginedCorpus:
    """Where the parts lie.

    Attributes:
        manifest: The clips, of one recording of silence.
        features: Feature folder of the shared front end; its mels are all zero.
        published: The same of the codes' front end at 22.05 kHz.
        codes: Codes of the clips, all zero.
        text: Folder of the tokenizer.
    """

    manifest: Path
    features: Path
    published: Path
    codes: Path
    text: Path


def imagine(
    folder: Path, seconds: Sequence[float], *, longest_text: int = 400, published: bool = False
) -> ImaginedCorpus:
    """Lay out a corpus of silence, sparsely: it takes little room, however long it is.

    Args:
        folder: An empty one.
        seconds: Length of each clip; none of them is held out.
        longest_text: Characters of the longest text.
        published: Whether codes and text are those of the published system.
    """
    corpus = ImaginedCorpus(
        *(folder / name for name in ("manifest.jsonl", "features", "published", "codes.npy", "text"))
    )
    audio = folder / "silence.wav"
    clips = [_clip(number, length, audio, longest_text) for number, length in zip(_numbers(), seconds, strict=False)]
    sf.write(audio, np.zeros(int(max(seconds) * OUTPUT_RATE) + HOP, np.int16), OUTPUT_RATE)
    write_manifest(
        corpus.manifest, [Utterance(c.id, c.audio, c.text, c.speaker, s) for c, s in zip(clips, seconds, strict=True)]
    )
    _write_features(corpus.features, clips, seconds, MEL_24K)
    _write_features(corpus.published, clips, seconds, MEL_22K)
    frames = _frames(seconds, MEL_22K if published else MEL_24K)
    np.lib.format.open_memmap(corpus.codes, "w+", np.uint16, (sum(frames) // FRAMES_PER_CODE,)).flush()
    tokenizer = make_tortoise_tokenizer() if published else make_tokenizer(Lexicon({"a": "ə"}))
    tokenizer.save(corpus.text)
    return corpus


def imagine_weights(path: Path, tensors: Mapping[str, Tensor]) -> Path:
    """Write a file of weights that are all zero, sparsely.

    Args:
        path: File to write.
        tensors: Their names, shapes and types; no numbers are asked for.
    """
    header, size = {}, 0
    for name, tensor in tensors.items():
        end = size + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _SAFETENSORS[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [size, end]}
        size = end
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + size)
    return path


def _numbers() -> Iterable[int]:
    """Numbers of clips that are not held out."""
    return (n for n in count() if not is_held_out(_clip(n, 1.0, Path(), 1).id))


def _clip(number: int, seconds: float, audio: Path, longest_text: int) -> Clip:
    characters = min(longest_text, max(1, round(seconds * CHARACTERS_A_SECOND)))
    text = (_SENTENCE * (characters // len(_SENTENCE) + 1))[:characters]
    return Clip(f"imagined-{number}", str(audio), text, f"speaker-{number % SPEAKERS}", 0, 0)


def _frames(seconds: Sequence[float], spec: MelSpec) -> list[int]:
    """Mel frames of each clip, whole codes."""
    return [max(2, round(s * spec.sample_rate / HOP / FRAMES_PER_CODE)) * FRAMES_PER_CODE for s in seconds]


def _write_features(folder: Path, clips: Sequence[Clip], seconds: Sequence[float], spec: MelSpec) -> None:
    folder.mkdir()
    first = 0
    with (folder / "index.jsonl").open("w", encoding="utf8") as lines:
        for clip, frames in zip(clips, _frames(seconds, spec), strict=True):
            lines.write(json.dumps(asdict(clip) | {"first": first, "frames": frames}) + "\n")
            first += frames
    with (folder / "mel.f16").open("wb") as file:
        file.truncate(first * spec.bands * np.dtype(np.float16).itemsize)
    statistics = {"mean": 0.0, "std": 1.0, "hours": sum(seconds) / 3600, "bands": spec.bands, "min_held_out": 0}
    (folder / "statistics.json").write_text(json.dumps(statistics), encoding="utf8")
