"""The networks, one a file; and the sizes of the VQ-VAE, which models name, though speech does without the network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DVAEConfig:
    """Sizes of the VQ-VAE."""

    bands: int = 100  # mel bands f
    tokens: int = 1024  # codes in the book
    code_width: int = 16  # dimensions w of a code vector (published: 512; the paper wished for fewer)
    hidden: int = 128  # channels after the first strided convolution; twice as many after each further one
    strides: int = 2  # number of stride-2 convolutions; 2 gives four mel frames to a code
    residual_blocks: int = 3  # on each side
    decay: float = 0.99  # of the codebook's moving averages
    clip_mean: bool = False  # whether the mean spectrum of a clip goes past the codes to the decoder
    text_tokens: int = 0  # text ids that a CTC head reads from the code vectors, in training; 0: no such head
    #: the decoder's first up-sampling keeps its channels and the last ends at ``hidden`` (published); otherwise the
    #: first halves them and the last keeps ``hidden``
    late_narrowing: bool = False

    @classmethod
    def tortoise_v2(cls) -> DVAEConfig:
        """The published sizes: 80 bands, 8192 codes of width 512."""
        return cls(bands=80, tokens=8192, code_width=512, hidden=512, late_narrowing=True)
