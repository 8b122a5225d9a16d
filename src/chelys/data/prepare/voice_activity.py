"""Where in a recording somebody speaks: the probability of speech for every 32 ms."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from chelys.errors import ConfigError, MissingExtra

RATE = 16_000  # Hz
FRAME = 512  # samples, 32 ms
FRAME_SECONDS = FRAME / RATE
_CONTEXT = 64  # samples before each frame that the network sees again

#: Where the network lies in the packages that bring it, the first that is installed.
_PLACES = (("faster_whisper", "assets/silero_vad_v6.onnx"),)


class VoiceActivity(Protocol):
    """A detector at work on one recording."""

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        """Probability ``(f,)`` of speech in the next f frames, of samples ``(f * FRAME,)`` at 16 kHz."""
        ...


def detector(name: str) -> VoiceActivity:
    """A detector for one recording.

    Args:
        name: ``silero``, or ``energy``: louder than the recording's quiet, which is all that it takes where the
            recordings hold nothing but speech.

    Raises:
        ConfigError: If there is no such detector.
        MissingExtra: If Silero is not installed.
    """
    if name == "silero":
        return Silero(_session())
    if name == "energy":
        return Energy()
    raise ConfigError(f"unknown detector {name!r} of speech: choose silero or energy")


class Silero:
    """Silero VAD, a recurrent network; its state goes on from block to block.

    Args:
        session: The network, loaded by onnxruntime.
    """

    def __init__(self, session: Any) -> None:
        self.session = session
        self.hidden = np.zeros((1, 1, 128), np.float32)
        self.cell = np.zeros((1, 1, 128), np.float32)
        self.context = np.zeros(_CONTEXT, np.float32)

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        """See ``VoiceActivity``."""
        if not len(audio):
            return np.zeros(0, np.float32)
        seen = np.concatenate([self.context, audio])
        frames = np.lib.stride_tricks.sliding_window_view(seen, FRAME + _CONTEXT)[::FRAME]
        inputs = {"input": np.ascontiguousarray(frames), "h": self.hidden, "c": self.cell}
        probabilities, self.hidden, self.cell = self.session.run(None, inputs)
        self.context = audio[-_CONTEXT:]
        return probabilities.reshape(-1)


@lru_cache(1)
def _session() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("prepare", error) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(_network()), options, providers=["CPUExecutionProvider"])


def _network() -> Path:
    for package, inside in _PLACES:
        spec = find_spec(package)  # found, not imported: the package loads much more than is wanted
        for folder in (spec.submodule_search_locations or []) if spec else []:
            if (Path(folder) / inside).is_file():
                return Path(folder) / inside
    raise MissingExtra("prepare", ImportError("Silero VAD", name="faster-whisper"))


class Energy:
    """Speech is what is 12 dB louder than the quiet, and louder than -50 dBFS."""

    _LEAST_DB = -50.0
    _ABOVE_QUIET_DB = 12.0
    _RISE_DB = 0.02  # by which the quiet is forgotten with each frame

    def __init__(self) -> None:
        self.quiet = -70.0

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        """See ``VoiceActivity``."""
        power = np.square(audio.reshape(-1, FRAME), dtype=np.float64).mean(1)
        out = np.zeros(len(power), np.float32)
        for i, level in enumerate(10 * np.log10(power + 1e-10)):
            self.quiet = min(max(level, -90.0), self.quiet + self._RISE_DB)
            out[i] = float(level > max(self._LEAST_DB, self.quiet + self._ABOVE_QUIET_DB))
        return out
