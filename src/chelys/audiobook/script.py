"""A book to the lines that are spoken: sentences with their places, voices and pauses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

from chelys.audiobook.book import Chapter, Kind
from chelys.audiobook.speakers import Speakers
from chelys.errors import TextError, UserError, VoiceError, printable_line
from chelys.text.document import Sentence
from chelys.text.markup import LONGEST_PAUSE_S

if TYPE_CHECKING:
    from pathlib import Path

    from chelys.inference.options import SpeechOptions
    from chelys.inference.synthesizer import Synthesizer
    from chelys.inference.voice import AnyVoice
    from chelys.text.dictionary import Dictionary

_VOICE_TAG = re.compile(r"\[voice: ?([^\s\[\]]{0,100})\]")


@dataclass(frozen=True)
class Pauses:
    """Least silence, seconds, after a paragraph, a heading, a scene, a chapter; at the begin and the end of a file."""

    paragraph: float = 0.7
    heading: float = 1.0
    scene: float = 1.8
    chapter: float = 2.5
    begin: float = 0.5  # of a file, and before each chapter, of the pause between chapters
    end: float = 1.5

    @classmethod
    def parse(cls, text: str | None) -> Pauses:
        """``paragraph=0.5,scene=2`` in place of the defaults. Raises UserError if a name or a time is unknown."""
        given: dict[str, float] = {}
        known = [one.name for one in fields(cls)]
        for part in (text or "").split(",") if text else ():
            name, _, value = (piece.strip() for piece in part.partition("="))
            try:
                given[name] = float(value.removesuffix("s"))
            except ValueError:
                given[name] = -1.0
            if name not in known or not 0 <= given[name] <= LONGEST_PAUSE_S:
                names = ", ".join(known)
                raise UserError(
                    f"{part.strip()!r} is no pause: write NAME=SECONDS, 0 to {LONGEST_PAUSE_S:g}, with {names}"
                )
        return cls(**given)


@dataclass(frozen=True)
class Size:
    """How much there is to speak."""

    characters: int = 0  # as written
    symbols: int = 0  # phonemes and marks, which the model reads
    sentences: int = 0
    pauses_s: float = 0.0  # seconds of silence between them

    def __add__(self, other: Size) -> Size:
        return Size(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


@dataclass(frozen=True)
class Line:
    """One sentence of a book, or a piece of a long one."""

    chapter: int  # number of its chapter, from 1
    number: int  # in its chapter, from 1
    kind: Kind
    sentence: Sentence
    before_s: float  # silence before it that its text asks for, seconds
    after_s: float  # silence after it, seconds

    @property
    def place(self) -> str:
        """Chapter and number, for people."""
        return f"{self.chapter}:{self.number}"

    @property
    def size(self) -> Size:
        """How much it is."""
        return Size(len(self.sentence.text), len(self.sentence.phonemes), 1, self.before_s + self.after_s)


@dataclass
class Script:
    """How a book is to be read.

    Attributes:
        chapters: With their numbers from 1.
        skipped: Paragraphs in which there is nothing that the model can speak.
        warnings: What the front end dropped or guessed, as an ordered set.
        dictionary: The user's words: of all files that there are, read once.
    """

    tts: Synthesizer
    chapters: Sequence[tuple[int, Chapter]]
    options: SpeechOptions
    voice: AnyVoice | None = None  # as it was named: a file beside it may say how words sound
    speaker: AnyVoice | None = None  # the same, resolved
    pauses: Pauses = Pauses()
    speakers: Speakers | None = None
    locale: str = "en-US"
    lexicon: Path | Dictionary | None = None
    skipped: int = 0
    warnings: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from chelys.inference.dictionaries import find_dictionary

        self.dictionary = find_dictionary(self.tts.family.tokenizer, self.lexicon, self.voice)

    def lines(self, number: int, chapter: Chapter) -> Iterator[Line]:
        """The lines of a chapter. The pause after its last one is that between chapters."""
        voice = ""  # of the narrator, by a tag
        if self.speakers is not None:
            self.speakers.forget()
        waiting: Line | None = None
        count = 0
        due = 0.0  # silence since the last sentence
        for paragraph in chapter.paragraphs:
            if paragraph.kind == "scene":
                due = max(due, self.pauses.scene)
                continue
            text = paragraph.text
            if self.speakers is not None and paragraph.kind != "heading":
                text = self.speakers.directed(text, voice)
            sentences = self._read(f"[voice:{voice}]{text}" if voice else text)
            if tags := _VOICE_TAG.findall(text):
                voice = tags[-1]
            for place, sentence in enumerate(sentences):
                if waiting is not None:
                    yield replace(waiting, after_s=max(due, waiting.after_s))
                count += 1
                lead = sentence.lead_s if not place else 0.0
                waiting = Line(number, count, paragraph.kind, sentence, lead, sentence.pause_s)
                due = 0.0
            if sentences:
                due = self.pauses.heading if paragraph.kind == "heading" else self.pauses.paragraph
        if waiting is not None:
            yield replace(waiting, after_s=max(self.pauses.chapter, waiting.after_s))

    def check_voices(self) -> None:
        """Raise VoiceError now if the table of speakers, or a tag anywhere, asks for a voice that is not known."""
        from chelys.inference.voice_files import list_user_voices

        known = dict.fromkeys([*self.tts.voice_names, *list_user_voices()])
        asked = dict.fromkeys(self.speakers.voices if self.speakers else ())
        if self.tts.family.reads_tags:
            for _, chapter in self.chapters:
                for paragraph in chapter.paragraphs:
                    asked.update((name, None) for name in _VOICE_TAG.findall(paragraph.text) if name)
        if unknown := [name for name in asked if name not in known]:
            named = printable_line(unknown[0][:64])
            raise VoiceError(f"the book or its speakers ask for a voice {named!r}: choose from {', '.join(known)}")

    def all_lines(self) -> Iterator[Line]:
        """Of all chapters."""
        for number, chapter in self.chapters:
            yield from self.lines(number, chapter)

    def size(self, number: int, chapter: Chapter) -> Size:
        """Of a chapter."""
        return sum((line.size for line in self.lines(number, chapter)), Size())

    def _read(self, text: str) -> list[Sentence]:
        try:
            document = self.tts.family.read_text(
                text, self.options, format="text", locale=self.locale, dictionary=self.dictionary
            )
        except TextError:
            self.skipped += 1
            return []
        if len(self.warnings) < 1000:
            self.warnings.update(dict.fromkeys(document.warnings))
        return document.sentences
