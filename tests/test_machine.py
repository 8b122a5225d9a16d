"""Threads for the machine at hand, that a library leaves those of its host alone, and what was measured is kept."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import toy

import chelys
from chelys import machine
from chelys.cli.main import app
from chelys.errors import UserError


@pytest.mark.parametrize(
    ("lines", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/a/b\n", {"cpu.max": "max 100000", "a/cpu.max": "300000 100000", "a/b/cpu.max": "400000 100000"}, 3.0),
        ("0::/outside\n", {"cpu.max": "200000 100000"}, 2.0),  # a container sees its own group at the top
        ("4:cpu,cpuacct:/x\n", {"cpu/x/cpu.cfs_quota_us": "50000", "cpu/x/cpu.cfs_period_us": "100000"}, 0.5),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("0::/\n", {"cpu.max": "nonsense"}, None),
        ("9:name=systemd:/\nbroken\n", {}, None),
    ],
)
def test_quota_of_control_groups(tmp_path: Path, lines: str, files: dict[str, str], quota: float | None) -> None:
    (tmp_path / "cgroup").write_text(lines)
    for name, text in files.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(text + "\n")
    assert machine.cgroup_quota(tmp_path / "root", tmp_path / "cgroup") == quota


def test_without_control_groups_there_is_no_quota(tmp_path: Path) -> None:
    assert machine.cgroup_quota(tmp_path, tmp_path / "gone") is None


def test_the_quota_bounds_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    for quota, cores in ((None, 8), (2.5, 2), (0.5, 1), (64.0, 8)):
        monkeypatch.setattr(machine, "cgroup_quota", lambda quota=quota: quota)
        assert machine.available_cores() == cores


def test_threads_are_those_asked_for_then_the_environments_then_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_cores", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert (machine.choose_threads(3), machine.choose_threads(None), machine.choose_threads(0)) == (3, 6, 6)
    for text, threads in (("4", 4), ("2,1", 2), ("many", 6)):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert machine.choose_threads() == threads
    for wrong in (-1, 5000):
        with pytest.raises(UserError, match=f"threads is {wrong}; it must lie between 1 and 1024"):
            machine.choose_threads(wrong)


def test_waiting_is_left_as_the_environment_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    machine.wait_passively()
    assert os.environ == {"OMP_WAIT_POLICY": "PASSIVE"}
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        monkeypatch.setattr(os, "environ", {name: "7"})
        machine.wait_passively()
        assert os.environ == {name: "7"}


@pytest.mark.parametrize(
    ("seconds", "others", "policy"), [(0.2, 0.01, None), (0.2, 0.3, "PASSIVE"), (0.05, 0.0, "PASSIVE")]
)
def test_threads_spin_for_short_work_on_cores_that_others_leave_alone(
    monkeypatch: pytest.MonkeyPatch, seconds: float, others: float, policy: str | None
) -> None:
    uses = iter([(100.0, 7.0), (100.0 + seconds, 7.0 + others), (100.0 + seconds, 7.0)])
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(machine, "_watched", None)
    monkeypatch.setattr(machine, "_use_of_cores", lambda: next(uses))
    monkeypatch.setattr(machine, "cgroup_quota", lambda: None)
    machine.wait_passively()
    machine.spin_if_idle()
    assert os.environ.get("OMP_WAIT_POLICY") == policy
    monkeypatch.setattr(machine, "_watched", None)  # the environment had it so
    monkeypatch.setattr(os, "environ", {"OMP_WAIT_POLICY": "PASSIVE"})
    machine.wait_passively()
    machine.spin_if_idle()
    assert os.environ == {"OMP_WAIT_POLICY": "PASSIVE"}


def test_what_others_use_of_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2}, raising=False)
    ticks, file = os.sysconf("SC_CLK_TCK"), tmp_path / "stat"
    found = []
    for idle in (1000, 1000 + 50 * ticks):
        file.write_text(f"cpu 1 2 3 4 5\ncpu0 9 9 9 {idle} 10 0\ncpu1 9 9 9 999999 0\ncpu2 9 9 9 {idle} 10 0\nintr 1\n")
        found.append(machine._use_of_cores(file))
    (begun, used), (ended, used_then) = found  # type: ignore[misc]
    assert used_then - used == pytest.approx(2 * (ended - begun) - 2 * 50, abs=0.5)
    file.write_text("nonsense\ncpu0 1\n")
    assert machine._use_of_cores(file) is None and machine._use_of_cores(tmp_path / "gone") is None


def test_a_library_leaves_its_host_alone_and_the_command_line_does_not(
    toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        before = dict(os.environ)
        tts = chelys.load(str(toy_folder), device="cpu")
        tts.voice([toy.tone(200.0, 1.0)])
        tts.speak("one", seed=1)
        assert torch.get_num_threads() == 3 and dict(os.environ) == before
        monkeypatch.setenv("CHELYS_THREADS", "2")
        speak = ["speak", "one", "--model", str(toy_folder), "-q"]
        app([*speak, "-o", "a.wav"], standalone_mode=False)
        assert torch.get_num_threads() == 2
        app([*speak, "-o", "b.wav", "--threads", "1"], standalone_mode=False)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it looks into /proc")
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """Without a guard they wait for work for ever, each holding open the pipe by which the others would see the end."""
    program = f"""
