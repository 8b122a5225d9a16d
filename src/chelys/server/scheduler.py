"""Who speaks next: requests share one model, sentence by sentence.

One thread samples (``CodeSampler``: the candidates of all sentences share each step), ``renderers`` others rank, render
and do whatever else needs the networks; of a small model each has a process for whole sentences (``RenderProcess``).
Nothing else touches the model. The first sentence of a text goes before all
later ones; a later sentence is the more urgent the sooner its listener has heard everything that came before it.
Sentences are rendered one at a time: a batch of them costs a processor as much, and changes their last bits. Times are
in seconds of ``time.monotonic``.

A first sentence that is to be heard early belongs to the renderers alone: they sample and render it piece by piece, and
whatever is more urgent goes between two pieces.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from chelys.errors import UserError
from chelys.inference.generation import CodeCandidate, CodeGroup, CodeSampler
from chelys.inference.rendering import SentencePlan
from chelys.inference.speech import Chunk
from chelys.inference.streaming import early_pieces
from chelys.inference.synthesizer import Synthesizer
from chelys.machine import MemoryTrimmer, available_cores, set_threads
from chelys.server.metrics import Metrics
from chelys.server.renderer import RendererLost, RenderProcess

T = TypeVar("T")

log = logging.getLogger("chelys.server")

#: Speech takes about so long for each character of its text.
SECONDS_PER_CHAR = 0.065
#: A job whose audio lies unread for so many seconds of speech waits until its client reads on.
UNREAD_SECONDS = 60.0
#: Work per character before anything was measured, seconds.
FIRST_GUESS = 0.1


class Busy(Exception):
    """There is no room for another request now; ``retry_after`` is in whole seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the server is busy: try again in {retry_after} s")
        self.retry_after = retry_after


class Stopping(Exception):
    """The server takes no more requests."""


class DeadlinePassed(Exception):
    """A request was not done within its time."""


class _Cancelled(Exception):
    """Whoever asked has gone."""


@dataclass(eq=False)
class Job:
    """A text that is being spoken. Iterate over it for its chunks, in order; ``cancel`` it to be rid of it."""

    plans: list[SentencePlan]
    deadline: float
    scheduler: Scheduler
    warnings: list[str] = field(default_factory=list)  # of the text as it was read
    early: bool = False  # whether the first sentence comes in pieces
    arrived: float = field(default_factory=time.monotonic)
    cancelled: bool = False
    next: int = 0  # sentence to sample next
    ahead: float = 0.0  # seconds of speech that are being made
    started: float | None = None  # when the first audio was there
    seconds: float = 0.0  # of audio that is there
    read: float = 0.0  # of it that the client has taken
    sent: int = 0  # sentences handed over
    waiting: dict[int, Chunk] = field(default_factory=dict)  # later sentences that were ready first

    def __post_init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Chunk | Exception | None] = asyncio.Queue()

    @property
    def urgency(self) -> tuple[int, float]:
        """Smaller is sooner."""
        if self.next == 0:
            return 0, self.arrived
        return 1, (self.started or time.monotonic()) + self.seconds + self.ahead

    def cancel(self) -> None:
        """Whoever asked has gone: free what the job holds within one step."""
        self.cancelled = True
        self.scheduler.forget(self)

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        """Raises DeadlinePassed, or what went wrong."""
        while True:
            try:
                item = await asyncio.wait_for(self._queue.get(), self.deadline - time.monotonic())
            except asyncio.TimeoutError:
                self.cancel()
                raise DeadlinePassed("the request took longer than it may") from None
            if item is None:
                return
            if isinstance(item, Exception):
                raise item
            self.read += len(item.audio) / item.sample_rate
            yield item
            self.scheduler.wake()

    def put(self, item: Chunk | Exception | None) -> None:
        """Hand something over, from any thread."""
        if not self.cancelled:
            try:
                self._loop.call_soon_threadsafe(self._queue.put_nowait, item)
            except RuntimeError:  # the loop is closed
                self.cancelled = True


