"""Where a model's networks go and what they compute with."""

from __future__ import annotations

import torch

from chelys.errors import UserError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def as_dtype(name: str) -> torch.dtype:
    """A dtype by name.

    Raises:
        UserError: If it is none of DTYPES.
    """
    if name not in DTYPES:
        raise UserError(f"unknown dtype {name!r}: choose from {', '.join(DTYPES)}")
    return DTYPES[name]


def best_device() -> str:
    """``cuda`` or ``mps`` where there is one, else ``cpu``."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def place(device: str, dtype: str | None) -> tuple[str, torch.dtype]:
    """Check a device and a dtype by name.

    Args:
        device: As torch names it: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; or ``auto`` for the best there is.
        dtype: One of DTYPES; None is float32.

    Raises:
        UserError: If either is unknown, or the device is not on this machine.
    """
    chosen = as_dtype("float32" if dtype is None else dtype)
    if device == "auto":
        return best_device(), chosen
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
    return device, chosen
