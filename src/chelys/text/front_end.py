"""The front end: a text, as people write it, to a document of sentences as they are spoken.

    text --markup--> runs and pauses --split--> sentences --normalize--> words --lexicon--> phonemes

One function for everything that speaks or shows what would be spoken. A word whose sound the author gives travels
through splitting and normalising under a name that no text has, so that the words around it are read as ever.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from chelys.errors import TextError
from chelys.text.document import Document, Sentence
from chelys.text.lexicon import Lexicon
from chelys.text.markup import Pause, Run
from chelys.text.normalize import nothing_spoken
from chelys.text.split import pause_after, split
from chelys.text.tokenizer import Tokenizer

#: Cuts a text into pieces that are spoken at once; the last has no pause.
Splitter = Callable[[str], list[Sentence]]

#: So many of the distinct characters that were dropped are named.
MOST_NAMED = 40


def read_text(text: str, tokenizer: Tokenizer, *, split: Splitter = split, locale: str = "en-US") -> Document:
    """Read a text: what will be said, and what was dropped or guessed.

    Raises TextError if nothing of it can be spoken, or a word is too long.

    Args:
        text: English, as people write it.
        tokenizer: Of the model that is to speak.
        split: Cuts it into pieces.
        locale: ``en-US`` or ``en-GB``, whose dates have the day first.
    """
    reader = _Reader(text, tokenizer, split, locale)
    sentences = reader.read([Run(text)])
    if not any(sentence.spoken for sentence in sentences):
        raise nothing_spoken(text)
    return Document(text, sentences, reader.warnings())


class _Reader:
    """Reads one text, and keeps what the user should know."""

    def __init__(self, text: str, tokenizer: Tokenizer, split: Splitter, locale: str) -> None:
        self.tokenizer, self.split, self.locale = tokenizer, split, locale
        self._given = _GivenSounds(text)
        self._dropped: dict[str, None] = {}  # an ordered set, as is the next
        self._warnings: dict[str, None] = {}

    def read(self, parts: Iterable[Run | Pause]) -> list[Sentence]:
        """What runs and pauses say."""
        stretches = list(self._stretches(parts))
        given = self._given.sounds
        self.tokenizer.check(" ".join(part.text for part in stretches if isinstance(part, Run)))
        sentences: list[Sentence] = []
        pause: Pause | None = None  # since the last word
        for part in stretches:
            if isinstance(part, Pause):
                pause = part if pause is None else _both(pause, part)
                continue
            found = self._sentences(part, given)
            if not found:
                continue
            if sentences:
                sentences[-1] = replace(sentences[-1], pause_s=_between(sentences[-1].text, pause))
            elif pause and pause.asked:
                found[0] = replace(found[0], lead_s=pause.seconds)
            sentences += found
            pause = None
        if sentences and pause and pause.asked:
            sentences[-1] = replace(sentences[-1], pause_s=pause.seconds)
        return sentences

    def warnings(self) -> list[str]:
        """What was dropped or guessed, a line each."""
        lines = list(self._warnings)
        if self._dropped:
            lines.append(f"dropped what cannot be spoken: {_listed(self._dropped, '')}")
        return lines

    def _stretches(self, parts: Iterable[Run | Pause]) -> Iterator[Run | Pause]:
        """Neighbouring runs of one voice and pace as one, with names for given sounds."""
        stretch: Run | None = None
        for part in parts:
            if isinstance(part, Run) and part.phonemes:
                part = replace(part, text=self._given.name(part), phonemes="", spoken="")
            if isinstance(part, Run) and stretch and (part.rate, part.voice) == (stretch.rate, stretch.voice):
                stretch = replace(stretch, text=stretch.text + part.text)
                continue
            if stretch:
                yield stretch
            stretch = part if isinstance(part, Run) else None
            if isinstance(part, Pause):
                yield part
        if stretch:
            yield stretch

    def _sentences(self, stretch: Run, given: Mapping[str, str] | None) -> list[Sentence]:
        """The sentences of a stretch of one voice and pace; none if it has nothing to say."""
        sentences = []
        for piece in self.split(stretch.text):
            try:
                encoding = self.tokenizer.analyse(piece.text, given=given, locale=self.locale)
            except TextError:  # marks between two pauses; that there are words somewhere was checked
                continue
            self._dropped.update(dict.fromkeys(encoding.dropped))
            self._warnings.update(dict.fromkeys(map(self._given.written, encoding.warnings)))
            written, spoken = self._given.written(piece.text), self._given.spoken(encoding.normalized.lower())
            said = Sentence(written, piece.pause_s, spoken, encoding.symbols, rate=stretch.rate, voice=stretch.voice)
            sentences.append(said)
        return sentences


def _listed(names: Iterable[str], joint: str) -> str:
    """Some of many names."""
    names = list(names)
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return joint.join(names[:MOST_NAMED]) + more


def _both(first: Pause, second: Pause) -> Pause:
    """Pauses that were asked for add up; borders do not."""
    if first.asked and second.asked:
        return Pause(first.seconds + second.seconds)
    if first.asked != second.asked:
        return first if first.asked else second
    return first if first.seconds >= second.seconds else second


def _between(piece: str, pause: Pause | None) -> float:
    """Silence after a piece: as the author asks, else what its last mark or the border gives."""
    if pause and pause.asked:
        return pause.seconds
    return max(pause_after(piece), pause.seconds if pause else 0.0)


class _GivenSounds:
    """Words whose sounds the author gives, under names that do not occur in the text."""

    def __init__(self, text: str) -> None:
        self._stem = "zq"
        lowered = text.lower()
        while self._stem in lowered:
            self._stem += "q"
        self._name = re.compile(rf"{self._stem}[a-j]+z", re.IGNORECASE)
        self._runs: dict[str, Run] = {}

    @property
    def sounds(self) -> dict[str, str] | None:
        """How the names sound, and their possessive forms."""
        if not self._runs:
            return None
        lexicon = Lexicon({name: run.phonemes for name, run in self._runs.items()})
        return {form: lexicon.lookup(form) or "" for name in lexicon for form in (name, f"{name}'s")}

    def name(self, run: Run) -> str:
        """A name for a run with phonemes."""
        name = self._stem + "".join("abcdefghij"[int(digit)] for digit in str(len(self._runs))) + "z"
        self._runs[name] = run
        return name if run.text[:1].islower() else name.capitalize()

    def written(self, text: str) -> str:
        """A text with the runs as they were written in place of their names."""
        return self._name.sub(lambda match: self._runs[match.group().lower()].text, text) if self._runs else text

    def spoken(self, text: str) -> str:
        """The same with the words that they are."""
        return self._name.sub(lambda match: self._runs[match.group().lower()].spoken, text) if self._runs else text
