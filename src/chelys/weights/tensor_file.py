"""Safetensors files of networks: written whole or not at all, checked against the network, mapped when read."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from chelys.deprecation import current_tensor_name
from chelys.errors import ModelError, first_line
from chelys.files import atomic_path, open_regular
from chelys.parsing import parse_json

#: How the format calls a dtype.
KINDS = {
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
}  # fmt: skip
#: What torch calls the two parts of a kernel under weight norm.
OUR_DIRECTION, OUR_LENGTH = "parametrizations.weight.original1", "parametrizations.weight.original0"
#: A matrix may lie in a file as int8, each row in units of its own: they are beside it, under its name and this.
UNITS = ".int8_units"
_LARGEST = 127
_BLOCK = 1 << 22
#: Bytes of a file's head, and tensors in it.
MAX_HEAD, MAX_TENSORS = 1 << 23, 20_000


@dataclass(frozen=True)
class Entry:
    """What a file says of one tensor; an older version may have ``stored`` it under another name.

    One that lies in the file as int8 names its ``units``, and counts as half precision.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    stored: str = ""
    units: str = ""

    def size(self, dtype: torch.dtype) -> int:
        """Bytes in memory once it is computed with in a dtype."""
        return math.prod(self.shape) * (dtype if self.dtype.is_floating_point else self.dtype).itemsize


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], *, network: str, dtype: torch.dtype, int8: bool = False,
    progress: Callable[[int], None] | None = None,
) -> str:  # fmt: skip
    """Write the tensors of a network, whose name is noted in the file, and give the file's SHA-256.

    ``dtype`` is of the floating-point tensors in the file; with ``int8`` matrices and kernels, what is called
    ``weight``, are rounded to a 127th of the largest value of their row. ``progress`` is called with the bytes of each
    tensor.

    Raises:
        ModelError: If a value is not finite, or not in that dtype; the tensor is named.
    """
    state = {}
    for name, tensor in tensors.items():
        state[name] = _converted(name, tensor, dtype if tensor.is_floating_point() else tensor.dtype)
        if int8 and name.endswith("weight") and tensor.is_floating_point() and tensor.ndim > 1:
            state[name], state[name + UNITS] = _rounded(tensor)
        if progress is not None:
            progress(state[name].nbytes)
    with atomic_path(path) as partial:
        try:
            save_file(state, partial, metadata={"network": network})
        except SafetensorError as error:  # the library's for a full disk and the like
            raise OSError(errno.EIO, first_line(error), str(path)) from error
        digest = sha256(partial)
    return digest


def _converted(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor as it lies in a file."""
    written = tensor.detach().to("cpu", dtype).contiguous()
    if dtype.is_floating_point and not written.isfinite().all():
        if tensor.isfinite().all():
            kind = str(dtype).removeprefix("torch.")
            raise ModelError(f"tensor {name} has values too large for {kind}: choose bfloat16 or float32")
        raise ModelError(f"tensor {name} has values that are no finite numbers")
    return written


def _rounded(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix or kernel as int8, and the units of its rows ``(rows,)``."""
    rows = tensor.detach().to("cpu", torch.float32).flatten(1)
    units = rows.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny) / _LARGEST
    return (rows / units[:, None]).round().to(torch.int8).view(tensor.shape).contiguous(), units


def read_head(path: Path) -> dict[str, Entry]:
    """What tensors a file holds; nothing else of it is read.

    Raises:
        ModelError: If the file is missing, damaged or truncated.
    """
    try:
        return {current_tensor_name(name): entry for name, entry in _with_units(tensor_head(path)[0]).items()}
    except FileNotFoundError:
        raise ModelError(f"{path.parent} lacks {path.name}; get the model again") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is damaged ({_reason(error)}); get the model again") from error


def _with_units(head: Mapping[str, Entry]) -> dict[str, Entry]:
    """The tensors of a head, those of int8 together with the units of their rows. Raises ValueError if these differ."""
    found = {}
    for name, entry in head.items():
        if name.endswith(UNITS) and name.removesuffix(UNITS) in head:
            continue
        units = head.get(name + UNITS)
        if units is not None and (entry.dtype, units.shape) != (torch.int8, entry.shape[:1]):
            raise ValueError(f"tensor {name[:80]!r} has other rows than units")
        found[name] = replace(entry, dtype=torch.float16, units=name + UNITS) if units else entry
    return found


