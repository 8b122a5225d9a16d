"""Which take says the text best: CLVP's score (Betker 2023, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from chelys.inference.decode import Take
from chelys.models.clvp import CLVP


@torch.inference_mode()
def score(clvp: CLVP, text: Tensor, takes: list[Take]) -> list[float]:
    """Score of each take, higher is better.

    Args:
        clvp: In evaluation mode.
        text: Ids ``(t,)``.
        takes: Any number.

    Returns:
        Scores in the order of the takes; minus infinity for a take without a single code.
    """
    said = clvp.encode_text(text[None])
    scores = []
    for take in takes:  # one by one: a take's score does not depend on its company
        spoken = clvp.encode_speech(take.codes[None]) if len(take.codes) else None
        scores.append(float("-inf") if spoken is None else float(clvp.similarity(said, spoken)))
    return scores


def ranked(takes: list[Take], scores: list[float]) -> list[int]:
    """Indices of the takes, best first. A take that never stopped comes after all that did."""
    return sorted(range(len(takes)), key=lambda i: (not takes[i].stopped, -scores[i], i))
