"""What speech was made of and with: the part of a receipt that is the same for a sentence and for a book."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from chelys.inference.options import SpeechOptions
    from chelys.inference.synthesizer import Synthesizer
    from chelys.inference.voice import Voice


def made_with(
    tts: Synthesizer, voices: Mapping[str, Voice], options: SpeechOptions, seed: int, preset: str | None
) -> dict[str, Any]:
    """Everything but the text that samples depend on, ready for JSON.

    ``voices``: by the names under which they were asked for; ``preset``: None if the options say all.
    """
    return {
        "model": tts.model.config.name,
        "model_hash": tts.fingerprint,
        "voice_hashes": {name: voice.fingerprint for name, voice in voices.items()},
        "seed": seed,
        "preset": preset,
        "options": asdict(options),
        "versions": {"chelys": _version(), "torch": str(torch.__version__), "numpy": np.__version__},
        "sampling_weights": tts.sampling_weights,
        "threads": torch.get_num_threads(),
    }


def _version() -> str:
    try:
        return version("chelys")
    except PackageNotFoundError:  # run from its source folder
        return "not installed"
