"""Texts as the published TorToise reads them: cleaned its own way, then pieces of spelling.

The pieces come from byte-pair encoding (Sennrich et al. 2016). Their merges are data of the Apache-2.0 package
``tortoise-tts``; ``train_tokenizer`` learns others from texts.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from string import ascii_lowercase

import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from chelys.errors import ConfigError, TextError
from chelys.text.dictionary import Dictionary
from chelys.text.lexicon import Lexicon
from chelys.text.normalize import nothing_spoken, refuse_blank
from chelys.text.tokenizer import SPACE, STOP, UNKNOWN, Encoding, Tokenizer, tokenizer_with
from chelys.tortoise.cleaner import basic, clean, reading

CLEANERS = ("tortoise", "basic")
PUBLISHED_SIZE = 255

MERGES = """
t+h i+n th+e a+n e+r o+u r+e o+n a+t e+d e+n t+o in+g an+d i+s a+s a+l o+r o+f a+r i+t e+s h+e s+t l+e o+m s+e b+e
a+d o+w l+y c+h w+h th+at y+ou l+i v+e a+c t+i l+d m+e w+as g+h i+d l+l w+i en+t f+or a+y r+o v+er i+c h+er k+e h+is
n+o u+t u+n i+r l+o w+e r+i h+a wi+th gh+t ou+t i+m i+on al+l a+b on+e n+e g+e ou+ld t+er m+o h+ad c+e s+he g+o s+h
u+r a+m s+o p+e m+y d+e a+re b+ut om+e f+r the+r f+e s+u d+o c+on t+e a+in er+e p+o i+f the+y u+s a+g t+r n+ow ou+n
th+is ha+ve no+t s+a i+l u+p th+ing fr+om a+p h+im ac+k at+ion an+t ou+r o+p li+ke u+st es+s b+o o+k u+l in+d e+x
c+om s+ome the+re er+s c+o re+s m+an ar+d p+l w+or w+ay ti+on f+o c+a w+ere b+y at+e p+ro t+ed oun+d ow+n w+ould t+s
wh+at q+u al+ly i+ght c+k g+r wh+en v+en c+an ou+gh in+e en+d p+er ou+s o+d id+e k+now t+y ver+y s+i a+k wh+o ab+out
i+ll the+m es+t re+d y+e c+ould on+g you+r the+ir e+m j+ust o+ther in+to an+y wh+i u+m t+w as+t d+er d+id i+e be+en
ac+e in+k it+y b+ack t+ing b+r mo+re a+ke p+p the+n s+p e+l u+se b+l sa+id o+ver ge+t
"""

MARKS = "!'(),-./:;?"


class TortoiseTokenizer(Tokenizer):
    """Reads text as a published model does: cleaned by ``tortoise``, or ``basic``, which lower-cases alone.

    With ``reference`` it cleans exactly as the original, with its faults, and refuses no text.

    Raises:
        ConfigError: If there is no such cleaner, or a lexicon: the published models know no phonemes.
    """

    quick_check = False

    def __init__(
        self, core: tokenizers.Tokenizer, lexicon: Lexicon | None = None, *, cleaner: str = "tortoise",
        reference: bool = False,
    ) -> None:  # fmt: skip
        if cleaner not in CLEANERS:
            raise ConfigError(f"cleaner is {cleaner!r}; choose from chelys, {', '.join(CLEANERS)}")
        if lexicon is not None:
            raise ConfigError(f"cleaner is {cleaner!r}, but the model has a lexicon: only 'chelys' goes with one")
        super().__init__(core)
        self.cleaner, self.reference = cleaner, reference

    def check(self, text: str) -> None:
        self.encode(text)  # other scripts are transliterated before it is seen what can be said

    def clean(self, text: str) -> str:
        return clean(text, reference=self.reference) if self.cleaner == "tortoise" else basic(text)

    def analyse(
        self, text: str, *, spelled: Callable[[str], bool] | None = None, given: Mapping[str, str] | None = None,
        dictionary: Dictionary | None = None, locale: str = "en-US",
    ) -> Encoding:  # fmt: skip
        """The cleaned text as it is: what the core does not know goes in as unknown, brackets among it."""
        cleaned = self.clean(text)
        if not self.reference:
            refuse_blank(text)
            if not any(c in cleaned for c in ascii_lowercase):
                raise nothing_spoken(text)
        silent = [c for c in text if self.cleaner == "tortoise" and _is_visible(c) and not reading(c)]
        unknown = [c for c in cleaned if not c.isspace() and c not in "[]" and self.core.token_to_id(c) is None]
        return Encoding(self, "".join(dict.fromkeys(silent + unknown)), cleaned, cleaned)


def make_tortoise_tokenizer(*, cleaner: str = "tortoise", reference: bool = False) -> TortoiseTokenizer:
    """The tokenizer of published TorToise (Betker 2022): 255 pieces of spelling, by byte-pair encoding.

    Ids: 0 stop, 1 unknown, 2 space, 3 to 13 punctuation, 14 to 39 letters, then the merges by rank.
    """
    merges = [(left, right) for left, right in (merge.split("+") for merge in MERGES.split())]
    pieces = [STOP, UNKNOWN, SPACE, *MARKS, *ascii_lowercase, *("".join(merge) for merge in merges)]
    vocabulary = {piece: id_ for id_, piece in enumerate(pieces)}
    core = tokenizers.Tokenizer(models.BPE(vocabulary, merges, unk_token=UNKNOWN, fuse_unk=False))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.add_special_tokens([STOP, UNKNOWN, SPACE])
    return TortoiseTokenizer(core, cleaner=cleaner, reference=reference)


def _is_visible(character: str) -> bool:
    """Whether one would see the character and miss it; not so for spaces, controls and marks on other letters."""
    return not character.isascii() and unicodedata.category(character)[0] not in "CMZ"


def train_tokenizer(texts: Iterable[str], size: int = PUBLISHED_SIZE, *, cleaner: str = "tortoise") -> Tokenizer:
    """Learn a vocabulary.

    Args:
        texts: Raw ones, as a manifest has them; those that cannot be spoken are passed over.
        size: Ids in all: stop, unknown and space, marks and letters, then the commonest pairs, pair by pair. There are
            fewer where the texts have no more pairs.
        cleaner: What makes words of a text; who loads the tokenizer must name it again.

    Raises:
        ConfigError: If the size is too small for the letters, or no text can be spoken.
    """
    symbols = [*MARKS, *ascii_lowercase]
    least = len(symbols) + 3
    if size < least:
        raise ConfigError(f"a vocabulary of {size} is too small: marks and letters alone take {least}")
    core = tokenizers.Tokenizer(models.BPE(unk_token=UNKNOWN, fuse_unk=False))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    cleaned = _cleaned(texts, tokenizer_with(cleaner, core))
    if not cleaned:
        raise ConfigError("no text can be spoken: a vocabulary is learned from the texts of a corpus")
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[STOP, UNKNOWN, SPACE], initial_alphabet=symbols,
        limit_alphabet=len(symbols), min_frequency=2, show_progress=False,
    )  # fmt: skip
    core.train_from_iterator(cleaned, trainer)
    return tokenizer_with(cleaner, core)


def _cleaned(texts: Iterable[str], tokenizer: Tokenizer) -> list[str]:
    found = []
    for text in texts:
        try:
            found.append(tokenizer.clean(text).lower())
        except TextError:
            continue
    return found
