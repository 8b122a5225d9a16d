"""The voices that a model can speak in, by name: built-in, the user's own, files, clips, mixes, random ones.

Which files there are says ``voice_files``.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import replace
from pathlib import Path

import torch

from chelys.audio.rates import OUTPUT_RATE
from chelys.deprecation import renamed_names
from chelys.errors import VoiceError
from chelys.inference.family import Family
from chelys.inference.options import whole_number
from chelys.inference.voice import KEPT_SECONDS, AnyVoice, Clips, Voice
from chelys.inference.voice_files import SUFFIX, built_in_voices, find_user_voice, list_user_voices

SEEDS = 2**32
_RANDOM = re.compile(r"random(:[^+]*)?")  # with a plus it is a mix


class VoiceLibrary:
    """The voices of a model. Voice files are read once, and again only when they have changed."""

    def __init__(self, family: Family) -> None:
        self.family, self.model = family, family.model
        self._files = built_in_voices(self.model.folder)
        self._built_in: dict[str, Voice] | None = None
        self._read: dict[Path, tuple[tuple[int, int], Voice]] = {}

    @property
    def built_in(self) -> dict[str, Voice]:
        """The model's own, by name; the same objects each time."""
        if self._built_in is None:
            self._built_in = {name: self._load(path) for name, path in self._files.items()}
        return self._built_in

    @property
    def names(self) -> list[str]:
        """Names of the model's own, the default one first."""
        default = self.model.config.default_voice
        return sorted(self._files, key=lambda name: (name != default, name))

    def create(
        self, clips: Clips, *, sample_rate: int = OUTPUT_RATE, name: str = "", kept_seconds: float = KEPT_SECONDS,
        speaker_blend: float | None = None, seed: int = 0,
    ) -> Voice:  # fmt: skip
        """Make a voice of recordings; see ``Synthesizer.voice``."""
        voice = Voice.from_audio(
            clips, self.family, sample_rate=sample_rate, name=name, kept_seconds=kept_seconds, seed=seed
        )
        return self._blend(voice, speaker_blend)

    def resolve(self, voice: AnyVoice | None = None, *, seed: int | None = None) -> Voice:
        """A voice of this model from whatever names one; see ``Synthesizer.resolve_voice``."""
        if voice is None:
            voice = self._default()
        if not isinstance(voice, (Voice, str, Path)):
            return self.create(voice, seed=seed or 0)  # which says what can be none
        found = voice if isinstance(voice, Voice) else self._find(str(voice), seed)
        config = self.model.config
        if found.model == config.fingerprint:
            shapes = (config.autoregressive.voice_shape, config.diffusion.voice_shape)
            if (found.autoregressive.shape, found.diffusion.shape) != shapes:
                name = found.name if isinstance(voice, Voice) else str(voice)
                raise VoiceError(f"voice {name!r} is damaged, its latents do not fit the model: make it anew")
            return found
        if not found.clips:
            raise VoiceError(
                f"voice {found.name!r} was made for another model and carries no clips: make it anew from recordings"
            )
        about = {key: value for key, value in found.about.items() if key != "speaker_blend"}
        made = Voice.from_waveforms(found.waveforms, OUTPUT_RATE, self.family, about=about)
        return self._blend(made, 0.0 if found.name == config.default_voice else None)

    def resolve_known(self, name: str) -> Voice:
        """A voice that a text asks for: built-in or the user's, by its name alone, never a path.

        Raises VoiceError if there is none.
        """
        if name not in self._files and find_user_voice(name) is None:
            known = ", ".join(dict.fromkeys([*self.names, *list_user_voices()]))
            raise VoiceError(f"the text asks for a voice {name[:64]!r}: choose from {known}, or take the tag out")
        return self.resolve(name)

    def random(self, seed: int) -> Voice:
        """The voice ``random:SEED``.

        Where the model has networks that draw voices, it is the one that TorToise draws after
        ``torch.manual_seed(seed)``. Else it is a blend of the built-in voices, whose shares follow a Dirichlet
        distribution with concentration 1/2, so that mostly one or two of them prevail. Raises VoiceError if the seed is
        out of range, or there is nothing to draw a voice from.
        """
        seed = whole_number("seed", seed)
        if not 0 <= seed < SEEDS:
            raise VoiceError(f"the seed of a random voice is {seed}; it must lie between 0 and {SEEDS - 1}")
        generator = torch.Generator().manual_seed(seed)
        name, config = f"random:{seed}", self.model.config
        if self.family.draws_voices:
            with torch.inference_mode():
                latents = [latent.float().cpu() for latent in self.family.draw_latents(generator)]
            about = {"name": name, "description": "drawn from the model's priors"}
            return Voice(latents[0], latents[1], config.fingerprint, about=about)
        voices = list(self.built_in.values())
        if not voices:
            raise VoiceError(f"{config.name} cannot draw a voice, it has no priors and no voices to blend: give clips")
        gammas = torch.randn(len(voices), generator=generator, dtype=torch.float64).square()  # of shape 1/2
        blend = Voice.interpolate(voices, gammas.tolist())
        shares = zip((gammas / gammas.sum()).tolist(), (voice.name for voice in voices), strict=True)
        parts = ", ".join(f"{share:.0%} {part}" for share, part in sorted(shares, reverse=True) if share >= 0.005)
        return replace(blend, about={"name": name, "description": f"a blend of {parts}"})

    def _blend(self, voice: Voice, share: float | None) -> Voice:
        share = self.model.config.speaker_blend if share is None else share
        if not share:
            return voice
        if not self._files:
            raise VoiceError(f"{self.model.config.name} has no voice of its own to blend with: set speaker_blend to 0")
        return voice.blend(self.resolve(self.names[0]), share)

    def _default(self) -> str:
        if self._files:
            return self.names[0]
        if self.family.draws_voices:
            return "random"
        raise VoiceError("the model has no voice of its own: give a voice file, a clip or a folder of clips")

    def _find(self, name: str, seed: int | None) -> Voice:
        if name in self._files:
            return self._load(self._files[name])
        if path := find_user_voice(name):
            return self._load(path)
        random_seed = seed_of(name)
        if random_seed is not None:
            return self.random(seed if name == "random" and seed is not None else random_seed)
        if path := _existing(name):
            if path.suffix == SUFFIX:
                return self._load(path)
            return self.family.read_voice(path) or self.create([path], name=path.stem, seed=seed or 0)
        if "+" in name:
            return self._mix(name, seed)
        known = ", ".join(dict.fromkeys([*self.names, *list_user_voices()]))
        choice = f"choose from {known}, or give" if known else "give"
        raise VoiceError(
            f"unknown voice {name!r}: {choice} a voice file, a clip, a folder of clips, a mix or random:SEED"
        )

    def _load(self, path: Path) -> Voice:
        try:
            status = path.stat()
        except OSError:
            return Voice.load(path)  # which says what is wrong
        version = (status.st_mtime_ns, status.st_size)
        key = path.absolute()
        known = self._read.get(key)
        if known is None or known[0] != version:
            known = self._read[key] = (version, Voice.load(path))
        return known[1]

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
        return Voice.interpolate(voices, weights)


def seed_of(name: str) -> int | None:
    """Seed of a random voice: that of ``random:SEED``, a fresh one for ``random``, None for any other name.

    Raises VoiceError if what follows ``random:`` is no seed.
    """
    match = _RANDOM.fullmatch(name)
    if match is None:
        return None
    if match[1] is None:
        return secrets.randbelow(SEEDS)
    digits = match[1][1:]
    if not re.fullmatch("[0-9]{1,10}", digits) or int(digits) >= SEEDS:
        raise VoiceError(f"no voice {name!r}: write random:SEED with a whole seed from 0 to {SEEDS - 1}")
    return int(digits)


def _existing(name: str) -> Path | None:
    """The path of that name; None if there is nothing, or can be nothing."""
    try:
        path = Path(name).expanduser()
        return path if name and path.exists() else None
    except (OSError, RuntimeError, ValueError):  # longer than a name can be; no such home; a null character
        return None


__getattr__ = renamed_names(__name__)
