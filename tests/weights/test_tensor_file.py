"""Safetensors files: the same bytes as the library's, whole or not at all, mapped where they can be."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from chelys.errors import ConfigError, ModelError
from chelys.training.checkpoint import read_weights
from chelys.weights.tensor_file import (
    let_go,
    load_network,
    read_head,
    read_tensors,
    sha256,
    write_tensors,
)

MIXED = {
    "b.weight": torch.randn(3, 5),
    "a.weight": torch.randn(4, 4).t(),
    "ö": torch.randn(7).half(),
    "count": torch.tensor(9),
    "flags": torch.tensor([True, False]),
    "empty": torch.zeros(0, 3),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_bytes_are_those_of_the_library(tmp_path: Path, dtype: torch.dtype) -> None:
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    digest = write_tensors(ours, MIXED, network="toy", dtype=dtype)
    cast = {name: (t.to(dtype) if t.is_floating_point() else t).contiguous() for name, t in MIXED.items()}
    save_file(cast, theirs, metadata={"network": "toy"})
    assert ours.read_bytes() == theirs.read_bytes() and digest == sha256(ours)
    back = dict(read_tensors(ours, read_head(ours), None))
    assert back.keys() == MIXED.keys() and all(torch.equal(back[name], tensor) for name, tensor in cast.items())


def test_int8_is_within_half_a_unit_of_each_row(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 32), nn.Conv1d(32, 16, 3), nn.LayerNorm(16), nn.Embedding(9, 8))
    with torch.no_grad():
        network[0].weight[3] = 0  # a row of nothing
        network[0].weight[4] *= 1000
    path, half = tmp_path / "network.safetensors", tmp_path / "half.safetensors"
    write_tensors(path, network.state_dict(), network="toy", dtype=torch.float16, int8=True)
    write_tensors(half, network.state_dict(), network="toy", dtype=torch.float16)
    assert path.stat().st_size < 0.75 * half.stat().st_size
    loaded = nn.Sequential(nn.Linear(64, 32), nn.Conv1d(32, 16, 3), nn.LayerNorm(16), nn.Embedding(9, 8))
    load_network(path, loaded)
    for name, written in network.state_dict().items():
        read = loaded.state_dict()[name]
        assert read.dtype == torch.float32 and torch.equal(read, dict(read_weights(path))[name].float())
        rows = written.abs().flatten(1).amax(1) if written.ndim > 1 else written.new_full((1,), 0.5)
        error = (read - written).abs().reshape(len(rows), -1).amax(1)
        assert (error <= rows / 127 * 0.501 + 1e-12).all(), name


def test_units_of_other_rows_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    for units in (torch.ones(3), torch.ones(4, 1)):
        save_file({"weight": torch.ones(4, 2, dtype=torch.int8), "weight.int8_units": units}, path)
        with pytest.raises(ModelError, match="has other rows than units"):
            read_head(path)
        with pytest.raises(ConfigError, match="has other rows than units"):
            read_weights(path)
    save_file({"weight.int8_units": torch.ones(3)}, path)
    assert list(read_head(path)) == ["weight.int8_units"]


@pytest.mark.parametrize("cut", [0, 4, 20, -1])
def test_a_head_accounts_for_every_byte(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "file.safetensors"
    write_tensors(path, MIXED, network="toy", dtype=torch.float32)
    data = path.read_bytes()
    for broken in (data[:cut], data + b"more"):
        path.write_bytes(broken)
        with pytest.raises(ModelError, match="file.safetensors is damaged"):
            read_head(path)


@pytest.mark.parametrize(
    "head",
    [
        b"[]",
        b'{"a": 3}',
        b'{"a": {"dtype": "F4", "shape": [2], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}',
        b"\xff\xfe",
    ],
)
def test_a_head_that_makes_no_sense_is_refused(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(len(head).to_bytes(8, "little") + head + bytes(8))
    with pytest.raises(ModelError, match="is damaged") as raised:
        read_head(path)
    assert "\n" not in str(raised.value)


def layer() -> nn.Linear:
    with torch.device("meta"):
        return nn.Linear(1000, 1000)


def test_what_lies_as_it_is_wanted_is_mapped_not_copied(tmp_path: Path) -> None:
    """Then the file is where the numbers are: they change with it."""
    path, network = tmp_path / "file.safetensors", layer()
    write_tensors(
        path, {"weight": torch.zeros(1000, 1000), "bias": torch.zeros(1000)}, network="l", dtype=torch.float32
    )
    load_network(path, network)
    with path.open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\x00\x00\x80\x3f")
    assert {network.weight[-1, -1].item(), network.bias[-1].item()} == {0.0, 1.0}


def test_what_is_converted_is_no_map(tmp_path: Path) -> None:
    path, network = tmp_path / "file.safetensors", layer()
    tensors = {"weight": torch.randn(1000, 1000), "bias": torch.randn(1000)}
    write_tensors(path, tensors, network="l", dtype=torch.float16)
    load_network(path, network, dtype=torch.bfloat16)
    path.write_bytes(b"")
    assert torch.equal(network.weight, tensors["weight"].half().bfloat16()) and network.bias.dtype == torch.bfloat16


def test_kernels_under_weight_norm_are_folded(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    split = nn.utils.parametrizations.weight_norm(nn.Conv1d(3, 4, 5), dim=0)
    write_tensors(path, split.state_dict(), network="c", dtype=torch.float32)
    plain = nn.Conv1d(3, 4, 5)
    load_network(path, plain)
    torch.testing.assert_close(plain.weight, split.weight)
    assert torch.equal(plain.bias, split.bias)  # type: ignore[arg-type]
    again = nn.utils.parametrizations.weight_norm(nn.Conv1d(3, 4, 5), dim=0)
    load_network(path, again)
    assert all(torch.equal(tensor, split.state_dict()[name]) for name, tensor in again.state_dict().items())


def test_half_a_kernel_is_told(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    split = nn.utils.parametrizations.weight_norm(nn.Conv1d(3, 4, 5), dim=0).state_dict()
    split.pop("parametrizations.weight.original0")
    write_tensors(path, split, network="c", dtype=torch.float32)
    with pytest.raises(
        ModelError, match="does not fit config.json: tensor parametrizations.weight.original1 is unexpec"
    ):
        load_network(path, nn.Conv1d(3, 4, 5))


def test_not_finite(tmp_path: Path) -> None:
    for value, said in ((float("inf"), "no finite numbers"), (1e5, "too large for float16: choose")):
        with pytest.raises(ModelError, match=f"tensor a has values (that are )?{said}"):
            write_tensors(tmp_path / "f", {"a": torch.tensor([1, value])}, network="l", dtype=torch.float16)
    assert not list(tmp_path.iterdir())


def test_the_library_reads_a_saved_network(toy_folder: Path) -> None:
    path = toy_folder / "diffusion.safetensors"
    head = read_head(path)
    assert {name: tuple(t.shape) for name, t in load_file(path).items()} == {n: e.shape for n, e in head.items()}
    length = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    assert sum(entry.size(torch.float32) for entry in head.values()) == 2 * (path.stat().st_size - length)


def resident(path: Path) -> int:
    """Bytes of a file that this process has in memory."""
    facts = Path("/proc/self/smaps").read_text().split("VmFlags")
    found = [fact for fact in facts if str(path) in fact]
    return sum(1024 * int(re.search(r"Rss: +(\d+)", fact)[1]) for fact in found)  # type: ignore[index]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone can")
def test_what_is_let_go_leaves_the_memory_and_comes_back(tmp_path: Path) -> None:
    path, network = tmp_path / "with a space.safetensors", nn.Linear(1024, 1024)
    wanted = network.weight.detach().clone()
    write_tensors(path, network.state_dict(), network="toy", dtype=torch.float32)
    load_network(path, network)
    assert torch.equal(network.weight, wanted) and resident(path) >= wanted.nbytes
    assert let_go(path) >= wanted.nbytes and resident(path) == 0
    assert let_go(tmp_path / "another.safetensors") == 0
    assert torch.equal(network.weight, wanted)
    with torch.no_grad():
        network.weight[3] = 7.0
    assert let_go(path) == 0, "what was written would be lost"
    assert (network.weight[3] == 7.0).all()
