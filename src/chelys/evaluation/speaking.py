"""Clips to be judged: texts that a model speaks, or finished audio with a list of what it says.

A folder of clips has a ``list.jsonl``, a clip a line: ``audio`` (a path, relative to the list) and ``text``, and, where
there are such, ``voice``, ``kind`` of text, ``reference`` (a recording of the voice), ``original`` (what a copy was
made of) and ``synthesis_seconds``. Without a list each audio file has a text file of its name beside it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chelys.audio.io import CLIP_SUFFIXES, read, resample, write
from chelys.audio.rates import OUTPUT_RATE
from chelys.data.manifest import numbered_entries
from chelys.errors import ManifestError
from chelys.evaluation.sets import Text
from chelys.files import json_line, read_text, write_text
from chelys.parsing import MAX_JSON, ParseError, parse_json

if TYPE_CHECKING:
    from chelys.inference.options import SpeechOptions
    from chelys.inference.synthesizer import Synthesizer
    from chelys.inference.voice import Voice

LIST = "list.jsonl"
_PATHS, _WORDS = ("audio", "reference", "original"), ("text", "voice", "kind")


@dataclass(frozen=True)
class JudgedClip:
    """Audio and what it should say."""

    audio: Path
    text: str
    voice: str = ""
    kind: str = ""  # of text
    reference: Path | None = None  # a recording of the voice
    original: Path | None = None  # recording of the same words and timing that this is a copy of
    synthesis_seconds: float | None = None  # that speaking it took

    def samples(self, rate: int) -> np.ndarray:
        """``(n,)`` at a rate in Hz, resampled as a whole. Raises AudioError."""
        return samples(self.audio, rate)


def samples(path: Path, rate: int) -> np.ndarray:
    """A file's ``(n,)`` at a rate in Hz. Raises AudioError."""
    return read(path, rate, resampler=resample)


def read_clips(path: Path) -> list[JudgedClip]:
    """The clips of a folder, or of a list. Raises ManifestError if there is none, or a line is malformed."""
    listed = path / LIST if path.is_dir() else path
    if not listed.exists() and path.is_dir():
        found = [
            JudgedClip(audio, " ".join(read_text(audio.with_suffix(".txt"), MAX_JSON).split()))
            for audio in sorted(path.iterdir())
            if audio.suffix.lower() in CLIP_SUFFIXES and audio.with_suffix(".txt").is_file()
        ]
        if not found:
            raise ManifestError(f"{path} has no {LIST}, and no audio file with a .txt of its name: write what is said")
        return found
    clips = []
    for number, entry in numbered_entries(listed):
        if isinstance(entry, ParseError) or (fault := _fault(entry)):
            raise ManifestError(f"{listed}:{number}: {entry if isinstance(entry, ParseError) else fault}")
        clips.append(_clip(entry, listed.parent))
    if not clips:
        raise ManifestError(f"{listed} lists no clip")
    return clips


def _fault(entry: Any) -> str | None:
    if not isinstance(entry, dict) or not {"audio", "text"} <= set(entry):
        return 'not an object with "audio" and "text"'
    for key in (*_PATHS, *_WORDS):
        if not isinstance(entry.get(key) or "", str):
            return f"{key} is no text"
    work = entry.get("synthesis_seconds")
    if work is not None and (isinstance(work, bool) or not isinstance(work, (int, float))):
        return "synthesis_seconds is no number"
    return None if entry["text"].strip() else "text is empty"


def _clip(entry: dict[str, Any], folder: Path) -> JudgedClip:
    values: dict[str, Any] = {key: folder / entry[key] for key in _PATHS if entry.get(key)}
    values |= {key: entry.get(key) or "" for key in _WORDS}
    return JudgedClip(**values, synthesis_seconds=entry.get("synthesis_seconds"))


def listed_texts(path: Path) -> list[Text]:
    """The texts of a list of clips, each to be said in the voice of its reference, if it has one."""
    return [Text(clip.text, clip.kind, clip.reference) for clip in read_clips(path)]


def speak_texts(
    synthesizer: Synthesizer, texts: Sequence[Text], voices: Sequence[Voice | str | None], out: Path, *,
    options: SpeechOptions | None = None, seed: int = 1, progress: Callable[[int, int], object] | None = None,
) -> list[JudgedClip]:  # fmt: skip
    """Speak each text in each voice into ``OUT/audio``, text i with seed ``seed + i``, i from 0.

    A text with a reference is spoken in a voice that is made of that alone.
    ``OUT/list.jsonl`` lists them, and ``OUT/references`` has what each voice carries of its speaker. What is listed
    there already is not spoken again.
    """
    own = list(dict.fromkeys(text.reference for text in texts if text.reference is not None))
    resolved = [synthesizer.resolve_voice(voice, seed=seed) for voice in (*voices, *own)]
    names = _distinct([voice.name for voice in resolved])
    of_reference = dict(zip(own, list(zip(names, resolved, strict=True))[len(voices) :], strict=True))
    of_all = list(zip(names, resolved, strict=True))[: len(voices)]
    (out / "audio").mkdir(parents=True, exist_ok=True)
    references = {}
    for name, voice in zip(names, resolved, strict=True):
        if voice.clips:
            (out / "references").mkdir(exist_ok=True)
            references[name] = f"references/{name}.wav"
            write(out / references[name], np.concatenate(voice.waveforms), OUTPUT_RATE)
    listed = kept_lines(out / LIST)
    done = {line["audio"] for line in listed}
    speakers = [[of_reference[text.reference]] if text.reference is not None else of_all for text in texts]
    total = sum(map(len, speakers))
    with (out / LIST).open("a", encoding="utf8") as lines:
        for place, text in enumerate(texts):
            for name, voice in speakers[place]:
                file = f"audio/{place + 1:03d}-{name}.wav"
                if file in done:
                    continue
                speech = synthesizer.speak(text.text, voice=voice, options=options, seed=seed + place)
                speech.save(out / file)
                line = {"audio": file, "text": text.text, "voice": name, "kind": text.kind,
                        "reference": references.get(name), "seed": seed + place,
                        "synthesis_seconds": speech.receipt["synthesis_seconds"]}  # fmt: skip
                listed.append(line)
                lines.write(json_line(line))
                lines.flush()
                if progress is not None:
                    progress(len(listed), total)
    return [_clip(line, out) for line in listed]


def _distinct(names: Sequence[str]) -> list[str]:
    """Names that files can have, no two alike."""
    made: list[str] = []
    for name in names:
        plain = re.sub(r"[^\w-]+", "_", name)[:60] or "voice"
        made.append(plain if plain not in made else f"{plain}-{len(made) + 1}")
    return made


def kept_lines(path: Path) -> list[dict[str, Any]]:
    """Lines of a journal of objects that another run was writing; one that was torn, and what follows, is cut off."""
    kept: list[dict[str, Any]] = []
    if path.exists():
        text = read_text(path, MAX_JSON)
        for line in text.split("\n")[:-1]:  # what follows the last line end was torn
            try:
                row = parse_json(line)
            except ValueError:
                break
            if not isinstance(row, dict):
                break
            kept.append(row)
        if (good := "".join(json_line(row) for row in kept)) != text:
            write_text(path, good)
    return kept