@dataclass(eq=False)
class _Call:
    """Something else to be done by a thread that may use the model."""

    urgency: tuple[int, float]
    run: Callable[[], None]


class Scheduler:
    """Owns a synthesizer; ``submit`` texts to it from an event loop."""

    def __init__(
        self, synthesizer: Synthesizer, metrics: Metrics, *, max_rows: int, max_requests: int, renderers: int,
        threads: int, grace_s: float, processes: bool = False,
    ) -> None:  # fmt: skip
        self.synthesizer, self.metrics = synthesizer, metrics
        self.max_rows, self.max_requests, self.renderers, self.threads = max_rows, max_requests, renderers, threads
        self.sampler = CodeSampler(synthesizer.reader)
        self.jobs: list[Job] = []
        self.seconds_per_char = FIRST_GUESS  # that the machine needs while it is busy
        #: sentences to be rendered, and what of: their candidates, or the pieces that are left
        self._sampled: list[tuple[Job, int, CodeGroup | Iterator[Chunk]]] = []
        self._groups: dict[CodeGroup, tuple[Job, int]] = {}  # sentences that are being sampled
        self._calls: list[_Call] = []
        self._resting = 0  # renderers that have nothing to do
        self._one_core = available_cores() == 1
        self._lock = threading.Condition()
        self._grace_s, self._drained_at = grace_s, 0.0
        self._stopping = self._stopped = False
        self.processes = [RenderProcess(synthesizer, threads) for _ in range(renderers)] if processes else []
        helpers: Sequence[RenderProcess | None] = self.processes or [None] * renderers
        self._threads = [
            threading.Thread(target=self._sample, name="chelys-sampler", daemon=True),
            *(
                threading.Thread(target=self._render, args=(helper,), name=f"chelys-renderer-{i}", daemon=True)
                for i, helper in enumerate(helpers)
            ),
        ]

    def start(self) -> None:
        """Start the threads, and the processes that they render in."""
        for number, process in enumerate(self.processes):
            process.start()
            self.metrics.watch(f"chelys_renderer_{number}", process.pid)
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether all threads are at work."""
        return all(thread.is_alive() for thread in self._threads)

    def drain(self) -> None:
        """Take no more jobs."""
        self._stopping, self._drained_at = True, time.monotonic()

    async def finish(self) -> None:
        """Wait for the jobs that are left, within the grace time after ``drain``."""
        while self.jobs and time.monotonic() < self._drained_at + self._grace_s:
            await asyncio.sleep(0.05)

    def stop(self) -> None:
        """End the threads; jobs that are not done fail."""
        with self._lock:
            self._stopping = self._stopped = True
            for job in self.jobs:
                job.put(Stopping("the server was stopped"))
            self._lock.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=10)
        for process in self.processes:
            process.close()

    # ---- for the event loop -----------------------------------------------------------------------------------------

    def check_room(self) -> None:
        """Raises Busy or Stopping if another job would not be taken."""
        if self._stopping:
            raise Stopping("the server is stopping")
        if len(self.jobs) >= self.max_requests:
            pending = sum(len(plan.sentence.text) for job in self.jobs for plan in job.plans[job.sent :])
            raise Busy(max(1, min(300, round(pending * self.seconds_per_char / max(1, len(self.jobs))))))

    def submit(
        self, plans: list[SentencePlan], timeout_s: float, warnings: list[str] | None = None, *, first_codes: int = 0
    ) -> Job:
        """Speak the sentences of a text, of which there are warnings. Raises Busy or Stopping.

        ``first_codes``: of the first piece of the first sentence, which then is spoken early; 0: it is not.
        """
        self.check_room()
        job = Job(plans, time.monotonic() + timeout_s, self, warnings or [], early=first_codes > 0)
        with self._lock:
            self.jobs.append(job)
            if job.early:
                pieces = early_pieces(self.synthesizer, plans[0], first_codes, _progress(job))
                self._sampled.append((job, 0, pieces))
                job.next, job.ahead = 1, len(plans[0].sentence.text) * SECONDS_PER_CHAR
            self.metrics.requests_waiting.set(len(self.jobs))
            self._lock.notify_all()
        return job

    async def call(self, function: Callable[[], T]) -> T:
        """Run something that uses the model, between two sentences. Raises what it raises, and Stopping."""
        if self._stopping:
            raise Stopping("the server is stopping")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            try:
                result, error = function(), None
            except Exception as raised:
                result, error = None, raised
            loop.call_soon_threadsafe(_settle, future, result, error)

        with self._lock:
            self._calls.append(_Call((0, time.monotonic()), run))
            self._lock.notify_all()
        return await future

    def forget(self, job: Job) -> None:
        """Take a job off the list; its rows are freed before the next step."""
        with self._lock:
            if job in self.jobs:
                self.jobs.remove(job)
                self.metrics.requests_waiting.set(len(self.jobs))
            self._sampled = [entry for entry in self._sampled if entry[0] is not job]
            self._lock.notify_all()

    def wake(self) -> None:
        """Look again what there is to do."""
        with self._lock:
            self._lock.notify_all()

    # ---- the sampling thread ----------------------------------------------------------------------------------------

    def _sample(self) -> None:
        set_threads(self.threads)
        trim_memory = MemoryTrimmer()
        while not self._stopped:
            trim_memory()
            with self._lock:
                while not (self._stopped or self._next_job() or self._groups or self._surplus()):
                    self._lock.wait(timeout=1.0)
            if self._stopped:
                return
            try:
                self._admit()
                if self._backlogged() or (not self._groups and self._surplus()):  # help the renderers
                    self._render_one()
                elif self._groups:
                    self._step()
            except Exception as error:  # a fault: those who were in it are told, the others go on
                self._fail_all(error)

    def _backlogged(self) -> bool:
        """Whether more is sampled than the renderers keep up with."""
        return len(self._sampled) > 2 * self.renderers

    def _surplus(self) -> bool:
        """Whether a sentence is sampled that no renderer is free for."""
        return len(self._sampled) > self._resting

    def _next_job(self) -> Job | None:
        """Whose sentence to sample next; None if there is none, or it has to wait.

        While the first sentence of a text is sampled, or rendered by the same core, the later ones would only make it
        slower.
        """
        begun = {job for job, number in self._groups.values() if number == 0}

        def waits(job: Job) -> bool:
            if job.early:
                return job.sent == 0 if self._one_core else job.started is None
            return job in begun or (self._one_core and job.next > 0 and job.started is None)

        ready = [
            job for job in self.jobs
            if job.next < len(job.plans) and not job.cancelled and job.seconds - job.read < UNREAD_SECONDS
            and not waits(job)
        ]  # fmt: skip
        return min(ready, key=lambda job: job.urgency) if ready else None

    def _admit(self) -> None:
        """Let sentences join while there is room for all their candidates, one at least."""
        for group, (owner, _) in list(self._groups.items()):
            if owner.cancelled:
                self.sampler.leave(group)
                del self._groups[group]
        while not self._backlogged():
            with self._lock:
                if (job := self._next_job()) is None:
                    break
                plan = job.plans[job.next]
                rows = self.sampler.rows
                if rows and rows + len(plan.generators) > self.max_rows:
                    break
                number, job.next = job.next, job.next + 1
                job.ahead += len(plan.sentence.text) * SECONDS_PER_CHAR
            try:
                rules = self.synthesizer.family.decoding_rules(plan.options)
                group = self.sampler.join(plan.prompt, plan.options, plan.generators, rules)
                self._groups[group] = job, number
            except Exception as error:
                self._fail(job, error)
        self.metrics.rows.set(self.sampler.rows)

    def _step(self) -> None:
        self.metrics.steps.inc()
        self.metrics.stepped_rows.inc(self.sampler.rows)
        finished = self.sampler.step()
        self.metrics.rows.set(self.sampler.rows)
        if finished:
            with self._lock:
                for group in finished:
                    job, number = self._groups.pop(group)
                    if not job.cancelled:
                        self._sampled.append((job, number, group))
                self._lock.notify_all()

    def _fail_all(self, error: Exception) -> None:
        log.exception("sampling failed", exc_info=error)
        for group, (job, _) in list(self._groups.items()):
            self.sampler.leave(group)
            self._fail(job, error)
        self._groups.clear()
        self.metrics.rows.set(0)

    # ---- the rendering threads --------------------------------------------------------------------------------------

    def _render(self, process: RenderProcess | None) -> None:
        """Render what is sampled; in the process, as soon as it is ready."""
        set_threads(self.threads)
        while not self._stopped:
            with self._lock:
                self._resting += 1
                while not self._stopped and not self._sampled and not self._calls:
                    self._lock.wait(timeout=1.0)
                self._resting -= 1
            if not self._stopped:
                self._render_one(process)

    def _render_one(self, process: RenderProcess | None = None) -> None:
        """Render the most urgent sentence, or make the most urgent call."""
        with self._lock:
            choices: list[tuple[tuple[float, ...], Any]] = [(call.urgency, call) for call in self._calls]
            for entry in self._sampled:
                job, number, _ = entry
                dry = (job.started or job.arrived) + job.seconds  # of a first sentence: when its next piece is due
                choices.append(((0, dry) if number == 0 else (1, dry, number), entry))
            if not choices:
                return
            chosen = min(choices, key=lambda choice: choice[0])[1]
            (self._calls if isinstance(chosen, _Call) else self._sampled).remove(chosen)
            self._lock.notify_all()  # there is room for another
        if isinstance(chosen, _Call):
            chosen.run()
            return
        job, number, work = chosen
        begun = time.monotonic()
        try:
            if isinstance(work, CodeGroup):
                chunk = self._finish(job, job.plans[number], work.candidates, process)
            else:
                chunk = next(work)
        except _Cancelled:
            return
        except Exception as error:
            self._fail(job, error)
            return
        self.metrics.render_seconds.observe(time.monotonic() - begun)
        self._deliver(job, number, chunk)
        if not chunk.complete:
            with self._lock:
                if not job.cancelled:
                    self._sampled.append(chosen)
                self._lock.notify_all()

    def _finish(
        self, job: Job, plan: SentencePlan, candidates: list[CodeCandidate], process: RenderProcess | None
    ) -> Chunk:
        progress = _progress(job)
        if process is not None and process.ready and plan.redaction is None:
            progress("rendering", 0, 1)
            try:
                return process.finish(plan, candidates, latents=self.synthesizer.keeps_latents(plan))
            except RendererLost:
                pass
        return self.synthesizer.finish(plan, candidates, progress)

    def _deliver(self, job: Job, number: int, chunk: Chunk) -> None:
        """Hand over a sentence, and those after it that were ready before; or a piece of the first."""
        with self._lock:
            now = time.monotonic()
            if chunk.complete:
                job.ahead -= len(job.plans[number].sentence.text) * SECONDS_PER_CHAR
            job.waiting[number] = chunk
            while job.sent in job.waiting:
                ready = job.waiting.pop(job.sent)
                job.started = job.started or now
                job.seconds += len(ready.audio) / ready.sample_rate
                job.sent += ready.complete
                job.put(ready)
            done = job.sent == len(job.plans)
            if done and job in self.jobs:
                self.jobs.remove(job)
                job.put(None)
                spent = (now - job.arrived) / sum(len(plan.sentence.text) for plan in job.plans)
                self.seconds_per_char += 0.1 * (spent - self.seconds_per_char)
            self.metrics.requests_waiting.set(len(self.jobs))
            self._lock.notify_all()  # later sentences may join now
        self.metrics.audio_seconds.inc(len(chunk.audio) / chunk.sample_rate)

    def _fail(self, job: Job, error: Exception) -> None:
        if not isinstance(error, UserError):
            log.error("a sentence failed", exc_info=error)
        job.put(error)
        job.cancelled = True
        self.forget(job)


def _progress(job: Job) -> Callable[[str, int, int], None]:
    """What ends the work for a client that has gone."""

    def progress(stage: str, done: int, total: int) -> None:
        if job.cancelled:
            raise _Cancelled

    return progress


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.cancelled():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
