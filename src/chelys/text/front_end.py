"""The front end: a text, as people write it, to a document of sentences as they are spoken.

    text --markup--> runs and pauses --split--> sentences --normalize--> words --lexicon--> phonemes

One function for everything that speaks or shows what would be spoken. A word whose sound the author gives travels
through splitting and normalising under a name that no text has, so that the words around it are read as ever.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from chelys.errors import TextError, UserError, printable_line
from chelys.text.document import Document, Sentence
from chelys.text.formats import FORMATS, format_of, is_html
from chelys.text.lexicon import Lexicon
from chelys.text.markup import Part, Pause, TextRun, read_tags
from chelys.text.normalize import nothing_spoken, to_ascii
from chelys.text.numbers import digits
from chelys.text.split import pause_after, split
from chelys.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from chelys.text.dictionary import Dictionary

#: Cuts a text into pieces that are spoken at once; the last has no pause.
Splitter = Callable[[str], list[Sentence]]

#: So many of the characters, words or tags of one kind that were dropped are named.
MOST_NAMED = 40
#: So many other warnings are given.
MOST_WARNINGS = 100


def read_text(
    text: str, tokenizer: Tokenizer, *, format: str = "auto", tags: bool = True, locale: str = "en-US",
    dictionary: Dictionary | None = None, split: Splitter = split,
) -> Document:  # fmt: skip
    """Read a text: what will be said, and what was dropped or guessed.

    Raises TextError if nothing of it can be spoken, a word is too long, or it is SSML that cannot be read; UserError if
    there is no such format.

    Args:
        text: English, as people write it.
        tokenizer: Of the model that is to speak.
        format: One of `FORMATS`.
        tags: Whether brackets can be tags (``chelys.text.markup``), and markup is looked for where none is named.
        locale: ``en-US`` or ``en-GB``, whose dates have the day first.
        dictionary: How the user wants words to sound.
        split: Cuts plain text into pieces.
    """
    if format not in FORMATS:
        raise UserError(f"no format {format!r}: choose from {', '.join(FORMATS)}")
    if format == "auto":
        format = format_of(text) if tags else "text"
    warnings: dict[str, None] = {}
    if format == "ssml":
        from chelys.text.ssml import read_ssml  # late, as is all that most texts do not need

        parts: Iterable[Part] = read_ssml(text, warnings)
    else:
        parts = [TextRun(_plain(text, format, warnings))]
        if tags:
            parts = read_tags(parts, warnings)
    reader = _Reader(text, tokenizer, split, locale, dictionary, warnings)
    sentences = reader.read(parts)
    if not sentences:
        raise nothing_spoken(text)
    return Document(text, sentences, reader.warnings())


def _plain(text: str, format: str, warnings: dict[str, None]) -> str:
    """A text without Markdown or HTML."""
    if format == "text":
        return text
    from chelys.text.html import text_of_html, text_of_markdown

    if format == "markdown":
        return text_of_markdown(text, warnings)
    return text_of_html(text, warnings, keep_lines=not is_html(text))


class _Reader:
    """Reads one text, and keeps what the user should know."""

    def __init__(
        self, text: str, tokenizer: Tokenizer, split: Splitter, locale: str, dictionary: Dictionary | None,
        warnings: dict[str, None],
    ) -> None:  # fmt: skip
        self.tokenizer, self.split, self.locale, self.dictionary = tokenizer, split, locale, dictionary
        self._given = _GivenSounds(text)
        self._dropped: dict[str, None] = {}  # ordered sets, all three
        self._sounded: dict[str, None] = {}
        self._warnings = warnings

    def read(self, parts: Iterable[TextRun | Pause]) -> list[Sentence]:
        """What runs and pauses say."""
        stretches = list(self._stretches(parts))
        given = self._given.sounds
        self.tokenizer.check(" ".join(part.text for part in stretches if isinstance(part, TextRun)))
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
        if len(lines) > MOST_WARNINGS:
            lines[MOST_WARNINGS:] = [f"and {len(lines) - MOST_WARNINGS} more warnings"]
        if self.dictionary is not None:
            lines += self.dictionary.warnings
        if self._sounded:
            lines.append(f"in no lexicon, so sounded out: {_listed(self._sounded, ', ')}")
        if self._dropped:
            lines.append(f"dropped what cannot be spoken: {_listed(self._dropped, '')}")
        return [printable_line(line) for line in lines]

    def _stretches(self, parts: Iterable[TextRun | Pause]) -> Iterator[TextRun | Pause]:
        """Neighbouring runs of one voice and pace as one, with names for given sounds."""
        stretch: TextRun | None = None
        given = False
        for part in parts:
            was_given, given = given, isinstance(part, TextRun) and bool(part.phonemes or part.spelled)
            if isinstance(part, TextRun) and given:
                part = self._named(part)
            if isinstance(part, TextRun) and stretch and (part.rate, part.voice) == (stretch.rate, stretch.voice):
                glued = (given or was_given) and stretch.text[-1:].isalnum() and part.text[:1].isalnum()
                joint = " " if glued and not re.match(r"s\b", part.text) else ""
                stretch = replace(stretch, text=f"{stretch.text}{joint}{part.text}")
                continue
            if stretch:
                yield stretch
            stretch = part if isinstance(part, TextRun) else None
            if isinstance(part, Pause):
                yield part
        if stretch:
            yield stretch

    def _named(self, run: TextRun) -> TextRun:
        """A run whose sound is given, under a name; as it is written if it cannot sound so."""
        plain, lexicon = replace(run, phonemes="", spelled=False), self.tokenizer.lexicon
        if run.spelled:
            spoken = " ".join(digits(c) or c.upper() for c in to_ascii(run.text)[0] if c.isalnum())
            phonemes = self.tokenizer.symbols(spoken) if lexicon else ""
            plain = replace(plain, text=spoken)
        elif lexicon is None:
            self._warnings[f"this model knows no phonemes, the word is read as it is written: {run.text}"] = None
            return plain
        else:
            from chelys.text.ipa import read_phonemes

            phonemes, unknown = read_phonemes(run.phonemes, lexicon.phonemes, run.alphabet)
            if unknown:
                self._warnings[f"the model has no sound for {unknown} in /{run.phonemes}/: left out"] = None
            try:
                spoken = self.tokenizer.clean(run.text)
            except TextError:
                spoken = run.text
        return replace(plain, text=self._given.name(run.text, spoken.lower(), phonemes)) if phonemes else plain

    def _sentences(self, stretch: TextRun, given: Mapping[str, str] | None) -> list[Sentence]:
        """The sentences of a stretch of one voice and pace; none if it has nothing to say."""
        sentences = []
        for piece in self.split(stretch.text):
            try:
                encoding = self.tokenizer.analyse(
                    piece.text, given=given, dictionary=self.dictionary, locale=self.locale
                )
            except TextError:  # marks between two pauses; that there are words somewhere was checked
                continue
            self._dropped.update(dict.fromkeys(encoding.dropped))
            self._sounded.update((word.text, None) for word in encoding.words if word.found == "sounded")
            self._warnings.update(dict.fromkeys(map(self._given.written, encoding.warnings)))
            written, spoken = self._given.written(piece.text), self._given.spoken(encoding.normalized.lower())
            sentences.append(
                Sentence(written, piece.pause_s, spoken, encoding.symbols, rate=stretch.rate, voice=stretch.voice)
            )
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
        self._words: dict[str, tuple[str, str, str]] = {}  # name -> as written, as spoken, phonemes

    @property
    def sounds(self) -> dict[str, str] | None:
        """How the names sound, and their plural and possessive forms."""
        if not self._words:
            return None
        lexicon = Lexicon({name: phonemes for name, (_, _, phonemes) in self._words.items()})
        return {form: lexicon.lookup(form) or "" for name in lexicon for form in (name, f"{name}s", f"{name}'s")}

    def name(self, written: str, spoken: str, phonemes: str) -> str:
        """A name for what sounds so."""
        name = self._stem + "".join("abcdefghij"[int(digit)] for digit in str(len(self._words))) + "z"
        self._words[name] = written, spoken, phonemes
        return name if written[:1].islower() else name.capitalize()

    def written(self, text: str) -> str:
        """A text with the names as what was written."""
        return self._put(0, text)

    def spoken(self, text: str) -> str:
        """A text with the names as what is said."""
        return self._put(1, text)

    def _put(self, form: int, text: str) -> str:
        if not self._words:
            return text
        return self._name.sub(lambda match: self._words[match.group().lower()][form], text)
