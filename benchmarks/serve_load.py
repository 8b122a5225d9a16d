"""How much speech ``chelys serve`` makes, and how soon, with many clients at a time.

    python benchmarks/serve_load.py --clients 1 4 16 64 --requests 12 30 64 80 --out load.json

Starts a server of its own unless ``--url`` names one. Each client asks for one text after the other, of one to five
sentences, each text with a seed of its own; one that is refused with 429 waits as it is told and asks again. First
audio is timed from the attempt that was taken. Needs ``chelys[server]`` and httpx.

``--alone THREADS`` has no server: ``Synthesizer.speak`` says the first texts one after the other. ``--first`` times the
first audio of a short and of a long sentence that nobody else disturbs.

``--soak SECONDS`` is the last mode: requests come twice as fast as they are answered (by one client beforehand, in the
last five minutes later on), and those that are refused are not sent again. ``--out`` has what is known so far at any
time. It fails if a request is neither answered nor refused, if its bytes are others than those of the first answer to
the same request, or if the memory, a mean of each half minute, grows by more than five per cent after the first ten
minutes. The same request gives the same bytes before and after.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from chelys.evaluation.sets import read_texts

RATE = 24_000
FIRST = (
    "Yes, of course. They walked home along the river.",
    "The old boat drifted past the mill, and nobody who stood there on the bank in the cold could say where it came "
    "from, or why its lamp was lit. They walked home along the river.",
)
SENTENCES = [text.text for text in read_texts("harvard")]


def texts(count: int) -> list[str]:
    """Texts of one to five sentences, always the same."""
    lines = SENTENCES
    made, at = [], 0
    for number in range(count):
        length = (1, 3, 2, 5, 1, 4)[number % 6]
        made.append(" ".join(lines[(at + i) % len(lines)] for i in range(length)))
        at += length
    return made


@dataclass
class Result:
    """What became of the requests of one run."""

    first: list[float] = field(default_factory=list)  # seconds to the first audio, from the attempt that was taken
    whole: list[float] = field(default_factory=list)
    audio: float = 0.0  # seconds
    done: list[float] = field(default_factory=list)  # when each was answered, ``time.monotonic``
    refused: int = 0  # answers 429
    wrong: list[str] = field(default_factory=list)
    digests: dict[int, str] = field(default_factory=dict)  # text -> digest of its samples


async def ask(client: httpx.AsyncClient, number: int, text: str, preset: str, result: Result, *, again: bool) -> None:
    """One request; ``again``: until it is taken."""
    body = {"model": "tts-1", "input": text, "seed": number, "response_format": "pcm", "preset": preset}
    while True:
        begun, first, digest, size = time.monotonic(), None, hashlib.sha256(), 0
        try:
            async with client.stream("POST", "/v1/audio/speech", json=body) as answer:
                if answer.status_code == 429:
                    result.refused += 1
                    await answer.aread()
                    if not again:
                        return
                    await asyncio.sleep(float(answer.headers["retry-after"]))
                    continue
                if answer.status_code != 200:
                    result.wrong.append(f"{number}: {answer.status_code} {(await answer.aread())[:200]!r}")
                    return
                async for data in answer.aiter_bytes():
                    first = first or time.monotonic() - begun
                    digest.update(data)
                    size += len(data)
        except httpx.HTTPError as error:
            result.wrong.append(f"{number}: lost, {error!r}")
            return
        result.first.append(first or 0.0)
        result.whole.append(time.monotonic() - begun)
        result.done.append(time.monotonic())
        result.audio += size / 2 / RATE
        if result.digests.setdefault(number, digest.hexdigest()) != digest.hexdigest():
            result.wrong.append(f"{number}: other samples than before")
        return


async def run(url: str, clients: int, requests: int, preset: str, known: dict[int, str]) -> tuple[Result, float]:
    """So many requests by so many clients; the seconds it took."""
    result, waiting = Result(digests=known), list(enumerate(texts(requests)))[::-1]
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=3600, limits=limits) as client:

        async def work() -> None:
            while waiting:
                number, text = waiting.pop()
                await ask(client, number, text, preset, result, again=True)

        begun = time.monotonic()
        await asyncio.gather(*(work() for _ in range(clients)))
        return result, time.monotonic() - begun


async def soak(
    url: str, seconds: float, preset: str, rate: float, known: dict[int, str], report: Callable[[dict[str, Any]], None]
) -> None:
    """Ask for so long; see the head of this file for what is checked. ``rate``: answers a second at the begin.

    ``known``: digest of the first text's samples; ``report``: called each half minute, and at the end.
    """
    result, listed, memory, sent = Result(digests=known), texts(24), list[tuple[float, float]](), 0
    settle, window = min(600.0, seconds / 6), min(300.0, seconds / 6)
    async with httpx.AsyncClient(base_url=url, timeout=7200, limits=httpx.Limits(max_connections=None)) as client:
        begun = time.monotonic()
        until = begun + seconds
        asking = set[asyncio.Task[None]]()

        def state() -> dict[str, Any]:
            settled = [value for at, value in memory if at >= settle]
            growth = max(settled) / max(settled[: max(1, len(settled) // 10)]) - 1 if settled else 0.0
            in_work = sum(not task.done() for task in asking)
            lost = sent - len(result.done) - result.refused - len(result.wrong) - in_work
            return {
                "seconds": round(time.monotonic() - begun), "sent": sent, "answered": len(result.done),
                "refused": result.refused, "in_work": in_work, "lost": lost, "wrong": result.wrong,
                "audio_seconds": round(result.audio, 1), "rate": round(rate, 4), "memory_growth": round(growth, 4),
                "memory_mb": [round(value / 1e6) for _, value in memory],
            }  # fmt: skip

        async def watch() -> None:
            step = min(30.0, seconds / 60)
            while time.monotonic() < until:
                at, seen = time.monotonic() - begun, list[float]()
                for _ in range(6):  # it rises and falls with every sentence
                    seen.append(await asyncio.to_thread(resident, url))
                    await asyncio.sleep(step / 6)
                memory.append((at, sum(seen) / len(seen)))
                report({**state(), "passed": False})

        watching = asyncio.ensure_future(watch())
        while (now := time.monotonic()) < until:
            number = sent % len(listed)
            asking.add(task := asyncio.ensure_future(ask(client, number, listed[number], preset, result, again=False)))
            task.add_done_callback(asking.discard)
            sent += 1
            if now > begun + window:  # the machine may have others to serve, too: what it manages now is the capacity
                rate = max(sum(at > now - window for at in result.done), 1) / window
            await asyncio.sleep(0.5 / rate)
        await asyncio.gather(*asking, watching)
        at_last = state()
        again = Result()
        await ask(client, 0, listed[0], preset, again, again=True)
        same = again.digests == {0: known[0]}  # bytes as at the begin
        passed = not result.wrong and at_last["lost"] == 0 and at_last["memory_growth"] <= 0.05 and same
        report({**at_last, "same_bytes_after": same, "passed": passed})


def metric(url: str, name: str) -> float:
    """A metric of the server; of its processes together, where it is one of a process."""
    found = re.findall(rf"^(?:\w+_\d+_)?{name} (\S+)$", httpx.get(f"{url}/metrics", timeout=600).text, re.MULTILINE)
    assert found, name
    return sum(map(float, found))


def resident(url: str) -> float:
    """Memory of the server's processes, bytes."""
    return metric(url, "process_resident_memory_bytes")


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, round(share * (len(values) - 1)))]


