"""A synthesizer that speaks tones, so that the command line is tested before and without the networks.

Some words of the text make it behave: ``interrupt``, ``break``, ``wait``, ``warn``.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from chelys.audio import io
from chelys.errors import ModelError, TextError, UserError, VoiceError
from chelys.inference import voice_files
from chelys.inference.options import SpeechOptions, options_for
from chelys.inference.speech import Candidate, Chunk, Speech

RATE = 24_000


@dataclass
class FakeVoice:
    info: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        return json.dumps(self.info, sort_keys=True)

    @property
    def name(self) -> str:
        return self.info["name"]

    def save(self, path: str | Path) -> None:
        save_file({"vector": np.zeros(4, np.float32)}, path, metadata={"voice": json.dumps(self.info)})

    @classmethod
    def load(cls, path: str | Path) -> FakeVoice:
        try:
            with safe_open(path, "np") as file:
                return cls(json.loads(file.metadata()["voice"]))
        except Exception as error:
            raise VoiceError(f"{path} is no voice file") from error


class FakeSynthesizer:
    fingerprint = "fake"
    family = SimpleNamespace(clip_rate=RATE, compat="repaired")
    model = SimpleNamespace(config=SimpleNamespace(name="fake"))
    sampling_weights = "float32"

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.voices = {
            name: FakeVoice({"name": name, "seconds": 5.0, "description": f"the voice of {name}", "sources": []})
            for name in ("heart", "bronze")
        }

    @property
    def voice_names(self) -> list[str]:
        return list(self.voices)

    def resolve_voice(self, voice: str | Path | FakeVoice | None, *, seed: int | None = None) -> FakeVoice:
        voice = "heart" if voice is None else voice
        if isinstance(voice, FakeVoice):
            return voice
        if str(voice) in self.voices:
            return self.voices[str(voice)]
        if shelved := voice_files.find_user_voice(str(voice)):
            return FakeVoice.load(shelved)
        path = Path(voice)
        if path.suffix == ".safetensors":
            return FakeVoice.load(path)
        if path.exists():
            return self.voice([(path.name, *io.read_clips([path], RATE))], sample_rate=RATE, name=path.stem)
        known = [*self.voice_names, *voice_files.list_user_voices()]
        raise VoiceError(f"unknown voice {str(voice)!r}: choose from {', '.join(known)}, or give a file")

    def read_voice(self, path: Path) -> None:
        return None

    def voice(
        self, clips: list[tuple[str, np.ndarray]], *, sample_rate: int, name: str, speaker_blend: float | None = None
    ) -> FakeVoice:
        seconds = sum(len(audio) for _, audio in clips) / sample_rate
        blend = {} if speaker_blend is None else {"speaker_blend": {"heart": speaker_blend}}
        return FakeVoice({"name": name, "seconds": seconds, "sources": [clip for clip, _ in clips], **blend})

    def options(self, preset: str = "fast", **changes: object) -> SpeechOptions:
        return options_for(preset, **changes)

    def speak(self, text: str, *, voice: Any, preset: str = "fast", seed: int, candidates: int | None = None,
              speed: float | None = None, keep: int = 1, options: SpeechOptions | None = None, progress: Any = None,
              spoken: Any = (), on_chunk: Any = None) -> Speech:  # fmt: skip
        options = options or self.options(preset, candidates=candidates, speed=speed)
        if keep > options.candidates:
            raise UserError(f"keep is {keep}; it must lie between 1 and {options.candidates}")
        self.calls.append(
            {"text": text, "voice": self.resolve_voice(voice), "preset": preset, "seed": seed, "options": options}
        )
        chunks = list(spoken)
        for chunk in self._chunks(text, seed, keep, len(chunks), progress):
            chunks.append(chunk)
            if on_chunk:
                on_chunk(chunk)
        joined = [
            Candidate(np.concatenate([chunk.candidates[i].audio for chunk in chunks]), 1.0 - i / 10, [])
            for i in range(keep)
        ]
        warnings = list(dict.fromkeys(w for chunk in chunks for w in chunk.warnings))
        receipt = {"text": text, "seed": seed, "scores": [kept.score for kept in joined]}
        return Speech(joined[0].audio, RATE, joined, receipt, warnings)

    def voices_of(self, document: str, options: SpeechOptions, voice: Any, seed: int) -> dict[str | None, FakeVoice]:
        return {None: self.resolve_voice(voice, seed=seed)}

    def read_text(self, text: str, **asked: Any) -> str:
        self.read = asked
        return text

    def speaks_early(self, options: SpeechOptions) -> bool:
        return True

    def stream(self, text: str, *, voice: Any, preset: str = "fast", seed: int, candidates: int | None = None,
               speed: float | None = None, options: SpeechOptions | None = None, progress: Any = None,
               start: int = 0, early: bool = False) -> Any:  # fmt: skip
        self.calls.append({"voice": voice, "early": early})
        yield from self._chunks(text, seed, 1, start, progress)

    def _chunks(self, text: str, seed: int, keep: int, start: int, progress: Any) -> Any:
        sentences = text.split(". ")
        for place, sentence in list(enumerate(sentences))[start:]:
            self._behave(sentence)
            for done in range(3):
                if progress:
                    progress("sampling", done + 1, 3)
            candidates = [Candidate(self._tone(seed + place + i), 1.0 - i / 10, [[place]]) for i in range(keep)]
            warnings = ["the text is warned of"] if "warn" in sentence else []
            yield Chunk(candidates[0].audio, RATE, sentence, candidates, [1.0], warnings, place, len(sentences))

    def _tone(self, seed: int) -> np.ndarray:
        time = np.arange(RATE // 2) / RATE
        return (0.5 * np.sin(2 * np.pi * (200 + seed % 100) * time)).astype(np.float32)

    def _behave(self, text: str) -> None:
        if "interrupt" in text:
            raise KeyboardInterrupt
        if "break" in text:
            raise TextError("the second sentence cannot be spoken: leave it out")
        if "wait" in text:
            print("waiting", file=sys.stderr, flush=True)
            time.sleep(60)


def loader(synthesizer: FakeSynthesizer) -> Any:
    """Stands in for ``chelys.load``."""

    def load(
        model: str = "nano", *, device: str = "cpu", dtype: str | None = None, compat: str = "repaired"
    ) -> FakeSynthesizer:
        if model != "nano":
            raise ModelError(f"no model {model!r}: choose nano, or give a folder")
        return synthesizer

    return load


def run() -> None:
    """``chelys`` with the stand-ins, for a process of its own."""
    import chelys

    chelys.load = loader(FakeSynthesizer())  # type: ignore[attr-defined]
    from chelys.__main__ import main

    main()
