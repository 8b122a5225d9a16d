"""Voice and text to candidate codes: the cached autoregressive loop.

``generate`` collects whole candidates, ``generate_stream`` gives one candidate code by code; both run the same loop,
``CodeSampler``, in which prompts join and leave a running batch.
``generate_uncached`` is the naive loop that the tests compare with.

d width, t text ids, m codes.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import groupby

import torch
from torch import Tensor

from chelys.deprecation import renamed_names
from chelys.errors import TextError, UserError, first_line
from chelys.inference.code_sampling import NEVER, drawing_options, mask_code, sample_codes
from chelys.inference.options import SpeechOptions
from chelys.inference.speech import Progress
from chelys.machine import is_out_of_memory, one_thread
from chelys.models.autoregressive import Autoregressive, AutoregressiveConfig
from chelys.models.code_reader import CodeReader, row_bytes
from chelys.nn.attention import KVCache

log = logging.getLogger(__name__)

#: Width of a decoder whose steps gain nothing from threads.
WIDEST_ALONE = 512


@dataclass(frozen=True)
class CodeCandidate:
    """One sampled utterance."""

    codes: Tensor  # ``(m,)`` int64, without start and stop
    stopped: bool  # whether the decoder sampled the stop code, rather than running into ``max_new_tokens``
    #: what each code was sampled from, ``(d,)``, equal to ``Autoregressive.latents`` of the same prompt
    latents: tuple[Tensor, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True)
class Prompt:
    """What one candidate is sampled from."""

    conditioning: Tensor  # conditioning latent ``(d,)`` of the voice
    text_ids: Tensor  # ``(t,)``
    max_new_tokens: int  # maximum number of codes

    @property
    def columns(self) -> int:
        """Of the sequence that the decoder reads: latents, text with start and stop, start of the codes."""
        return (1 if self.conditioning.ndim == 1 else len(self.conditioning)) + len(self.text_ids) + 3


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


@dataclass(eq=False)
class CodeGroup:
    """The candidates of one prompt, which are sampled so many at a time that there is room for."""

    prompt: Prompt
    options: SpeechOptions
    rules: DecodingRules
    generators: list[torch.Generator]  # one for each candidate
    max_codes: int
    columns: int  # that a candidate reads at most, the prompt's included
    whole: bool  # whether all candidates are sampled at once, whatever the batch
    counts: Tensor  # how often each code was sampled, ``(candidates, ids)``, where there is a penalty for it
    begun: list[Tensor]  # states of the generators before anything was drawn
    waiting: list[int]  # candidates that are yet to be sampled
    active: list[int]  # candidates that are being sampled
    codes: list[list[int]]  # of each candidate
    latents: list[list[Tensor]]  # what each of them was sampled from, ``(d,)``
    stopped: list[bool]  # whether each candidate sampled the stop code
    #: what the next code is sampled from, ``(len(active), d)``, and its logits ``(len(active), ids)``; there is none
    #: before the prompt is read, and none of candidates that are done
    hidden: Tensor | None = None
    logits: Tensor | None = None
    cache: KVCache | None = None
    unread: Tensor | None = None  # codes that the active candidates sampled last
    steps: int = 0  # codes of the active candidates sampled so far, the stop among them
    #: of the prompt alone: latent of the first code ``(1, d)``, its logits, keys and values; for those that wait
    read: tuple[Tensor, Tensor, KVCache] | None = None
    part: int = 1  # candidates that were begun last together; their room is held until all are done
    past: int = 0  # how often candidates were begun and came to their end

    @property
    def done(self) -> bool:
        """Whether all candidates have come to their end."""
        return not self.active and not self.waiting

    @property
    def progress(self) -> tuple[int, int]:
        """Steps done, and how many there can be."""
        earlier = self.past if self.active else max(0, self.past - 1)  # the steps are those of the last ones begun
        parts = self.past + bool(self.active) - (-len(self.waiting) // self.part)
        return earlier * self.max_codes + self.steps, parts * self.max_codes

    @property
    def candidates(self) -> list[CodeCandidate]:
        """What was sampled so far."""
        device = self.prompt.text_ids.device
        return [
            CodeCandidate(torch.tensor(codes, dtype=torch.long, device=device), stopped, tuple(latents))
            for codes, stopped, latents in zip(self.codes, self.stopped, self.latents, strict=True)
        ]

    def restart(self) -> None:
        """Give up what the active candidates have so far; they wait to be sampled anew."""
        for candidate in self.active:
            self.generators[candidate].set_state(self.begun[candidate])
            self.codes[candidate], self.latents[candidate] = [], []
            self.counts[candidate] = 0
            self.counts[candidate, list(self.rules.sampled_before)] = 1
        self.waiting, self.active = sorted(self.active + self.waiting), []
        self.free()

    def free(self) -> None:
        """Let go of the memory of the active candidates, now that there are none."""
        self.hidden = self.logits = self.cache = self.unread = None


class CodeSampler:
    """Samples the candidates of several prompts together; each is the same to the bit in any company.

    Prompts ``join`` and ``leave`` between two steps. Not for several threads. A narrow decoder reads without helpers,
    since threads would cut its matrices by the number of rows; of a wide one the promise is one of a single thread.

    Candidates begin while there is room for them: as many of a prompt as its ``batch`` at a time, ``most_rows`` of all
    prompts, and what the reader has memory for. If memory runs out nevertheless, those at work begin anew, half as
    many at a time.
    """

    def __init__(self, decoder: Autoregressive | CodeReader, most_rows: int = sys.maxsize) -> None:
        self.reader = decoder if isinstance(decoder, CodeReader) else CodeReader(decoder)
        self.groups: list[CodeGroup] = []
        self.most_rows = most_rows
        self._threads = one_thread if self.reader.decoder.config.dim <= WIDEST_ALONE else nullcontext

    @property
    def rows(self) -> int:
        """Candidates that are being sampled, or wait for it."""
        return sum(len(group.active) + len(group.waiting) for group in self.groups)

    @torch.inference_mode()
    def join(
        self, prompt: Prompt, options: SpeechOptions, generators: Sequence[torch.Generator], rules: DecodingRules, *,
        whole: bool = False,
    ) -> CodeGroup:  # fmt: skip
        """Take a prompt, which is read once for all its candidates; they take part from the next step on.

        ``whole``: all at once, as ``follow`` wants them. Raises TextError if the text is longer than the decoder can
        read.
        """
        config, rows = self.reader.decoder.config, len(generators)
        max_codes = _max_len(prompt, options, config, rules)
        group = CodeGroup(
            prompt, options, rules, list(generators), max_codes,
            columns=prompt.columns + max_codes, whole=whole,
            counts=_initial_counts(rows, config, rules, prompt.text_ids.device),
            begun=[generator.get_state() for generator in generators],
            waiting=list(range(rows)), active=[], codes=[[] for _ in range(rows)], latents=[[] for _ in range(rows)],
            stopped=[False] * rows,
        )  # fmt: skip
        self.groups.append(group)
        self._choose()
        return group

    def leave(self, group: CodeGroup) -> None:
        """Give up a group."""
        self.groups = [other for other in self.groups if other is not group]

    @torch.inference_mode()
    def follow(self, group: CodeGroup, candidate: int) -> None:
        """Let all candidates of a whole group go on from one that has not come to its end, each with its own
        generator."""
        assert group.whole and group.cache is not None and group.hidden is not None and group.logits is not None
        rows = len(group.generators)
        chosen = torch.full((rows,), group.active.index(candidate), device=group.hidden.device)
        group.cache.select(chosen)
        group.hidden, group.logits = group.hidden[chosen], group.logits[chosen]
        if group.unread is not None:
            group.unread = group.unread[chosen]
        group.counts = group.counts[[candidate] * rows]
        group.codes = [list(group.codes[candidate]) for _ in range(rows)]
        group.latents = [list(group.latents[candidate]) for _ in range(rows)]
        group.active, group.stopped = list(range(rows)), [False] * rows

    @torch.inference_mode()
    def step(self) -> list[CodeGroup]:
        """Sample one code of each candidate. Returns the groups whose candidates have all come to their end.

        Raises UserError if there is not even memory for one candidate.
        """
        try:
            self._choose()
            for group in self.groups:
                if group.active and group.cache is None:
                    self._begin(group)
            self._read()
            alike: dict[tuple[object, ...], list[CodeGroup]] = {}
            for group in self.groups:
                if group.active:
                    alike.setdefault((group.rules.constrained, *drawing_options(group.options)), []).append(group)
            for groups in alike.values():
                self._sample(groups)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            cause = first_line(error)
        else:
            finished = [group for group in self.groups if group.done]
            self.groups = [group for group in self.groups if not group.done]
            return finished
        self._halve(cause)  # not above: there the error still holds what the step had made
        return []

    def _choose(self) -> None:
        """Which candidates come next: in the order of their prompts, while there is room, one at least."""
        reader = self.reader
        most_rows = min(self.most_rows, reader.most_rows)
        for group in self.groups:
            if group.active or not group.waiting:
                continue
            running = [other for other in self.groups if other.active]
            row = row_bytes(reader.decoder, group.columns)
            count = len(group.waiting)
            if not group.whole:
                count = max(1, min(count, group.options.batch, most_rows, reader.room // row))
            if running:
                held = sum(other.part * row_bytes(reader.decoder, other.columns) for other in running)
                rows = sum(len(other.active) for other in running)
                if rows + count > most_rows or held + count * row > reader.room:
                    return
            group.active, group.waiting = group.waiting[:count], group.waiting[count:]
            group.part, group.steps = count, 0

    def _begin(self, group: CodeGroup) -> None:
        """Have what the first codes of the active candidates are sampled from."""
        if group.read is None:
            prompt, lengths = group.prompt, torch.tensor([len(group.prompt.text_ids)])
            with self._threads():
                hidden, cache = self.reader.decoder.read_prompt(
                    prompt.conditioning[None], prompt.text_ids[None], lengths, 0
                )
                group.read = hidden, self.reader.logits(hidden), cache
        hidden, logits, cache = group.read
        rows = len(group.active)
        group.cache = cache.repeated(rows, cache.length + group.max_codes)
        group.hidden, group.logits = hidden.expand(rows, -1), logits.expand(rows, -1)
        if not group.waiting:
            group.read = None

    def _read(self) -> None:
        """Read the codes that were sampled last."""
        running = [(g, g.unread, g.cache) for g in self.groups if g.unread is not None and g.cache is not None]
        if not running:
            return
        rows = [len(group.active) for group, _, _ in running]
        with self._threads():
            hidden = self.reader.read(
                torch.cat([unread for _, unread, _ in running]),
                [(len(g.active), g.steps + g.rules.position_offset, cache) for g, _, cache in running],
            )
            logits = self.reader.logits(hidden)
        for (group, _, _), *parts in zip(running, hidden.split(rows), logits.split(rows), strict=True):
            group.hidden, group.logits = parts

    def _halve(self, cause: str) -> None:
        """Begin anew with half as many candidates at a time."""
        rows = sum(len(group.active) for group in self.groups)
        if rows < 2 or any(group.whole and group.active for group in self.groups):
            raise UserError(f"the memory has no room to sample {rows} at a time: make room, or cut the text shorter")
        self.reader.most_rows = rows // 2
        log.warning("out of memory with %d candidates at a time, goes on with %d: %s", rows, rows // 2, cause)
        for group in self.groups:
            if group.active:
                group.restart()
        self._choose()

    def _sample(self, groups: list[CodeGroup]) -> None:
        """Sample the next code of each candidate of groups whose codes are drawn alike: all rows at once."""
        config, options = self.reader.decoder.config, groups[0].options
        rows = [len(group.active) for group in groups]
        logits = torch.cat([group.logits for group in groups if group.logits is not None])
        if groups[0].rules.constrained:
            logits[:, config.start_code] = NEVER
            for group, part in zip(groups, logits.split(rows), strict=True):
                if group.steps == 0:  # no stop before there is a code
                    part[:, config.stop_code] = NEVER
        counts = logits  # not looked at
        if options.repetition_penalty != 1.0:
            counts = torch.cat([group.counts[group.active] for group in groups])
        codes = sample_codes(logits, counts, options, [group.generators[i] for group in groups for i in group.active])
        for group, part in zip(groups, codes.split(rows), strict=True):
            self._keep(group, part)

    def _keep(self, group: CodeGroup, codes: Tensor) -> None:
        """Note the next code of each candidate of a group, and let those go that come to their end."""
        config, active = self.reader.decoder.config, group.active
        assert group.hidden is not None and group.cache is not None
        group.steps += 1
        if group.options.repetition_penalty != 1.0:
            group.counts[active, codes] += 1
        remaining = []
        sampled = zip(active, codes.tolist(), group.hidden.unbind(), strict=True)
        for row, (candidate, code, latent) in enumerate(sampled):
            if code == config.stop_code:
                group.stopped[candidate] = True
                continue
            group.codes[candidate].append(code)
            group.latents[candidate].append(latent)
            if group.steps < group.max_codes:
                remaining.append(row)
        if not remaining:
            group.active, group.past = [], group.past + 1
            group.free()
            return
        if len(remaining) < len(active):
            order = group.cache.keep(remaining)
            group.active = [active[row] for row in order]
            codes = codes[order]
        group.unread = codes


@torch.inference_mode()
def generate(
    decoder: Autoregressive | CodeReader, prompts: list[Prompt], options: SpeechOptions,
    generators: list[torch.Generator], *, rules: DecodingRules = NO_RULES, progress: Progress | None = None,
) -> list[CodeCandidate]:  # fmt: skip
    """Sample one candidate for each prompt, ``options.batch`` of them at a time.

    ``prompts``: of any lengths; one that stands several times in a row is read once; ``options``: temperature 0 is
    greedy; ``generators``: one for each prompt; ``progress``: called with ("sampling", steps done, most steps). Returns
    a candidate for each prompt, in order; none is empty, if the rules constrain it. Raises TextError if a text is
    longer than the decoder can read; UserError if the memory has no room for one candidate.
    """
    sampler = CodeSampler(decoder, options.batch)
    groups = [
        sampler.join(same[0][0], options, [generator for _, generator in same], rules)
        for same in (
            list(pairs) for _, pairs in groupby(zip(prompts, generators, strict=True), key=lambda pair: id(pair[0]))
        )
    ]
    while sampler.groups:
        sampler.step()
        if progress:
            done, most = zip(*(group.progress for group in groups), strict=True)
            progress("sampling", max(done), max(most))
    return [candidate for group in groups for candidate in group.candidates]


@torch.inference_mode()
def generate_stream(
    decoder: Autoregressive | CodeReader, prompt: Prompt, options: SpeechOptions, generator: torch.Generator, *,
    rules: DecodingRules = NO_RULES,
) -> Iterator[tuple[int, Tensor]]:  # fmt: skip
    """One candidate, code by code as it is sampled.

    Arguments and errors as for ``generate``, which gives the same candidate; errors come with the first code.

    Yields the code, and the latent ``(d,)`` that it was sampled from, equal to that of ``Autoregressive.latents``.
    """
    sampler = CodeSampler(decoder)
    group = sampler.join(prompt, options, [generator], rules)
    while sampler.groups:
        known = len(group.codes[0])
        sampler.step()
        yield from zip(group.codes[0][known:], group.latents[0][known:], strict=True)


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


__getattr__ = renamed_names(__name__)
