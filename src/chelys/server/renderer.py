"""A renderer in a process of its own.

Threads of one process take turns at the interpreter, which each operator of a network needs for some microseconds;
processes do not, which small networks feel (docs/serving.md has the measurement). This one has the model once more, and
makes of a sentence and its candidates what ``Synthesizer.finish`` makes of them here, to the bit. It ends with the
process that started it.
"""

from __future__ import annotations

import logging
import multiprocessing
import pickle
import signal
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from chelys.errors import UserError
from chelys.inference.generation import CodeCandidate
from chelys.inference.rendering import SentencePlan
from chelys.inference.speech import Chunk
from chelys.inference.synthesizer import Synthesizer
from chelys.machine import MemoryTrimmer, end_with_parent, set_threads

log = logging.getLogger("chelys.server")

#: Bytes of weights up to which a model is worth having twice.
MAX_WEIGHTS = 200_000_000
#: Seconds that it has to end by itself.
END_S = 2.0


class RendererLost(Exception):
    """The process has ended."""


@dataclass(frozen=True)
class _Setting:
    """How the process loads the model."""

    folder: Path
    dtype: torch.dtype
    compat: str
    max_memory: int | None
    threads: int


class RenderProcess:
    """One process, used by one thread. ``ready`` says whether it has loaded the model."""

    def __init__(self, synthesizer: Synthesizer, threads: int) -> None:
        model, compat = synthesizer.model, synthesizer.family.compat
        self._setting = _Setting(model.folder, model.dtype, compat, synthesizer.max_memory, threads)
        self._pipe: Connection | None = None
        self._process: Any = None
        self.pid = 0
        self._loaded = False

    @staticmethod
    def worthwhile(synthesizer: Synthesizer) -> bool:
        """Whether a model is small enough, and computes on the processor."""
        folder = synthesizer.model.folder
        if synthesizer.device.type != "cpu" or not folder.is_dir():
            return False
        return sum(file.stat().st_size for file in folder.glob("*.safetensors")) <= MAX_WEIGHTS

    def start(self) -> None:
        """Begin to load the model; ``pid`` is then the number of the process."""
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may stand still
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, self._setting), name="chelys-renderer", daemon=True)
        self._process.start()
        theirs.close()
        self.pid = int(self._process.pid)

    @property
    def ready(self) -> bool:
        """Whether it takes sentences."""
        if self._pipe is None:
            return False
        if not self._loaded:
            try:
                self._loaded = self._pipe.poll() and self._pipe.recv_bytes() == b"ready"
            except (EOFError, OSError):
                self._lose()
        return self._loaded

    def finish(self, plan: SentencePlan, candidates: Sequence[CodeCandidate], *, latents: bool) -> Chunk:
        """``Synthesizer.finish`` of a sentence. Raises what that raises, and RendererLost.

        ``latents``: whether it reads those of the candidates.
        """
        if self._pipe is None:
            raise RendererLost
        codes = [
            (one.codes, one.stopped, torch.stack(one.latents) if latents and one.latents else None)
            for one in candidates
        ]
        bare = replace(plan, voice=replace(plan.voice, clips=()), generators=[])
        # torch (2.13) leaks 3 kB with each generator that is unpickled
        states = [generator.get_state() for generator in plan.generators]
        try:
            self._pipe.send_bytes(pickle.dumps((bare, states, codes), protocol=5))
            done, result = pickle.loads(self._pipe.recv_bytes())
        except (EOFError, OSError) as error:
            self._lose()
            raise RendererLost from error
        if not done:
            raise result
        found: Chunk = result
        return found

    def _lose(self) -> None:
        log.error("a renderer's process has ended: the server goes on in its own")
        self.close()

    def close(self) -> None:
        """End the process."""
        if self._pipe is not None:
            self._pipe.close()  # which ends it, after the sentence that it is at
            self._process.join(END_S)
            self._process.kill()
            self._pipe, self._loaded = None, False


def _work(pipe: Connection, setting: _Setting) -> None:
    """Render what comes through the pipe until it is closed."""
    end_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM):  # a terminal or systemd tells all processes: the server decides
        signal.signal(number, signal.SIG_IGN)
    set_threads(setting.threads)
    synthesizer = Synthesizer.from_folder(setting.folder, dtype=setting.dtype, compat=setting.compat)
    synthesizer.max_memory = setting.max_memory
    answer, trim_memory = b"ready", MemoryTrimmer()
    while True:
        try:
            pipe.send_bytes(answer)
            plan, states, codes = pickle.loads(pipe.recv_bytes())
        except (EOFError, OSError):  # the pipe is closed
            return
        candidates = [
            CodeCandidate(c, stopped, () if latents is None else tuple(latents)) for c, stopped, latents in codes
        ]
        try:
            plan = replace(plan, generators=[torch.Generator().set_state(state) for state in states])
            result: tuple[bool, Any] = (True, synthesizer.finish(plan, candidates))
        except UserError as error:
            result = (False, UserError(str(error)))
        except Exception:
            result = (False, RuntimeError(traceback.format_exc()))
        answer = pickle.dumps(result, protocol=5)
        trim_memory()
