"""Text as published TorToise is asked to read it: Betker (2022), whose rules are those of Keith Ito's Tacotron.

Everything becomes lower-case ASCII; figures and some abbreviations become words. Whatever the tokenizer does not know
(brackets, ``%``) is left to it.
"""

from __future__ import annotations

import re

from chelys.text.abbreviations import SAINT_OR_STREET, saint_or_street
from chelys.text.normalize import SYMBOLS
from chelys.tortoise.numbers import SIGNS, apart, speak_figures
from chelys.tortoise.transliterate import transliterate

#: Applied one after the other, in this order.
ABBREVIATIONS = {
    "mrs": "misess",
    "mr": "mister",
    "dr": "doctor",
    "st": "saint",
    "co": "company",
    "jr": "junior",
    "maj": "major",
    "gen": "general",
    "drs": "doctors",
    "rev": "reverend",
    "lt": "lieutenant",
    "hon": "honorable",
    "sgt": "sergeant",
    "capt": "captain",
    "esq": "esquire",
    "ltd": "limited",
    "col": "colonel",
    "ft": "fort",
}
#: Their full stop may end a sentence as well.
_MAY_END = frozenset(("co", "jr", "esq", "ltd"))

_PUBLISHED_ABBREVIATIONS = tuple((re.compile(rf"\b{short}\."), long) for short, long in ABBREVIATIONS.items())

_SHORT = rf"(?i:{'|'.join(sorted(ABBREVIATIONS, key=len, reverse=True))})"
_TOUCHING = re.compile(rf"(?<![\w.])({_SHORT})\.(?=[A-Za-z])")
_ABBREVIATION = re.compile(rf"(?<![\w.])({_SHORT})\.(?=['\")\]]{{0,9}}( ?)['\"(\[]{{0,9}}([A-Za-z]{{0,20}})(\Z)?)")

_NAMED = {sign: name for sign, name in SYMBOLS.items() if sign not in SIGNS and sign != "/"}
_NAMED_SIGN = re.compile(rf"[{re.escape(''.join(_NAMED))}]")
#: Signs of money in full width, and quotation marks that transliteration makes commas and angles of.
_MENDED = str.maketrans("＄￡￥￠￦«»„‟‹›", '$£¥¢₩""""\'\'')
_SPACES = re.compile(r"\s+")
_SURROGATES = re.compile("[\ud800-\udfff]")


def clean(text: str, *, reference: bool = False) -> str:
    """Write a text as the published networks were trained to read it.

    Args:
        text: English; other scripts are transliterated.
        reference: Exactly as the original does, which says "psfive" for £5, "misterbrown" for "Mr.Brown" and "saint"
            for every "St.", swallows the full stop of a sentence that ends in "Co.", and leaves ``%`` unspoken.

    Returns:
        Lower-case ASCII, perhaps empty.
    """
    if reference:
        text = speak_figures(transliterate(text).lower(), reference=True)
        for pattern, spoken in _PUBLISHED_ABBREVIATIONS:
            text = pattern.sub(spoken, text)
        return _SPACES.sub(" ", text).replace('"', "")
    text = _SPACES.sub(" ", transliterate(text.translate(_MENDED), keep="".join(SIGNS) + "°")).strip()
    text = speak_figures(_speak_abbreviations(text).lower())
    text = _NAMED_SIGN.sub(lambda match: apart(match, _NAMED[match.group()]), text)
    return _SPACES.sub(" ", text.replace('"', "")).strip()


def basic(text: str) -> str:
    """Lower case and single spaces, nothing else; half a surrogate pair becomes the sign for a broken character."""
    return _SPACES.sub(" ", _SURROGATES.sub("\ufffd", text).lower())


def _speak_abbreviations(text: str) -> str:
    """Single-spaced text, before capitals are gone: they tell where a sentence begins."""
    text = _TOUCHING.sub(r"\1. ", text)  # "Mr.Brown"
    return _ABBREVIATION.sub(_spoken, SAINT_OR_STREET.sub(saint_or_street, text))


def _spoken(match: re.Match[str]) -> str:
    short, space, following, at_end = match[1].lower(), match[2], match[3], match[4] is not None and not match[3]
    spoken, may_end = ABBREVIATIONS[short], short in _MAY_END
    if short == "ft" and match.string[max(0, match.start() - 2) : match.start()].strip().isdigit():
        spoken, may_end = "feet", True
    elif short == "st" and not following:
        spoken = "street"
    # A capital behind a title belongs to a name ("Dr. No"); behind "Co." it begins a sentence, but for "Co. Ltd.".
    begins = space and following[:1].isupper() and following.lower() not in ABBREVIATIONS
    return spoken + ("." if at_end or (may_end and begins) else "")
