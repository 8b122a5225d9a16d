"""Knobs of synthesis and the presets, each a named constructor of one frozen dataclass."""

from __future__ import annotations

from dataclasses import dataclass, replace

from chelys.errors import UserError


@dataclass(frozen=True)
class SpeechOptions:
    """How to speak.

    Attributes:
        candidates: Takes that are sampled for each sentence, 1 or more; CLVP ranks them.
        steps: Diffusion steps, 1 or more. Fewer is faster and duller.
        guidance: Weight of conditioning-free guidance (Ho & Salimans 2022): 0 is none and halves the work.
        temperature: Of sampling codes, above 0; 0 takes the most likely code. Lower is steadier, higher livelier.
        top_p: Nucleus of sampling (Holtzman et al. 2020), above 0 to 1.
        top_k: Only the k most likely codes; 0 is all.
        repetition_penalty: Divides the odds of codes already said (Keskar et al. 2019); 1 is none.
        diffusion_temperature: Scale of the noise that the diffusion starts from, 0 to 1.
        longest: Characters of the longest piece that a text is split into.
    """

    candidates: int = 4
    steps: int = 10
    guidance: float = 1.0
    temperature: float = 0.3
    top_p: float = 0.9
    top_k: int = 50
    repetition_penalty: float = 1.0
    diffusion_temperature: float = 1.0
    longest: int = 180

    def __post_init__(self) -> None:
        for name, low, high in (
            ("candidates", 1, 1024),
            ("steps", 1, 4000),
            ("guidance", 0.0, 20.0),
            ("temperature", 0.0, 10.0),
            ("top_p", 1e-6, 1.0),
            ("top_k", 0, 1_000_000),
            ("repetition_penalty", 1.0, 100.0),
            ("diffusion_temperature", 0.0, 2.0),
            ("longest", 20, 2000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise UserError(f"{name} is {value}; it must lie between {low} and {high}")

    @classmethod
    def ultra_fast(cls) -> SpeechOptions:
        """Two takes, six steps, no guidance."""
        return cls(candidates=2, steps=6, guidance=0.0)

    @classmethod
    def fast(cls) -> SpeechOptions:
        """The default: four takes, ten steps."""
        return cls()

    @classmethod
    def standard(cls) -> SpeechOptions:
        """Twelve takes, twenty steps."""
        return cls(candidates=12, steps=20)

    @classmethod
    def high_quality(cls) -> SpeechOptions:
        """Thirty-two takes, forty steps."""
        return cls(candidates=32, steps=40)


PRESETS = {
    "ultra_fast": SpeechOptions.ultra_fast(),
    "fast": SpeechOptions.fast(),
    "standard": SpeechOptions.standard(),
    "high_quality": SpeechOptions.high_quality(),
}


def options_for(preset: str, **changes: object) -> SpeechOptions:
    """A preset with some knobs turned; knobs given as None stay.

    Raises:
        UserError: If the preset is unknown, or a value is out of range.
    """
    if preset not in PRESETS:
        raise UserError(f"unknown preset {preset!r}: choose from {', '.join(PRESETS)}")
    return replace(PRESETS[preset], **{k: v for k, v in changes.items() if v is not None})  # type: ignore[arg-type]
