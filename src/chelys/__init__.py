"""chelys: the TorToise text-to-speech system, rebuilt.

In short::

    import chelys

    tts = chelys.load()
    tts.speak("Hello there.", seed=7).save("hello.wav")
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Literal

from chelys.deprecation import MovedModules
from chelys.errors import (
    AudioError,
    ConfigError,
    ManifestError,
    MissingExtra,
    ModelError,
    OutputError,
    TextError,
    UserError,
    VoiceError,
)

if TYPE_CHECKING:
    from chelys.inference.options import SpeechOptions
    from chelys.inference.speech import Candidate, Chunk, Speech
    from chelys.inference.synthesizer import Synthesizer
    from chelys.inference.voice import Voice

sys.meta_path.append(MovedModules())

__all__ = [
    "AudioError", "Candidate", "Chunk", "ConfigError", "ManifestError", "MissingExtra", "ModelError", "OutputError",
    "Speech", "SpeechOptions", "Synthesizer", "TextError", "UserError", "Voice", "VoiceError", "__version__", "load",
]  # fmt: skip
__version__ = "0.1.0"

_HOMES = {
    "Candidate": "chelys.inference.speech",
    "Chunk": "chelys.inference.speech",
    "Speech": "chelys.inference.speech",
    "SpeechOptions": "chelys.inference.options",
    "Synthesizer": "chelys.inference.synthesizer",
    "Voice": "chelys.inference.voice",
}


def load(
    model: str = "nano",
    *,
    compat: Literal["repaired", "reference"] = "repaired",
    device: str = "auto",
    dtype: str | None = None,
) -> Synthesizer:
    """Load a model for speaking.

    Args:
        model: ``nano``, which is part of the package; ``tortoise-v2``, which is fetched and converted on first use;
            a model folder; or a model of the hub, ``OWNER/NAME``.
        compat: ``reference`` reproduces the original TorToise with its bugs; ``repaired`` fixes them.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; ``auto`` is the first of CUDA, MPS and CPU that there is.
        dtype: What the networks compute with: ``float32`` (the default), ``bfloat16``, ``float16``, or ``auto``:
            bfloat16 where the hardware multiplies it, else float32.

    Raises:
        ModelError: If the model is unknown, incomplete or damaged, cannot be fetched, or the memory has no room for it.
        UserError: If the device or dtype is unknown.
    """
    from chelys.inference.synthesizer import Synthesizer
    from chelys.weights.catalog import find_model
    from chelys.weights.checks import place

    torch_device, torch_dtype = place(device, dtype)
    return Synthesizer.from_folder(find_model(model), device=torch_device, dtype=torch_dtype, compat=compat)


def __getattr__(name: str) -> Any:
    """Import public classes on first use: torch takes a second to import, and ``--help`` does not need it."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'chelys' has no attribute {name!r}")