import os, pathlib, time
from chelys.machine import worker_pool

def note(number):
    (pathlib.Path({str(tmp_path)!r}) / str(os.getpid())).touch()
    time.sleep(0.2)

if __name__ == "__main__":
    with worker_pool(3) as pool:
        list(pool.map(note, range(6)))
        print("ready", flush=True)
        time.sleep(60)
"""
    file = tmp_path / "program.py"
    file.write_text(program)
    environment = os.environ | {"PYTHONPATH": str(Path(chelys.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, file], stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    workers = [int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()]
    assert len(workers) == 3 and all(map(is_running, workers))
    process.kill()
    process.wait()
    end = time.monotonic() + 20
    while any(map(is_running, workers)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(map(is_running, workers))


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z"  # nobody may be there to bury it
    except FileNotFoundError:
        return False


# ---- memory and measurements ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GB", 4_000_000_000), ("500 MB", 500_000_000), ("3.5GiB", 3_758_096_384), ("2g", 2_000_000_000), ("900", 900)],
)
def test_an_amount_of_memory_as_people_write_it(text: str, size: int) -> None:
    assert machine.memory_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-4GB", "4 gigabytes", "0", "1e9", "4GB 2GB", "٤GB", "9" * 400])
def test_what_is_no_amount_of_memory_is_one_line(text: str) -> None:
    with pytest.raises(UserError, match="is no amount of memory: write 4GB or 500MB"):
        machine.memory_size(text)


def test_what_was_measured_holds_for_every_process() -> None:
    assert machine.measure_once("weights", ("a", "b"), lambda: "b") == "b"
    for found in ("a", "b"):
        assert machine.measure_once("weights", ("a", "b"), lambda found=found: found) == "b"
    assert machine.measure_once("weights on more threads", ("a", "b"), lambda: "a") == "a"
    # what is no choice any more is measured anew
    assert machine.measure_once("weights", ("a", "c"), lambda: "c") == "c", (
        "what is no choice any more is measured anew"
    )
    assert list(machine.kept_measurements().values()) == ["a", "c"]
    code = (
        "from chelys import machine; import pathlib, sys; machine.measured_file = lambda: pathlib.Path(sys.argv[1])\n"
    )
    code += "print(machine.measure_once('weights', ('a', 'c'), lambda: 'a'))"
    done = subprocess.run([sys.executable, "-c", code, machine.measured_file()], capture_output=True, text=True)
    assert done.stdout == "c\n"


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"a": 1}', b"\xff", b"x" * 300_000])
def test_damaged_measurements_are_made_anew(damage: bytes) -> None:
    machine.measured_file().write_bytes(damage)
    assert machine.kept_measurements() == {}
    assert machine.measure_once("weights", ("a", "b"), lambda: "b") == "b"
    assert list(machine.kept_measurements().values()) == ["b"]


def test_where_nothing_can_be_kept_it_is_measured_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(machine, "measured_file", lambda: tmp_path / "file" / "measured.json")
    assert [machine.measure_once("weights", ("a", "b"), lambda found=found: found) for found in "ab"] == ["a", "b"]


def test_old_measurements_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "MOST_KEPT", 3)
    for number in range(5):
        machine.measure_once(f"weights {number}", ("a",), lambda: "a")
    assert [key[-9:] for key in machine.kept_measurements()] == ["weights 2", "weights 3", "weights 4"]


PIECES = """
import pathlib, torch
from chelys.machine import MemoryTrimmer

def resident():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096

pieces = [torch.ones(5000) for _ in range(10_000)]  # 200 MB
last = torch.ones(5000)  # the heap ends with it, and cannot be cut there
del pieces
before = resident()
MemoryTrimmer()()
assert resident() > before - 1e7  # it is not yet time
MemoryTrimmer(0)()
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_freed_memory_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", PIECES], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 1e8
