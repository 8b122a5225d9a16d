"""Bracket prompts: ``[I am really sad,] Please feed me.`` speaks all of it and keeps what stands outside.

The mood of the prompt carries over to the rest, which is then cut free: a recogniser that spells what it hears, frame
by frame, tells where each character of the text was spoken. It is the one that TorToise used: wav2vec 2.0 (Baevski et
al. 2020) with a CTC head. It needs the extra ``align``, and its weights (1.2 GB) come from the hub on first use.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn import functional

from chelys.audio.io import resample
from chelys.audio.rates import OUTPUT_RATE
from chelys.errors import MissingExtra, ModelError, TextError, first_line
from chelys.text.document import Sentence
from chelys.text.normalize import is_speakable
from chelys.text.tokenizer import Tokenizer

#: Stands in ``align_text`` for what was not found.
MISSED = "~"

_logger = logging.getLogger(__name__)


class Aligner(Protocol):
    """Spells speech."""

    def frames(self, waveform: np.ndarray) -> Sequence[str]:
        """The likeliest character of each frame of a waveform ``(n,)``, float32 at 24 kHz; frames share it evenly.

        A lower-case character, a space between words, or an empty string where none begins (the blank of Graves et al.
        2006). A character may last several frames.
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
    """An aligner on a ``Wav2Vec2ForCTC``, wherever it lies, and its ``Wav2Vec2CTCTokenizer``."""

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
        """Get the published aligner (hub ids or folders) from the hub, or from the hub's cache.

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
            raise ModelError(
                f"cannot get {network}, which finds the [brackets] in the audio ({first_line(error)}): connect to the "
                "network once, or speak without brackets"
            ) from error

    @torch.inference_mode()
    def frames(self, waveform: np.ndarray) -> list[str]:
        """The likeliest character of each frame of 20 ms; see ``Aligner``."""
        parameter = next(self.network.parameters())
        samples = torch.from_numpy(resample(np.asarray(waveform, np.float32), OUTPUT_RATE, _RATE))
        samples = functional.pad(samples, (0, max(0, _SHORTEST - len(samples))))
        samples = (samples - samples.mean()) / torch.sqrt(samples.var() + 1e-7)
        logits = self.network(samples[None].to(parameter.device, parameter.dtype)).logits[0]
        ids = logits.argmax(-1).tolist()
        return [self.characters[i] if i < len(self.characters) else "" for i in ids]


_QUIET_SAMPLES = OUTPUT_RATE // 100  # a cut is put where 10 ms are quietest
_FADE_SAMPLES = OUTPUT_RATE // 200  # 5 ms, so that a cut does not click


@dataclass(frozen=True)
class Piece:
    """A stretch of a text, without its brackets, and whether it stays in the audio."""

    text: str
    kept: bool


def parse(text: str) -> list[Piece]:
    """Cut a text at its brackets; empty pieces are left out.

    Raises:
        TextError: If a bracket has no partner, brackets are nested, or nothing is left to be kept.
    """
    pieces, kept, start = [], True, 0
    for place, character in enumerate(text):
        if character in "[]":
            if (character == "[") != kept:
                fault = "opens a bracket within another" if character == "[" else "has no '[' before it"
                raise TextError(f"{text[place : place + 20]!r} {fault}: pair each '[' with a ']', and nest none")
            pieces.append(Piece(text[start:place], kept))
            kept, start = not kept, place + 1
    if not kept:
        raise TextError(f"{text[start - 1 : start + 19]!r} has no ']' behind it: pair each '[' with a ']'")
    pieces.append(Piece(text[start:], True))
    if len(pieces) > 1 and not any(piece.kept and is_speakable(piece.text) for piece in pieces):
        raise TextError("all of the text stands in [brackets], which are cut out: write what is to be heard outside")
    return [piece for piece in pieces if piece.text]


def has_prompt(text: str) -> bool:
    """Whether there is anything to cut out; it raises as ``parse``."""
    return any(not piece.kept for piece in parse(text))


def spoken(text: str) -> str:
    """What is said: the text without its brackets."""
    return text.replace("[", "").replace("]", "")


def join_prompts(sentences: Sequence[Sentence]) -> list[Sentence]:
    """Undo the cuts of a long text that part a prompt from what it colours: each sentence has something to keep."""
    joined: list[Sentence] = []
    waiting: Sentence | None = None
    for sentence in sentences:
        waiting = sentence if waiting is None else Sentence(f"{waiting.text} {sentence.text}", sentence.pause_s)
        if _stands_alone(waiting.text):
            joined.append(waiting)
            waiting = None
    if waiting is not None:  # a prompt at the very end
        if joined:
            waiting = Sentence(f"{joined.pop().text} {waiting.text}", waiting.pause_s)
        joined.append(waiting)
    return joined


def _stands_alone(text: str) -> bool:
    try:
        return bool(parse(text))
    except TextError:
        return False


class Redaction:
    """Prompts of one model; see ``chelys.inference.family.Redactor``.

    Without an aligner, the published one is loaded when a text first needs it. ``reference`` cuts as TorToise did.
    """

    def __init__(
        self, tokenizer: Tokenizer, aligner: Aligner | None, device: str | torch.device, *, reference: bool = False
    ) -> None:
        self.tokenizer, self.aligner, self.device, self.reference = tokenizer, aligner, device, reference

    def applies(self, text: str) -> bool:
        if not has_prompt(text):
            return False
        if self.aligner is None:
            self.aligner = Wav2Vec2Aligner.load(self.device)
        return True

    def join(self, sentences: Sequence[Sentence]) -> list[Sentence]:
        return join_prompts(sentences)

    def cut(self, audio: np.ndarray, text: str) -> np.ndarray:
        assert self.aligner is not None
        return redact(audio, text, self.aligner, clean=self.tokenizer.clean, reference=self.reference)


def redact(
    waveform: np.ndarray, text: str, aligner: Aligner, *, clean: Callable[[str], str], reference: bool = False
) -> np.ndarray:
    """Cut what stands in brackets out of the audio, ``(n,)`` float32 at 24 kHz, and join what is kept.

    ``clean`` is what the model's tokenizer makes of a text before it is cut into
    ids, so that "5" is sought as "five". ``reference`` seeks the raw text, and ends each kept stretch where its last
    character begins, as TorToise did. Raises as ``parse``.
    """
    pieces = parse(text)
    if all(piece.kept for piece in pieces):
        return waveform
    frames = aligner.frames(waveform)
    if reference:
        raw = [Piece(piece.text.lower(), piece.kept) for piece in pieces]
        return np.concatenate([waveform[start:stop] for start, stop in _reference_ranges(frames, raw, len(waveform))])
    kept = [waveform[start:stop].copy() for start, stop in kept_ranges(waveform, frames, _cleaned(pieces, clean))]
    for before, after in zip(kept, kept[1:], strict=False):
        _fade(before[::-1])
        _fade(after)
    if not pieces[0].kept:
        _fade(kept[0])
    if not pieces[-1].kept:
        _fade(kept[-1][::-1])
    return np.concatenate(kept)


def kept_ranges(waveform: np.ndarray, frames: Sequence[str], pieces: Sequence[Piece]) -> list[tuple[int, int]]:
    """Start and stop of each stretch of a waveform ``(n,)`` at 24 kHz to keep, samples; pieces are of the cleaned text.

    A cut lies in the quietest moment between the end of the last letter on one side and the start of the first letter
    on the other; the beginning and the end of the audio go with the first and the last piece.
    """
    text = "".join(piece.text for piece in pieces)
    starts, ends = spans(frames, text, len(waveform))
    letters = [place for place, character in enumerate(text) if character.isalnum()]
    ranges: list[tuple[int, int]] = []
    border = cut = 0
    for number, piece in enumerate(pieces, 1):
        border += len(piece.text)
        before = [place for place in letters if place < border]
        after = [place for place in letters if place >= border]
        low = ends[before[-1]] if before else 0
        high = starts[after[0]] if after else len(waveform)
        stop = len(waveform) if number == len(pieces) else max(cut, _quietest(waveform, low, high))
        if piece.kept:
            if ranges and ranges[-1][1] == cut:  # nothing lies between the two
                cut = ranges.pop()[0]
            ranges.append((cut, stop))
        cut = stop
    return ranges


def _cleaned(pieces: Sequence[Piece], clean: Callable[[str], str]) -> list[Piece]:
    """Each piece as it is said, lower-case and single-spaced; spaces at its ends stay."""
    cleaned = []
    for piece in pieces:
        try:
            words = clean(piece.text).lower().split()
        except TextError:  # nothing but punctuation
            words = []
        before = " " if piece.text[:1].isspace() else ""
        after = " " if piece.text[-1:].isspace() and words else ""
        cleaned.append(Piece(before + " ".join(words) + after, piece.kept))
    return cleaned


def _quietest(waveform: np.ndarray, low: int, high: int) -> int:
    """Middle of the quietest 10 ms between two samples; the middle between them if they lie closer."""
    if high - low <= _QUIET_SAMPLES:
        return (low + high) // 2
    powers = np.concatenate(([0.0], np.cumsum(np.square(waveform[low:high], dtype=np.float64))))
    return low + int(np.argmin(powers[_QUIET_SAMPLES:] - powers[:-_QUIET_SAMPLES])) + _QUIET_SAMPLES // 2


def _fade(edge: np.ndarray) -> None:
    """Let the samples rise from nothing, in place."""
    length = min(_FADE_SAMPLES, len(edge))
    edge[:length] *= np.linspace(0, 1, length, endpoint=False, dtype=edge.dtype)


def _reference_ranges(frames: Sequence[str], pieces: Sequence[Piece], samples: int) -> list[tuple[int, int]]:
    """As TorToise chose them: from the start of the first to the start of the last character of each kept piece."""
    starts = reference_starts(frames, "".join(piece.text for piece in pieces), samples)
    ranges, border = [(0, 0)], 0
    for piece in pieces:
        if piece.kept:
            ranges.append((starts[border], starts[border + len(piece.text) - 1]))
        border += len(piece.text)
    return ranges
