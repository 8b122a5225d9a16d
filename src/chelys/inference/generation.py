"""Voice and text to candidate codes: the cached autoregressive loop, and the sampling of each code.

``generate`` collects whole candidates, ``generate_stream`` gives one candidate code by code; both run the same loop.
``generate_uncached`` is the naive loop that the tests compare with.

Sampling is in the order of the published system: first what changes the network's odds (repetition penalty, typical
sampling), then the temperature, then what cuts off unlikely codes (top k, nucleus).

b candidates in a batch, v code ids, d width, t text ids, m codes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from chelys.deprecation import renamed_names
from chelys.errors import TextError
from chelys.inference.options import SpeechOptions
from chelys.inference.speech import Progress
from chelys.models.autoregressive import Autoregressive, AutoregressiveConfig

_NEVER = float("-inf")


@dataclass(frozen=True)
class CodeCandidate:
    """One sampled utterance."""

    codes: Tensor  # ``(m,)`` int64, without start and stop
    stopped: bool  # whether the decoder sampled the stop code, rather than running into ``max_new_tokens``


@dataclass(frozen=True)
class Prompt:
    """What one candidate is sampled from."""

    conditioning: Tensor  # conditioning latent ``(d,)`` of the voice
    text_ids: Tensor  # ``(t,)``
    max_new_tokens: int  # maximum number of codes


@dataclass(frozen=True)
class DecodingRules:
    """What a family of models asks of the loop beside the options. The defaults are nano's."""

    max_codes: int = 0  # maximum number of codes of a candidate, 0 for no limit
    sampled_before: tuple[int, ...] = ()  # codes that the repetition penalty counts as sampled before anything is
    constrained: bool = True  # never sample the start code, nor the stop code first
    position_offset: int = 0  # added to the position at which a sampled code is embedded


NO_RULES = DecodingRules()


def default_max_new_tokens(text_ids: int) -> int:
    """How many codes a text of so many ids may take: twice what slow speech takes, so that only runaways reach it."""
    return 24 + 5 * text_ids


# ---- the loop -------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def generate(
    decoder: Autoregressive, prompts: list[Prompt], options: SpeechOptions, generators: list[torch.Generator], *,
    rules: DecodingRules = NO_RULES, progress: Progress | None = None,
) -> list[CodeCandidate]:  # fmt: skip
    """Sample one candidate for each prompt, ``options.batch`` of them at a time.

    ``prompts``: of any lengths; ``options``: temperature 0 is greedy; ``generators``: one for each prompt;
    ``progress``: called with ("sampling", steps done, most steps). Returns a candidate for each prompt, in order; none
    is empty, if the rules constrain it. Raises TextError if a text is longer than the decoder can read.
    """
    config = decoder.config
    max_lens = [_max_len(prompt, options, config, rules) for prompt in prompts]
    sampled: list[list[int]] = [[] for _ in prompts]
    stopped = [False] * len(prompts)
    starts = range(0, len(prompts), options.batch)
    total_steps = len(starts) * max(max_lens, default=0)
    for batch, start in enumerate(starts):
        part = slice(start, start + options.batch)
        steps = _steps(decoder, prompts[part], max_lens[part], options, generators[part], rules)
        for number, step in enumerate(steps, 1):
            for row, code in zip(step.active, step.codes, strict=True):
                if code == config.stop_code:
                    stopped[start + row] = True
                else:
                    sampled[start + row].append(code)
            if progress:
                progress("sampling", batch * max(max_lens) + number, total_steps)
    return [
        CodeCandidate(torch.tensor(codes, dtype=torch.long, device=prompt.text_ids.device), end)
        for prompt, codes, end in zip(prompts, sampled, stopped, strict=True)
    ]


