"""The user's own words: a text file of words and how they sound.

::

    # a name, a tab, and its sounds: phonemes between slashes, or a respelling
    Siobhan	/ʃəˈvɔːn/
    Kaelyn	KAY-lin
    SQL	sequel
    Los Gatos	/loʊs ˈɡætoʊs/

A respelling with hyphens is read syllable by syllable ("ay", "ee", "oh", "uh", "zh" ...), the one in capitals stressed;
without hyphens it is read as the words that it looks like. Words count whatever their capitals, but those in capitals
alone ("SQL", "US") are for acronyms only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from chelys.errors import TextError, UserError, first_line
from chelys.files import read_text
from chelys.text.ipa import STRESS, read_phonemes
from chelys.text.lexicon import add_s
from chelys.text.normalize import normalize
from chelys.text.respelling import syllable

if TYPE_CHECKING:
    from chelys.text.pronounce import Pronouncer

#: Of a file with the user's words.
LARGEST_FILE = 1 << 24
_MOST_WORDS, _MOST_NAMED = 8, 5
_PLAIN_WORD = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*")
_WORDS = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*'?")
_RESPELLING = re.compile(r"[A-Za-z']+(?:[ -][A-Za-z']+)*")
_STRESSES = re.compile(f"[{STRESS}]")


class Dictionary:
    """Words or phrases of several words -> how they sound, in a model's alphabet.

    Attributes:
        warnings: What a user should know of the file, a line each.
    """

    def __init__(
        self, entries: Iterable[tuple[str, str]], pronouncer: Pronouncer, *, name: str = "the dictionary"
    ) -> None:
        """``entries``: words or phrases, each with phonemes between slashes, or a respelling; the last one counts.

        Raises:
            UserError: If a sound is not in the model's alphabet, or an entry is neither; it is named.
        """
        self._pronouncer = pronouncer
        self._sounds: dict[str, str] = {}
        self._most_words: dict[str, int] = {}  # words of the largest phrase that begins with a word
        self.warnings: list[str] = []
        again: dict[str, None] = {}
        for written, sound in entries:
            words = _key(written)
            if not words:
                raise UserError(f"{name}: {written!r} is no word: write letters, then a tab and how it sounds")
            self._check(sound, f"{name}: {written}")
            key = " ".join(words)
            if self._sounds.get(key, sound) != sound:
                again[key] = None
            self._sounds[key] = sound
            self._most_words[words[0]] = max(self._most_words.get(words[0], 0), len(words))
        if again:
            more = f" and {len(again) - _MOST_NAMED} more" if len(again) > _MOST_NAMED else ""
            named = ", ".join([*again][:_MOST_NAMED])
            self.warnings.append(f"{name} says twice how these sound, the last line counts: {named}{more}")

    def _check(self, sound: str, entry: str) -> None:
        alphabet = self._pronouncer.lexicon.phonemes
        if sound.startswith("/"):
            phonemes, unknown = read_phonemes(sound.strip("/"), alphabet)
            if unknown or not phonemes:
                wrong = f"no sound {unknown!r} in the model, which has {alphabet}" if unknown else "no sound at all"
                raise UserError(f"{entry}: {sound} has {wrong}")
        elif not _RESPELLING.fullmatch(sound):
            raise UserError(f"{entry}: {sound!r} is no respelling like KAY-lee, nor phonemes like /kəˈnu/")

    @classmethod
    def load(cls, path: Path, pronouncer: Pronouncer) -> Dictionary:
        """Read a file of lines ``word<TAB>sound``; empty lines and those that begin with ``#`` say nothing.

        Raises:
            UserError: If there is no such file, it is no text or too large, or a line is neither; it is named.
        """
        try:
            lines = read_text(path, LARGEST_FILE).removeprefix("\ufeff").splitlines()
        except FileNotFoundError:
            raise UserError(f"no dictionary at {path}: give a text file of lines 'word<TAB>sound'") from None
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path} cannot be read ({first_line(error)}): a dictionary is UTF-8 text") from None
        entries = []
        for number, line in enumerate(lines, 1):
            if line.strip() and not line.startswith("#"):
                word, _, sound = (part.strip() for part in line.partition("\t"))
                if not word or not sound:
                    raise UserError(f"{path}, line {number}: expected 'word<TAB>sound', found {line[:40]!r}")
                entries.append((word, sound))
        return cls(entries, pronouncer, name=str(path))

    def __or__(self, other: Dictionary) -> Dictionary:
        """Both; what the other says of a word that both have counts."""
        both = Dictionary((), self._pronouncer)
        both._sounds = self._sounds | other._sounds
        known = (self._most_words, other._most_words)
        both._most_words = {word: max(one.get(word, 0) for one in known) for one in known for word in one}
        both.warnings = self.warnings + other.warnings
        return both

    def find(self, sentence: str, words: list[re.Match[str]], place: int) -> tuple[str, int] | None:
        """Phonemes of the largest entry at a word of a sentence, and where it ends; None if there is none.

        An entry is found in the possessive too.
        """
        first = words[place].group()
        forms = {form for one in (first, first.removesuffix("'s")) for form in (one, one.lower())}
        most_words = max(self._most_words.get(form, 0) for form in forms)
        for count in range(min(most_words, len(words) - place), 0, -1):
            last = words[place + count - 1]
            text = sentence[words[place].start() : last.end()].replace("-", " ")
            for form in (text, text.lower()):
                sound = self._sounds.get(form)
                if sound is not None:
                    return self._phonemes(sound), last.end()
                if form.endswith("'s") and (sound := self._sounds.get(form[:-2])) is not None:
                    return add_s(self._phonemes(sound)), last.end()
        return None

    def _phonemes(self, sound: str) -> str:
        if sound.startswith("/"):
            return read_phonemes(sound.strip("/"), self._pronouncer.lexicon.phonemes)[0]
        return " ".join(self._respelled(word) for word in sound.split())

    def _respelled(self, word: str) -> str:
        parts = word.split("-")
        if len(parts) == 1:
            return self._pronouncer.sound(word.lower())[0]
        main = next((i for i, part in enumerate(parts) if part.isupper()), 0)
        return "".join(self._syllable(part, i == main) for i, part in enumerate(parts))

    def _syllable(self, part: str, stressed: bool) -> str:
        found = syllable(part, stressed)
        if found is None or any(c not in self._pronouncer.lexicon.phonemes for c in found):
            found = _STRESSES.sub("", self._pronouncer.sound(part.lower())[0])
        return found


def _key(written: str) -> list[str]:
    """A word or phrase as the normaliser writes it."""
    if _PLAIN_WORD.fullmatch(written):
        return [written if len(written) > 1 and written.isupper() else written.lower()]
    try:
        words = _WORDS.findall(normalize(written).text)
    except TextError:
        return []
    return words if len(words) <= _MOST_WORDS else []
