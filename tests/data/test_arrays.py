"""NumPy's files of foreign origin: what their heads claim is held against their size before anything is made."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from chelys.data.arrays import map_npy, read_npy, read_npz


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def with_head(text: str, data: bytes = b"") -> bytes:
    head = (text + "\n").encode()
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        npy(np.arange(9))[:-1],
        npy(np.arange(9)) + b"x",
        npy(np.array([{"never": "loaded"}], dtype=object)),
        with_head("{'descr': '<u2', 'fortran_order': False, 'shape': (1000000000000,)}", b"ab"),
        with_head("{'descr': '<u2', 'fortran_order': False, 'shape': (-1,)}", b"ab"),
        with_head("{'descr': '<u2', 'fortran_order': False, 'shape': (1,)", b"ab"),
        with_head("(" * 9000),
        with_head("'\\"),
        with_head("{'descr': '|V0', 'fortran_order': False, 'shape': (1000000000000,)}"),
    ],
)
def test_a_damaged_array_is_a_value_error(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        found = read_npy(data)
        assert found.size < 1000, "a claim was believed"
    path = tmp_path / "a.npy"
    path.write_bytes(data)
    with pytest.raises(ValueError):
        map_npy(path)


def test_arrays_are_what_numpy_wrote(tmp_path: Path) -> None:
    for array in (np.arange(9, dtype=np.uint16), np.zeros((0, 4)), np.array(["ada", "bob"]), np.ones((2, 3))):
        (tmp_path / "a.npy").write_bytes(npy(array))
        for found in (read_npy(npy(array)), map_npy(tmp_path / "a.npy")):
            np.testing.assert_array_equal(found, array)
    np.savez_compressed(tmp_path / "a.npz", a=np.arange(3), b=np.array(["x"]))
    found = read_npz(tmp_path / "a.npz")
    assert found.keys() == {"a", "b"} and found["b"].tolist() == ["x"]


def test_an_archive_that_unpacks_to_more_than_the_limit_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(1_000_000))
    with pytest.raises(ValueError, match="unpacks to more than"):
        read_npz(tmp_path / "a.npz", limit=1_000_000)
    (tmp_path / "b.npz").write_bytes(b"PK")
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as archive:
        archive.writestr("a.npy", b"no array")
    for name in ("b.npz", "c.npz"):
        with pytest.raises(ValueError):
            read_npz(tmp_path / name)
