"""Old name of ``chelys.tortoise.api``; it stays for one release."""

from __future__ import annotations

import warnings

from chelys.tortoise.api import (
    PRESETS,
    TextToSpeech,
    get_voices,
    load_audio,
    load_voice,
    load_voices,
    pick_best_batch_size_for_gpu,
)

__all__ = [
    "PRESETS", "TextToSpeech", "get_voices", "load_audio", "load_voice", "load_voices", "pick_best_batch_size_for_gpu",
]  # fmt: skip

warnings.warn("chelys.compat.tortoise moved to chelys.tortoise.api", DeprecationWarning, stacklevel=2)
