"""Arrays in NumPy's files, read only where a file is as large as its head claims: no object, no bomb."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from chelys.errors import first_line
from chelys.files import open_regular

#: Bytes of all arrays of an ``.npz`` once they are unpacked.
MAX_NPZ = 1 << 32


def read_npy(data: bytes) -> np.ndarray:
    """The array of an ``.npy`` file in memory. Raises ValueError if it is damaged."""
    file = io.BytesIO(data)
    shape, dtype = _head(file, len(data))
    return np.frombuffer(data, dtype, math.prod(shape), file.tell()).reshape(shape)


def map_npy(path: Path) -> np.ndarray:
    """The array of an ``.npy`` file, mapped. Raises ValueError if it is damaged, OSError if it cannot be read."""
    with open_regular(path) as file:
        size = file.seek(0, 2)
        file.seek(0)
        shape, dtype = _head(file, size)
        if not math.prod(shape):
            return np.zeros(shape, dtype)
        return np.memmap(path, dtype, "r", file.tell(), shape)


def read_npz(path: Path, limit: int = MAX_NPZ) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file, by name. Raises ValueError if it is damaged, OSError if it cannot be read."""
    with open_regular(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                if sum(member.file_size for member in archive.infolist()) > limit:
                    raise ValueError(f"it unpacks to more than {limit} bytes")
                return {n.removesuffix(".npy"): read_npy(archive.read(n)) for n in archive.namelist()}
        except Exception as error:  # of zipfile and zlib, of half a dozen kinds
            raise ValueError(first_line(error)) from error


def _head(file: BinaryIO, size: int) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of what follows, with the file at its first byte; all of the file is of it."""
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except Exception as error:  # the head is a Python literal, and its parser raises what it likes
        raise ValueError(f"no array ({first_line(error)})") from error
    if fortran and len(shape) > 1 or dtype.hasobject or not dtype.itemsize or min(shape, default=0) < 0:
        raise ValueError("an array of another kind than is used here")
    if math.prod(shape) * dtype.itemsize != size - file.tell():
        raise ValueError(f"an array of {shape} {dtype} does not fit the file")
    return shape, dtype
