"""One reading of a book, from what was asked to the files: what ``chelys read`` does, and ``replay`` repeats."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chelys.audiobook.book import OPTIONAL, Book, select
from chelys.audiobook.book_file import check_installed, format_named
from chelys.audiobook.narrate import Made, Narrator, OnLine, OnWrite, Takes, Target, record_of
from chelys.audiobook.readers import read_book
from chelys.audiobook.script import Pauses, Script
from chelys.audiobook.speakers import Speakers
from chelys.audiobook.subtitles import SUBTITLES
from chelys.errors import OutputError, UserError
from chelys.files import file_lock, output_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chelys.audiobook.stages import SentenceRenderer
    from chelys.audiobook.store import StageStore
    from chelys.inference.options import SpeechOptions
    from chelys.inference.synthesizer import Synthesizer


@dataclass(frozen=True)
class ReadSettings:
    """Everything that a reading was asked for; plain values alone, so that it goes into the file that is made.

    Raises UserError if a value is out of range or contradicts another.
    """

    source: str  # the book's file; ``-`` for one that was given otherwise
    output: str  # a file, or the folder of the chapters' files
    format: str = ""  # of the output; empty: by its suffix
    each_chapter: bool = False
    kbps: int | None = None
    subtitles: tuple[str, ...] = ()
    preview_s: float | None = None
    book_format: str = "auto"
    chapters: str | None = None  # such as ``3-7``; None is all
    include: tuple[str, ...] = ()  # kinds of paragraphs beside text and headings
    voice: str | None = None
    speakers: str | None = None  # file of a table of speakers
    lexicon: str | None = None  # file of a dictionary
    locale: str = "en-US"
    pauses: str | None = None  # such as ``scene=2``
    seed: int = 0
    preset: str = "fast"
    options: dict[str, Any] = field(default_factory=dict)  # changed options of the preset
    verify: str | None = None  # how takes are checked
    choices: str | None = None  # file of takes that were chosen by ear

    def __post_init__(self) -> None:
        if unknown := [kind for kind in self.include if kind not in OPTIONAL]:
            raise UserError(f"no paragraphs of the kind {unknown[0]!r}: choose from {', '.join(OPTIONAL)}")
        if unknown := [kind for kind in self.subtitles if kind not in SUBTITLES]:
            raise UserError(f"no subtitles {unknown[0]!r}: choose from {', '.join(SUBTITLES)}")
        if self.kbps is not None and not 16 <= self.kbps <= 320:
            raise UserError(f"{self.kbps} kbit/s: choose 16 to 320")
        if self.preview_s is not None and not 0 < self.preview_s <= 36_000:
            raise UserError(f"a preview of {self.preview_s:g} s: choose more than 0, up to 36000")
        Pauses.parse(self.pauses)
        self.target()

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self) | {"include": list(self.include), "subtitles": list(self.subtitles)}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> ReadSettings:
        """The inverse. Raises UserError if a name is unknown or a value of another kind."""
        known = {one.name for one in fields(cls)}
        if unknown := [name for name in given if name not in known]:
            raise UserError(f"no setting {unknown[0]!r} of a reading: it is of another version of chelys")
        try:
            return cls(
                **{**given, "include": tuple(given.get("include", ())), "subtitles": tuple(given.get("subtitles", ()))}
            )
        except TypeError as error:
            raise UserError(f"these are no settings of a reading: {error}") from None

    def target(self) -> Target:
        """What is to be written. Raises OutputError if the format is unknown."""
        path = Path(self.output)
        format = format_named(Path(f"x.{self.format}") if self.format else path)
        kinds: Any = self.subtitles
        return Target(path, format, self.each_chapter, self.kbps, kinds, self.preview_s)

    def book(self, data: bytes | None = None) -> Book:
        """Read the book; ``data``: its bytes, where the source is no file. Raises TextError if it cannot be read."""
        return read_book(Path(self.source) if data is None else data, format=self.book_format, include=self.include)

    def script(self, book: Book, tts: Synthesizer) -> Script:
        """How the book is to be read. Raises UserError if a voice, a table or a dictionary cannot be used."""
        speakers = Speakers.load(Path(self.speakers)) if self.speakers else None
        script = Script(
            tts, select(book.chapters, self.chapters), self.speech_options(tts), self.voice,
            tts.resolve_voice(self.voice, seed=self.seed), Pauses.parse(self.pauses), speakers, self.locale,
            Path(self.lexicon) if self.lexicon else None,
        )  # fmt: skip
        script.check_voices()
        return script

    def renderer(self, tts: Synthesizer, store: StageStore | None) -> SentenceRenderer:
        """What makes the takes. Raises UserError if the choices cannot be read, or there is no such recogniser."""
        from chelys.audiobook.choices import read_choices
        from chelys.audiobook.stages import SentenceRenderer
        from chelys.audiobook.verify import verifier

        choices = read_choices(Path(self.choices)) if self.choices else None
        return SentenceRenderer(tts, store, verify=verifier(self.verify, tts), choices=choices)

    def speech_options(self, tts: Synthesizer) -> SpeechOptions:
        """Raises UserError if one is unknown to the model."""
        return tts.options(self.preset, **self.options)


def read(
    settings: ReadSettings, book: Book, script: Script, takes: Takes, *, force: bool = False,
    on_line: OnLine | None = None, on_write: OnWrite | None = None,
) -> Made:  # fmt: skip
    """Read a book into files. What is finished lies in the store of ``takes``: the same call goes on where it ended.

    Raises OutputError if a file exists (unless ``force``), cannot be written, or another process reads into it.
    """
    from chelys.audiobook.recipe import recipe_of

    check_installed()
    target = settings.target()
    with reserved(target, force=force or _stopped(settings, book, script, target)):

        def recipe(taken: str) -> dict[str, Any]:
            return recipe_of(settings, book, script, taken)

        return Narrator(
            book, script, takes, settings.seed, target, recipe=recipe, on_line=on_line, on_write=on_write
        ).narrate()


def _stopped(settings: ReadSettings, book: Book, script: Script, target: Target) -> bool:
    """Whether the file is what the same reading wrote before it was stopped: the record comes last."""
    from chelys.audiobook.recipe import recipe_of
    from chelys.inference.sound_recipe import read_recipe

    if target.each_chapter or record_of(target).exists() or not target.path.exists():
        return False
    try:
        recipe = read_recipe(target.path)
    except UserError:
        return False
    return recipe == recipe_of(settings, book, script, recipe["takes"])


@contextmanager
def reserved(target: Target, *, force: bool = False) -> Iterator[None]:
    """Keep other readers from the files of a reading.

    Raises OutputError if one is there already, or another process reads into them.
    """
    path, record = target.path, record_of(target)
    if target.each_chapter:
        with output_errors(path):
            path.mkdir(parents=True, exist_ok=True)
    elif path.is_dir():
        raise OutputError(f"{path} is a folder: name a file in it, or give --each-chapter")
    elif not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: there is no folder {path.parent}")
    lock = record.with_name(f".{path.name}.lock")
    with file_lock(lock, f"another process reads into {path}: wait for it, or name another file with -o"):
        made = record if target.each_chapter else path
        if made.exists() and not force:
            raise OutputError(f"{made} exists: name another file with -o, or replace it with --force")
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
