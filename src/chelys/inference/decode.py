"""Voice and text to candidate codes: the cached loop that speaks, and the naive one that it must agree with.

``decode`` collects whole takes, ``decode_stream`` hands out one take code by code; both run the same loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from chelys.errors import TextError
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
class DecodingRules:
    """How a family of models samples codes; the defaults are those of chelys' own.

    Attributes:
        max_codes: Most codes of a take; 0 is no limit of its own.
        sampled_before: Codes that the repetition penalty counts as sampled before any is.
        constrained: Never sample the start code, nor the stop code first.
        position_offset: Added to the position at which a sampled code is read.
    """

    max_codes: int = 0
    sampled_before: tuple[int, ...] = ()
    constrained: bool = True
    position_offset: int = 0


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


def code_limit(text_ids: int) -> int:
    """Most codes that a text of so many ids may take: slow speech twice over, so that only runaways meet it."""
    return 24 + 5 * text_ids


def _limit(prompt: Prompt, options: SpeechOptions, config: AutoregressiveConfig, rules: DecodingRules) -> int:
    """Most codes of a take: what was asked for, as far as the tables of positions and a row of codes reach.

    Raises:
        TextError: If the text alone is too long for them.
    """
    limits = [prompt.limit]
    if options.most_codes:
        limits.append(options.most_codes)
    if rules.max_codes:
        limits.append(rules.max_codes)
    if config.positions == "learned":
        most = config.text_positions - 2  # start and stop have places too
        if len(prompt.text) > most:
            raise TextError(
                f"a sentence has {len(prompt.text)} tokens, this model reads {most} at most: cut it into shorter ones"
            )
        limits.append(config.code_positions - 1)
    return min(limits)


def _allowed(logits: Tensor, config: AutoregressiveConfig, number: int) -> Tensor:
    """Logits of code ``number``, counted from 1: speech starts once, and what is worth saying takes a code or more."""
    logits = forbid(logits, config.start_code)
    return forbid(logits, config.stop_code) if number == 1 else logits


def _said(rows: int, config: AutoregressiveConfig, rules: DecodingRules, device: torch.device) -> Tensor:
    """How often each code counts as said before anything is, ``(rows, ids)``."""
    said = torch.zeros(rows, config.codes + 2, device=device)
    said[:, list(rules.sampled_before)] = 1
    return said


@dataclass(frozen=True)
class _Step:
    """What the loop did to the takes that still go on."""

    prompts: list[int]
    codes: list[int]  # the stop among them, once for each take that comes to its end
    latents: Tensor  # (len(prompts), d), what each code was drawn from


def _steps(
    decoder: Autoregressive,
    prompts: list[Prompt],
    limits: list[int],
    options: SpeechOptions,
    generators: list[torch.Generator],
    rules: DecodingRules,
) -> Iterator[_Step]:
    """One code after the other, for all prompts in one batch, with cached keys and values."""
    config = decoder.config
    device = prompts[0].conditioning.device
    conditioning = torch.stack([p.conditioning for p in prompts])
    text = torch.nn.utils.rnn.pad_sequence([p.text for p in prompts], batch_first=True)
    lengths = torch.tensor([len(p.text) for p in prompts], device=device)
    longest = max(limits)
    same = len({(id(p.conditioning), id(p.text)) for p in prompts}) == 1
    if same:  # many takes of one text: read it once
        latents, cache = decoder.read_prompt(conditioning[:1], text[:1], lengths[:1], longest)
        cache.select(torch.zeros(len(prompts), dtype=torch.long, device=device))
        logits = decoder.code_head(latents).expand(len(prompts), -1)
        latents = latents.expand(len(prompts), -1)
    else:
        latents, cache = decoder.read_prompt(conditioning, text, lengths, longest)
        logits = decoder.code_head(latents)
    said = _said(len(prompts), config, rules, device)
    active = list(range(len(prompts)))  # row of the batch -> prompt
    for number in range(1, longest + 1):
        logits = _allowed(logits.float(), config, number) if rules.constrained else logits.float()
        codes = draw(logits, said[active], options, [generators[i] for i in active])
        drawn = codes.tolist()
        yield _Step(active, drawn, latents)
        said[active, codes] += 1
        going = [
            row
            for row, (prompt, code) in enumerate(zip(active, drawn, strict=True))
            if code != config.stop_code and number < limits[prompt]
        ]
        if not going:
            break
        if len(going) < len(active):
            rows = torch.tensor(going, device=device)
            cache.select(rows)
            codes, active = codes[rows], [active[row] for row in going]
        latents = decoder.read_code(codes, number + rules.position_offset, cache)
        logits = decoder.code_head(latents)


@torch.inference_mode()
def decode(
    decoder: Autoregressive,
    prompts: list[Prompt],
    options: SpeechOptions,
    generators: list[torch.Generator],
    *,
    rules: DecodingRules = DecodingRules(),
    progress: Callable[[int, int], None] | None = None,
) -> list[Take]:
    """Sample one take for each prompt, ``options.batch`` of them at a time.

    Args:
        decoder: In evaluation mode.
        prompts: Of any lengths.
        options: Sampling knobs; temperature 0 is greedy.
        generators: One for each prompt.
        rules: Of the family of models.
        progress: Called with (steps done, most steps).

    Returns:
        A take for each prompt, in order; none is without a code if the rules constrain it.

    Raises:
        TextError: If a text is longer than the decoder can read.
    """
    config = decoder.config
    limits = [_limit(prompt, options, config, rules) for prompt in prompts]
    sampled: list[list[int]] = [[] for _ in prompts]
    stopped = [False] * len(prompts)
    starts = range(0, len(prompts), options.batch)
    most_steps = len(starts) * max(limits, default=0)
    for batch, start in enumerate(starts):
        part = slice(start, start + options.batch)
        steps = _steps(decoder, prompts[part], limits[part], options, generators[part], rules)
        for number, step in enumerate(steps, 1):
            for row, code in zip(step.prompts, step.codes, strict=True):
                if code == config.stop_code:
                    stopped[start + row] = True
                else:
                    sampled[start + row].append(code)
            if progress:
                progress(batch * max(limits) + number, most_steps)
    takes = zip(prompts, sampled, stopped, strict=True)
    return [Take(torch.tensor(codes, dtype=torch.long, device=p.text.device), end) for p, codes, end in takes]


@torch.inference_mode()
def decode_stream(
    decoder: Autoregressive,
    prompt: Prompt,
    options: SpeechOptions,
    generator: torch.Generator,
    *,
    rules: DecodingRules = DecodingRules(),
) -> Iterator[tuple[int, Tensor]]:
    """One take, code by code as it is sampled.

    Arguments and errors as for ``decode``, whose take this is; errors come with the first code.

    Yields:
        The code, and the latent ``(d,)`` that it was drawn from, which is the one that ``latents`` gives for it. After
        as many as the limit allows, or once the decoder has stopped, there are no more.
    """
    limit = _limit(prompt, options, decoder.config, rules)
    for step in _steps(decoder, [prompt], [limit], options, [generator], rules):
        if step.codes[0] != decoder.config.stop_code:
            yield step.codes[0], step.latents[0]


@torch.inference_mode()
def decode_naively(
    decoder: Autoregressive,
    prompt: Prompt,
    options: SpeechOptions,
    generator: torch.Generator,
    *,
    rules: DecodingRules = DecodingRules(),
) -> Take:
    """The same without a cache or a batch, reading everything anew for each code: the oracle of the tests."""
    config = decoder.config
    codes: list[int] = []
    said = _said(1, config, rules, prompt.text.device)
    while len(codes) < _limit(prompt, options, config, rules):
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
