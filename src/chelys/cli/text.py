"""``chelys text``: what will be said, before it is said."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from chelys.cli.console import FormatOption, LexiconOption, LocaleOption, SsmlOption, echo, reading_options, warn
from chelys.errors import TextError, first_line

HELP = "Show what will be said: sentences, words, phonemes, pauses and warnings."
EXAMPLE = 'Example: chelys text "Dr. Smith read 3 books." --json'

#: Bytes of the largest file that is read.
LARGEST_FILE = 1 << 26
#: What the suffix of a file says of its format; others are found out.
_SUFFIXES = {".md": "markdown", ".markdown": "markdown", ".html": "html", ".htm": "html", ".ssml": "ssml"}


def text(
    text: Annotated[str, typer.Argument(metavar="TEXT|FILE|-", help="The text, a file of it, or '-' for stdin.")],
    format: FormatOption = "auto",
    ssml: SsmlOption = False,
    locale: LocaleOption = "en-US",
    lexicon: LexiconOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with the warnings in it.")] = False,
) -> None:
    """Read the text as ``speak`` does with nano, without its networks."""
    asked = reading_options(format, locale, ssml=ssml)
    from chelys.inference.dictionaries import find_dictionary
    from chelys.text.document import MAX_CHARS
    from chelys.text.front_end import read_text
    from chelys.text.split import split
    from chelys.text.tokenizer import Tokenizer
    from chelys.weights.catalog import BUILT_IN, find_model

    path = file_named(text)
    if path and asked["format"] == "auto":
        asked["format"] = _SUFFIXES.get(path.suffix.lower(), "auto")
    content = read_file(path) if path else read_argument(text)
    tokenizer = Tokenizer.load(find_model(BUILT_IN))
    asked["dictionary"] = find_dictionary(tokenizer, lexicon)
    document = read_text(content, tokenizer, split=lambda text: split(text, max_chars=MAX_CHARS), **asked)
    if as_json:
        print(json.dumps(document.as_json(), indent=1))  # ASCII, whatever the terminal can show
        return
    for number, sentence in enumerate(document.as_json()["sentences"], 1):
        pause = f"  (pause {sentence['pause']:g} s)" if sentence["pause"] else ""
        echo(f"{number:3d}  {sentence['text']}{pause}\n     {sentence['spoken']}\n     {sentence['phonemes']}")
    for warning in document.warnings:
        warn(warning)


def file_named(text: str) -> Path | None:
    """The file of that name, if there is one."""
    try:
        return Path(text) if text != "-" and "\n" not in text and Path(text).is_file() else None
    except (OSError, ValueError):  # too long for a name; a null character
        return None


def read_file(path: Path) -> str:
    """The text in a file. Raises TextError if it is too large, unreadable or not UTF-8."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise TextError(f"{path} cannot be read: {first_line(error)}") from None
    return _decoded(data, str(path))


def read_argument(text: str) -> str:
    """A text from the command line, or standard input for ``-``. Raises TextError if it is too large or not UTF-8."""
    if text != "-":
        try:
            text.encode("utf-8")  # the shell hands over any bytes; those that are no UTF-8 are lone surrogates here
        except UnicodeError:
            raise TextError(_NOT_UTF8.format("the text", "")) from None
        return text
    if sys.stdin is None:
        raise TextError("standard input is closed: pipe UTF-8 text into it, or give the text itself")
    return _decoded(sys.stdin.buffer.read(LARGEST_FILE + 1), "the text")


_NOT_UTF8 = "{} is not valid UTF-8{}: convert it, for example with iconv -t utf-8"


def _decoded(data: bytes, name: str) -> str:
    if len(data) > LARGEST_FILE:
        raise TextError(f"{name} is larger than {LARGEST_FILE >> 20} MiB: cut it into parts")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextError(_NOT_UTF8.format(name, f" (byte {error.start})")) from None