@torch.inference_mode()
def generate_stream(
    decoder: Autoregressive, prompt: Prompt, options: SpeechOptions, generator: torch.Generator, *,
    rules: DecodingRules = NO_RULES,
) -> Iterator[tuple[int, Tensor]]:  # fmt: skip
    """One candidate, code by code as it is sampled.

    Arguments and errors as for ``generate``, which gives the same candidate; errors come with the first code.

    Yields the code, and the latent ``(d,)`` that it was sampled from, equal to that of ``Autoregressive.latents``.
    """
    max_len = _max_len(prompt, options, decoder.config, rules)
    for step in _steps(decoder, [prompt], [max_len], options, [generator], rules):
        if step.codes[0] != decoder.config.stop_code:
            yield step.codes[0], step.latents[0]


@torch.inference_mode()
def generate_uncached(
    decoder: Autoregressive, prompt: Prompt, options: SpeechOptions, generator: torch.Generator, *,
    rules: DecodingRules = NO_RULES,
) -> CodeCandidate:  # fmt: skip
    """The same without a cache or a batch: each code reads everything again."""
    config = decoder.config
    codes: list[int] = []
    counts = _initial_counts(1, config, rules, prompt.text_ids.device)
    while len(codes) < _max_len(prompt, options, config, rules):
        given = torch.tensor([codes], dtype=torch.long)
        lengths = [torch.tensor([len(prompt.text_ids)]), torch.tensor([len(codes)])]
        inputs = (prompt.conditioning[None], prompt.text_ids[None], lengths[0], given, lengths[1])
        logits = decoder(*inputs)[1][:, -1].float()
        logits = _constrain(logits, config, len(codes) + 1)
        code = int(sample_codes(logits, counts, options, [generator]))
        if code == config.stop_code:
            return CodeCandidate(torch.tensor(codes, dtype=torch.long), True)
        codes.append(code)
        counts[0, code] += 1
    return CodeCandidate(torch.tensor(codes, dtype=torch.long), False)


@dataclass(frozen=True)
class _Step:
    active: list[int]  # prompts that are still being sampled
    codes: list[int]  # one for each; the stop among them, once for each candidate that ends
    latents: Tensor  # (len(active), d), what each code was sampled from


def _steps(
    decoder: Autoregressive, prompts: list[Prompt], max_lens: list[int], options: SpeechOptions,
    generators: list[torch.Generator], rules: DecodingRules,
) -> Iterator[_Step]:  # fmt: skip
    """One code after the other, for all prompts in one batch, with cached keys and values."""
    config = decoder.config
    device = prompts[0].conditioning.device
    conditioning = torch.stack([p.conditioning for p in prompts])
    text = torch.nn.utils.rnn.pad_sequence([p.text_ids for p in prompts], batch_first=True)
    lengths = torch.tensor([len(p.text_ids) for p in prompts])
    max_len = max(max_lens)
    same = len({(id(p.conditioning), id(p.text_ids)) for p in prompts}) == 1
    if same:  # many candidates of one text: read it once
        latents, cache = decoder.read_prompt(conditioning[:1], text[:1], lengths[:1], max_len)
        cache.select(torch.zeros(len(prompts), dtype=torch.long, device=device))
        logits = decoder.code_head(latents).expand(len(prompts), -1)
        latents = latents.expand(len(prompts), -1)
    else:
        latents, cache = decoder.read_prompt(conditioning, text, lengths, max_len)
        logits = decoder.code_head(latents)
    counts = _initial_counts(len(prompts), config, rules, device)
    active = list(range(len(prompts)))  # row of the batch -> prompt
    for number in range(1, max_len + 1):
        logits = logits.float()
        if rules.constrained:
            logits = _constrain(logits, config, number)
        codes = sample_codes(logits, counts[active], options, [generators[i] for i in active])
        sampled = codes.tolist()
        yield _Step(active, sampled, latents)
        counts[active, codes] += 1
        remaining = [
            row
            for row, (prompt, code) in enumerate(zip(active, sampled, strict=True))
            if code != config.stop_code and number < max_lens[prompt]
        ]
        if not remaining:
            break
        if len(remaining) < len(active):
            rows = torch.tensor(remaining, device=device)
            cache.select(rows)
            codes, active = codes[rows], [active[row] for row in remaining]
        latents = decoder.read_code(codes, number + rules.position_offset, cache)
        logits = decoder.code_head(latents)