def tensor_head(path: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    """The tensors of a file by the names they are stored under, and its metadata; nothing is allocated for them.

    Raises:
        OSError: If the file cannot be read, or is no regular file.
        ValueError: If it is no safetensors file, or its head claims more than the file has or than is sensible.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        room = size - 8 - length
        if length > MAX_HEAD or room < 0:
            raise ValueError("it is cut off, or no safetensors file")
        head = parse_json(file.read(length))
    metadata = head.pop("__metadata__", None) or {} if isinstance(head, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its head has no tensors by name")
    if len(head) > MAX_TENSORS:
        raise ValueError(f"it has more than {MAX_TENSORS} tensors")
    end, places = 0, {name: _entry(name, value) for name, value in head.items()}
    for entry, start in sorted(places.values(), key=lambda place: (place[1], place[0].size(place[0].dtype))):
        if start != end:
            raise ValueError(f"tensor {entry.stored[:80]!r} does not begin where another ends")
        end += entry.size(entry.dtype)
    if end != room:
        raise ValueError(f"its tensors take {end} bytes, and it has {room}")
    return {name: entry for name, (entry, _) in places.items()}, metadata


def _entry(name: str, value: Any) -> tuple[Entry, int]:
    """What a head says of a tensor, and the byte at which it begins."""
    try:
        kind, shape, (start, end) = value["dtype"], tuple(value["shape"]), value["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"its head does not say what tensor {name[:80]!r} is") from None
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"a tensor is of the unknown kind {str(kind)[:20]!r}")
    if not all(type(part) is int and 0 <= part < 1 << 40 for part in (*shape, start, end)) or len(shape) > 8:
        raise ValueError(f"tensor {name[:80]!r} has an impossible shape")
    if end - start != math.prod(shape) * KINDS[kind].itemsize:
        raise ValueError(f"tensor {name[:80]!r} has other bytes than its shape")
    if math.prod(max(part, 1) for part in shape) >= 1 << 60:
        raise ValueError(f"tensor {name[:80]!r} has an impossible shape")
    return Entry(KINDS[kind], shape, name), start


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or first_line(error)


def read_tensors(path: Path, head: Mapping[str, Entry], dtype: torch.dtype | None) -> Iterator[tuple[str, Tensor]]:
    """Tensors of a file, one at a time: mapped where they are used as they lie in it, else converted.

    ``head``, from `read_head`, names those wanted; ``dtype`` is of the floating-point ones, and None leaves them.
    """
    with safe_open(path, "pt") as file:
        for name, entry in head.items():
            tensor = file.get_tensor(entry.stored)
            if entry.units:
                units = file.get_tensor(entry.units).float()
                tensor = tensor.float() * units.view(-1, *(1 for _ in entry.shape[1:]))
            yield name, tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor


def load_network(
    path: Path, network: nn.Module, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> None:
    """Fill a network, which may be on the meta device, from its file; it is left where it is.

    Tensors that lie in the file as they are wanted are mapped, not copied: their pages come into memory as they are
    used, and the system can drop and read them again. All others are converted one at a time. Kernels under weight
    norm are folded, unless the network has them so.

    Raises:
        ModelError: If the file is missing, truncated, or its tensors are not those of the network.
    """
    head = read_head(path)
    wanted = network.state_dict()
    folded = {name for name in head if name.endswith((OUR_LENGTH, OUR_DIRECTION)) and name not in wanted}
    kernels = {
        name.removesuffix(OUR_DIRECTION) + "weight": (name.removesuffix(OUR_DIRECTION) + OUR_LENGTH, name)
        for name in folded
        if name.endswith(OUR_DIRECTION) and name.removesuffix(OUR_DIRECTION) + OUR_LENGTH in folded
    }
    plain = {name: entry for name, entry in head.items() if not any(name in pair for pair in kernels.values())}
    seen = plain | {kernel: head[direction] for kernel, (_, direction) in kernels.items()}
    fault = _mismatch(seen, wanted)
    if fault:
        raise ModelError(f"{path} does not fit config.json: {fault}")
    try:
        state = {name: tensor.to(device) for name, tensor in read_tensors(path, plain, dtype)}
        for kernel, pair in kernels.items():
            parts = dict(read_tensors(path, {name: head[name] for name in pair}, torch.float32))
            state[kernel] = fold(parts[pair[0]], parts[pair[1]]).to(device, dtype)
    except (SafetensorError, OSError, RuntimeError) as error:  # it changed under our hands; memory ran out after all
        raise ModelError(f"{path} cannot be loaded ({first_line(error)})") from error
    network.load_state_dict(state, assign=True)


def let_go(path: Path) -> int:
    """Give the memory of what is mapped from a file back to the system, which reads it again as soon as it is used.

    What was written to since stays, for it would be lost. Linux alone can; elsewhere nothing is done. Returns how many
    bytes of addresses were concerned.
    """
    try:
        text, system = Path("/proc/self/smaps").read_bytes(), ctypes.CDLL(None)
    except (OSError, TypeError):
        return 0
    name, given = os.fsencode(os.path.realpath(path)), 0
    for mapping in _MAPPING.finditer(text):
        facts = re.sub(rb" +", b" ", mapping["facts"])
        if mapping["name"] == name and all(b"\n%b: 0 kB\n" % what in facts for what in (b"Anonymous", b"Swap")):
            start, end = (int(mapping[part], 16) for part in ("start", "end"))
            if system.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _DONT_NEED) == 0:
                given += end - start
    return given


#: Addresses that are mapped from a file, and what Linux says of them.
_MAPPING = re.compile(
    rb"^(?P<start>[0-9a-f]+)-(?P<end>[0-9a-f]+) \S+ \S+ \S+ \d+ +(?P<name>/.*)(?P<facts>\n(?:[A-Z]\w*:.*\n)*)", re.M
)
_DONT_NEED = 4  # MADV_DONTNEED


def fold(length: Tensor, direction: Tensor) -> Tensor:
    """The kernel that weight norm holds as length and direction; the norm is over all axes but the first."""
    axes = tuple(range(1, direction.dim()))
    return length * direction / torch.linalg.vector_norm(direction, dim=axes, keepdim=True)


def _mismatch(given: Mapping[str, Entry], wanted: Mapping[str, Tensor]) -> str:
    """First fault of a set of tensors, or an empty string."""
    for key in sorted(wanted.keys() | given.keys()):
        if key not in given:
            return f"tensor {key} is missing"
        if key not in wanted:
            return f"tensor {key} is unexpected"
        if given[key].shape != wanted[key].shape:
            return f"tensor {key} has shape {given[key].shape}, expected {tuple(wanted[key].shape)}"
        if given[key].dtype.is_floating_point != wanted[key].is_floating_point():
            return f"tensor {key} is of kind {given[key].dtype}, expected {wanted[key].dtype}"
    return ""


def sha256(path: Path, progress: Callable[[int], None] | None = None) -> str:
    """Hexadecimal SHA-256 of a file; ``progress`` is called with the bytes of each block that is read."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            if progress is not None:
                progress(len(block))
    return digest.hexdigest()
