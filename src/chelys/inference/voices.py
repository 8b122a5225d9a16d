"""Whatever names a voice, to a voice of this model: built-in, the user's own, files, clips, mixes, random ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chelys.audio.io import clip_paths
from chelys.audio.rates import OUTPUT_RATE
from chelys.errors import VoiceError
from chelys.inference import voice_shelf
from chelys.inference.family import Family
from chelys.inference.voice import KEPT_SECONDS, Voice, make_voice
from chelys.inference.voice_drawing import draw_voice, drawn_seed


class Voices:
    """The voices that a model can speak in.

    Args:
        family: How the model is spoken with.
    """

    def __init__(self, family: Family) -> None:
        self.family, self.model = family, family.model
        self._files = {path.stem: path for path in sorted((self.model.folder / "voices").glob("*.safetensors"))}

    @property
    def built_in(self) -> dict[str, Voice]:
        """The model's own, by name."""
        return {name: Voice.load(path) for name, path in self._files.items()}

    @property
    def names(self) -> list[str]:
        """Names of the model's own, the default one first."""
        default = self.model.config.default_voice
        return sorted(self._files, key=lambda name: (name != default, name))

    def from_clips(
        self,
        clips: Sequence[str | Path] | str | Path,
        *,
        name: str = "",
        kept_seconds: float = KEPT_SECONDS,
        borrowed: float | None = None,
        seed: int = 0,
    ) -> Voice:
        """Make a voice of recordings; see ``Synthesizer.voice``."""
        paths = clip_paths([clips] if isinstance(clips, (str, Path)) else clips)
        about = {"name": name, "sources": [path.name for path in paths]}
        clips_read, rate = self.family.read_clips(paths), self.family.clip_rate
        return self._make(clips_read, rate, about, kept_seconds, borrowed, seed)

    def _make(
        self, clips: Sequence[np.ndarray], rate: int, about: dict[str, Any], kept_seconds: float,
        borrowed: float | None = None, seed: int = 0,
    ) -> Voice:  # fmt: skip
        model = self.model
        latents = self.family.conditioning_latents(clips, rate, seed=seed)
        voice = make_voice(clips, rate, latents, model=model.config.fingerprint, about=about, kept_seconds=kept_seconds)
        share = model.config.speaker_blend if borrowed is None else borrowed
        if not share:
            return voice
        if not self._files:
            raise VoiceError(f"{model.config.name} has no voice of its own that could read for another: borrow none")
        return voice.borrow(self.resolve(self.names[0]), share)

    def resolve(self, voice: Voice | str | Path | None = None, *, seed: int | None = None) -> Voice:
        """A voice of this model from whatever names one; see ``Synthesizer.resolve_voice``."""
        if voice is None:
            voice = self._default()
        found = voice if isinstance(voice, Voice) else self._find(str(voice), seed)
        if found.model == self.model.config.fingerprint:
            sizes = (self.model.config.autoregressive.dim, 2 * self.model.config.diffusion.dim)
            if (len(found.autoregressive), len(found.diffusion)) != sizes:
                raise VoiceError(f"voice {found.name!r} is damaged, its vectors do not fit the model: make it anew")
            return found
        if not found.clips:
            raise VoiceError(
                f"voice {found.name!r} was made for another model and carries no clips: make it anew from recordings"
            )
        about = {key: value for key, value in found.about.items() if key != "borrowed"}
        borrowed = 0.0 if found.name == self.model.config.default_voice else None
        return self._make(found.waves, OUTPUT_RATE, about, KEPT_SECONDS, borrowed)

    def _default(self) -> str:
        if self._files:
            return self.names[0]
        if self.family.draws_voices:
            return "random"
        raise VoiceError("the model has no voice of its own: give a voice file, a clip or a folder of clips")

    def _find(self, name: str, seed: int | None) -> Voice:
        if name in self._files:
            return Voice.load(self._files[name])
        if shelved := voice_shelf.find_user_voice(name):
            return Voice.load(shelved)
        drawn = drawn_seed(name)
        if drawn is not None:
            return draw_voice(self.family, seed if name == "random" and seed is not None else drawn)
        path = _existing(name)
        if path is not None:
            return self._read(path, seed or 0)
        if "+" in name:
            return self._mix(name, seed)
        known = ", ".join(dict.fromkeys([*self.names, *voice_shelf.list_user_voices()]))
        choice = f"choose from {known}, or give" if known else "give"
        raise VoiceError(
            f"unknown voice {name!r}: {choice} a voice file, a clip, a folder of clips, a mix or random:SEED"
        )

    def _read(self, path: Path, seed: int) -> Voice:
        if path.suffix == ".safetensors":
            return Voice.load(path)
        return self.family.read_voice(path) or self.from_clips([path], name=path.stem, seed=seed)

    def _mix(self, recipe: str, seed: int | None) -> Voice:
        """``a:0.7+b:0.3``; a part without a weight counts as 1, also ``random:3``, whose number is its seed."""
        voices, weights = [], []
        for part in recipe.split("+"):
            name, colon, weight = part.strip().rpartition(":")
            if name == "random":
                name, colon, weight = "", "", part.strip()
            try:
                weights.append(float(weight) if colon else 1.0)
            except ValueError:
                raise VoiceError(
                    f"{part!r} is no part of a mix: write NAME:WEIGHT, as in 'heart:0.7+rowan:0.3'"
                ) from None
            voices.append(self.resolve(name if colon else weight, seed=seed))
        return Voice.mix(voices, weights)


def _existing(name: str) -> Path | None:
    """What lies at a path; None if nothing does, or nothing can."""
    try:
        path = Path(name).expanduser()
        return path if name and path.exists() else None
    except (OSError, RuntimeError, ValueError):  # longer than a name can be; the home of nobody; a null character
        return None
