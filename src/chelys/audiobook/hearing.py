"""What CLVP's CTC reader hears in the codes of a candidate, laid along its text: when a word is said, and how surely.

The reader (``CLVP.read``) gives at each of its frames the odds of every sound. The likeliest path that says the text,
and nothing else, gives each sound its frames (forced alignment: Viterbi 1967; Graves et al. 2006). Where another sound
is likelier than that of the text, the text is *doubted*. Models without a CTC head hear nothing.

t ids of a text, r frames of the reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from chelys.models.clvp import CLVP
from chelys.text.tokenizer import PUNCTUATION

_NEVER = -1e9
_UNHEARD = {" ", *PUNCTUATION, "ˈ", "ˌ"}


@dataclass(frozen=True)
class WordTime:
    """When a word of a sentence is said."""

    text: str  # as it is spoken, with the marks behind it
    start_s: float  # from the beginning of the take, seconds
    end_s: float
    doubt: float  # nats that its least sure sound is unlikelier than what is heard there; 0 is sure


@dataclass(frozen=True)
class Alignment:
    """The text of a candidate laid along the frames of the reader."""

    starts: np.ndarray  # frame at which each id begins, ``(t,)``
    ends: np.ndarray  # and ends, ``(t,)``, excluded
    doubts: np.ndarray  # nats by which each id is unlikelier than what is heard in its place, ``(t,)``, 0 or more
    frames: int

    def worst(self, symbols: Sequence[str]) -> float:
        """The largest doubt of a sound, nats; spaces, marks and stresses do not count."""
        sounds = [float(d) for d, symbol in zip(self.doubts, symbols, strict=True) if symbol not in _UNHEARD]
        return max(sounds, default=0.0)

    def words(self, spoken: str, symbols: Sequence[str], seconds: float) -> tuple[WordTime, ...]:
        """The words of a sentence; empty if they and the symbols do not go together.

        ``spoken``: words, single-spaced; ``symbols``: what the ids stand for; ``seconds``: length of the take.
        """
        spans = [(found[0], found[-1] + 1) for found in _words(symbols)]
        words = [word for word in spoken.split() if any(map(str.isalnum, word))]
        if len(spans) != len(words):
            return ()
        scale = seconds / max(1, self.frames)
        made = []
        for text, (first, last) in zip(words, spans, strict=True):
            start, end = float(self.starts[first]) * scale, float(self.ends[last - 1]) * scale
            made.append(WordTime(text, round(start, 3), round(end, 3), round(float(self.doubts[first:last].max()), 2)))
        return tuple(made)


def _words(symbols: Sequence[str]) -> list[list[int]]:
    """Places of the symbols of each word, without the marks around it."""
    words: list[list[int]] = [[]]
    for place, symbol in enumerate(symbols):
        if symbol == " ":
            words.append([])
        elif symbol not in PUNCTUATION:
            words[-1].append(place)
    return [word for word in words if word]


@torch.inference_mode()
def align(clvp: CLVP, ids: Tensor, codes: Tensor) -> Alignment | None:
    """Lay the ids ``(t,)`` of a text along the codes ``(m,)`` of a candidate.

    None if the model's CLVP has no CTC head, or the codes are too few for the text.
    """
    if not clvp.config.frames_per_token or not len(codes) or int(codes.max()) >= clvp.config.speech_tokens:
        return None
    log_probabilities = clvp.read(codes[None])[0].cpu().numpy()
    places = forced(log_probabilities, ids.tolist(), clvp.blank)
    if places is None:
        return None
    starts, ends = places
    best = log_probabilities.max(1)
    gaps = np.array(
        [
            min(float(best[frame] - log_probabilities[frame, target]) for frame in range(start, end))
            for start, end, target in zip(starts, ends, ids.tolist(), strict=True)
        ]
    )
    return Alignment(starts, ends, gaps, len(log_probabilities))


def forced(log_probabilities: np.ndarray, ids: Sequence[int], blank: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Frames ``(t,)`` at which each id begins, and ends (excluded), on the likeliest path; None if there is none.

    ``log_probabilities``: ``(r, ids + blank)``.
    """
    states = np.full(2 * len(ids) + 1, blank)  # blank, id, blank, id, ... blank
    states[1::2] = ids
    emitted = log_probabilities[:, states]
    may_skip = np.zeros(len(states), bool)  # from an id to the next one, past the blank, unless they are the same
    may_skip[3::2] = states[3::2] != states[1:-2:2]
    score = np.full(len(states), _NEVER)
    score[:2] = emitted[0, :2]
    came = np.zeros(emitted.shape, np.int8)
    for frame in range(1, len(emitted)):
        one = np.concatenate(([_NEVER], score[:-1]))
        two = np.where(may_skip, np.concatenate(([_NEVER, _NEVER], score[:-2])), _NEVER)
        choices = np.stack((score, one, two))
        came[frame] = choices.argmax(0)
        score = choices.max(0) + emitted[frame]
    state = len(states) - 1 if score[-1] >= score[-2] else len(states) - 2
    if score[state] < _NEVER / 2:
        return None
    starts, ends = np.zeros(len(ids), int), np.zeros(len(ids), int)
    for frame in range(len(emitted) - 1, -1, -1):
        if state % 2:
            place = state // 2
            ends[place] = ends[place] or frame + 1
            starts[place] = frame
        state -= int(came[frame, state])
    return starts, ends
