"""Continuous batching: candidates of several sentences share each step of the autoregressive decoder.

The candidates of a sentence form a group with keys and values of its own. A group joins between two steps and its
candidates leave as they stop. What costs most, the linear layers, reads the rows of all groups as one matrix; attention
looks at one group at a time, so nothing is padded and no row sees another group's length.

A row does not depend on its company, to the bit, as long as a row of a matrix product does not: from ``LEAST_ROWS``
rows on, the kernels that torch has for processors sum each of them in one order, however many there are
(``tests/server/test_batching.py`` checks it on the machine at hand). Fewer rows are filled up.

b rows of all groups, d width, h heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from chelys.inference.family import Family
from chelys.inference.generation import CodeCandidate, _constrain, _initial_counts, _max_len, sample_codes
from chelys.inference.options import SpeechOptions
from chelys.inference.synthesizer import SentencePlan
from chelys.models.autoregressive import Autoregressive, Block
from chelys.nn.attention import KVCache, apply_rotary, attend

#: Rows that a matrix product has at least.
LEAST_ROWS = 4


@dataclass(eq=False)
class Group:
    """The candidates of one sentence while they are being sampled."""

    plan: SentencePlan
    cache: KVCache
    max_codes: int
    counts: Tensor  # (candidates, ids), how often each code was sampled
    logits: Tensor  # (len(active), ids), of the code that comes next
    active: list[int]  # candidates that are still being sampled
    number: int = 1  # of the code that comes next
    codes: list[list[int]] = field(default_factory=list)  # of each candidate
    stopped: list[bool] = field(default_factory=list)

    @property
    def candidates(self) -> list[CodeCandidate]:
        """What was sampled."""
        device = self.plan.prompt.text_ids.device
        return [
            CodeCandidate(torch.tensor(codes, dtype=torch.long, device=device), stopped)
            for codes, stopped in zip(self.codes, self.stopped, strict=True)
        ]


class BatchSampler:
    """Samples sentences together. Not for several threads."""

    def __init__(self, decoder: Autoregressive, family: Family) -> None:
        self.decoder, self.family = decoder, family
        self.groups: list[Group] = []

    @property
    def rows(self) -> int:
        """Candidates that are being sampled."""
        return sum(len(group.active) for group in self.groups)

    @torch.inference_mode()
    def join(self, plan: SentencePlan) -> Group:
        """Read a sentence; its candidates take part from the next step on. Raises TextError if it is too long."""
        decoder, prompt, rows = self.decoder, plan.prompt, len(plan.generators)
        rules = self.family.decoding_rules(plan.options)
        most = _max_len(prompt, plan.options, decoder.config, rules)
        device = prompt.text_ids.device
        lengths = torch.tensor([len(prompt.text_ids)], device=device)
        latents, cache = decoder.read_prompt(prompt.conditioning[None], prompt.text_ids[None], lengths, most)
        cache.select(torch.zeros(rows, dtype=torch.long, device=device))
        group = Group(
            plan, cache, most, _initial_counts(rows, decoder.config, rules, device),
            decoder.code_head(latents).expand(rows, -1), list(range(rows)),
            codes=[[] for _ in range(rows)], stopped=[False] * rows,
        )  # fmt: skip
        self.groups.append(group)
        return group

    @torch.inference_mode()
    def step(self) -> list[Group]:
        """Sample one code of each candidate. Returns the groups whose candidates have all come to their end."""
        sampled: list[Tensor] = []
        # consecutive groups that sample alike do it as one
        for options, members in groupby(self.groups, key=lambda group: group.plan.options):
            sampled += self._sample(options, list(members))
        going = []
        for group, codes in zip(self.groups, sampled, strict=True):
            remaining = self._note(group, codes)
            if remaining:
                going.append((group, codes[remaining] if len(remaining) < len(codes) else codes))
        finished = [group for group in self.groups if not group.active]
        self.groups = [group for group, _ in going]
        if going:
            self._read([codes for _, codes in going])
        return finished

    def leave(self, group: Group) -> None:
        """Give up a group."""
        self.groups = [other for other in self.groups if other is not group]

    # ---- one step ---------------------------------------------------------------------------------------------------

    def _sample(self, options: SpeechOptions, groups: Sequence[Group]) -> list[Tensor]:
        """The next code of each active candidate of groups with the same options."""
        rules, config = self.family.decoding_rules(options), self.decoder.config
        logits = [group.logits.float() for group in groups]
        if rules.constrained:
            logits = [_constrain(rows, config, group.number) for rows, group in zip(logits, groups, strict=True)]
        counts = torch.cat([group.counts[group.active] for group in groups])
        generators = [group.plan.generators[i] for group in groups for i in group.active]
        codes = sample_codes(torch.cat(logits), counts, options, generators)
        return list(codes.split([len(group.active) for group in groups]))

    def _note(self, group: Group, codes: Tensor) -> list[int]:
        """Keep the codes; returns the rows that go on, and takes the others out of the group's cache."""
        stop = self.decoder.config.stop_code
        group.counts[group.active, codes] += 1
        remaining = []
        for row, (candidate, code) in enumerate(zip(group.active, codes.tolist(), strict=True)):
            if code == stop:
                group.stopped[candidate] = True
                continue
            group.codes[candidate].append(code)
            if group.number < group.max_codes:
                remaining.append(row)
        if remaining and len(remaining) < len(group.active):
            group.cache.select(torch.tensor(remaining, device=codes.device))
        group.active = [group.active[row] for row in remaining]
        return remaining

    def _read(self, codes: list[Tensor]) -> None:
        """Read the codes of all groups; leaves the logits of the next ones with them."""
        decoder, groups = self.decoder, self.groups
        rows = [len(part) for part in codes]
        numbers = [
            group.number + self.family.decoding_rules(group.plan.options).position_offset for group in groups
        ]  # of the codes that are read
        at = torch.tensor(numbers, device=codes[0].device).repeat_interleave(torch.tensor(rows, device=codes[0].device))
        b, filled = sum(rows), max(sum(rows), LEAST_ROWS)
        x = decoder.code_embedding(torch.cat(codes))
        if decoder.config.positions == "learned":
            x = x + decoder.code_position(at)
        x = F.pad(x, (0, 0, 0, filled - b)).unsqueeze(1)  # (filled, 1, d)
        rotary = decoder._rotary(F.pad(at, (0, filled - b)).unsqueeze(1))
        blocks = cast(list[Block], decoder.blocks)
        for layer, block in enumerate(blocks):
            qkv = block.qkv(block.attention_norm(x)).view(filled, 1, 3, block.heads, -1)
            query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (filled, h, 1, d/h)
            if rotary is not None:
                query, key = apply_rotary(query, *rotary), apply_rotary(key, *rotary)
            parts, first = [], 0
            for group, count in zip(groups, rows, strict=True):
                mine = slice(first, first + count)
                keys, values = group.cache.extend(layer, key[mine], value[mine])
                parts.append(attend(query[mine], keys, values))
                first += count
            if filled > b:
                parts.append(torch.zeros_like(query[b:]))
            x = x + block.out(torch.cat(parts).transpose(1, 2).reshape(filled, 1, -1))
            x = x + block.down(F.gelu(block.up(block.mlp_norm(x)), approximate="tanh"))
        logits = decoder.code_head(decoder.final_norm(decoder.block_norm(x))[:, -1])
        for group, part in zip(groups, logits[:b].split(rows), strict=True):
            group.logits = part
            group.cache.length += 1
            group.number += 1
