"""Words of a normalised sentence -> how each sounds, and how that was found.

In this order: what the user says, the variant of a homograph that the sentence means, the lexicon, acronyms by their
letters, sounding out. A model whose lexicon is written in the American alphabet of misaki, as nano's is, gets the
package's own `English` for that; with any other lexicon, unknown words are spelled, and the model reads letters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from chelys.text.homographs import Homographs, features, tokens
from chelys.text.lexicon import FILE_NAME, Lexicon, add_s, look_up

if TYPE_CHECKING:
    from chelys.text.dictionary import Dictionary
    from chelys.text.sounding import SoundingOut

#: Letters of spelled words lie in Unicode's full-width block, so that no phoneme is mistaken for one.
SPELLED_LETTERS = "".join(chr(0xFF41 + i) for i in range(26))
SPELLED_APOSTROPHE = "\uff07"
_TO_SPELLED = {ord("a") + i: letter for i, letter in enumerate(SPELLED_LETTERS)} | {ord("'"): SPELLED_APOSTROPHE}

#: given: by the user, in the text or in a dictionary; context: a homograph, by the words around it; lexicon: the word,
#: or a regular form of a known word; letters: an acronym, by the names of its letters; sounded: by the rules of
#: spelling; spelled: as letters, which the model reads by itself.
Found = Literal["given", "context", "lexicon", "letters", "sounded", "spelled"]

#: What the package knows of English, whatever the model.
ENGLISH = Path(__file__).parents[1] / "assets" / "english"
_ALPHABET = "AIOTWYbdfhijklmnpstuvwzæðŋɑɔəɛɜɡɪɹʃʊʌʒʤʧˈˌθᵊᵻ"

_REMEMBERED_WORDS = 20_000
_WORD = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*'?")
#: Unknown words of this kind are read by the names of their letters: "USA", "mp", "XKCDs".
_ACRONYM = re.compile(r"(?!\w*([a-z])\1)([A-Z]{2,5}|[B-DF-HJ-NP-TV-XZ]{2,6}|[b-df-hj-np-tv-xz]{1,4})('?s)?")
#: "runnin'", with its apostrophe or without.
_DROPPED_G = re.compile("([a-z]{2,})in'?")


@dataclass(frozen=True)
class Word:
    """A word of a sentence and its sounds."""

    text: str  # as the normaliser wrote it
    phonemes: str  # of the lexicon's alphabet; full-width letters if it is spelled
    found: Found
    start: int  # first character in the normalised sentence
    end: int  # behind its last character


class English:
    """What the package knows of American English in misaki's alphabet; read when first needed, then kept."""

    def __init__(self, folder: Path = ENGLISH) -> None:
        self._folder = folder
        self.words = Lexicon.load(folder / FILE_NAME)
        self.homographs = Homographs.load(folder)

    @cached_property
    def sounding_out(self) -> SoundingOut:
        """For words that no lexicon has."""
        from chelys.text.sounding import SoundingOut  # late: most texts have no such word

        return SoundingOut.load(self._folder)


@lru_cache(maxsize=1)
def english() -> English:
    """The one that all models share."""
    return English()


