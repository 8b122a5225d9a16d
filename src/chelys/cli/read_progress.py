"""What ``chelys read`` prints: how far it is, and what was made in the end."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chelys.cli.console import echo, warn
from chelys.errors import printable_line

if TYPE_CHECKING:
    from chelys.audiobook.narrate import Made, OnLine, OnWrite
    from chelys.audiobook.script import Script

#: So many warnings of one kind are given.
MOST_WARNINGS = 8


@contextmanager
def progress(script: Script, *, as_json: bool, quiet: bool) -> Iterator[tuple[OnLine | None, OnWrite | None]]:
    """What shows how far a reading is: events on standard output, a bar on standard error, or nothing."""
    if as_json:
        yield _events(script), None
    elif quiet or sys.stderr is None or not sys.stderr.isatty():
        yield None, None
    else:
        with _bar(script) as shown:
            yield shown


def _events(script: Script) -> OnLine:
    titles = {number: chapter.title for number, chapter in script.chapters}

    def event(line: Any, spoken: Any, seconds: float) -> None:
        about = {
            "event": "sentence", "place": line.place, "chapter": titles[line.chapter], "text": line.sentence.text,
            "seconds": round(seconds, 3), "computed": list(spoken.computed),
        }  # fmt: skip
        print(json.dumps(about), flush=True)

    return event


@contextmanager
def _bar(script: Script) -> Iterator[tuple[OnLine, OnWrite]]:
    """A bar with chapter, sentence, time left and real-time factor."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    sizes = {number: script.size(number, chapter) for number, chapter in script.chapters}
    total = sum(size.symbols for size in sizes.values())
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total, left="")
        pace = _Pace(total)

        def update(line: Any, spoken: Any, seconds: float) -> None:
            left, factor = pace.after(len(line.sentence.phonemes), seconds, computed=bool(spoken.computed))
            about = f"chapter {line.chapter}, sentence {line.number}/{sizes[line.chapter].sentences}"
            known = f"{clock(left)} left, real-time factor {factor:.2f}" if left is not None else ""
            progress.update(task, advance=len(line.sentence.phonemes), description=about, left=known)

        def write(path: Path, share: float) -> None:
            progress.update(task, description=f"writing {printable_line(path.name)}", left=f"{share:.0%}")

        yield update, write


class _Pace:
    """How fast work goes, by the sentences that were computed; those of the store take no time."""

    def __init__(self, symbols: int) -> None:
        self._left = symbols
        self._last_s, self._last_sound = time.monotonic(), 0.0
        self._work_s = self._sound_s = 0.0
        self._symbols = 0

    def after(self, symbols: int, sound_s: float, *, computed: bool) -> tuple[float | None, float]:
        """Seconds left, None if not known yet, and the real-time factor, after one more sentence."""
        now = time.monotonic()
        if computed:
            self._work_s += now - self._last_s
            self._sound_s += sound_s - self._last_sound
            self._symbols += symbols
        self._last_s, self._last_sound = now, sound_s
        self._left -= symbols
        if not self._symbols:
            return None, 0.0
        return self._left * self._work_s / self._symbols, self._work_s / max(self._sound_s, 1e-9)


def report(made: Made, spent: float, *, as_json: bool, quiet: bool) -> None:
    """Print what was made, and what is beyond the limits of ACX."""
    beyond = [limit for levels in made.levels for limit in levels.beyond_acx()]
    if as_json:
        levels = [
            {**{name: round(value, 2) if math.isfinite(value) else None for name, value in asdict(one).items()},
             "beyond_acx": one.beyond_acx()}
            for one in made.levels
        ]  # fmt: skip
        print(json.dumps({
            "event": "made", "files": [str(file) for file in made.files], "seconds": round(made.seconds, 3),
            "sentences": made.sentences, "computed": made.computed, "work_seconds": round(spent, 3), "levels": levels,
        }))  # fmt: skip
        return
    for line in beyond[:MOST_WARNINGS]:
        warn(f"beyond the limits of ACX: {line}")
    if quiet:
        return
    for file in made.files:
        echo(str(file))
    known = "" if made.computed == made.sentences else f", {made.sentences - made.computed} of the store"
    one = made.levels[0]
    echo(
        f"{clock(made.seconds)} of sound, {made.sentences} sentences{known}, real-time factor "
        f"{spent / max(made.seconds, 1e-9):.2f}; {one.loudness:.1f} LUFS, peak {one.peak:.1f} dB, RMS {one.rms:.1f} dB"
    )


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
