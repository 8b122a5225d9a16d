"""Weights of the published TorToise v2 under our names, and back, by the tables of `tortoise.name_tables`.

Nothing passes unseen: a name that is in no table, or a tensor that the network wants and the file lacks, is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache

import torch
from torch import Tensor, nn

from chelys.errors import ModelError
from chelys.tortoise.name_tables import TABLES, NameTable
from chelys.weights.tensor_file import OUR_DIRECTION, OUR_LENGTH, fold

LARGEST_COUNT = 40  # of {i} and {j}; the deepest published network has 30 layers
DIRECTION, LENGTH = "weight_v", "weight_g"  # how the published files split a kernel under weight norm

LEAVES = {"weight", "bias", DIRECTION, LENGTH}  # what may lie in a module that a pair names


def from_tortoise(network: str, published: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Published weights under our names, ready for ``model.load_state_dict``.

    Args:
        network: a key of `TABLES`.
        published: the state dict of the file.
        model: our network of the same size, which says what is wanted; it is not changed. Whether it carries weight
            norm decides the form of the kernels.

    Returns:
        A state dict with exactly the names and shapes of the model's.

    Raises:
        ModelError: a name is unexpected, one is missing, or a shape is not that of the model.
    """
    table = TABLES[network]
    constants = table.constants()
    wanted = model.state_dict()
    layers = _layers(table, wanted)
    names, backwards = _names(table, layers, theirs_first=True), _names(table, layers, theirs_first=False)
    state: dict[str, Tensor] = {}
    unexpected = []
    for name, tensor in published.items():
        if name in constants or _matches(table.ignored, name):
            continue
        ours = _translate(name, names)
        if ours is None:
            unexpected.append(name)
        else:
            state[ours] = _turned(table, ours, tensor)
    state = _as_wanted(state, wanted)
    # Names are given as the file has them, for that is what the user can look at.
    unexpected += [_theirs(name, backwards) for name in state.keys() - wanted.keys()]
    missing = [_theirs(name, backwards) for name in wanted.keys() - state.keys()]
    reshaped = [
        _theirs(name, backwards) for name in state.keys() & wanted.keys() if state[name].shape != wanted[name].shape
    ]
    faults = {"missing": missing, "unexpected": unexpected, "wrongly shaped": reshaped}
    if any(faults.values()):
        listed = ", ".join(f"{fault}: {_list(names_at)}" for fault, names_at in faults.items() if names_at)
        raise ModelError(f"{network}: weights {listed}; give TorToise v2's {table.file}, of the same size as the model")
    return {name: state[name].contiguous() for name in wanted}


def to_tortoise(network: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our weights under the published names: the inverse of `from_tortoise`.

    Args:
        network: a key of `TABLES`.
        weights: a state dict of ours, with weight norm or folded; kernels come out split where the published file
            splits them.

    Raises:
        ModelError: a name has no published counterpart; the published sizes have none such.
    """
    table = TABLES[network]
    names = _names(table, _layers(table, weights), theirs_first=False)
    weights = {_plain(name): tensor for name, tensor in weights.items()}
    if table.weight_norm:
        weights = _split_kernels(weights, [name for name in weights if not _matches(table.whole, name)])
    published = table.constants()
    for name, tensor in weights.items():
        theirs = _translate(name, names)
        if theirs is None:
            raise ModelError(
                f"{network}: {name!r} has no name in TorToise v2; only a model of its kind can be written so"
            )
        published[theirs] = _turned(table, name, tensor).contiguous()
    return published


def _layers(table: NameTable, ours: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """How many layers of each counted kind there are."""
    ours = list(ours)
    return tuple((letter, sum(_matches((pattern,), name) for name in ours)) for letter, pattern in table.counted)


@cache
def _names(table: NameTable, layers: tuple[tuple[str, int], ...], *, theirs_first: bool) -> dict[str, str]:
    """The pairs of a table with every count written out, in the direction asked for."""
    names = {}
    for pair in table.pairs:
        theirs, ours = pair if theirs_first else pair[::-1]
        for i in range(LARGEST_COUNT if re.search(r"\{\d*i", theirs) else 1):
            for j in range(LARGEST_COUNT if re.search(r"\{\d*j", theirs) else 1):
                counts = {"i": i, "j": j, **dict(layers)}
                names[_count(theirs, counts)] = _count(ours, counts)
    return names


def _count(name: str, counts: Mapping[str, int]) -> str:
    """``a.{2i+1}`` with i = 3 is ``a.7``."""

    def term(text: str) -> int:
        return int(text) if text.isdecimal() else int(text[:-1] or 1) * counts[text[-1]]

    return re.sub(r"\{(.+?)\}", lambda match: str(sum(map(term, match[1].split("+")))), name)


def _translate(name: str, names: Mapping[str, str]) -> str | None:
    """A tensor by its own name, or else by that of the module it lies in."""
    if name in names:
        return names[name]
    module, _, leaf = name.rpartition(".")
    return f"{names[module]}.{leaf}" if module in names and leaf in LEAVES else None


def _theirs(name: str, backwards: Mapping[str, str]) -> str:
    return _translate(_plain(name), backwards) or name


def _plain(name: str) -> str:
    """The name that the published files would give to a part of a kernel under weight norm."""
    return name.replace(OUR_DIRECTION, DIRECTION).replace(OUR_LENGTH, LENGTH)


def _turned(table: NameTable, ours: str, tensor: Tensor) -> Tensor:
    """A tensor as the other side holds it; one that is no matrix is refused for its shape later."""
    return tensor.t() if _matches(table.transposed, ours) and tensor.dim() == 2 else tensor


def _matches(patterns: Iterable[str], name: str) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def _as_wanted(state: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Kernels in the form in which the model holds them, split or folded, whichever they come in."""
    normed = {name.removesuffix(OUR_LENGTH) for name in wanted if name.endswith(OUR_LENGTH)}
    if normed:
        split = _split_kernels(state, [f"{module}weight" for module in normed])
        return {name.replace(DIRECTION, OUR_DIRECTION).replace(LENGTH, OUR_LENGTH): split[name] for name in split}
    folded = dict(state)
    for name in state:
        module = name.removesuffix(LENGTH)
        direction = state.get(module + DIRECTION) if module != name else None
        if direction is None or direction.dim() == 0:
            continue  # it is reported as unexpected
        if state[name].shape == (len(direction), *[1] * (direction.dim() - 1)):
            folded[module + "weight"] = fold(folded.pop(name), folded.pop(module + DIRECTION))
    return folded


def _split_kernels(state: Mapping[str, Tensor], kernels: Iterable[str]) -> dict[str, Tensor]:
    """Those of `kernels` that are whole, in direction and length."""
    split, chosen = {}, set(kernels)
    for name, tensor in state.items():
        module = name.removesuffix("weight")
        if module == name or name not in chosen:
            split[name] = tensor
        else:
            axes = tuple(range(1, tensor.dim()))
            split[module + LENGTH] = torch.linalg.vector_norm(tensor, dim=axes, keepdim=True)
            split[module + DIRECTION] = tensor
    return split


def _list(names: Iterable[str]) -> str:
    """The first name in order, and how many there are beside it."""
    first, *others = sorted(names)
    return f"{first!r}" + (f" and {len(others)} more" if others else "")
