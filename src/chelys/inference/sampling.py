"""Logits to the next code.

The order is that of the published system: first what changes the odds of the network (repetition penalty, typical
sampling), then the temperature, then what cuts off the unlikely (top k, nucleus).

b takes, v code ids.
"""

from __future__ import annotations

import torch
from torch import Tensor

from chelys.inference.options import SpeechOptions

NEVER = float("-inf")


def filtered(logits: Tensor, said: Tensor, options: SpeechOptions) -> Tensor:
    """Everything that decides the chances of the next code.

    Args:
        logits: ``(b, v)`` float32.
        said: How often each code was said so far, ``(b, v)``.
        options: The knobs; the temperature is above 0.

    Returns:
        ``(b, v)``; what must not be drawn is minus infinity.
    """
    logits = _weighed(logits, said, options) / options.temperature
    if 0 < options.top_k < logits.shape[1]:
        least = logits.topk(options.top_k, dim=1).values[:, -1:]
        logits = logits.masked_fill(logits < least, NEVER)
    return _nucleus(logits, options.top_p) if options.top_p < 1.0 else logits


def _weighed(logits: Tensor, said: Tensor, options: SpeechOptions) -> Tensor:
    """What comes before the temperature, and counts without one too."""
    if options.repetition_penalty != 1.0:
        penalised = torch.where(logits > 0, logits / options.repetition_penalty, logits * options.repetition_penalty)
        logits = torch.where(said > 0, penalised, logits)
    return _typical(logits, options.typical_mass) if options.typical_mass < 1.0 else logits


def _typical(logits: Tensor, mass: float) -> Tensor:
    """Keep the codes whose surprise is nearest to the expected one until they hold the mass (Meister et al. 2022)."""
    log_chances = logits.log_softmax(1)
    # what was ruled out is 0 times infinity, not a number
    expected = -(log_chances.exp() * log_chances).nansum(1, keepdim=True)
    distance = (-log_chances - expected).abs()
    ordered, order = distance.sort(dim=1)
    short = (logits.gather(1, order).softmax(1).cumsum(1) < mass).sum(1, keepdim=True)  # codes that are not enough yet
    farthest = ordered.gather(1, short.clamp(max=logits.shape[1] - 1))
    return logits.masked_fill(distance > farthest, NEVER)  # codes as far as the last one that is needed stay too


def _nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Keep the likeliest codes that together reach the share (Holtzman et al. 2020), at least one.

    Counted from the unlikely end, as the published figures are: of equal chances on the border the last ones stay.
    """
    ordered, order = logits.sort(dim=1, stable=True)
    unlikely = ordered.softmax(1).cumsum(1) <= 1 - top_p
    unlikely[:, -1] = False
    return logits.masked_fill(unlikely.gather(1, order.argsort(1)), NEVER)


def draw(logits: Tensor, said: Tensor, options: SpeechOptions, generators: list[torch.Generator]) -> Tensor:
    """Next code of each take, ``(b,)``. Each take has its own generator, so how many there are changes none of them.

    Temperature 0 takes the likeliest code and draws nothing, yet minds the repetitions.
    """
    if options.temperature == 0.0:
        return _weighed(logits.float(), said, options).argmax(1)
    chances = filtered(logits.float(), said, options).softmax(1).cpu()
    # the smallest of exponential waiting times, one for each code at the rate of its chance, is a draw from the chances
    waits = torch.stack([torch.empty(chances.shape[1]).exponential_(generator=g) for g in generators])
    return (chances / waits).argmax(1).to(logits.device)


def forbid(logits: Tensor, code: int) -> Tensor:
    """Logits ``(b, v)`` with one code ruled out."""
    return logits.index_fill(1, torch.tensor([code], device=logits.device), NEVER)
