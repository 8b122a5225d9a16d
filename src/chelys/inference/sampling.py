"""Logits to the next code.

b takes, v code ids.
"""

from __future__ import annotations

import torch
from torch import Tensor

from chelys.inference.options import SpeechOptions


def filtered(logits: Tensor, said: Tensor, options: SpeechOptions) -> Tensor:
    """Penalise repetitions, divide by the temperature, keep the top k and the nucleus.

    Args:
        logits: ``(b, v)`` float32.
        said: How often each code was said so far, ``(b, v)``.
        options: The knobs.

    Returns:
        ``(b, v)``; what must not be drawn is minus infinity.
    """
    if options.repetition_penalty != 1.0:
        penalised = torch.where(logits > 0, logits / options.repetition_penalty, logits * options.repetition_penalty)
        logits = torch.where(said > 0, penalised, logits)
    logits = logits / options.temperature
    if 0 < options.top_k < logits.shape[1]:
        least = logits.topk(options.top_k, dim=1).values[:, -1:]
        logits = logits.masked_fill(logits < least, float("-inf"))
    if options.top_p < 1.0:
        ordered, order = logits.sort(dim=1, descending=True)
        chances = ordered.softmax(1)
        beyond = chances.cumsum(1) - chances >= options.top_p  # what came before already fills the nucleus
        logits = logits.masked_fill(beyond.gather(1, order.argsort(1)), float("-inf"))
    return logits


def draw(logits: Tensor, said: Tensor, options: SpeechOptions, generators: list[torch.Generator]) -> Tensor:
    """Next code of each take, ``(b,)``. Each take has its own generator, so how many there are changes none of them."""
    if options.temperature == 0.0:
        return logits.argmax(1)
    chances = filtered(logits.float(), said, options).softmax(1).cpu()
    # the smallest of exponential waiting times, one for each code at the rate of its chance, is a draw from the chances
    waits = torch.stack([torch.empty(chances.shape[1]).exponential_(generator=g) for g in generators])
    return (chances / waits).argmax(1).to(logits.device)


def forbid(logits: Tensor, code: int) -> Tensor:
    """Logits ``(b, v)`` with one code ruled out."""
    return logits.index_fill(1, torch.tensor([code], device=logits.device), float("-inf"))
