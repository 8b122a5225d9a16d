"""For each clip, other clips of the same speaker that sound like it: what conditions a model in training.

The programs of the paper took the three most alike files of the same folder. Here they are of the same speaker or,
where nobody said who speaks, of the same recording.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from chelys.data.prepare.blocks import Draft

_COMPARED = 4096  # clips of a speaker that are compared with each other; more are taken in groups
_AT_ONCE = 64  # clips that are compared with all the others at a time


@dataclass(frozen=True)
class SimilarSettings:
    """How many.

    Attributes:
        count: Similar clips to name for each.
    """

    count: int = 3


def find_similar(drafts: Iterable[Draft], settings: SimilarSettings) -> dict[str, list[str]]:
    """Id of each clip -> ids of clips like it, most alike first."""
    groups: dict[str, list[tuple[str, np.ndarray]]] = defaultdict(list)
    for draft in drafts:
        clip, row = draft.clip, draft.rows.get("measure")
        if row is not None:  # a speaker that is not named is one for each recording
            groups[clip.speaker or f"/{clip.source}"].append((clip.id, np.asarray(row["embedding"], np.float32)))
    found = {}
    for group in groups.values():
        for first in range(0, len(group), _COMPARED):
            found.update(_nearest(group[first : first + _COMPARED], settings.count))
    return found


def _nearest(group: list[tuple[str, np.ndarray]], count: int) -> dict[str, list[str]]:
    names = [name for name, _ in group]
    vectors = np.stack([vector for _, vector in group])
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    found = {}
    for first in range(0, len(names), _AT_ONCE):
        alike = vectors[first : first + _AT_ONCE] @ vectors.T
        alike[np.arange(len(alike)), first + np.arange(len(alike))] = -np.inf  # not itself
        order = np.argsort(-alike, axis=1, kind="stable")[:, : min(count, len(names) - 1)]
        for name, nearest in zip(names[first:], order, strict=False):
            found[name] = [names[i] for i in nearest]
    return found