def measure(url: str, clients: int, requests: int, preset: str, known: dict[int, str]) -> dict[str, Any]:
    counters = ("process_cpu_seconds_total", "chelys_decoder_steps_total", "chelys_decoder_row_steps_total")
    before = [metric(url, name) for name in counters]
    result, spent = asyncio.run(run(url, clients, requests, preset, known))
    busy, steps, rows = (metric(url, name) - value for name, value in zip(counters, before, strict=True))
    return {
        "clients": clients, "requests": len(result.done), "refused": result.refused, "wrong": result.wrong,
        "rows_a_step": round(rows / steps, 1),
        "audio_seconds": round(result.audio, 1), "audio_per_second": round(result.audio / spent, 3),
        "audio_per_cpu_second": round(result.audio / busy, 3), "cores_used": round(busy / spent, 2),
        "first_50": round(percentile(result.first, 0.5), 2), "first_95": round(percentile(result.first, 0.95), 2),
        "whole_50": round(percentile(result.whole, 0.5), 2), "whole_95": round(percentile(result.whole, 0.95), 2),
        "memory_mb": round(resident(url) / 1e6), "load_average": round(os.getloadavg()[0], 1),
    }  # fmt: skip


def alone(requests: int, preset: str) -> dict[str, Any]:
    import torch

    import chelys

    tts = chelys.load()
    tts.speak("Hello.", preset=preset)  # warm
    begun, busy = time.perf_counter(), time.process_time()
    audio = sum(len(tts.speak(text, seed=i, preset=preset).audio) / RATE for i, text in enumerate(texts(requests)))
    spent, busy = time.perf_counter() - begun, time.process_time() - busy
    return {
        "threads": torch.get_num_threads(), "requests": requests, "audio_seconds": round(audio, 1),
        "audio_per_second": round(audio / spent, 3), "audio_per_cpu_second": round(audio / busy, 3),
        "load_average": round(os.getloadavg()[0], 1), "wrong": [],
    }  # fmt: skip


