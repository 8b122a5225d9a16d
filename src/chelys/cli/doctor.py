"""``chelys doctor``: what chelys found on this machine, and whether it speaks."""

from __future__ import annotations

import json
import os
import platform
import re
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import typer

from chelys.cli.console import DeviceOption, DtypeOption, JsonOption, ModelOption, ThreadsOption, echo, load_model
from chelys.errors import UserError, first_line

HELP = "Show versions, devices, threads and folders, and speak a test; exit status 1 if something is wrong."
EXAMPLE = "Example: chelys doctor --json"

_MISSING = "not installed"
TEST_TEXT, TEST_SEED = "Hello there.", 1
PACKAGES = ("torch", "numpy", "tokenizers", "safetensors", "soundfile", "soxr", "huggingface_hub")


def doctor(
    model: ModelOption = "nano",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at each part by itself, so that one that fails does not hide the others."""
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "versions": _versions,
        "devices": _devices,
        "threads": lambda: _threads(threads),
        "folders": lambda: _folders(model),
        "test": lambda: _spoken(model, device, dtype, threads),
    }
    report: dict[str, dict[str, Any]] = {}
    problems = []
    for name, look in parts.items():
        try:
            report[name] = look()
        except (UserError, OSError, ImportError, RuntimeError) as error:
            report[name] = {"problem": first_line(error)}
        problems += [f"{name}: {value}" for key, value in report[name].items() if key.startswith("problem")]
    if as_json:
        echo(json.dumps({**report, "problems": problems}, indent=2))
    else:
        for name, found in report.items():
            echo(name)
            for key, value in found.items():
                echo(f"  {key:16} {value}")
        echo(f"problems: {'; '.join(problems)}" if problems else "no problems found")
    raise typer.Exit(1 if problems else 0)


def _versions() -> dict[str, Any]:
    found = {"chelys": _version("chelys"), "Python": platform.python_version(), "system": platform.platform()}
    found |= {name: _version(name) for name in PACKAGES}
    import soundfile

    found["libsndfile"] = soundfile.__libsndfile_version__
    found["extras"] = ", ".join(_extras()) or "none"
    return found


def _extras() -> list[str]:
    """Extras of which every package is installed."""
    needs: dict[str, list[str]] = {}
    try:
        for requirement in requires("chelys") or []:
            name, extra = re.match(r"[\w.-]+", requirement), re.search(r"extra == ['\"](\w+)['\"]", requirement)
            if name and extra and name[0] != "chelys":
                needs.setdefault(extra[1], []).append(name[0])
    except PackageNotFoundError:  # run from its source folder
        return []
    return [extra for extra, names in needs.items() if all(_version(name) != _MISSING for name in names)]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return _MISSING


def _devices() -> dict[str, Any]:
    import torch

    from chelys.machine import kept_measurements
    from chelys.weights.checks import best_device, best_dtype, free_memory, gigabytes

    chosen = best_device()
    found: dict[str, Any] = {"auto": f"{chosen}, whose fastest dtype is {best_dtype(chosen)}"}
    found["cpu"] = f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        found[f"cuda:{number}"] = f"{about.name}, {gigabytes(about.total_memory)}"
    if torch.backends.mps.is_available():
        found["mps"] = "there"
    if kept := kept_measurements():
        found["measured"] = "; ".join(f"{what}: {which}" for what, which in kept.items())
    memory = free_memory()
    found["free memory"] = "unknown" if memory is None else gigabytes(memory)
    return found


def _threads(asked: int | None) -> dict[str, Any]:
    from chelys.machine import available_cores, cgroup_quota, choose_threads

    quota = cgroup_quota()
    found: dict[str, Any] = {"cores": os.cpu_count(), "available": available_cores()}
    found["quota"] = "none" if quota is None else f"{quota:g} cores"
    if hasattr(os, "getloadavg"):
        found["load"] = f"{os.getloadavg()[0]:.1f}"
    found["chelys takes"] = choose_threads(asked)
    return found


def _folders(model: str) -> dict[str, Any]:
    from chelys.inference.voice_files import list_user_voices, user_folder
    from chelys.weights.catalog import find_model

    found: dict[str, Any] = {"model": str(find_model(model))}
    found["your voices"] = f"{user_folder()} ({len(list_user_voices())})"
    existing = next(path for path in (user_folder(), *user_folder().parents) if path.exists())
    if not os.access(existing, os.W_OK):
        found["problem voices"] = f"{existing} cannot be written: set CHELYS_VOICES to another folder"
    found["temporary"] = tempfile.gettempdir()
    found["here"] = str(Path.cwd()) if os.access(".", os.W_OK) else f"{Path.cwd()}, where nothing can be written"
    return found


def _spoken(model: str, device: str, dtype: str, threads: int | None) -> dict[str, Any]:
    """Load, speak, and look at the sound."""
    import numpy as np

    began = time.perf_counter()
    synthesizer = load_model(model, device, dtype=dtype, threads=threads)
    loaded = time.perf_counter()
    speech = synthesizer.speak(TEST_TEXT, preset="ultra_fast", seed=TEST_SEED)
    spoken = time.perf_counter()
    found: dict[str, Any] = {"loading": f"{loaded - began:.2f} s"}
    found["speaking"] = f"{speech.seconds:.2f} s of sound in {spoken - loaded:.2f} s, ultra_fast"
    level = float(np.sqrt(np.mean(np.square(speech.audio, dtype=np.float64))))
    found["level"] = f"{20 * np.log10(max(level, 1e-9)):.0f} dB below full scale"
    if not np.isfinite(speech.audio).all() or level < 1e-3:
        found["problem"] = "the test sentence is silent or no sound: get the model again"
    return found