def _max_len(prompt: Prompt, options: SpeechOptions, config: AutoregressiveConfig, rules: DecodingRules) -> int:
    """Largest number of codes of a candidate: what was asked for, as far as the position tables and the rules reach.

    Raises TextError if the text alone is too long for the tables.
    """
    limits = [prompt.max_new_tokens]
    if options.max_new_tokens:
        limits.append(options.max_new_tokens)
    if rules.max_codes:
        limits.append(rules.max_codes)
    if config.positions == "learned":
        most = config.text_positions - 2  # start and stop have positions too
        if len(prompt.text_ids) > most:
            raise TextError(
                f"a sentence has {len(prompt.text_ids)} tokens, this model reads {most} at most: "
                "cut it into shorter ones"
            )
        limits.append(config.code_positions - 1)
    return min(limits)


def _constrain(logits: Tensor, config: AutoregressiveConfig, number: int) -> Tensor:
    """Logits of code ``number``, counted from 1: no start code, and no stop before there is a code."""
    logits = mask_code(logits, config.start_code)
    return mask_code(logits, config.stop_code) if number == 1 else logits


def _initial_counts(rows: int, config: AutoregressiveConfig, rules: DecodingRules, device: torch.device) -> Tensor:
    """How often each code counts as sampled before anything is, ``(rows, ids)``."""
    counts = torch.zeros(rows, config.codes + 2, device=device)
    counts[:, list(rules.sampled_before)] = 1
    return counts


# ---- one code -------------------------------------------------------------------------------------------------------


def sample_codes(logits: Tensor, counts: Tensor, options: SpeechOptions, generators: list[torch.Generator]) -> Tensor:
    """Next code of each candidate, ``(b,)``. Each has its own generator, so their number changes none of them.

    Temperature 0 takes the likeliest code and draws nothing, but applies the repetition penalty.
    """
    if options.temperature == 0.0:
        return _reweight(logits.float(), counts, options).argmax(1)
    probabilities = filter_logits(logits.float(), counts, options).softmax(1).cpu()
    # the smallest of exponential waiting times, one for each code at the rate of its probability, is a sample
    waits = torch.stack([torch.empty(probabilities.shape[1]).exponential_(generator=g) for g in generators])
    return (probabilities / waits).argmax(1).to(logits.device)


def filter_logits(logits: Tensor, counts: Tensor, options: SpeechOptions) -> Tensor:
    """Everything that decides the probabilities of the next code.

    ``logits``: ``(b, v)`` float32; ``counts``: how often each code was sampled so far, ``(b, v)``; ``options``: the
    temperature is above 0. Returns ``(b, v)``; minus infinity where a code must not be sampled.
    """
    logits = _reweight(logits, counts, options) / options.temperature
    if 0 < options.top_k < logits.shape[1]:
        least = logits.topk(options.top_k, dim=1).values[:, -1:]
        logits = logits.masked_fill(logits < least, _NEVER)
    return _nucleus(logits, options.top_p) if options.top_p < 1.0 else logits


def mask_code(logits: Tensor, code: int) -> Tensor:
    """Logits ``(b, v)`` with one code ruled out."""
    return logits.index_fill(1, torch.tensor([code], device=logits.device), _NEVER)


def _reweight(logits: Tensor, counts: Tensor, options: SpeechOptions) -> Tensor:
    """What comes before the temperature and also applies without one."""
    if options.repetition_penalty != 1.0:
        penalised = torch.where(logits > 0, logits / options.repetition_penalty, logits * options.repetition_penalty)
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
    return logits.masked_fill(distance > farthest, _NEVER)  # codes as far as the last one that is needed stay too


def _nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Keep the likeliest codes that together reach ``top_p`` (Holtzman et al. 2020), at least one.

    Counted from the unlikely end, as in the published numbers: of equal probabilities on the border the last ones stay.
    """
    ordered, order = logits.sort(dim=1, stable=True)
    unlikely = ordered.softmax(1).cumsum(1) <= 1 - top_p
    unlikely[:, -1] = False
    return logits.masked_fill(unlikely.gather(1, order.argsort(1)), _NEVER)


__getattr__ = renamed_names(__name__)
