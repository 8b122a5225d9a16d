"""Asked before anything is loaded or written: device, dtype, and whether memory and disk have room."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import torch

from chelys.errors import ModelError, OutputError, UserError
from chelys.weights.tensor_file import read_head

log = logging.getLogger(__name__)
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def as_dtype(name: str) -> torch.dtype:
    """A dtype by its name; a UserError if it is none of DTYPES."""
    if name not in DTYPES:
        raise UserError(f"unknown dtype {name!r}: choose from {', '.join(DTYPES)}")
    return DTYPES[name]


def best_device() -> str:
    """``cuda`` or ``mps`` where there is one, else ``cpu``."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def best_dtype(device: str | torch.device) -> str:
    """``bfloat16`` where the hardware multiplies it, else ``float32``.

    A CPU needs AVX512-BF16, AMX or Arm's BF16: with AVX2 alone bfloat16 is up to 26 times slower than float32.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if kind == "cpu" and _FLAGS[torch.bfloat16] & _cpu_flags() else "float32"


def emulated(device: str | torch.device, dtype: torch.dtype) -> bool:
    """Whether the processor is known to compute in the dtype by way of float32, many times slower than in that."""
    if torch.device(device).type != "cpu" or dtype == torch.float32:
        return False
    known = _cpu_flags()
    return bool(known) and not _FLAGS[dtype] & known


_EMULATED = "this processor emulates it, many times slower than float32"
#: What Linux calls multiplication in a dtype.
_FLAGS = {
    torch.bfloat16: {"avx512_bf16", "amx_bf16", "bf16"},
    torch.float16: {"avx512_fp16", "amx_fp16", "asimdhp"},
}


def _cpu_flags(file: Path = Path("/proc/cpuinfo")) -> set[str]:
    """What Linux says that the first processor can do; nothing elsewhere."""
    try:
        for line in file.read_text(encoding="utf8").splitlines():
            key, _, flags = line.partition(":")
            if key.strip() in ("flags", "Features"):
                return set(flags.split())
    except (OSError, ValueError):
        pass
    return set()


def place(device: str, dtype: str | None) -> tuple[str, torch.dtype]:
    """Check a device and a dtype by name, of DTYPES; None is float32, ``auto`` is `best_dtype`.

    The device is as torch names it: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; or ``auto`` for the best there is.

    Raises:
        UserError: If either is unknown, or the device is not on this machine.
    """
    if device == "auto":
        device = best_device()
    if dtype != "auto":
        as_dtype(dtype or "float32")
    try:
        kind = torch.device(device).type
    except (RuntimeError, ValueError):
        raise UserError(f"unknown device {device!r}: choose cpu, cuda, cuda:N, mps or auto") from None
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or ["not available"])[0]
        raise UserError(f"device {device!r} cannot be used here ({reason}): choose auto or cpu") from error
    if kind == "meta":
        raise UserError("device 'meta' holds no numbers: choose cpu, cuda, cuda:N, mps or auto")
    chosen = as_dtype(best_dtype(device) if dtype == "auto" else dtype or "float32")
    if emulated(device, chosen):
        log.warning("%s: %s", dtype, _EMULATED)
    return device, chosen


GIGABYTE = 1e9
HEADROOM = 1 << 20  # bytes on the disk for what is no tensor: tokenizer, configuration, heads of files


def weights_size(files: Iterable[Path], dtype: torch.dtype) -> int:
    """Bytes that the tensors of some files take in memory when they are computed with in a dtype."""
    return sum(entry.size(dtype) for file in files for entry in read_head(file).values())


def require_memory(folder: Path, files: Iterable[Path], device: str | torch.device, dtype: torch.dtype) -> None:
    """Refuse the files of a model that the memory has no room for, as far as that is known on this machine.

    Raises:
        ModelError: With the figures.
    """
    files = list(files)
    needed = weights_size(files, dtype)
    free = free_memory(device)
    if free is None or needed <= free:
        return
    smaller = weights_size(files, torch.bfloat16)
    slowly = f"; {_EMULATED}" if emulated(device, torch.bfloat16) else ""
    advice = f", or load it in bfloat16 ({gigabytes(smaller)}{slowly})" if smaller <= free else ""
    where = "" if torch.device(device).type == "cpu" else f" of {device}"
    kind = str(dtype).removeprefix("torch.")
    raise ModelError(
        f"{folder} needs {gigabytes(needed)} of memory in {kind}, and {gigabytes(free)}{where} are free:"
        f" make room{advice}"
    )


def free_memory(device: str | torch.device = "cpu") -> int | None:
    """Bytes that a model could take: of the device, or of this machine and this process; None if unknown."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return None
    limits = [limit for limit in (_free_of_machine(), _free_of_group(), _free_of_process()) if limit is not None]
    return min(limits) if limits else None


def _free_of_machine() -> int | None:
    """What Linux says is available, swap included; elsewhere all the memory that there is."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kilobytes = {key: int(rest.split()[0]) for key, _, rest in (line.partition(":") for line in lines)}
        return 1024 * (kilobytes["MemAvailable"] + kilobytes.get("SwapFree", 0))
    except (OSError, ValueError, KeyError, IndexError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def _free_of_group(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What a container's limit leaves (control groups, version 2); cached files give way and do not count."""
    try:
        limit = int((root / "memory.max").read_text())  # "max" is no limit
        used = int((root / "memory.current").read_text())
        statistics = dict(line.split() for line in (root / "memory.stat").read_text().splitlines())
        return limit - used + int(statistics["file"])
    except (OSError, ValueError, KeyError):
        return None


def _free_of_process() -> int | None:
    """What ``ulimit -v`` leaves; files that are mapped count."""
    try:
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit == resource.RLIM_INFINITY:
            return None
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        return max(0, limit - used)
    except (ImportError, OSError, ValueError, IndexError):
        return None


def require_disk(folder: Path, needed: int, what: str) -> None:
    """Refuse to begin what the disk has no room for: ``needed`` bytes in a folder, which need not exist yet.

    Raises:
        OutputError: With the figures; it begins with ``what`` takes the room.
    """
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    try:
        free = shutil.disk_usage(there).free
    except OSError:
        return
    if needed + HEADROOM > free:
        figures = f"{what} {gigabytes(needed)} in {folder}, and {gigabytes(free)} are free"
        raise OutputError(f"{figures}: make room or write elsewhere")


def gigabytes(count: int) -> str:
    """Bytes as people say them."""
    return f"{count / GIGABYTE:.1f} GB" if count >= GIGABYTE / 10 else f"{count / 1e6:.1f} MB"
