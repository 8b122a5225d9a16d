"""How long a book will be, and how long it will take, from a few of its sentences, which are spoken for that.

What is spoken here is kept in the store, so a reading that follows does not compute it again.
"""

from __future__ import annotations

from dataclasses import dataclass

from chelys.audio.rates import OUTPUT_RATE
from chelys.audiobook.narrate import Takes
from chelys.audiobook.script import Line, Script, Size
from chelys.audiobook.sound import speech_span
from chelys.audiobook.stages import SentenceRequest, numbered
from chelys.errors import TextError

#: Sentences that are spoken to know the pace.
SAMPLE = 24
#: Seconds of work for one of sound, besides speaking: texts, levels, encoding (`benchmarks/audiobook.py memory`).
FINISHING = 0.014


@dataclass(frozen=True)
class Forecast:
    """What a reading will come to."""

    size: Size
    seconds: float  # of sound
    work_s: float  # seconds of work if nothing of it is in the store
    sampled: int  # sentences that were spoken to know

    @property
    def real_time_factor(self) -> float:
        """Seconds of work for one of sound."""
        return self.work_s / self.seconds if self.seconds else 0.0


def forecast(script: Script, takes: Takes, seed: int, *, sample: int = SAMPLE) -> Forecast:
    """Speak a sample of the sentences of a script, evenly spread, and reckon with the phonemes of the whole.

    Raises TextError if nothing can be spoken.
    """
    total, chosen = _sampled(script, sample)
    if not chosen:
        raise TextError("nothing of it can be spoken by this model")
    requests = numbered(SentenceRequest(one.sentence, script.speaker, seed, script.options) for one in chosen)
    spoken, work, symbols = 0.0, 0.0, 0
    for line, take in zip(chosen, takes(requests), strict=True):
        start, end = speech_span(take.audio)
        spoken += (end - start) / OUTPUT_RATE
        work += take.spent_s
        symbols += len(line.sentence.phonemes)
    share = total.symbols / symbols
    seconds = share * spoken + total.pauses_s
    return Forecast(total, seconds, share * work + FINISHING * seconds, len(chosen))


def _sampled(script: Script, sample: int) -> tuple[Size, list[Line]]:
    """How much there is, and some of its lines: every n-th, where n grows, so that none has to be known before."""
    total, kept, step, count = Size(), list[Line](), 1, 0
    for line in script.all_lines():
        total += line.size
        if count % step == 0:
            kept.append(line)
            if len(kept) >= 2 * sample:
                kept, step = kept[::2], step * 2
        count += 1
    return total, kept
