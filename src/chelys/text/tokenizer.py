"""Text <-> ids. Two configurations of one class, told apart by what lies in the model folder.

``tokenizer.json`` alone                  pieces of spelling; published TorToise reads them so, cleaned its own way
``tokenizer.json`` + ``lexicon.txt.gz``   symbols: words become phonemes (`pronounce.py`); those that nothing
                                          can sound out are spelled, letter by letter

The second mixes two representations (Kastner et al. 2019, "Representation mixing for TTS synthesis"): spelled
letters are symbols apart from phonemes, and a model that saw a share of its training words spelled can read
a word that no lexicon has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

from chelys import registry
from chelys.deprecation import renamed_names
from chelys.errors import ConfigError, ModelError, TextError, UserError, first_line
from chelys.files import read_bytes, write_text
from chelys.parsing import parse_json
from chelys.text.lexicon import FILE_NAME as LEXICON_FILE
from chelys.text.lexicon import Lexicon
from chelys.text.normalize import check_speakable, normalize
from chelys.text.pronounce import SPELLED_APOSTROPHE, SPELLED_LETTERS, Pronouncer, Word, spell

if TYPE_CHECKING:
    from chelys.text.dictionary import Dictionary

#: Who writes a text as it is spoken: `normalize`, or one that `registry.CLEANERS` knows.
Cleaner = Literal["chelys", "tortoise", "basic"]

TOKENIZER_FILE = "tokenizer.json"
STOP, UNKNOWN, SPACE = "[STOP]", "[UNK]", "[SPACE]"
PUNCTUATION = '.,?!;:-()"'

_FROM_SPELLED = {ord(letter): chr(ord("a") + i) for i, letter in enumerate(SPELLED_LETTERS)} | {
    ord(SPELLED_APOSTROPHE): "'"
}

#: Pattern and replacement, applied in this order to the symbols.
_FOLDED_MARKS = (
    ('"', ""), (" ?[;:()] ?| - ", ", "), (" (?=[.,?!])", ""), (",+(?=[.,?!])|(?<=[.,?!]),+", ""), ("^[, ]+|[, ]+$", ""),
)  # fmt: skip


@dataclass(frozen=True)
class Encoding:
    """What became of a text."""

    tokenizer: Tokenizer = field(repr=False, compare=False)  # which read it
    dropped: str  # distinct characters that could not be spoken
    symbols: str  # what the ids stand for: phonemes, or the normalised text where there is no lexicon
    normalized: str = ""  # as it is spoken, in letters
    words: tuple[Word, ...] = ()  # of the normalised text, where there is a lexicon
    warnings: tuple[str, ...] = ()  # what the normaliser guessed

    @cached_property
    def ids(self) -> list[int]:
        """Token ids; no stop is added. Made when they are wanted, since they take as long as looking up the words."""
        return self.tokenizer.ids(self.symbols)


class Tokenizer:
    """Reads text as a model does: symbols <-> ids by its core, words <-> phonemes by its lexicon, if it has one."""

    #: Whether `check` takes a fraction of the time that `encode` does.
    quick_check = True

    def __init__(self, core: tokenizers.Tokenizer, lexicon: Lexicon | None = None) -> None:
        self.core = core
        self.lexicon = lexicon
        self._names_space = core.token_to_id(SPACE) is not None
        self.pronouncer = None if lexicon is None else Pronouncer(lexicon)

    @classmethod
    def load(cls, folder: Path, *, cleaner: str = "chelys") -> Tokenizer:
        """Read ``tokenizer.json`` and, where there is one, ``lexicon.txt.gz`` of a model folder.

        The cleaner, which the model's configuration knows, is what is done to raw text first.

        Raises:
            ModelError: If a file is missing or damaged; it is named.
            ConfigError: If there is no such cleaner, or it cannot go with a lexicon.
        """
        path = folder / TOKENIZER_FILE
        if not path.is_file():
            raise ModelError(f"no {TOKENIZER_FILE} in {folder}: a model folder needs one; fetch or convert it again")
        core = read_core(path)
        for token in (STOP, UNKNOWN):
            if core.token_to_id(token) is None:
                raise ModelError(f"{path} has no {token} token: fetch or convert the model folder again")
        lexicon = folder / LEXICON_FILE
        words = Lexicon.load(lexicon) if lexicon.exists() else None
        return tokenizer_with(cleaner, core, words)

    def save(self, folder: Path) -> None:
        """Write the files that `load` reads."""
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / TOKENIZER_FILE, self.core.to_str(pretty=True) + "\n")
        if self.lexicon is not None:
            self.lexicon.save(folder / LEXICON_FILE)

    @property
    def vocabulary_size(self) -> int:
        """The highest id and one, the special ones among them."""
        return 1 + max(self.core.get_vocab().values(), default=-1)

    @property
    def stop_id(self) -> int:
        """Id that ends a text."""
        return int(self.core.token_to_id(STOP) or 0)

    def encode(self, text: str, *, spelled: Callable[[str], bool] | None = None) -> list[int]:
        """Ids ``(t,)`` of raw text, without a stop.

        ``spelled`` is asked for every word; True spells it though the lexicon knows it. Training draws a share.

        Raises:
            TextError: If nothing of the text can be spoken.
        """
        return self.analyse(text, spelled=spelled).ids

    def analyse(
        self, text: str, *, spelled: Callable[[str], bool] | None = None, given: Mapping[str, str] | None = None,
        dictionary: Dictionary | None = None, locale: str = "en-US",
    ) -> Encoding:  # fmt: skip
        """As `encode`, with what was dropped and what the ids stand for.

        ``given`` and ``dictionary`` have what the user wants words to sound like: see `Pronouncer.pronounce`.
        ``locale`` as of `normalize`.
        """
        normalized = normalize(text, locale=locale)
        words = self._pronounced(normalized.text, text, given, dictionary)
        symbols = self._symbols(normalized.text, words, spelled)
        return Encoding(self, normalized.dropped, symbols, normalized.text, tuple(words), normalized.warnings)

    def check(self, text: str) -> None:
        """Refuse a text, before any work is done, by a TextError if nothing can be spoken or a word is too long."""
        check_speakable(text)

    def clean(self, text: str) -> str:
        """What is said for a raw text, in letters; a TextError if nothing of it can be spoken."""
        return normalize(text).text

    def encode_normalized(self, text: str, *, spelled: Callable[[str], bool] | None = None) -> list[int]:
        """Ids of text that `normalize` wrote (or the cleaner, where there is another)."""
        return self.ids(self.symbols(text, spelled=spelled))

    def symbols(self, text: str, *, spelled: Callable[[str], bool] | None = None) -> str:
        """Normalised text -> what the ids stand for."""
        return self._symbols(text, self._pronounced(text), spelled)

    def _pronounced(
        self, text: str, written: str = "", given: Mapping[str, str] | None = None, dictionary: Dictionary | None = None
    ) -> list[Word]:
        if self.pronouncer is None:
            return []
        return self.pronouncer.pronounce(text, written=written, given=given, dictionary=dictionary)

    def _symbols(self, text: str, words: Iterable[Word], spelled: Callable[[str], bool] | None) -> str:
        """The text with the words' sounds in their places."""
        if self.pronouncer is None:
            return text.lower()
        pieces: list[str] = []
        end = 0
        for word in words:
            letters = spelled is not None and spelled(word.text)
            pieces += text[end : word.start], spell(word.text) if letters else word.phonemes
            end = word.end
        return "".join(pieces) + text[end:]

    def decode(self, ids: list[int]) -> str:
        """Ids -> symbols, spelled letters as plain ones. Sounds stay sounds: a lexicon has no way back."""
        text = self.core.decode(ids, skip_special_tokens=False)
        if self._names_space:  # such a core puts a space between any two pieces
            return text.replace(" ", "").replace(SPACE, " ").replace(STOP, "").replace(UNKNOWN, "")
        return text.translate(_FROM_SPELLED)

    def ids(self, symbols: str) -> list[int]:
        """Ids ``(t,)`` of symbols."""
        if self._names_space:
            symbols = symbols.replace(" ", SPACE)
        try:
            ids: list[int] = self.core.encode(symbols, add_special_tokens=False).ids
        except BaseException as error:
            raise _of_rust(error, TextError(f"the tokenizer cannot read {symbols[:60]!r}")) from None
        if not ids and symbols.strip():
            raise TextError(f"the tokenizer reads nothing of {symbols[:60]!r}: write it in other words")
        return ids

    def symbol(self, id: int) -> str:
        """What an id stands for; empty if there is no such id."""
        token: str = self.core.id_to_token(id) or ""
        return " " if token == SPACE else token


