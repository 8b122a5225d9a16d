"""What a user can do wrong, one class each.

Every error here is answered by the command line with its one line of text and exit status 2: it says
what was given, what is allowed and what to do. Anything else that is raised is a fault of chelys.
"""

from __future__ import annotations


class UserError(ValueError):
    """A mistake that the user can mend; its message is one line."""


class TextError(UserError):
    """The text cannot be spoken: empty, blank, or without a speakable character."""


class VoiceError(UserError):
    """The voice is unknown, or its clips cannot be used."""


class AudioError(UserError):
    """A file is not audio, or holds none worth using."""


class OutputError(UserError):
    """The output cannot be written, or its suffix names no known format."""


class ModelError(UserError):
    """A model folder is missing, incomplete or damaged."""


class ConfigError(UserError):
    """A configuration has an unknown key, a missing one, or a value out of range."""


class ManifestError(UserError):
    """A manifest is missing or one of its lines is malformed."""


class MissingExtra(UserError):
    """An optional part of chelys needs packages that are not installed."""

    def __init__(self, extra: str, error: ImportError) -> None:
        super().__init__(f"{error.name or error} is not installed: pip install 'chelys[{extra}]'")
