"""Every sample rate, hop and ratio, in one place and with units.

A mel frame is HOP samples at the rate of its front end; a code is FRAMES_PER_CODE frames. nano has one
front end (24 kHz, 100 bands); the published system codes at 22.05 kHz and renders at 24 kHz, so that its
latents are stretched by 24000 / 22050 on their way into the diffusion decoder.
"""

from __future__ import annotations

from dataclasses import dataclass

HOP = 256  # samples per mel frame, in every front end
FRAMES_PER_CODE = 4  # mel frames per code
SAMPLES_PER_CODE = HOP * FRAMES_PER_CODE  # 1024 samples: 42.7 ms at 24 kHz, 46.4 ms at 22.05 kHz
OUTPUT_RATE = 24_000  # Hz, of every wave that chelys gives back
PUBLISHED_CODE_RATE = 22_050  # Hz, of the front end under the published codes


def exact_div(numerator: int, denominator: int) -> int:
    """Whole quotient; a ratio that is not whole is a fault of the configuration."""
    quotient, rest = divmod(numerator, denominator)
    assert rest == 0, f"{numerator} is no multiple of {denominator}"
    return quotient


def mel_frames(codes: int, code_rate: int = OUTPUT_RATE) -> int:
    """Frames of the rendered mel, at 24 kHz, of so many codes whose front end ran at ``code_rate`` Hz; rounded down."""
    return codes * FRAMES_PER_CODE * OUTPUT_RATE // code_rate


@dataclass(frozen=True)
class MelSpec:
    """A mel front end."""

    sample_rate: int  # hz
    bands: int  # mel bands
    f_max: float  # upper edge of the highest band, Hz
    n_fft: int = 1024  # window and transform length, samples
    hop: int = HOP  # samples per frame
    power: int = 1  # 1 takes magnitudes, 2 powers
    htk: bool = False  # mel scale of HTK in place of Slaney's
    floor: float = 1e-5  # magnitudes (or powers) below it count as this before the logarithm

    @property
    def frames_per_second(self) -> float:
        """Mel frames per second of audio."""
        return self.sample_rate / self.hop


MEL_24K = MelSpec(sample_rate=24_000, bands=100, f_max=12_000.0)
MEL_22K = MelSpec(sample_rate=22_050, bands=80, f_max=8_000.0, power=2, htk=True)
