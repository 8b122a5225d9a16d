"""Takes that a person chose by ear: a JSON file that the board writes and ``chelys read`` follows.

``{"chelys_choices": 1, "choices": {SENTENCE KEY: NUMBER OF THE CANDIDATE}}``. The key is that of the sentence, its
voice and its candidates (``Take.sentence_key``), so a choice stays with its sentence wherever it stands in the book,
and is void when the words, the voice or the sampling are others.
"""

from __future__ import annotations

import re
from pathlib import Path

from chelys.errors import UserError, first_line
from chelys.parsing import ParseError, read_json

FORM = 1
_KEY = re.compile("[0-9a-f]{32}")
_MOST = 1024  # candidates


def choices_beside(output: Path) -> Path:
    """Where the choices of a file, or of a folder of chapters, are looked for."""
    return output.with_name(f"{output.stem}.choices.json")


def read_choices(path: Path) -> dict[str, int]:
    """The choices of a file. Raises UserError if it cannot be read or is something else."""
    try:
        found = read_json(path)
        choices = found["choices"]
        if found["chelys_choices"] != FORM:
            raise ValueError(f"it is in form {str(found['chelys_choices'])[:20]}")
        for key, number in choices.items():
            if not _KEY.fullmatch(key) or type(number) is not int or not 0 <= number < _MOST:
                raise ValueError(f"{key[:40]!r} is no choice")
    except (OSError, ParseError, KeyError, TypeError, AttributeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UserError(f"{path} is no file of choices ({reason}): save one on the board") from None
    return dict(choices)
