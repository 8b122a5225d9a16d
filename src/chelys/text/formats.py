"""What a text is written in: told without the parsers, which few texts need."""

from __future__ import annotations

import re

from chelys.text.rules import Late

#: What a text may be written in; ``auto`` tells SSML and HTML by their beginnings, Markdown by its marks.
FORMATS = ("auto", "text", "markdown", "html", "ssml")

#: Elements of HTML that begin and end a paragraph of their own.
BLOCKS = frozenset(
    "address article aside blockquote body center dd details dialog div dl dt fieldset figcaption figure footer form "
    "h1 h2 h3 h4 h5 h6 header hr html legend li main nav ol p pre section summary table tbody tfoot thead tr ul".split()
)

_INLINE = "a|abbr|b|big|br|cite|code|del|em|font|i|img|ins|kbd|mark|q|s|small|span|strike|strong|sub|sup|tt|u|var|wbr"
_HTML_PAGE = Late(
    r"\s*(?:<!--.{0,10000}?-->\s*)*<(?:!doctype html|html|head|body|article|section|main|div|p|h[1-6]|ul|ol|table)\b",
    re.IGNORECASE | re.DOTALL,
)
_VALUE = r"""(?:"[^"<>]{0,2000}"|'[^'<>]{0,2000}'|[^\s"'<>]{1,200})"""
_HTML_WITHIN = Late(
    rf"</?(?:{_INLINE}|{'|'.join(sorted(BLOCKS))})(?:\s{{1,9}}[\w:-]{{1,40}}\s?=\s?{_VALUE}){{0,20}}\s?/?>"
    r"|&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]{2,8}\d{0,2});",
    re.IGNORECASE,
)
#: What a text has that is Markdown. Lines that begin with figures, and stars between spaces, prove nothing.
_MARKDOWN = Late(
    r"""^[ ]{0,3}\#{1,6}[ \t]+\S          # a heading
      | ^[ ]{0,3}>[ \t]?\S                # a quotation
      | ^[ ]{0,3}[-*+][ \t]+\S            # an item of a list
      | ^\S[^\n]*\n[ ]{0,3}(?:={3,}|-{3,})[ ]*$  # a heading with a line below it
      | ^[ ]{0,3}(?:```|~~~)              # a block of code
      | ^[ ]{0,3}\|?[ ]*:?-{3,}:?[ ]*\|   # the line below the head of a table
      | (?<![\w*])\*\*(?=[^\s*])[^\n]{0,400}?[^\s*]\*\*(?!\w)
      | (?<![\w*])\*(?=[^\s*])[^*\n]{0,400}[^\s*]\*(?![\w*])|(?<![\w*])\*[^\s*]\*(?![\w*])
      | (?<!\w)(__?)(?=[^\s_])[^_\n]{0,400}[^\s_]\1(?!\w)
      | ~~(?=\S)[^~\n]{1,400}~~ | ==(?=\S)[^=\n]{1,400}==
      | (?<![\w`])`[^`\n]{1,400}`(?![\w`])
      | !?\[[^\[\]\n]{0,400}\]\((?!/[^/\n()]{1,200}/\))[^()\s]{1,2000}(?:[ ]"[^"\n]{0,400}")?\)
      | \[\^[^\[\]\s]{1,40}\]
      | <(?:https?://|mailto:)[^\s<>]{1,2000}>""",
    re.MULTILINE | re.VERBOSE,
)
_SSML = Late(r"\s*(?:<speak[\s>/]|<(?:\?xml|!DOCTYPE|!--).{0,100000}?<speak[\s>/])", re.DOTALL)


def format_of(text: str) -> str:
    """The format that a text shows by itself."""
    if _SSML.compiled.match(text.lstrip("\ufeff")):
        return "ssml"
    if is_html(text):
        return "html"
    if _MARKDOWN.compiled.search(text):
        return "markdown"
    return "html" if _HTML_WITHIN.compiled.search(text) else "text"


def is_html(text: str) -> bool:
    """Whether a text is HTML as a whole."""
    return bool(_HTML_PAGE.compiled.match(text))
