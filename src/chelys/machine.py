"""The machine at hand: how many processors this process may use, how its threads wait for each other, what was measured
here before, and how people write an amount of memory.

A library does not decide this for its host, so nothing here is called by importing or loading. The command line calls
``wait_passively`` and ``set_threads`` before torch is imported; a program that wants the same does so too.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chelys.errors import UserError
from chelys.files import write_json
from chelys.parsing import ParseError, read_json

if TYPE_CHECKING:
    import multiprocessing.process
    from concurrent.futures import ProcessPoolExecutor

#: Name of the environment variable that ``--threads`` and ``--workers`` of the command line default to.
THREADS_VARIABLE = "CHELYS_THREADS"
MOST_THREADS = 1024


def available_cores() -> int:
    """Cores that this process may use: its affinity, and what the quota of its control group leaves of that."""
    cores = os.cpu_count() or 1
    with suppress(AttributeError):  # not on macOS and Windows
        cores = len(os.sched_getaffinity(0))
    quota = cgroup_quota()
    return cores if quota is None else max(1, min(cores, int(quota)))


def cgroup_quota(root: Path = Path("/sys/fs/cgroup"), groups: Path = Path("/proc/self/cgroup")) -> float | None:
    """Cores that the control groups of this process may use together, version 2 or 1; None if there is no limit."""
    try:
        lines = [line.split(":", 2) for line in groups.read_text(encoding="utf8").splitlines()]
    except (OSError, ValueError):
        return None
    limits = []
    for fields in lines:
        if len(fields) != 3:
            continue
        _, controllers, group = fields
        if not controllers:  # version 2
            top, read = root, _quota_of_version_2
        elif "cpu" in controllers.split(","):
            top, read = root / "cpu", _quota_of_version_1
        else:
            continue
        # a container sees its own group at the top, whatever its name is outside; a limit above binds those below
        folder = top / group.strip("/")
        folders = [folder, *folder.parents]
        limits += [read(place) for place in folders[: folders.index(top) + 1]]
    return min((limit for limit in limits if limit is not None), default=None)


def _quota_of_version_2(folder: Path) -> float | None:
    with suppress(OSError, ValueError, ZeroDivisionError):  # "max" is no limit
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        return int(quota) / int(period)
    return None


def _quota_of_version_1(folder: Path) -> float | None:
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (int((folder / f"cpu.cfs_{part}_us").read_text("ascii")) for part in ("quota", "period"))
        return quota / period if quota > 0 else None
    return None


def choose_threads(asked: int | None = None) -> int:
    """Threads to compute with: what was asked for, what ``OMP_NUM_THREADS`` says, or the available cores.

    The load of the machine does not change the number, since the last bits of sums, and so of samples, hang on it;
    threads that wait passively lose little where others share the cores.

    Raises UserError if the number is out of range.
    """
    if not asked:
        with suppress(ValueError):
            asked = int(os.environ.get("OMP_NUM_THREADS", "").split(",")[0])
    threads = asked or available_cores()
    if not 1 <= threads <= MOST_THREADS:
        raise UserError(f"threads is {threads}; it must lie between 1 and {MOST_THREADS}")
    return threads


def wait_passively() -> None:
    """Let threads of OpenMP sleep while they wait for each other, unless the environment says how they wait.

    By default they spin: where others share the cores, two threads then take five times the time of one. It takes
    effect if torch is not imported yet.
    """
    global _watched
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        _watched = _use_of_cores()


def spin_if_idle() -> None:
    """Undo `wait_passively` if others have left the cores alone since: threads that spin are 1.4 times as fast there.

    For short work, since others may come. Samples are the same. Nothing is undone where it is not known what others
    do, or within a tenth of a second, and nothing helps once torch is imported.
    """
    now = _use_of_cores()
    if _watched is None or now is None or cgroup_quota() is not None:
        return
    seconds, others = (after - before for before, after in zip(_watched, now, strict=True))
    if seconds >= 0.1 and others <= _LEFT_ALONE * seconds:
        os.environ.pop("OMP_WAIT_POLICY", None)


_LEFT_ALONE = 0.2  # of one core: what others may use
_watched: tuple[float, float] | None = None  # when `wait_passively` took effect


def _use_of_cores(statistics: Path = Path("/proc/stat")) -> tuple[float, float] | None:
    """The time, and what others have used of this process's cores, in seconds; only differences mean anything."""
    try:
        cores = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        lines = [line.split() for line in statistics.read_text(encoding="ascii").splitlines()]
        ticks = sum(int(line[4]) + int(line[5]) for line in lines if line and line[0] in cores)  # idle, or waiting
        now, idle = time.monotonic(), ticks / os.sysconf("SC_CLK_TCK")
    except (AttributeError, OSError, ValueError, IndexError):  # not Linux
        return None
    return now, len(cores) * now - idle - time.process_time()


def set_threads(asked: int | None = None) -> int:
    """Let torch compute with `choose_threads`; returns the number.

    It holds for the whole process if torch is not imported yet. Else it holds for the calling thread: one that is
    started later makes its first matrix products with as many threads as OpenMP began with, unless it calls this too.
    """
    threads = choose_threads(asked)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    else:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    return threads


