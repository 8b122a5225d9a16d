"""The pitch of recorded speech, which a vocoder with a harmonic source learns to read (WORLD's Dio, Morise 2009)."""

from __future__ import annotations

import numpy as np

from chelys.audio.rates import HOP, OUTPUT_RATE
from chelys.errors import MissingExtra

#: Hz between which a pitch is looked for.
RANGE = (55.0, 500.0)


def track_pitch(wave: np.ndarray) -> np.ndarray:
    """Follow the pitch of a voice.

    Args:
        wave: ``(n,)`` at 24 kHz.

    Returns:
        Hz at each mel frame, float32 ``(n // 256,)``; 0 where there is no voice.

    Raises:
        MissingExtra: If pyworld is not installed.
    """
    try:
        import pyworld
    except ImportError as error:
        raise MissingExtra("train", error) from error
    samples, period = wave.astype(np.float64), 1000 * HOP / OUTPUT_RATE
    pitch, times = pyworld.dio(samples, OUTPUT_RATE, *RANGE, frame_period=period)
    pitch = pyworld.stonemask(samples, pitch, times, OUTPUT_RATE)
    return pitch[: len(wave) // HOP].astype(np.float32)