#: Bytes of a ``tokenizer.json``.
MAX_TOKENIZER = 1 << 24
#: What a ``tokenizer.json`` may be made of. Others multiply or truncate texts, or add what no model has seen.
_ALLOWED = {
    "model": {"WordLevel", "BPE"},
    "normalizer": {"Sequence", "Replace", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "StripAccents", "Strip"},
    "pre_tokenizer": {"Sequence", "Split", "Whitespace", "WhitespaceSplit", "Punctuation", "Digits", "ByteLevel"},
}
_GROWTH = 64  # times that replacements can make a text longer


def read_core(path: Path) -> tokenizers.Tokenizer:
    """A ``tokenizer.json`` of the `tokenizers` library, if it does nothing but map text to ids.

    Raises:
        ModelError: If it is missing, damaged or too large, or has parts that chelys does not use.
    """
    try:
        data = read_bytes(path, MAX_TOKENIZER)
        _check_parts(parse_json(data))
        core = tokenizers.Tokenizer.from_buffer(data)
        core.no_padding()
        core.no_truncation()
    except BaseException as error:
        advice = "fetch or convert the model folder again"
        raise _of_rust(error, ModelError(f"{path} is not a tokenizer ({first_line(error)}): {advice}")) from None
    return core


def _of_rust(error: BaseException, instead: UserError) -> BaseException:
    """What to raise for an error of the library, whose panics are no Exception."""
    return error if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)) else instead


