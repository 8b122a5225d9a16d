"""How words sound: a word list with phonemes, in one small file.

The alphabet is that of misaki (which Kokoro and hibari speak): one character a sound, capital letters for
diphthongs, ``ˈ`` and ``ˌ`` before the stressed vowel, e.g. ``canoe`` is ``kənˈu``. Words have lower-case
keys; upper-case keys are acronyms and the names of letters, so that ``US`` and ``us`` can both be known.

The file is gzip text: comment lines that begin with ``#``, then ``word<TAB>phonemes`` lines in sorted order.
"""

from __future__ import annotations

import re
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path

from chelys.errors import ModelError, first_line
from chelys.files import read_bytes, write_bytes

FILE_NAME = "lexicon.txt.gz"
#: Every vowel of misaki's alphabet.
VOWELS = "AIOQWYaiuæɐɑɒɔəɛɜɪʊʌᵊᵻ"
#: That of nano, inside the package.
NANO_LEXICON = Path(__file__).parents[1] / "assets" / "nano" / FILE_NAME

#: Bytes of an unpacked lexicon, some 20 times nano's, and of a line.
MAX_BYTES, MAX_LINE = 1 << 26, 500

_VOICELESS = frozenset("ptkfθ")
_SIBILANT = frozenset("szʃʒʧʤ")
_FLAPPED = {"t": "T"}  # American English: a t between vowels is a flap ("waiting")
_ENTRY = re.compile(rb"(?!.{%d})[^\t\r]+\t[^\t\r]+|" % (MAX_LINE + 1))


class Lexicon(Mapping[str, str]):
    """Word -> phonemes; words are lower-case, or upper-case for acronyms and letters.

    The comment says where the entries come from and under which licence; it travels with the file. Entries are kept as
    the file's lines, sorted, which are read in a twentieth of a dictionary's time and memory, and found by bisection.
    """

    def __init__(self, entries: Mapping[str, str], comment: str = "") -> None:
        self._lines = sorted(f"{word}\t{phonemes}".encode() for word, phonemes in entries.items())
        self.comment = comment.strip()

    def __getitem__(self, word: str) -> str:
        key = f"{word}\t".encode("utf8", "replace")
        place = bisect_left(self._lines, key)
        if place < len(self._lines) and self._lines[place].startswith(key):
            return self._lines[place][len(key) :].decode()
        raise KeyError(word)

    def __iter__(self) -> Iterator[str]:
        return (line.partition(b"\t")[0].decode() for line in self._lines)

    def __len__(self) -> int:
        return len(self._lines)

    @cached_property
    def phonemes(self) -> str:
        """Every phoneme character that occurs, sorted, each once."""
        return "".join(sorted(set(b"".join(line.partition(b"\t")[2] for line in self._lines).decode())))

    def has_phonemes(self, alphabet: str) -> bool:
        """Whether every one of some phoneme characters occurs; seldom more than a few lines are read for that."""
        missing = set(alphabet)
        for line in self._lines:
            missing.difference_update(line.partition(b"\t")[2].decode())
            if not missing:
                return True
        return False

    def lookup(self, word: str) -> str | None:
        """Phonemes of a word, as the normaliser writes it, or of a regular inflection of a known word; else None."""
        return look_up(word, self.get)

    def save(self, path: Path) -> None:
        """Write the file; the same entries give the same bytes."""
        import gzip  # late: only what is made is written

        lines = [f"# {line}".rstrip().encode() for line in self.comment.splitlines()]
        write_bytes(path, gzip.compress(b"\n".join(lines + self._lines) + b"\n", 9, mtime=0))

    @classmethod
    def load(cls, path: Path) -> Lexicon:
        """Read a lexicon file.

        Raises:
            ModelError: If the file is missing, not gzip text, or a line is not ``word<TAB>phonemes``.
        """
        try:
            unpacker = zlib.decompressobj(wbits=31)  # gzip
            data = unpacker.decompress(read_bytes(path, MAX_BYTES), MAX_BYTES + 1)
            if len(data) <= MAX_BYTES and (not unpacker.eof or unpacker.unused_data):
                raise EOFError("it is cut off, or more follows")
            if len(data) > MAX_BYTES:
                raise ModelError(f"{path} unpacks to more than {MAX_BYTES} bytes: fetch the model folder again")
            data.decode("utf8")  # to be sure that each line can be
        except FileNotFoundError:
            raise ModelError(f"no lexicon at {path}: fetch or convert the model folder again") from None
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise ModelError(
                f"{path} is not a gzip text lexicon ({first_line(error)}): fetch the model folder again"
            ) from None
        lines = data.split(b"\n")
        first = next((n for n, line in enumerate(lines) if not line.startswith(b"#")), len(lines))
        entries = lines[first:]
        entries.sort()  # in no time: they are in order already, but for the empty one behind the last
        del entries[: bisect_right(entries, b"")]
        tabs = data.count(b"\t") - sum(line.count(b"\t") for line in lines[:first])
        wordless = bisect_left(entries, b"\n") - bisect_left(entries, b"\t")
        odd = tabs != len(entries) or wordless or b"\r" in data or b"\t\n" in data or data.endswith(b"\t")
        if odd or len(max(entries, key=len, default=b"")) > MAX_LINE:
            for number, line in enumerate(lines[first:], first + 1):
                if not _ENTRY.fullmatch(line):
                    found = line[:80].decode("utf8", "ignore")[:40]
                    raise ModelError(f"{path}, line {number}: expected 'word<TAB>phonemes', found {found!r}")
        lexicon = cls({}, "\n".join(line[1:].decode().strip() for line in lines[:first]))
        lexicon._lines = entries
        return lexicon


def look_up(word: str, entry: Callable[[str], str | None]) -> str | None:
    """Phonemes of a word with an entry, or of a regular inflection of one; else None. ``entry`` gives those there are.

    Inflections are a possessive, a plural, or a verb's -s, -ed and -ing.
    """
    found = entry(word)
    if found is not None:
        return found
    stem, mark, tail = word.rpartition("'")
    if mark and tail in ("s", ""):  # "canoe's", "canoes'"
        known = look_up(stem, entry)
        return None if known is None else (add_s(known) if tail else known)
    for ending, add in (("ing", _add_ing), ("ed", _add_ed), ("es", add_s), ("s", add_s)):
        if not word.endswith(ending):
            continue
        stem = word[: -len(ending)]
        # An e before -ing and -ed is written once ("raking", "raked"); -es needs its sibilant ("boxes").
        spellings = (stem + "e", stem) if ending in ("ing", "ed") else (stem,)
        for spelling in spellings:
            known = entry(spelling) if len(spelling) > 2 else None
            if known and not (ending == "es" and known[-1] not in _SIBILANT):
                return add(known)
    return None


def add_s(stem: str) -> str:
    """Phonemes with the -s of a plural, a possessive or a verb."""
    if stem[-1] in _SIBILANT:
        return stem + "ᵻz"
    return stem + ("s" if stem[-1] in _VOICELESS else "z")


def _add_ed(stem: str) -> str:
    if stem[-1] in "td":
        return _flap(stem) + "ᵻd"
    return stem + ("t" if stem[-1] in _VOICELESS or stem[-1] in "sʃʧ" else "d")


def _add_ing(stem: str) -> str:
    return _flap(stem) + "ɪŋ"


def _flap(stem: str) -> str:
    between_vowels = len(stem) > 1 and stem[-2] in VOWELS
    return stem[:-1] + _FLAPPED.get(stem[-1], stem[-1]) if between_vowels else stem
