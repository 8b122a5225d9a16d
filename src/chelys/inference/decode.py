"""Voice and text to candidate codes: the cached loop that speaks, and the naive one that it must agree with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from chelys.inference.options import SpeechOptions
from chelys.inference.sampling import draw, forbid
from chelys.models.autoregressive import Autoregressive, AutoregressiveConfig


@dataclass(frozen=True)
class Take:
    """One sampled utterance.

    Attributes:
        codes: ``(m,)`` int64, without start and stop.
        stopped: Whether the decoder said that it had finished, rather than running into the limit.
    """

    codes: Tensor
    stopped: bool


@dataclass(frozen=True)
class Prompt:
    """What one take is sampled from.

    Attributes:
        conditioning: Voice vector ``(d,)``.
        text: Ids ``(t,)``.
        limit: Most codes.
    """

    conditioning: Tensor
    text: Tensor
    limit: int


def _allowed(logits: Tensor, config: AutoregressiveConfig, number: int) -> Tensor:
    """Logits of code ``number``, counted from 1: speech starts once, and what is worth saying takes a code or more."""
    logits = forbid(logits, config.start_code)
    return forbid(logits, config.stop_code) if number == 1 else logits


def code_limit(text_ids: int) -> int:
    """Most codes that a text of so many ids may take: slow speech twice over, so that only runaways meet it."""
    return 24 + 5 * text_ids


@torch.inference_mode()
def decode(
    decoder: Autoregressive,
    prompts: list[Prompt],
    options: SpeechOptions,
    generators: list[torch.Generator],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[Take]:
    """Sample one take for each prompt, all in one batch with cached keys and values.

    Args:
        decoder: In evaluation mode.
        prompts: Of any lengths.
        options: Sampling knobs; temperature 0 is greedy.
        generators: One for each prompt.
        progress: Called with (codes sampled, most codes).

    Returns:
        A take for each prompt, in order; none is without a code.
    """
    config = decoder.config
    device = prompts[0].conditioning.device
    conditioning = torch.stack([p.conditioning for p in prompts])
    text = torch.nn.utils.rnn.pad_sequence([p.text for p in prompts], batch_first=True)
    lengths = torch.tensor([len(p.text) for p in prompts], device=device)
    longest = max(p.limit for p in prompts)
    same = len({(id(p.conditioning), id(p.text)) for p in prompts}) == 1
    if same:  # many takes of one text: read it once
        logits, cache = decoder.prefill(conditioning[:1], text[:1], lengths[:1], longest)
        cache.select(torch.zeros(len(prompts), dtype=torch.long, device=device))
        logits = logits.expand(len(prompts), -1)
    else:
        logits, cache = decoder.prefill(conditioning, text, lengths, longest)
    said = torch.zeros(len(prompts), config.codes + 2, device=device)
    sampled: list[list[int]] = [[] for _ in prompts]
    stopped = [False] * len(prompts)
    active = list(range(len(prompts)))  # row of the batch -> prompt
    for number in range(1, longest + 1):
        logits = _allowed(logits.float(), config, number)
        codes = draw(logits, said[active], options, [generators[i] for i in active])
        going = []
        for row, (prompt, code) in enumerate(zip(active, codes.tolist(), strict=True)):
            if code == config.stop_code:
                stopped[prompt] = True
                continue
            sampled[prompt].append(code)
            said[prompt, code] += 1
            if len(sampled[prompt]) < prompts[prompt].limit:
                going.append(row)
        if progress:
            progress(number, longest)
        if not going or number == longest:
            break
        if len(going) < len(active):
            rows = torch.tensor(going, device=device)
            cache.select(rows)
            codes, active = codes[rows], [active[row] for row in going]
        logits = decoder.step(codes, number, cache)
    said_codes = [torch.tensor(codes, dtype=torch.long, device=device) for codes in sampled]
    return [Take(codes, end) for codes, end in zip(said_codes, stopped, strict=True)]


@torch.inference_mode()
def decode_naively(decoder: Autoregressive, prompt: Prompt, options: SpeechOptions, generator: torch.Generator) -> Take:
    """The same without a cache or a batch, reading everything anew for each code: the oracle of the tests."""
    config = decoder.config
    codes: list[int] = []
    said = torch.zeros(1, config.codes + 2)
    while len(codes) < prompt.limit:
        given = torch.tensor([codes], dtype=torch.long)
        lengths = [torch.tensor([len(prompt.text)]), torch.tensor([len(codes)])]
        logits = decoder(prompt.conditioning[None], prompt.text[None], lengths[0], given, lengths[1])[1][:, -1].float()
        logits = _allowed(logits, config, len(codes) + 1)
        code = int(draw(logits, said, options, [generator]))
        if code == config.stop_code:
            return Take(torch.tensor(codes, dtype=torch.long), True)
        codes.append(code)
        said[0, code] += 1
    return Take(torch.tensor(codes, dtype=torch.long), False)