def _check_parts(values: Any) -> None:
    """Raise a ValueError for parts that are unknown, or can grow or stall on a text."""
    if not isinstance(values, dict):
        raise ValueError("it holds no keys")
    model = values.get("model")
    if isinstance(model, dict) and model.get("unk_token") not in (model.get("vocab") or {}):
        raise ValueError("its token for what is unknown is not in its vocabulary")
    for key, allowed in _ALLOWED.items():
        growth = 1
        parts: list[Any] = [values.get(key)]
        while parts:
            part = parts.pop()
            if part is None and key != "model":
                continue
            kind = part.get("type", "BPE") if isinstance(part, dict) else None
            if kind not in allowed:
                raise ValueError(f"its {key} is of the kind {str(kind)[:40]!r}; {', '.join(sorted(allowed))} are used")
            parts += part.get("normalizers") or part.get("pretokenizers") or []
            growth *= 1 + len(part.get("content") or "")
            pattern = part.get("pattern")
            regex = pattern.get("Regex", "") if isinstance(pattern, dict) else ""
            if growth > _GROWTH or len(parts) > _GROWTH:
                raise ValueError(f"its {key} can make a text more than {_GROWTH} times as long")
            if len(regex) > 200 or len(_REPEATS.findall(regex)) > 2 or _NESTED.search(regex):
                raise ValueError(f"its {key} has a pattern that could take for ever: {regex[:40]!r}")


_REPEATS, _NESTED = re.compile(r"[*+{]"), re.compile(r"\)[*+{?]|\\[1-9kg]")


def tokenizer_with(cleaner: str, core: tokenizers.Tokenizer, lexicon: Lexicon | None = None) -> Tokenizer:
    """The tokenizer that works with a cleaner.

    Raises:
        ConfigError: If there is no such cleaner, or it cannot go with a lexicon.
    """
    if cleaner == "chelys":
        return Tokenizer(core, lexicon)
    if cleaner not in registry.CLEANERS:
        raise ConfigError(f"cleaner is {cleaner!r}; choose from {', '.join(('chelys', *registry.CLEANERS))}")
    made: Tokenizer = registry.find(registry.CLEANERS[cleaner])(core, lexicon, cleaner=cleaner)
    return made


def make_tokenizer(lexicon: Lexicon) -> Tokenizer:
    """The tokenizer of nano: one id a symbol.

    Ids: 0 stop, 1 unknown, 2 space, then punctuation, the lexicon's phonemes, spelled letters.
    ``tokenizer.json`` describes all of it: a word-level model behind a splitter into characters, and
    before that the folding of rare punctuation: nano's corpus has ``. , ? ! -`` alone, and a mark that no
    training ever met would sound arbitrary, so ``; : ( )`` and the dash between words are read as commas
    and double quotes not at all. Their ids are there for a model whose corpus has them.
    """
    symbols = [" ", *PUNCTUATION, *lexicon.phonemes, *SPELLED_LETTERS, SPELLED_APOSTROPHE]
    vocabulary = {token: id_ for id_, token in enumerate([STOP, UNKNOWN, *symbols])}
    core = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    core.normalizer = normalizers.Sequence([normalizers.Replace(Regex(what), by) for what, by in _FOLDED_MARKS])
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    core.decoder = decoders.Fuse()
    return Tokenizer(core, lexicon)


__getattr__ = renamed_names(__name__)
