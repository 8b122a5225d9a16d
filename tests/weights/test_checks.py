"""Memory and disk, asked beforehand."""

from __future__ import annotations

import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch

import chelys
from chelys.errors import ModelError, OutputError
from chelys.weights import checks
from chelys.weights.folder import load_model

GIGA = 10**9


def test_too_little_memory_is_told_before_anything_is_loaded(toy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted(toy_folder.glob("*.safetensors"))
    full, half = (checks.weights_size(files, dtype) for dtype in (torch.float32, torch.float16))
    assert full == 2 * half == 2 * sum(t.nbytes for f in files for t in _tensors(f))
    monkeypatch.setattr("chelys.weights.folder.load_network", lambda *a, **k: pytest.fail("loaded"))
    smaller, slowly = (
        f", or load it in bfloat16 \\({half / 1e6:.1f} MB",
        "; this processor emulates it, many times slower",
    )
    for free, flag, advice in (
        (full - 1, "avx512_bf16", f"{smaller}\\)"), (full - 1, "avx2", f"{smaller}{slowly} than float32\\)"),
        (half - 1, "avx2", ""),
    ):  # fmt: skip
        monkeypatch.setattr(checks, "free_memory", lambda device, free=free: free)
        monkeypatch.setattr(checks, "_cpu_flags", lambda flag=flag: {flag})
        said = f"{toy_folder} needs {full / 1e6:.1f} MB of memory in float32, and {free / 1e6:.1f} MB are free"
        with pytest.raises(ModelError, match=f"^{said}: make room{advice}$"):
            load_model(toy_folder)


@pytest.mark.parametrize(
    ("dtype", "flags", "warned"),
    [
        ("float32", {"avx2"}, False), ("auto", {"avx2"}, False), ("auto", {"amx_bf16"}, False),
        ("bfloat16", set(), False),
        ("bfloat16", {"avx512_bf16"}, False), ("bfloat16", {"avx2"}, True), ("float16", {"avx512_bf16"}, True),
    ],
)  # fmt: skip
def test_a_dtype_that_the_processor_emulates_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, dtype: str, flags: set[str], warned: bool
) -> None:
    monkeypatch.setattr(checks, "_cpu_flags", lambda: flags)
    checks.place("cpu", dtype)
    told = [f"{dtype}: this processor emulates it, many times slower than float32"] if warned else []
    assert caplog.messages == told


def _tensors(file: Path) -> list[torch.Tensor]:
    from safetensors.torch import load_file

    return list(load_file(file).values())


@pytest.mark.parametrize("free", [None, 10**12])
def test_enough_memory_or_none_known_is_no_matter(
    toy_folder: Path, monkeypatch: pytest.MonkeyPatch, free: int | None
) -> None:
    monkeypatch.setattr(checks, "free_memory", lambda device: free)
    load_model(toy_folder)


def test_the_least_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    for limits, least in (((5, 3, 4), 3), ((5, None, None), 5), ((None, None, None), None)):
        for name, limit in zip(("machine", "group", "process"), limits, strict=True):
            monkeypatch.setattr(checks, f"_free_of_{name}", lambda limit=limit: limit)
        assert checks.free_memory() == least
    assert checks.free_memory("mps") is None


def test_this_machine_has_memory() -> None:
    free = checks._free_of_machine()
    assert free is None or 10**7 < free < 10**15


def test_a_container_limit_does_not_count_cached_files(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 200\nfile 600\nkernel 100\n")
    assert checks._free_of_group(tmp_path) == 700
    (tmp_path / "memory.max").write_text("max\n")
    assert checks._free_of_group(tmp_path) is None and checks._free_of_group(tmp_path / "gone") is None


LIMITED = """
import resource, sys
from chelys.weights import checks
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 50_000_000, resource.RLIM_INFINITY))
assert 40_000_000 < checks._free_of_process() < 51_000_000
assert checks.free_memory() < 51_000_000
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux alone tells")
def test_a_limit_of_the_shell_counts() -> None:
    environment = {"PYTHONPATH": str(Path(chelys.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", LIMITED], check=True, env=environment, timeout=120)


def test_too_little_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def usage(path: Path) -> tuple[int, int, int]:
        asked.append(path)
        return namedtuple("usage", "total used free")(9, 8, 3 * GIGA)

    monkeypatch.setattr(checks.shutil, "disk_usage", usage)
    checks.require_disk(tmp_path / "not" / "yet", 2 * GIGA, "it takes")
    assert asked == [tmp_path]
    with pytest.raises(OutputError, match="^it takes 4.2 GB in .*/not/yet, and 3.0 GB are free: make room"):
        checks.require_disk(tmp_path / "not" / "yet", 42 * GIGA // 10, "it takes")


@pytest.mark.parametrize(
    ("cpu", "dtype"),
    [
        ("flags\t: fpu avx2 avx512f\n", "float32"),
        ("flags\t: fpu avx512_bf16\n", "bfloat16"),
        ("flags\t: amx_bf16 fpu\n", "bfloat16"),
        ("Features\t: fp asimd bf16\n", "bfloat16"),
        ("model name\t: bf16\n", "float32"),
    ],
)
def test_bfloat16_is_chosen_where_the_processor_multiplies_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu: str, dtype: str
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{cpu}\nprocessor\t: 1\n")
    flags = checks._cpu_flags(tmp_path / "cpuinfo")
    monkeypatch.setattr(checks, "_cpu_flags", lambda: flags)
    assert checks.best_dtype("cpu") == dtype
    assert checks.place("cpu", "auto") == ("cpu", getattr(torch, dtype))
    assert checks.best_dtype("mps") == "float32"


def test_without_linux_nothing_is_known_of_the_processor(tmp_path: Path) -> None:
    assert checks._cpu_flags(tmp_path / "gone") == set()
