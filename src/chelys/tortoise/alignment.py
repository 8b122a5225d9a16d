"""Where each character of a text was spoken, from what a recogniser spelled frame by frame.

The recogniser is the one that TorToise cuts bracket prompts with: wav2vec 2.0 (Baevski et al. 2020) with a CTC head. It
needs the extra ``align``, and its weights (1.2 GB) come from the hub on first use.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn import functional

from chelys.audio.io import resample
from chelys.audio.rates import OUTPUT_RATE
from chelys.errors import MissingExtra, ModelError

#: Stands in ``align_text`` for what was not found.
MISSED = "~"

_logger = logging.getLogger(__name__)


class Aligner(Protocol):
    """Spells speech."""

    def frames(self, waveform: np.ndarray) -> Sequence[str]:
        """The likeliest character of each frame.

        Args:
            waveform: ``(n,)`` float32 at 24 kHz.

        Returns:
            For frames that share the waveform evenly: a lower-case character, a space between words, or an empty string
            where none begins (the blank of Graves et al. 2006). A character may last several frames.
        """
        ...


def align_text(spelled: str, expected: str) -> str:
    """The expected text with ``~`` for each character that was not found."""
    found = match(spelled, expected)
    return "".join(MISSED if place < 0 else character for character, place in zip(expected, found, strict=True))


def match(spelled: str, expected: str) -> list[int]:
    """Place of each expected character among the recognised ones, -1 if it is not there: a longest common subsequence.

    Of several, the one that takes every match at once, and misses an expected character before it skips another.
    """
    sounds = np.array([ord(character) for character in spelled], np.int64)
    longest = np.zeros((len(expected) + 1, len(spelled) + 1), np.int32)  # of what follows the two places
    for i in range(len(expected) - 1, -1, -1):
        taken = np.where(sounds == ord(expected[i]), longest[i + 1, 1:] + 1, longest[i + 1, :-1])
        longest[i, :-1] = np.maximum.accumulate(taken[::-1])[::-1]
    found, j = [], 0
    for i, character in enumerate(expected):
        while j < len(spelled) and spelled[j] != character and longest[i, j + 1] > longest[i + 1, j]:
            j += 1
        if j < len(spelled) and spelled[j] == character:
            found.append(j)
            j += 1
        else:
            found.append(-1)
    return found


def _runs(frames: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Each character that was recognised, its first frame and the frame after its last."""
    place = 0
    for character, group in groupby(frames):
        length = len(list(group))
        if character:
            yield character, place, place + length
        place += length


def spans(frames: Sequence[str], text: str, samples: int) -> tuple[list[int], list[int]]:
    """Start and end of each character (samples); those not found share evenly what lies between their neighbours."""
    runs = list(_runs(frames))
    found = match("".join(run[0] for run in runs), text)
    letters = [place for place, character in zip(found, text, strict=True) if character.isalpha()]
    missed = sum(place < 0 for place in letters)
    if 2 * missed > len(letters):
        _logger.warning("%d of %d letters were not found in %r: the cut may be off", missed, len(letters), text)
    per_frame = samples / max(len(frames), 1)
    starts, ends = [0] * len(text), [0] * len(text)
    i = left = 0
    while i < len(text):
        stop = next((k for k in range(i, len(text)) if found[k] >= 0), len(text))
        right = round(runs[found[stop]][1] * per_frame) if stop < len(text) else samples
        for k in range(i, stop):
            starts[k] = left + (right - left) * (k - i) // (stop - i)
            ends[k] = left + (right - left) * (k - i + 1) // (stop - i)
        if stop < len(text):
            left = round(runs[found[stop]][2] * per_frame)
            starts[stop], ends[stop] = right, left
        i = stop + 1
    return starts, ends


def reference_starts(frames: Sequence[str], text: str, samples: int) -> list[int]:
    """The first character begins with the audio, each other one that was found at the next frame that spells it."""
    aligned = align_text("".join(run[0] for run in _runs(frames)).strip(), text)
    size = samples // max(len(frames), 1)
    starts, ahead = [0], iter(enumerate(frames))
    for character in aligned[1:]:
        found = character != MISSED
        starts.append(next((place * size for place, frame in ahead if frame == character), -1) if found else -1)
    starts.append(samples)
    for i, start in enumerate(starts):
        if start < 0:
            behind = next(k for k in range(i, len(starts)) if starts[k] >= 0)
            before, gap = starts[i - 1], starts[behind] - starts[i - 1]
            starts[i:behind] = [before + (k - i + 1) * gap // (behind - i + 1) for k in range(i, behind)]
    return starts[:-1]


NETWORK = "jbetker/wav2vec2-large-robust-ft-libritts-voxpopuli"
SYMBOLS = "jbetker/tacotron-symbols"

_RATE = 16_000  # Hz, that it listens at
_SHORTEST = 400  # samples: what its convolutions see at once


class Wav2Vec2Aligner:
    """An aligner on a CTC network of the transformers library.

    Args:
        network: ``Wav2Vec2ForCTC``, wherever it lies.
        symbols: Its ``Wav2Vec2CTCTokenizer``.
    """

    def __init__(self, network: Any, symbols: Any) -> None:
        self.network = network.eval()
        silent = {*symbols.all_special_ids, symbols.pad_token_id, network.config.pad_token_id}
        tokens = enumerate(symbols.convert_ids_to_tokens(list(range(len(symbols)))))
        self.characters = ["" if place in silent else str(token).lower() for place, token in tokens]
        if symbols.word_delimiter_token_id is not None:  # some versions count it among the special ones
            self.characters[symbols.word_delimiter_token_id] = " "

    @classmethod
    def load(
        cls, device: str | torch.device = "cpu", *, network: str = NETWORK, symbols: str = SYMBOLS
    ) -> Wav2Vec2Aligner:
        """Get the published aligner from the hub, or from the hub's cache.

        Args:
            device: Where the aligner runs; nothing is put elsewhere.
            network: Hub id or folder of the network.
            symbols: Hub id or folder of its tokenizer.

        Raises:
            MissingExtra: If the extra ``align`` is not installed.
            ModelError: If it cannot be fetched.
        """
        try:
            from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2ForCTC
        except ImportError as error:
            raise MissingExtra("align", error) from error
        try:
            return cls(
                Wav2Vec2ForCTC.from_pretrained(network).to(device), Wav2Vec2CTCTokenizer.from_pretrained(symbols)
            )
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ModelError(
                f"cannot get {network}, which finds the [brackets] in the audio ({reason}): connect to the network "
                "once, or speak without brackets"
            ) from error

    @torch.inference_mode()
    def frames(self, waveform: np.ndarray) -> list[str]:
        """The likeliest character of each frame of 20 ms; see ``chelys.tortoise.alignment.Aligner``."""
        parameter = next(self.network.parameters())
        samples = torch.from_numpy(resample(np.asarray(waveform, np.float32), OUTPUT_RATE, _RATE))
        samples = functional.pad(samples, (0, max(0, _SHORTEST - len(samples))))
        samples = (samples - samples.mean()) / torch.sqrt(samples.var() + 1e-7)
        logits = self.network(samples[None].to(parameter.device, parameter.dtype)).logits[0]
        ids = logits.argmax(-1).tolist()
        return [self.characters[i] if i < len(self.characters) else "" for i in ids]
