"""The next code of each candidate, drawn from the network's odds.

The order is that of the published system: first what changes the odds (repetition penalty, typical sampling), then the
temperature, then what cuts off unlikely codes (top k, nucleus).

b candidates in a batch, v code ids.
"""

from __future__ import annotations

import torch
from torch import Tensor

from chelys.inference.options import SpeechOptions

#: Logit of what must not be sampled.
NEVER = float("-inf")


def sample_codes(logits: Tensor, counts: Tensor, options: SpeechOptions, generators: list[torch.Generator]) -> Tensor:
    """Next code of each candidate, ``(b,)``. Each has its own generator, so their number changes none of them.

    The probabilities are those of ``filter_logits``, of the ``top_k`` likeliest codes alone. Temperature 0 takes the
    likeliest code and draws nothing, but applies the repetition penalty.
    """
    logits = _reweight(logits.float(), counts, options)
    if options.temperature == 0.0:
        return logits.argmax(1)
    count = _considered(options, logits.shape[1])
    likeliest, ids = (logits / options.temperature).topk(count, dim=1)  # falling
    probabilities = likeliest.softmax(1)
    if options.top_p < 1.0:
        beyond = probabilities.flip(1).cumsum(1).flip(1) <= 1 - options.top_p  # what is left from here on
        beyond[:, 0] = False
        probabilities = probabilities.masked_fill(beyond, 0.0)
    # the smallest of exponential waiting times, one for each code at the rate of its probability, is a sample
    waits = torch.empty(len(generators), count)
    for row, generator in zip(waits.unbind(), generators, strict=True):
        row.exponential_(generator=generator)
    chosen = (probabilities.cpu() / waits).argmax(1, keepdim=True).to(ids.device)
    return ids.gather(1, chosen).squeeze(1)


def skip_codes(generator: torch.Generator, steps: int, options: SpeechOptions, ids: int) -> None:
    """Leave the generator of a candidate as ``sample_codes`` leaves it after so many codes, a stop among them.

    ``ids``: how many there are, start and stop included.
    """
    if options.temperature > 0.0:
        for _ in range(steps):
            torch.empty(_considered(options, ids)).exponential_(generator=generator)


def drawing_options(options: SpeechOptions) -> tuple[float, ...]:
    """What of the options ``sample_codes`` looks at."""
    return options.temperature, options.top_k, options.top_p, options.repetition_penalty, options.typical_mass


def _considered(options: SpeechOptions, ids: int) -> int:
    """Of how many codes one is drawn."""
    return options.top_k if 0 < options.top_k < ids else ids


def filter_logits(logits: Tensor, counts: Tensor, options: SpeechOptions) -> Tensor:
    """Everything that decides the probabilities of the next code.

    ``logits``: ``(b, v)`` float32; ``counts``: how often each code was sampled so far, ``(b, v)``; ``options``: the
    temperature is above 0. Returns ``(b, v)``; minus infinity where a code must not be sampled.
    """
    logits = _reweight(logits, counts, options) / options.temperature
    if 0 < options.top_k < logits.shape[1]:
        least = logits.topk(options.top_k, dim=1).values[:, -1:]
        logits = logits.masked_fill(logits < least, NEVER)
    return _nucleus(logits, options.top_p) if options.top_p < 1.0 else logits


def mask_code(logits: Tensor, code: int) -> Tensor:
    """Logits ``(b, v)`` with one code ruled out."""
    logits = logits.clone()
    logits[:, code] = NEVER
    return logits


def _reweight(logits: Tensor, counts: Tensor, options: SpeechOptions) -> Tensor:
    """What comes before the temperature and also applies without one."""
    if options.repetition_penalty != 1.0:  # above 1, so the lower one is the quotient of what is above 0
        penalised = torch.minimum(logits / options.repetition_penalty, logits * options.repetition_penalty)
        logits = torch.where(counts > 0, penalised, logits)
    return _typical(logits, options.typical_mass) if options.typical_mass < 1.0 else logits


def _typical(logits: Tensor, mass: float) -> Tensor:
    """Keep the codes whose information content is nearest to the entropy, up to the mass (Meister et al. 2022)."""
    log_probabilities = logits.log_softmax(1)
    # a masked code gives 0 times infinity, not a number
    entropy = -(log_probabilities.exp() * log_probabilities).nansum(1, keepdim=True)
    distance = (-log_probabilities - entropy).abs()
    ordered, order = distance.sort(dim=1)
    short = (logits.gather(1, order).softmax(1).cumsum(1) < mass).sum(1, keepdim=True)  # codes that are not enough yet
    farthest = ordered.gather(1, short.clamp(max=logits.shape[1] - 1))
    return logits.masked_fill(distance > farthest, NEVER)  # codes as far as the last one that is needed stay too


def _nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Keep the likeliest codes that together reach ``top_p`` (Holtzman et al. 2020), at least one.

    Counted from the unlikely end, as in the published numbers: of equal probabilities on the border the last ones stay.
    """
    ordered, order = logits.sort(dim=1, stable=True)
    unlikely = ordered.softmax(1).cumsum(1) <= 1 - top_p
    unlikely[:, -1] = False
    return logits.masked_fill(unlikely.gather(1, order.argsort(1)), NEVER)
