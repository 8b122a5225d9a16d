"""Names of a book that are most likely misread: words that no lexicon has, with two ways to say each."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from chelys.audio.io import write
from chelys.audio.rates import OUTPUT_RATE
from chelys.audiobook.narrate import Takes
from chelys.audiobook.script import Script
from chelys.audiobook.stages import SentenceRequest
from chelys.errors import TextError, UserError
from chelys.files import output_errors, write_text
from chelys.text.dictionary import Dictionary
from chelys.text.pronounce import Word, english

#: Names that are listed.
MOST_NAMES = 20
_MOST_WORDS = 100_000  # that are counted
_POSSESSIVE = re.compile(r"'s?$")


@dataclass(frozen=True)
class Name:
    """A word that the model has to guess."""

    text: str  # as the book writes it
    count: int  # how often it is said
    pronunciations: tuple[str, ...]  # phonemes: as it is read now, and the next likely
    doubt: float  # odds that the first is wrong, by what the rules of spelling say: 0 to 1
    example: str  # the first sentence that has it


def find_names(script: Script, most: int = MOST_NAMES) -> list[Name]:
    """The words that are likeliest misread; those first that come often and are doubtful.

    Raises UserError if the model reads letters, not phonemes.
    """
    if script.tts.family.tokenizer.pronouncer is None:
        raise UserError("this model reads spelling, it knows no phonemes: --find-names has no use")
    counts: dict[str, int] = {}
    examples: dict[str, tuple[str, str]] = {}
    for sentence, word in _guessed(script):
        name = _POSSESSIVE.sub("", word.text.lower())
        if name in counts or len(counts) < _MOST_WORDS:
            counts[name] = counts.get(name, 0) + 1
            examples.setdefault(name, (sentence, word.text))
    sounding = english().sounding_out
    found = []
    for name, count in counts.items():
        pronunciations = sounding.pronunciations(name, 2)
        doubt = 1 / (1 + math.exp(pronunciations[1][1])) if len(pronunciations) > 1 else 0.0
        sentence, _ = examples[name]
        written = re.search(rf"(?<![A-Za-z]){re.escape(name)}(?![A-Za-z])", sentence, re.IGNORECASE)
        text = written.group() if written else name
        found.append(Name(text, count, tuple(phonemes for phonemes, _ in pronunciations), doubt, sentence))
    return sorted(found, key=lambda one: (-one.count * one.doubt, one.text))[:most]


def _guessed(script: Script) -> Iterator[tuple[str, Word]]:
    """Words whose sound is worked out from their letters, with their sentences."""
    tokenizer = script.tts.family.tokenizer
    for line in script.all_lines():
        try:
            encoding = tokenizer.analyse(line.sentence.text, dictionary=script.dictionary, locale=script.locale)
        except TextError:
            continue
        yield from ((line.sentence.text, word) for word in encoding.words if word.found == "sounded")


def speak_names(script: Script, names: list[Name], takes: Takes, seed: int, folder: Path) -> list[Path]:
    """Speak each name both ways, in its sentence, into ``NAME-1.wav`` and ``NAME-2.wav``; write ``names.tsv``.

    That file is a dictionary for ``--lexicon``: the first reading of each name, the second in a comment beside it.
    Raises OutputError if something cannot be written.
    """
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    files, requests = [], []
    pronouncer = script.tts.family.tokenizer.pronouncer
    assert pronouncer is not None
    for name in names:
        for number, phonemes in enumerate(name.pronunciations, 1):
            dictionary = Dictionary([(name.text, f"/{phonemes}/")], pronouncer)
            document = script.tts.read_text(
                name.example, format="text", locale=script.locale, lexicon=dictionary, options=script.options
            )
            with_name = [one for one in document.sentences if name.text.lower() in one.text.lower()]
            files.append(folder / f"{''.join(c for c in name.text if c.isalnum())}-{number}.wav")
            requests.append(SentenceRequest((with_name or document.sentences)[0], script.speaker, seed, script.options))
    for file, take in zip(files, takes(requests), strict=True):
        write(file, take.audio, OUTPUT_RATE)
    lines = ["# Words that no lexicon has. Keep the line that is right, change those that are not.\n"]
    for name in names:
        first, *others = name.pronunciations
        lines.append(f"{name.text}\t/{first}/\n" + "".join(f"# {name.text}\t/{other}/\n" for other in others))
    write_text(folder / "names.tsv", "".join(lines))
    return [*files, folder / "names.tsv"]
