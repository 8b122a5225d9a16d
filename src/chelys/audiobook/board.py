"""The board: one static page with the takes of a book's sentences, to listen to and to choose from.

It needs no server and loads nothing: sounds are in it (MP3), waveforms are drawn as paths, and choices are saved as a
file that ``chelys read`` follows (``choices``).
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from chelys.audio.io import to_bytes
from chelys.audio.rates import OUTPUT_RATE
from chelys.audiobook.choices import FORM
from chelys.audiobook.stages import SentenceRenderer, SentenceRequest, Take, numbered
from chelys.audiobook.verify import Verifier

if TYPE_CHECKING:
    from chelys.audiobook.script import Line, Script

_COLUMNS, _HALF = 240, 20  # of a waveform, and half of its height


@dataclass(frozen=True)
class Shown:
    """A sentence of the board."""

    line: Line
    takes: list[Take]  # the one that is in the book first
    chapter: str

    @property
    def doubted(self) -> bool:
        """Whether its take may be wrong."""
        verdict = self.takes[0].verdict
        return verdict is not None and (not verdict.passed or bool(verdict.suspicious))


def shown(
    renderer: SentenceRenderer, seed: int, script: Script, *, count: int = 3, all_sentences: bool = False
) -> Iterator[Shown | None]:
    """The sentences of a book with some takes of each; None for those whose take is in no doubt, unless all are asked.

    Other takes are looked up, or rendered from kept codes; only what is in no store is sampled.
    """
    judge = renderer.verify or Verifier(script.tts)
    titles = {number: chapter.title for number, chapter in script.chapters}
    lines = list(script.all_lines())
    asked = numbered(SentenceRequest(one.sentence, script.speaker, seed, script.options) for one in lines)
    for line, request in zip(lines, asked, strict=True):
        [take] = renderer.takes([request])
        one = Shown(line, [_judged(renderer, judge, request, take)], titles[line.chapter])
        if not all_sentences and not one.doubted:
            yield None
            continue
        others = [
            _judged(renderer, judge, request, other)
            for other in renderer.alternatives(request, count)
            if other.candidate != take.candidate
        ]
        yield replace(one, takes=[*one.takes, *others[: count - 1]])


def _judged(renderer: SentenceRenderer, judge: Verifier, request: SentenceRequest, take: Take) -> Take:
    """A take with a verdict, at least of what is built in."""
    if take.verdict is not None or take.candidate < 0:
        return take
    return replace(take, verdict=renderer.verdict(judge, request, take))


def page(title: str, file: str, choices_name: str, sentences: list[Shown], total: int, kept: dict[str, int]) -> str:
    """The page. ``kept``: choices that were made before; ``total``: sentences of the book."""
    import jinja2

    template = resources.files("chelys.audiobook").joinpath("board.html").read_text(encoding="utf8")
    made = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    return made.from_string(template).render(
        title=title, file=file, choices_name=choices_name, total=total, kept=kept, form=FORM,
        sentences=[_sentence(one) for one in sentences],
    )  # fmt: skip


def _sentence(one: Shown) -> dict[str, Any]:
    verdict = one.takes[0].verdict
    suspicious = set(verdict.suspicious) if verdict else set()
    spoken, written = [word.text for word in one.takes[0].words], one.line.sentence.text.split()
    words = written if len(written) == len(spoken) or not suspicious else spoken
    return {
        "key": one.takes[0].sentence_key, "place": one.line.place, "order": one.line.chapter, "chapter": one.chapter,
        "words": [{"text": word, "doubted": place in suspicious} for place, word in enumerate(words)],
        "reasons": verdict.reasons if verdict else (), "takes": [_shown_take(take) for take in one.takes],
    }  # fmt: skip


def _shown_take(take: Take) -> dict[str, Any]:
    sound = base64.b64encode(to_bytes(take.audio, OUTPUT_RATE, "mp3")).decode()
    verdict = take.verdict
    return {
        "candidate": take.candidate, "seconds": round(take.seconds, 2), "sound": f"data:audio/mpeg;base64,{sound}",
        "score": "none" if math.isnan(take.score) else round(take.score, 1), "columns": _COLUMNS,
        "path": waveform(take.audio), "reasons": verdict.reasons if verdict else (),
        "risk": None if verdict is None or verdict.risk is None else round(100 * verdict.risk),
    }  # fmt: skip


def waveform(audio: np.ndarray) -> str:
    """The outline of a waveform ``(n,)`` as the path of an SVG, 240 by 40."""
    columns = np.array_split(audio, min(_COLUMNS, max(1, len(audio))))
    tops = [float(np.abs(column).max(initial=0.0)) for column in columns]
    loudest = max(tops) or 1.0
    heights = [max(0.5, round((_HALF - 1) * top / loudest, 1)) for top in tops]
    upper = " ".join(f"L{x} {_HALF - y:g}" for x, y in enumerate(heights))
    lower = " ".join(f"L{x} {_HALF + y:g}" for x, y in reversed(list(enumerate(heights))))
    return f"M0 {_HALF} {upper} {lower} Z"
