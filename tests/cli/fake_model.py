"""A synthesizer that speaks tones, so that the command line is tested before and without the networks.

Some words of the text make it behave: ``interrupt``, ``break`` (after the first sentence), ``wait``, ``warn``.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from chelys.audio import io
from chelys.errors import ModelError, TextError, UserError, VoiceError
from chelys.inference import voice_library
from chelys.inference.options import SpeechOptions, options_for

RATE = 24_000


@dataclass
class FakeVoice:
    info: dict[str, Any]

    def save(self, path: str | Path) -> None:
        save_file({"vector": np.zeros(4, np.float32)}, path, metadata={"info": json.dumps(self.info)})

    @classmethod
    def load(cls, path: str | Path) -> FakeVoice:
        try:
            with safe_open(path, "np") as file:
                return cls(json.loads(file.metadata()["info"]))
        except Exception as error:
            raise VoiceError(f"{path} is no voice file") from error


@dataclass
class FakeSpeech:
    candidates: list[SimpleNamespace]
    receipt: dict[str, Any]
    warnings: list[str]
    sample_rate: int = RATE
    audio: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.audio = self.candidates[0].audio

    @property
    def seconds(self) -> float:
        return len(self.audio) / self.sample_rate


class FakeSynthesizer:
    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.voices = {
            name: FakeVoice({"name": name, "seconds": 5.0, "description": f"the voice of {name}", "sources": []})
            for name in ("heart", "bronze")
        }

    @property
    def voice_names(self) -> list[str]:
        return list(self.voices)

    def resolve_voice(self, voice: str | Path | FakeVoice, *, seed: int | None = None) -> FakeVoice:
        if isinstance(voice, FakeVoice):
            return voice
        if str(voice) in self.voices:
            return self.voices[str(voice)]
        if shelved := voice_library.find_user_voice(str(voice)):
            return FakeVoice.load(shelved)
        path = Path(voice)
        if path.suffix == ".safetensors":
            return FakeVoice.load(path)
        if path.exists():
            return self.voice([path], name=path.stem)
        known = [*self.voice_names, *voice_library.list_user_voices()]
        raise VoiceError(f"unknown voice {str(voice)!r}: choose from {', '.join(known)}, or give a file")

    def read_voice(self, path: Path) -> None:
        return None

    def voice(self, paths: list[Path], name: str, speaker_blend: float | None = None) -> FakeVoice:
        clips = io.read_clips(paths, RATE)
        seconds = sum(map(len, clips)) / RATE
        blend = {} if speaker_blend is None else {"speaker_blend": {"heart": speaker_blend}}
        return FakeVoice({"name": name, "seconds": seconds, "sources": [Path(p).name for p in paths], **blend})

    def options(self, preset: str = "fast", **changes: object) -> SpeechOptions:
        return options_for(preset, **changes)

    def speak(self, text: str, *, voice: Any = "heart", preset: str = "fast", seed: int, candidates: int | None = None,
              keep: int = 1, options: SpeechOptions | None = None, progress: Any = None) -> FakeSpeech:  # fmt: skip
        options = options or self.options(preset, candidates=candidates)
        if keep > options.candidates:
            raise UserError(f"keep is {keep}; it must lie between 1 and {options.candidates}")
        self._behave(text)
        self.calls.append(
            {"text": text, "voice": self.resolve_voice(voice), "preset": preset, "seed": seed, "options": options}
        )
        for done in range(3):
            if progress:
                progress("sampling", done + 1, 3)
        takes = [
            SimpleNamespace(audio=self._tone(seed + place), score=1.0 - place / 10, seed=seed + place)
            for place in range(options.candidates)
        ]
        warnings = ["the text is warned of"] if "warn" in text else []
        return FakeSpeech(takes, {"text": text, "seed": seed, "scores": [take.score for take in takes]}, warnings)

    def stream(self, text: str, *, voice: Any = "heart", preset: str = "fast", seed: int, candidates: int | None = None,
               options: SpeechOptions | None = None) -> Any:  # fmt: skip
        for place, sentence in enumerate(text.split(". ")):
            yield SimpleNamespace(
                audio=self._tone(seed + place), sample_rate=RATE, text=sentence,
                warnings=["the text is warned of"] if "warn" in sentence else [],
            )  # fmt: skip
            self._behave(text)

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
    from chelys.cli.main import main

    main()