class Pronouncer:
    """Says how words sound. Holds nothing that changes what it says, so that threads may share it."""

    def __init__(self, lexicon: Lexicon) -> None:
        self.lexicon = lexicon
        self._english = english() if lexicon.has_phonemes(_ALPHABET) else None
        self._remembered: dict[str, tuple[str, Found]] = {}

    def __getstate__(self) -> dict[str, Lexicon]:
        return {"lexicon": self.lexicon}

    def __setstate__(self, state: dict[str, Lexicon]) -> None:
        self.__init__(state["lexicon"])  # type: ignore[misc]

    def pronounce(
        self, sentence: str, *, written: str = "", given: Mapping[str, str] | None = None,
        dictionary: Dictionary | None = None,
    ) -> list[Word]:  # fmt: skip
        """The words of a sentence that `normalize` wrote, in order.

        Args:
            sentence: Normalised.
            written: The same before it was normalised, whose capitals tell homographs apart ("Polish", "polish").
            given: Phonemes of words of this text, whatever the dictionary says; keys are in lower case.
            dictionary: The user's words, whatever the lexicon says.
        """
        matches = list(_WORD.finditer(sentence))
        variants = self._variants(sentence, written, matches)
        words: list[Word] = []
        for i, match in enumerate(matches):
            if words and match.start() < words[-1].end:
                continue
            text, end = match.group(), match.end()
            sound: tuple[str, Found] | None = None
            if given and text.lower() in given:
                sound = given[text.lower()], "given"
            elif dictionary is not None and (entry := dictionary.find(sentence, matches, i)):
                sound, end = (entry[0], "given"), entry[1]
                text = sentence[match.start() : end]
            elif i in variants:
                sound = variants[i], "context"
            words.append(Word(text, *(sound or self.sound(text)), match.start(), end))
        return words

    def sound(self, word: str) -> tuple[str, Found]:
        """How a word sounds by itself. One in capitals is looked up as it is, then in lower case."""
        sound = self._remembered.get(word)
        if sound is None:
            if len(self._remembered) >= _REMEMBERED_WORDS:
                self._remembered.clear()
            sound = self._remembered[word] = self._look_up(word)
        return sound

    def _variants(self, sentence: str, written: str, matches: list[re.Match[str]]) -> dict[int, str]:
        """What the homographs of a sentence sound like, by their places among its words."""
        if self._english is None:
            return {}
        homographs = self._english.homographs
        places = [i for i, match in enumerate(matches) if match.group().lower() in homographs.variants]
        if not places:
            return {}
        names = [matches[i].group().lower() for i in places]
        for text in (written, sentence):
            found = [token for token, _ in tokens(text)]
            at = [i for i, token in enumerate(found) if token.lower() in homographs.variants]
            if [found[i].lower() for i in at] == names:
                chosen = (
                    homographs.choose(name, features(found, i), capital=found[i][0].isupper())
                    for name, i in zip(names, at, strict=True)
                )
                return {i: variant.phonemes for i, variant in zip(places, chosen, strict=True)}
        return {}

    def _entry(self, word: str) -> str | None:
        """Of the package's words, which correct the lexicon's, then of the lexicon."""
        found = None if self._english is None else self._english.words.get(word)
        return found if found is not None else self.lexicon.get(word)

    def _look_up(self, word: str) -> tuple[str, Found]:
        dialect = _DROPPED_G.fullmatch(word.lower())
        ending = look_up(f"{dialect[1]}ing", self._entry) if dialect else None
        dropped = f"{ending[:-1]}n" if ending is not None and ending.endswith("ŋ") else None
        if dropped and word.endswith("'"):
            return dropped, "lexicon"
        for form in dict.fromkeys((word, word.lower())):
            known = look_up(form, self._entry)
            if known is not None:
                return known, "lexicon"
        if dropped:
            return dropped, "lexicon"
        acronym = _ACRONYM.fullmatch(word)
        if acronym:
            _, letters, plural = acronym.groups()
            names = [self._entry(letter) or spell(letter) for letter in letters.upper()]
            return " ".join(names) + ("z" if plural and "z" in self.lexicon.phonemes else ""), "letters"
        if self._english is None:
            return spell(word), "spelled"
        stem, _, ending = word.lower().partition("'")
        if stem == "o" and (known := look_up(ending, self._entry)):  # "O'Neil"
            return f"O{known}", "lexicon"
        phonemes = self._english.sounding_out.sound_out(stem)
        if ending in ("", "s"):
            return (add_s(phonemes) if ending else phonemes), "sounded"
        return self._english.sounding_out.sound_out(word.lower()), "sounded"


def spell(word: str) -> str:
    """The letters of a word as symbols of their own."""
    return word.lower().translate(_TO_SPELLED)
