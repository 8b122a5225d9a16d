"""What stands between the words: runs of text and pauses, and the tags in brackets that text of any kind may hold.

    [phonetics](/fənˈɛtɪks/)    sounds so
    [pause:0.8]                 seconds of silence; also 0.8s, 800ms
    [voice:rowan]               another voice from here on; [voice:] goes back

Other brackets are words: they mean something to the published TorToise alone, which reads no tags.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

#: Seconds of the longest pause.
LONGEST_PAUSE_S = 60.0


@dataclass(frozen=True)
class TextRun:
    """Text that is spoken in one way."""

    text: str  # as it is written
    phonemes: str = ""  # how all of it sounds, whatever the lexicon says: as the author writes it
    alphabet: str = "ipa"  # of the phonemes: see `chelys.text.ipa`
    spelled: bool = False  # said character by character
    rate: float = 1.0  # pace: 2 is twice as fast
    voice: str | None = None  # name of the voice; None is the caller's


@dataclass(frozen=True)
class Pause:
    """Silence in place of what the punctuation before it would give."""

    seconds: float
    asked: bool = True  # by the author; otherwise it marks a border, as of a paragraph, and gives the least silence


Part = TextRun | Pause

#: How a word with its sound looks.
SOUNDING = re.compile(r"\[([^\[\]\n]{1,200})\]\(/([^/\n()]{1,200})/\)")
_TAG = re.compile(
    rf"{SOUNDING.pattern}"
    r"|\[(pause|voice): ?([^\s\[\]]{0,100})\]"
    r"|\[([a-z]{1,20}:[^\s\[\]]{1,100})\]"  # of another program
    r"|\[[^\[\]\n]{1,80}\]"
)
_DURATION = re.compile(r"\+?(\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})(s|ms|)", re.IGNORECASE)


def read_tags(parts: Iterable[Part], warnings: dict[str, None]) -> Iterator[Part]:
    """Parts of which the runs are plain text, with what the tags in them ask for."""
    voice: str | None = None
    for part in parts:
        if isinstance(part, Pause) or "[" not in part.text:
            yield part if isinstance(part, Pause) else replace(part, voice=voice)
            continue
        end = 0
        for match in _TAG.finditer(part.text):
            word, phonemes, name, value, unknown = match.groups()
            if not (word or name or unknown):
                if re.search("[A-Za-z]", match.group()):
                    warnings[f"brackets mean nothing to this model, what they hold is read: {match.group()}"] = None
                continue
            yield TextRun(part.text[end : match.start()], voice=voice)
            end = match.end()
            if word:
                yield TextRun(word, phonemes, voice=voice)
            elif name == "voice":
                voice = value or None
            elif unknown:
                warnings[f"{match.group()} is no tag that this model knows: left out"] = None
            elif pause := read_pause(value, match.group(), warnings):
                yield pause
        yield TextRun(part.text[end:], voice=voice)


def read_pause(value: str, where: str, warnings: dict[str, None]) -> Pause | None:
    """A pause as long as ``value`` says: seconds, ``0.8s`` or ``800ms``; None, and a warning, if that is no time."""
    match = _DURATION.fullmatch(value.strip())
    if not match:
        warnings[f"{where} names no time such as 0.8, 0.8s or 800ms: left out"] = None
        return None
    seconds = float(match[1]) / (1000 if match[2].lower() == "ms" else 1)
    if seconds > LONGEST_PAUSE_S:
        warnings[f"{where} is longer than a pause may be: {LONGEST_PAUSE_S:g} seconds"] = None
    return Pause(min(seconds, LONGEST_PAUSE_S))