def first(url: str, preset: str) -> dict[str, Any]:
    row: dict[str, Any] = {"preset": preset, "wrong": []}
    for text in FIRST:
        result = Result()
        for number in range(7):
            asyncio.run(_first(url, number, text, preset, result))
        row["wrong"] += result.wrong
        row[f"first_{len(text)}_chars"] = [round(min(result.first), 2), round(percentile(result.first, 0.5), 2)]
    return row


async def _first(url: str, number: int, text: str, preset: str, result: Result) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=600) as client:
        await ask(client, number, text, preset, result, again=True)
    result.digests.clear()


def start(options: list[str]) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "chelys", "serve", "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().rsplit(" ", 1)[1].strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--url", help="of a running server; else one is started")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--requests", type=int, nargs="+", default=[12, 30, 64, 80], help="of each number of clients")
    parser.add_argument("--alone", type=int, metavar="THREADS")
    parser.add_argument("--first", action="store_true")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--soak", type=float, help="seconds")
    parser.add_argument("--out", type=Path, help="JSON lines")
    parser.add_argument("--serve", nargs=argparse.REMAINDER, default=[], help="options of the server that is started")
    asked = parser.parse_args()
    if not (asked.alone or asked.first or asked.soak) and len(asked.clients) != len(asked.requests):
        parser.error("give as many --requests as --clients")
    if asked.alone:
        os.environ |= {"OMP_NUM_THREADS": str(asked.alone), "OMP_WAIT_POLICY": "PASSIVE"}
        print(json.dumps(alone(asked.requests[0], asked.preset)))
        return
    process, url = (None, asked.url) if asked.url else start(asked.serve)
    try:
        known: dict[int, str] = {}
        warm, spent = asyncio.run(run(url, 1, 1 if asked.soak else 2, asked.preset, known))
        if asked.first:
            rows = [first(url, asked.preset)]
        elif asked.soak:
            rows = [{}]

            def report(row: dict[str, Any]) -> None:
                rows[0] = row
                print(json.dumps({**row, "memory_mb": row["memory_mb"][-1]}), flush=True)
                if asked.out:
                    asked.out.write_text(json.dumps(row) + "\n")

            asyncio.run(soak(url, asked.soak, asked.preset, len(warm.done) / spent, known, report))
        else:
            rows = []
            for clients, requests in zip(asked.clients, asked.requests, strict=True):
                rows.append(measure(url, clients, requests, asked.preset, known))
                print(json.dumps(rows[-1]), flush=True)
        if asked.first:
            print(json.dumps(rows[0]), flush=True)
        if asked.out:
            asked.out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    finally:
        if process is not None:
            process.send_signal(signal.SIGTERM)
            process.wait()
    sys.exit(any(row["wrong"] or not row.get("passed", True) for row in rows))


if __name__ == "__main__":
    main()
