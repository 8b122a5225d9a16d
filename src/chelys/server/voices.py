"""Voices by name, as clients may ask for them. No name ever becomes a path."""

from __future__ import annotations

from typing import Any

from chelys.errors import VoiceError
from chelys.inference.synthesizer import Synthesizer
from chelys.inference.voice import Voice
from chelys.inference.voice_files import find_user_voice, list_user_voices, user_voice_path, valid_name
from chelys.inference.voice_library import seed_of

#: OpenAI's voices, and which of nano's speak in their place: women for women, men for men.
OPENAI_VOICES = {
    "alloy": "heart", "ash": "alder", "ballad": "elm", "cedar": "elm", "coral": "fern", "echo": "aspen",
    "fable": "hazel", "marin": "ivy", "nova": "willow", "onyx": "rowan", "sage": "sage", "shimmer": "maple",
    "verse": "aspen",
}  # fmt: skip
_MOST_PARTS = 8


class Voices:
    """The voices that a server speaks in: the model's, the user's own, and other names for them."""

    def __init__(self, synthesizer: Synthesizer, aliases: dict[str, str], default: str | None) -> None:
        self.synthesizer, self.default = synthesizer, default
        self.aliases = {**self._openai(), **aliases}

    def _openai(self) -> dict[str, str]:
        """OpenAI's names; where a model lacks nano's voices, its own take turns."""
        names = self.synthesizer.voice_names
        table = {}
        for place, (alias, name) in enumerate(OPENAI_VOICES.items()):
            if alias not in names and names:
                table[alias] = name if name in names else names[place % len(names)]
        return table

    def names(self) -> list[dict[str, Any]]:
        """What there is, the default one first."""
        own = list_user_voices()
        built_in = self.synthesizer.voice_names
        default = self.default or next(iter(built_in), None)
        listed: list[dict[str, Any]] = [
            {"id": name, "name": name, "kind": "built in", "default": name == default} for name in built_in
        ]
        listed += [{"id": name, "name": name, "kind": "own", "default": name == default} for name in own]
        listed += [
            {"id": alias, "name": alias, "kind": "alias", "of": name, "default": False}
            for alias, name in self.aliases.items() if alias not in built_in and alias not in own
        ]  # fmt: skip
        return listed

    def resolve(self, name: str | None, seed: int) -> Voice:
        """The voice of a name, of a mix of names with weights, or ``random:SEED``.

        Raises VoiceError if there is no such voice.
        """
        name = name or self.default
        if name is None:
            return self.synthesizer.resolve_voice(None, seed=seed)
        parts = [part.strip() for part in name.split("+")]
        if len(parts) > _MOST_PARTS:
            raise VoiceError(f"a mix of {len(parts)} voices: {_MOST_PARTS} at most can be mixed")
        return self.synthesizer.resolve_voice("+".join(map(self._known, parts)), seed=seed)

    def _known(self, part: str) -> str:
        """A part of a mix, its alias replaced; every name in it is one that is known not to be a path."""
        if part == "random" or (part.startswith("random:") and part.count(":") == 1 and seed_of(part) is not None):
            return part
        name, colon, weight = part.rpartition(":") if ":" in part else (part, "", "")
        if name == "random" or (name.startswith("random:") and seed_of(name) is not None):
            return part
        if name in self.synthesizer.voice_names or find_user_voice(name):
            return part
        if name in self.aliases:
            return f"{self.aliases[name]}{colon}{weight}"
        known = ", ".join(dict.fromkeys([*self.synthesizer.voice_names, *list_user_voices(), *self.aliases]))
        raise VoiceError(f"unknown voice {part[:80]!r}: choose from {known}, a mix 'a:0.7+b:0.3', or random:SEED")

    def remove(self, name: str) -> None:
        """Delete a voice of the user's. Raises VoiceError if there is none of that name."""
        if not find_user_voice(name):
            own = ", ".join(list_user_voices()) or "there are none"
            raise VoiceError(f"no voice of yours is called {name[:80]!r}: {own}")
        user_voice_path(name).unlink(missing_ok=True)

    def check_new(self, name: str) -> None:
        """Raises VoiceError if a new voice cannot have that name."""
        from chelys.inference.voice_files import ALLOWED_NAMES

        if not valid_name(name):
            raise VoiceError(f"a voice cannot be called {name[:80]!r}: a name has {ALLOWED_NAMES}")
        if name in self.synthesizer.voice_names or name == "random" or name in self.aliases:
            raise VoiceError(f"{name!r} is taken: choose another name")
