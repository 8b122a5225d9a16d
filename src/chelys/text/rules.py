"""A rule of reading: a pattern, and what is said for what it finds. Rules of one kind lie in one table, in order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

#: Whose dates, the first being the default.
LOCALES = ("en-US", "en-GB")
#: Stands for the name of the letter A until the articles are in lower case.
LETTER_A = "\x01"


@dataclass
class Reading:
    """What one call of `normalize` knows and collects."""

    locale: str = LOCALES[0]
    warnings: dict[str, None] = field(default_factory=dict)  # distinct lines, in order

    def warn(self, line: str) -> None:
        """Report what was dropped or guessed, once."""
        self.warnings[line] = None


#: Says a match in words; None leaves it as it is written, for the rules below.
Say = Callable[[re.Match[str], Reading], "str | None"]


class Late:
    """A pattern that is compiled when it is first needed: most texts need few of them."""

    def __init__(self, pattern: str, flags: int = 0) -> None:
        self._pattern, self._flags = pattern, flags

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        """The pattern itself."""
        return re.compile(self._pattern, self._flags)


class Rules:
    """An ordered table of rules. Most are skipped for most texts, by looking for a few characters that they need.

    ``needs`` are patterns, one of which must be found for any of the rules; ``has`` of a rule are characters or
    strings, one of which its matches hold.
    """

    def __init__(self, *needs: str) -> None:
        self.needs = [Late(pattern) for pattern in needs]
        self.table: dict[str, tuple[Sequence[str], Late, Say]] = {}

    def add(self, name: str, pattern: str, say: Say, *, has: Sequence[str] = (), flags: int = 0) -> None:
        """Enter the next rule."""
        self.table[name] = (has, Late(pattern, flags), say)

    def rule(self, pattern: str, *, has: Sequence[str] = (), flags: int = 0) -> Callable[[Say], Say]:
        """Enter the function below as the next rule, under its name."""

        def enter(say: Say) -> Say:
            self.add(say.__name__, pattern, say, has=has, flags=flags)
            return say

        return enter

    def words(self, name: str, pattern: str, spoken: str, *, has: Sequence[str] = ()) -> None:
        """Enter a rule that says a template of `re.Match.expand`."""
        self.add(name, pattern, lambda match, reading: match.expand(spoken), has=has)

    def apply(self, text: str, reading: Reading) -> str:
        """The text with every match said, apart from the words around it."""
        for needed in self.needs:
            if needed.compiled.search(text):
                break
        else:
            return text
        for has, pattern, say in self.table.values():
            if not has or _holds(text, has):
                text = pattern.compiled.sub(_apart(say, reading), text)
        return text


def _holds(text: str, strings: Sequence[str]) -> bool:
    for string in strings:
        if string in text:
            return True
    return False


def _apart(say: Say, reading: Reading) -> Callable[[re.Match[str]], str]:
    def replace(match: re.Match[str]) -> str:
        spoken = say(match, reading)
        if spoken is None:
            return match.group()
        text, (start, end) = match.string, match.span()
        if start and _is_of_a_word(spoken[:1]) and _is_of_a_word(text[start - 1]):
            spoken = f" {spoken}"
        return f"{spoken} " if _is_of_a_word(spoken[-1:]) and _is_of_a_word(text[end : end + 1]) else spoken

    return replace


def _is_of_a_word(character: str) -> bool:
    return character.isalnum() or character == LETTER_A


def any_of(words: Iterable[str]) -> str:
    """A pattern of words, the longest first."""
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


def letters(capitals: str) -> str:
    """``AT`` -> the names of its letters, apart."""
    return " ".join(capitals).replace("A", LETTER_A)


def behind(match: re.Match[str], length: int = 40) -> str:
    """The text behind a match, so much of it that the work stays linear."""
    return match.string[match.end() : match.end() + length]


def before(match: re.Match[str], length: int = 40) -> str:
    """The text before a match."""
    return match.string[max(0, match.start() - length) : match.start()]
