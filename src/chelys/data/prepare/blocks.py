"""Clips in blocks: what the stages after the cutting work on.

A block holds up to 32 clips of one recording, in order. So what is lost with a killed worker is little, there are not
too many files, and a new recording never changes the blocks of another one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import soundfile as sf

from chelys.data.prepare.ledger import Clip
from chelys.data.prepare.work import Item, Row, Stage, Store

CLIPS_IN_A_BLOCK = 32


@dataclass
class Draft:
    """A clip on its way into the ledger.

    Attributes:
        clip: Its line, as far as it is known.
        span: First sample and the one after the last in the file that holds its sound.
        rows: Name of a stage -> the row that it made of this clip; some hold more than the ledger does.
    """

    clip: Clip
    span: tuple[int, int] = (0, 0)
    rows: dict[str, Row] = field(default_factory=dict)


class BlockStage(Stage, Protocol):
    """A stage that makes a row of each clip of a block, by itself."""

    def wants(self, draft: Draft) -> bool:
        """Whether the clip is worth the work."""
        ...

    def asks(self, draft: Draft) -> Any:
        """What the work on a clip depends on beside its sound; plain JSON, None for nothing."""
        ...

    def merge(self, draft: Draft) -> None:
        """Carry over what the ledger shows of this stage's row."""
        ...


def blocks(stage: BlockStage, drafts: list[Draft]) -> Iterator[tuple[Item, list[Draft]]]:
    """The items that the clips of one recording make for a stage, with their clips."""
    wanted = [draft for draft in drafts if draft.clip.audio is not None and stage.wants(draft)]
    for first in range(0, len(wanted), CLIPS_IN_A_BLOCK):
        block = wanted[first : first + CLIPS_IN_A_BLOCK]
        content = {"audio": block[0].clip.audio, "spans": [list(draft.span) for draft in block]}
        asked = [stage.asks(draft) for draft in block]
        if any(one is not None for one in asked):
            content["asked"] = asked
        yield Item(content), block


def sounds(item: Item, store: Store) -> Iterator[tuple[np.ndarray, int]]:
    """Sound of each clip of a block, float32 ``(n,)``, and its rate, Hz."""
    with sf.SoundFile(store.out / item.content["audio"]) as file:
        for first, last in item.content["spans"]:
            file.seek(first)
            yield file.read(last - first, dtype="float32"), file.samplerate


def sound(store: Store, audio: str, span: tuple[int, int]) -> tuple[np.ndarray, int]:
    """Sound of one clip; see ``sounds``."""
    (only,) = sounds(Item({"audio": audio, "spans": [span]}), store)
    return only
