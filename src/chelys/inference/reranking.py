"""Which candidate is the best: CLVP scores how well its codes say the text (Betker 2023, section 3.2).

A family of models may add scorers of its own, each with a weight.

b candidates, m codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from chelys.deprecation import renamed_names
from chelys.inference.generation import CodeCandidate
from chelys.models.clvp import CLVP

#: Rows of one length that are scored together, to bound the memory.
BATCH = 16
#: Codes ``(b, m)`` to scores ``(b,)``.
Scorer = Callable[[Tensor], Tensor]


@torch.inference_mode()
def score(
    clvp: CLVP, text_ids: Tensor, candidates: Sequence[CodeCandidate], *,
    row: Callable[[Tensor], Tensor] | None = None, scorers: Sequence[tuple[float, Scorer]] = (),
    clvp_weight: float = 1.0,
) -> list[float]:  # fmt: skip
    """Score of each candidate, higher is better.

    ``text_ids``: ``(t,)``; they are encoded once. ``row``: makes rows of one length of codes ``(m,)``, which are scored
    together. None scores each candidate's codes as they are and one by one, so that its score does not depend on the
    others. ``scorers``: others beside CLVP, each with its weight. ``clvp_weight``: of CLVP; at 0 it is not run. Returns
    scores in the order of the candidates; minus infinity for one without codes, or with a code that CLVP does not know.
    """
    weighted = list(scorers)
    if clvp_weight > 0.0:
        text_latents = clvp.encode_text(text_ids[None])
        weighted.insert(0, (clvp_weight, lambda codes: clvp.score(text_ids[None], codes, text_latents=text_latents)))
    rows = [candidate.codes if row is None else row(candidate.codes) for candidate in candidates]
    valid = [i for i, codes in enumerate(rows) if len(codes) and int(codes.max()) < clvp.config.speech_tokens]
    scores = [float("-inf")] * len(rows)
    batch = 1 if row is None else BATCH
    for first in range(0, len(valid), batch):
        places = valid[first : first + batch]
        codes = torch.stack([rows[i] for i in places])
        total = sum(weight * scorer(codes) for weight, scorer in weighted)
        assert isinstance(total, Tensor)
        for i, value in zip(places, total.tolist(), strict=True):
            scores[i] = value
    return scores


def rank(candidates: Sequence[CodeCandidate], scores: Sequence[float], *, unstopped_last: bool = True) -> list[int]:
    """Indices of the candidates, best first; ties keep their order.

    ``candidates``: only whether they stopped matters. ``scores``: one for each, higher is better. ``unstopped_last``:
    put candidates that never stopped after all that did. Else the scores alone decide.
    """
    return sorted(range(len(candidates)), key=lambda i: (unstopped_last and not candidates[i].stopped, -scores[i], i))


__getattr__ = renamed_names(__name__)
