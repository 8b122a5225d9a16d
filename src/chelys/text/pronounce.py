"""Words of a normalised sentence -> how each sounds, and how that was found."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from chelys.text.lexicon import Lexicon

#: Letters of spelled words lie in Unicode's full-width block, so that no phoneme is mistaken for one.
SPELLED_LETTERS = "".join(chr(0xFF41 + i) for i in range(26))
SPELLED_APOSTROPHE = "\uff07"
_TO_SPELLED = {ord("a") + i: letter for i, letter in enumerate(SPELLED_LETTERS)} | {ord("'"): SPELLED_APOSTROPHE}

#: given: by the user, in the text or in a dictionary; lexicon: the word, or a regular form of a known word; letters:
#: an acronym, by the names of its letters; spelled: as letters, which the model reads by itself.
Found = Literal["given", "lexicon", "letters", "spelled"]

_REMEMBERED_WORDS = 20_000
_WORD = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*'?")
#: Unknown words of this kind are read by the names of their letters: "USA", "mp", "XKCDs".
_ACRONYM = re.compile(r"(?!\w*([a-z])\1)([A-Z]{2,4}|[B-DF-HJ-NP-TV-XZ]{2,6}|[b-df-hj-np-tv-xz]{1,4})('?s)?")


@dataclass(frozen=True)
class Word:
    """A word of a sentence and its sounds."""

    text: str  # as the normaliser wrote it
    phonemes: str  # of the lexicon's alphabet; full-width letters if it is spelled
    found: Found
    start: int  # first character in the normalised sentence
    end: int  # behind its last character


class Pronouncer:
    """Says how words sound. Holds nothing that changes what it says, so that threads may share it."""

    def __init__(self, lexicon: Lexicon) -> None:
        self.lexicon = lexicon
        self._remembered: dict[str, tuple[str, Found]] = {}

    def pronounce(self, sentence: str, *, given: Mapping[str, str] | None = None) -> list[Word]:
        """The words of a sentence that `normalize` wrote, in order.

        ``given``: phonemes that the user wants for a word, whatever the lexicon says; keys are in lower case, or in
        capitals for acronyms alone. A word in capitals is looked up as it is, then in lower case.
        """
        words = []
        for match in _WORD.finditer(sentence):
            text = match.group()
            chosen = (given.get(text) or given.get(text.lower())) if given else None
            sound: tuple[str, Found] = (chosen, "given") if chosen else self._sound(text)
            words.append(Word(text, *sound, match.start(), match.end()))
        return words

    def _sound(self, word: str) -> tuple[str, Found]:
        sound = self._remembered.get(word)
        if sound is None:
            if len(self._remembered) >= _REMEMBERED_WORDS:
                self._remembered.clear()
            sound = self._remembered[word] = self._look_up(word)
        return sound

    def _look_up(self, word: str) -> tuple[str, Found]:
        for form in dict.fromkeys((word, word.lower())):
            known = self.lexicon.lookup(form)
            if known is not None:
                return known, "lexicon"
        acronym = _ACRONYM.fullmatch(word)
        if not acronym:
            return spell(word), "spelled"
        _, letters, plural = acronym.groups()
        names = [self.lexicon.get(letter) or spell(letter) for letter in letters.upper()]
        return " ".join(names) + ("z" if plural and "z" in self.lexicon.phonemes else ""), "letters"


def spell(word: str) -> str:
    """The letters of a word as symbols of their own."""
    return word.lower().translate(_TO_SPELLED)
