"""Which candidate is the best: CLVP scores how well its codes say the text (Betker 2023, section 3.2).

A family of models may add scorers of its own, each with a weight.

b candidates, m codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

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

    ``text_ids``: ``(t,)``; they are encoded once. ``row``: makes rows of one length of codes ``(m,)``, as the published
    system scores them. None scores the codes as they are, those of like length together, with what pads them masked.
    ``scorers``: others beside CLVP, each with its weight; they know no padding. ``clvp_weight``: of CLVP; at 0 it is
    not run. Returns scores in the order of the candidates; minus infinity for one without codes, or with a code that
    CLVP does not know.
    """
    text_latents = clvp.encode_text(text_ids[None]) if clvp_weight > 0.0 else None
    rows = [candidate.codes if row is None else row(candidate.codes) for candidate in candidates]
    valid = [i for i, codes in enumerate(rows) if len(codes) and int(codes.max()) < clvp.config.speech_tokens]
    scores = [float("-inf")] * len(rows)
    valid.sort(key=lambda i: len(rows[i]))
    batch = 1 if row is None and scorers else BATCH
    for first in range(0, len(valid), batch):
        places = valid[first : first + batch]
        lengths = [len(rows[i]) for i in places]
        codes = pad_sequence([rows[i] for i in places], batch_first=True)
        padded = torch.tensor(lengths, device=codes.device) if lengths[0] < lengths[-1] else None
        total = codes.new_zeros(len(codes), dtype=clvp.temperature.dtype)
        if text_latents is not None:
            total += clvp_weight * clvp.score(text_ids[None], codes, None, padded, text_latents=text_latents)
        for weight, scorer in scorers:
            total = total + weight * scorer(codes)
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
