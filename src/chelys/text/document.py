"""What the front end makes of a text: sentences, how each is spoken, and what was dropped or guessed on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: Most characters of a piece that is spoken at once, unless options say otherwise.
MAX_CHARS = 100
#: Slowest and fastest pace; 1 is the voice's own.
SLOWEST, FASTEST = 0.5, 2.0


@dataclass(frozen=True)
class Sentence:
    """A piece of text that is spoken at once."""

    text: str  # as it was written, single-spaced, without markup
    pause_s: float = 0.0  # silence after it, seconds
    spoken: str = ""  # lower-case words, single-spaced, with plain punctuation
    phonemes: str = ""  # what the model reads: its lexicon's phonemes, or letters where it has no lexicon
    rate: float = 1.0  # pace in relation to the rest of the text: 2 is twice as fast
    lead_s: float = 0.0  # silence before it, seconds: a text may begin with a pause
    voice: str | None = None  # name of the voice that the text asks for; None leaves it to the caller


@dataclass(frozen=True)
class Document:
    """A text, read: what will be said. `chelys.text.front_end.read_text` makes it, a synthesizer speaks it."""

    text: str  # as it was given
    sentences: list[Sentence]  # in order
    warnings: list[str] = field(default_factory=list)  # what was dropped, guessed or not understood, a line each

    def as_json(self) -> dict[str, Any]:
        """What ``chelys text --json`` prints; a pause at the very beginning is a sentence without words."""
        lead = [Sentence("", one.lead_s) for one in self.sentences[:1] if one.lead_s]
        sentences = [
            {"text": one.text, "spoken": one.spoken, "phonemes": one.phonemes, "pause": round(one.pause_s, 3)}
            for one in [*lead, *self.sentences]
        ]
        return {"sentences": sentences, "warnings": self.warnings}
