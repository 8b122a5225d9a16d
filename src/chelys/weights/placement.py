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


def place(device: str, dtype: str | None) -> tuple[str, torch.dtype]:
    """Check a device and a dtype by name.

    Args:
        device: As torch names it: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        dtype: One of DTYPES; None is float32.

    Raises:
        UserError: If either is unknown, or the device is not on this machine.
    """
    chosen = as_dtype("float32" if dtype is None else dtype)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {device!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return device, chosen