@contextmanager
def one_thread() -> Iterator[None]:
    """Let the calling thread compute without helpers. Other threads keep their number once they have computed."""
    import torch  # late: who looks for the cores needs none

    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def memory_size(text: str) -> int:
    """Bytes that ``500MB``, ``4GB`` or ``3.5 GiB`` are. Raises UserError if it is no amount of memory."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?) ?(?:([kmgt])(i?)b?|b)?", text.strip(), re.IGNORECASE | re.ASCII)
    size = 0
    if match is not None:
        number, prefix, binary = match.groups()
        size = round(float(number) * (1024 if binary else 1000) ** (" kmgt".index(prefix.lower()) if prefix else 0))
    if size < 1:
        raise UserError(f"{text[:40]!r} is no amount of memory: write 4GB or 500MB")
    return size


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python or torch says that memory ran out, that of a processor or of an accelerator."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    says = ("can't allocate memory", "not enough memory", "out of memory")  # of Linux, Windows, MPS
    return isinstance(error, RuntimeError) and any(words in str(error) for words in says)


class MemoryTrimmer:
    """Give freed memory back to the system at times: called often, it does so every ``every_s`` seconds.

    The C library of Linux (glibc) keeps most of what is freed, in pieces that later tensors of other sizes do not fit
    in, so that a process that runs for long grows without using more. Nothing is done under other C libraries.
    """

    def __init__(self, every_s: float = 2.0) -> None:
        self._every_s, self._due = every_s, time.monotonic() + every_s
        try:
            self._trim: Any = ctypes.CDLL(None).malloc_trim
        except (AttributeError, OSError, TypeError):
            self._trim = None

    def __call__(self) -> None:
        if self._trim is not None and time.monotonic() >= self._due:
            self._trim(0)
            self._due = time.monotonic() + self._every_s


@contextmanager
def worker_pool(
    workers: int | None = None, initializer: Callable[..., None] | None = None, initargs: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """Worker processes, by default one for each core, that end with this process however it ends."""
    from concurrent.futures import ProcessPoolExecutor  # late: speaking needs none

    with ProcessPoolExecutor(workers or available_cores(), None, _begin, (initializer, initargs)) as pool:
        yield pool


def _begin(initializer: Callable[..., None] | None, initargs: tuple[Any, ...]) -> None:
    end_with_parent()
    if initializer is not None:
        initializer(*initargs)


def end_with_parent() -> None:
    """End this worker process as soon as the process that started it is gone; otherwise it would wait for ever."""
    import multiprocessing  # late: its import takes a while, and few commands have workers

    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent, os.getppid()), daemon=True).start()


def _end_with(parent: multiprocessing.process.BaseProcess, above: int) -> None:
    # a worker that was forked holds what the end of its elder siblings' parent is seen by, hence the second sign
    while parent.is_alive() and os.getppid() == above:
        parent.join(1.0)
    os._exit(1)


# ---- what was measured ----------------------------------------------------------------------------------------------

#: Measurements that are kept; the oldest gives way.
MOST_KEPT = 100
_WAIT_S = 60.0  # for another process that is measuring


def measured_file() -> Path:
    """Where measurements of this machine are kept."""
    import platformdirs  # late: its import takes a while, and few commands measure

    return Path(platformdirs.user_cache_dir("chelys")) / "measured.json"


def kept_measurements() -> dict[str, str]:
    """What was measured on this machine, and what was found; nothing of a file that is damaged."""
    try:
        found = read_json(measured_file(), limit=1 << 18)
    except (ParseError, OSError):
        return {}
    strings = isinstance(found, dict) and all(isinstance(value, str) for value in found.values())
    return found if strings else {}


def measure_once(what: str, choices: Collection[str], measure: Callable[[], str]) -> str:
    """Which of some choices a measurement finds, or found before on this machine, in whatever process.

    ``what``: all that the result may hang on beside the processor, which is added. It is measured anew where nothing is
    kept, or can be.
    """
    from filelock import FileLock, Timeout  # late, as above

    key, file = f"{processor_name()}, {what}", measured_file()
    if (kept := kept_measurements().get(key)) in choices:
        return str(kept)
    with ExitStack() as stack:
        with suppress(OSError, Timeout):
            file.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(f"{file}.lock", timeout=_WAIT_S))
        before = kept_measurements()
        if (kept := before.pop(key, None)) in choices:  # another process was quicker
            return str(kept)
        found = measure()
        with suppress(OSError):
            write_json(file, {**dict([*before.items()][1 - MOST_KEPT :]), key: found})
    return found


def processor_name() -> str:
    """What the system calls the processor, with its family and model where Linux tells."""
    with suppress(OSError, UnicodeDecodeError):
        lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines()]
        facts = {key.strip(): value.strip() for key, _, value in reversed(lines)}
        if "model name" in facts:
            return f"{facts['model name']}, family {facts.get('cpu family')}, model {facts.get('model')}"
    return platform.processor() or platform.machine()
