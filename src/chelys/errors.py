"""Errors that a user can fix, one class for each kind.

The command line prints the message of such an error as one line and exits with status 2. The message says what was
given, what is allowed and what to do. Any other exception is a bug in chelys.
"""

from __future__ import annotations


class UserError(ValueError):
    """An error that the user can fix; its message is one line."""


class TextError(UserError):
    """The text cannot be spoken: empty, blank, or without a speakable character."""


class VoiceError(UserError):
    """The voice is unknown, or its clips cannot be used."""


class AudioError(UserError):
    """A file is not audio, or holds none worth using."""


class OutputError(UserError):
    """The output cannot be written, or its suffix names no known format."""


class BusyError(OutputError):
    """Another process is at the same work."""


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


def first_line(error: BaseException) -> str:
    """What an error says, in short; its kind if it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]


def printable_line(text: str) -> str:
    """A text with a space for each line end, control character or other one that a terminal does not show."""
    return "".join(c if c.isprintable() else " " for c in text)
