"""Which take is the best: CLVP hears whether it says the text (Betker 2023, section 3.2). Other judges can join it.

b takes, m codes, d width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from chelys.inference.decode import Take
from chelys.models.clvp import CLVP

#: Rows of one length that are read at a time, to bound the memory.
ROWS = 16
#: Codes ``(b, m)`` to scores ``(b,)``.
Judge = Callable[[Tensor], Tensor]


@torch.inference_mode()
def score(
    clvp: CLVP,
    text: Tensor,
    takes: list[Take],
    *,
    row: Callable[[Tensor], Tensor] | None = None,
    stops: int = 0,
    judges: Sequence[tuple[float, Judge]] = (),
    clvp_weight: float = 1.0,
) -> list[float]:
    """Score of each take, higher is better.

    Args:
        clvp: In evaluation mode.
        text: Ids ``(t,)``; it is read once.
        takes: Any number.
        row: Makes rows of one length of codes ``(m,)``; without it each take is read as it is.
        stops: Stop ids that the text gets at its end.
        judges: Other networks, each with its weight.
        clvp_weight: Of CLVP against them; at 0 it is not run.

    Returns:
        Scores in the order of the takes; minus infinity for one that cannot be read, having no code at all or one that
        is not speech.
    """
    panel = list(judges)
    if clvp_weight > 0.0:
        panel.insert(0, (clvp_weight, _clvp_judge(clvp, F.pad(text, (0, stops)))))  # the stop id is 0
    scores = [float("-inf")] * len(takes)
    for places, codes in _batches(takes, row, clvp.config.speech_tokens):
        judged = sum(share * judge(codes) for share, judge in panel)
        assert isinstance(judged, Tensor)
        for place, value in zip(places, judged.tolist(), strict=True):
            scores[place] = value
    return scores


def _clvp_judge(clvp: CLVP, text: Tensor) -> Judge:
    said = clvp.encode_text(text[None])
    return lambda codes: clvp.score(text[None], codes, said=said)


def _batches(takes: list[Take], row: Callable[[Tensor], Tensor] | None, tokens: int) -> list[tuple[list[int], Tensor]]:
    """Places of takes, and the rows ``(b, m)`` to read for them; takes without a code to read are in none.

    Rows of different lengths go one by one: then a take's score does not depend on its company.
    """
    rows = [take.codes if row is None else row(take.codes) for take in takes]
    # unconstrained sampling can give the start code, of which the judges know nothing
    sound = [place for place, codes in enumerate(rows) if len(codes) and int(codes.max()) < tokens]
    size = 1 if row is None else ROWS
    groups = [sound[first : first + size] for first in range(0, len(sound), size)]
    return [(places, torch.stack([rows[place] for place in places])) for places in groups]


def ranked(takes: list[Take], scores: list[float], *, finished_first: bool = True) -> list[int]:
    """Indices of the takes, best first.

    Args:
        takes: Their codes do not matter, but whether they stopped does.
        scores: One for each, higher is better.
        finished_first: A take that never stopped comes after all that did; else the scores alone count.
    """
    return sorted(range(len(takes)), key=lambda i: (finished_first and not takes[i].stopped, -scores[i], i))
