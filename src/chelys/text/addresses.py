"""Addresses of the web and of mail, file names, handles: what is between their stops and strokes."""

from __future__ import annotations

import re
from collections.abc import Callable

from chelys.text.numbers import digits, figure
from chelys.text.rules import Reading, Rules, letters

#: Endings of hosts that are words; others of two letters are countries and spelled.
_DOMAINS = (
    "com|org|net|edu|gov|mil|int|info|biz|name|app|dev|blog|shop|store|online|site|tech|cloud|page|news|wiki|xyz|"
    "io|ai|co|ly|me|tv|uk|us|ca|de|fr|it|es|nl|eu|ch|at|be|se|no|dk|fi|pl|ie|au|nz|jp|cn|in|br|mx|ru|za"
)
#: Endings of files.
_FILES = (
    "txt|pdf|docx?|xlsx?|pptx?|csv|tsv|json|ya?ml|toml|xml|html?|md|rst|py|js|ts|jsx|css|java|cpp|rb|go|rs|sh|"
    "exe|zip|gz|"
    "tar|png|jpe?g|gif|svg|webp|mp3|mp4|wav|flac|ogg|m4a|avi|mov|epub|log|ini|cfg|conf|bak|iso"
)
_SIGNS = {
    ".": " dot ", "/": " slash ", "@": " at ", "-": " dash ", "_": " underscore ", ":": " colon ",
    "?": " question mark ",
    "=": " equals ", "&": " and ", "#": " hash ", "%": " percent ", "+": " plus ", "~": " tilde ", "\\": " backslash ",
}  # fmt: skip
_PIECES = re.compile(r"[A-Za-z]+|\d+|[^A-Za-z\d]")
#: What of a host or a file is read by the names of its letters.
_SPELLED = frozenset(
    "www uk us ca de fr it es nl eu ch at se dk pl ie au nz jp cn br mx ru za io ai tv html htm php css js pdf csv tsv "
    "xml md py mp mp3 mp4 exe gz png svg ogg etc http https ftp id faq cgi api ssh xlsx docx pptx txt cfg rst".split()
)
#: What follows an address in a text rather than belonging to it.
_BEHIND = ".,;:!?)]}>'\""

ADDRESSES = Rules(r"[A-Za-z\d](?:[.:@/\\]|://)[A-Za-z\d~/_]|[.@#/~\\][A-Za-z]|_")


def _spoken(address: str, figures: Callable[[str], str] | None = None) -> str:
    words: list[str] = []
    for piece in _PIECES.findall(address):
        if piece.isdigit():
            words.append((figures or (figure if len(piece) < 4 and piece[0] != "0" else digits))(piece))
        elif piece.isalpha():
            words.append(
                letters(piece.upper())
                if piece.lower() in _SPELLED and (len(piece) != 3 or piece == "etc")
                else _word(piece)
            )
        else:
            words.append(_SIGNS.get(piece, " ").strip())
    return " ".join(word for word in words if word)


def _word(piece: str) -> str:
    return piece.upper() if piece.lower() in _SPELLED else re.sub(r"(?<=[a-z])(?=[A-Z])", " ", piece)


def _address(match: re.Match[str], reading: Reading, figures: Callable[[str], str] | None = None) -> str:
    """An address, without the scheme, and what stands behind it."""
    whole = match.group("address")
    address = whole.rstrip(_BEHIND)
    behind = whole[len(address) :]
    return _spoken(address.rstrip("/"), figures) + behind


ADDRESSES.add(
    "link", r"\b(?:https?|ftp|file)://(?P<address>[^\s<>\"]{1,2000})", _address, flags=re.IGNORECASE, has=("://",)
)
ADDRESSES.add(
    "mail", r"(?:\bmailto:)?(?P<address>\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8})", _address, has="@"
)
ADDRESSES.add(
    "machine",
    r"(?<![\w.])(?P<address>(?:localhost|(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3})(?::\d{2,5})?"
    r"(?:/[^\s<>\"]{0,2000})?)(?![\w-]|\.\d)",
    lambda match, reading: _address(match, reading, figures=digits),
    has=(".", "localhost"),
)
ADDRESSES.add(
    "host",
    rf"(?<![\w.@/-])(?P<address>(?:[A-Za-z0-9][\w-]{{0,62}}\.){{1,8}}(?:{_DOMAINS})(?![\w-]|"
    rf"\.[A-Za-z])(?::\d{{1,5}})?(?:/[^\s<>\"]{{0,2000}})?)",
    _address,
    has=".",
)
ADDRESSES.add(
    "file",
    rf"(?<![\w.@-])(?P<address>[\w-]{{1,100}}(?:\.[\w-]{{1,20}}){{0,3}}\.(?:{_FILES})(?![\w-]))",
    _address,
    has=".",
)
ADDRESSES.add(
    "path", r"(?<![\w.<])(?P<address>(?:[A-Za-z]:\\|~/|\.{1,2}/|/(?=[\w.-]+/))[\w.\\/~-]{1,2000})", _address, has="/\\"
)
ADDRESSES.add("hashtag", r"(?<![\w#])#([A-Za-z]\w{1,60})", lambda match, reading: f"hashtag {_word(match[1])}", has="#")
ADDRESSES.words("dot_of_a_domain", r"(?<![\w.])\.(?=(?:com|edu|gov|net|NET|org)\b)", "dot ", has=".")
ADDRESSES.add("handle", r"(?<![\w.])(?P<address>@[A-Za-z_]\w{0,50})", _address, has="@")
