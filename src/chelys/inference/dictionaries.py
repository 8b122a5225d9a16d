"""The user's own words: one file for all they speak, one beside a voice, one for a text."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from chelys.errors import UserError
from chelys.text.dictionary import Dictionary
from chelys.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from chelys.inference.voice import AnyVoice

FILE_NAME = "lexicon.tsv"


def user_dictionary() -> Path:
    """Where the user's own words are kept, whatever is spoken; it need not exist."""
    chosen = os.environ.get("CHELYS_LEXICON")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_data_dir("chelys")) / FILE_NAME


def find_dictionary(
    tokenizer: Tokenizer, lexicon: str | Path | Dictionary | None = None, voice: AnyVoice | None = None
) -> Dictionary | None:
    """The words of the user's file, then of the file beside a voice, then of the one that is given; later ones count.

    Beside the voice ``me.safetensors`` it is ``me.tsv``. None if there is no such file.

    Raises:
        UserError: If the named file is missing, a file is damaged, or one is named for a model without phonemes.
    """
    pronouncer = tokenizer.pronouncer
    if pronouncer is None:
        if lexicon is not None:
            named = lexicon if isinstance(lexicon, (str, Path)) else "a lexicon"
            raise UserError(f"{named} has no use: this model reads spelling, it knows no phonemes")
        return None
    files = [path for path in (user_dictionary(), _beside(voice)) if path is not None and path.is_file()]
    found = [Dictionary.load(path, pronouncer) for path in files]
    if lexicon is not None:
        found.append(lexicon if isinstance(lexicon, Dictionary) else Dictionary.load(Path(lexicon), pronouncer))
    if not found:
        return None
    first, *others = found
    for other in others:
        first |= other
    return first


def _beside(voice: AnyVoice | None) -> Path | None:
    if not isinstance(voice, (str, Path)):
        return None
    from chelys.inference.voice_library import find_user_voice  # late: to read a text takes no torch

    path = find_user_voice(str(voice)) or Path(voice)
    return path.with_suffix(".tsv") if path.suffix else None
