"""Generation options and nano's presets. Presets of other families lie with the family."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import Any, Literal, get_args

from chelys import registry
from chelys.deprecation import rename_keys, renamed_arguments, warn_renamed
from chelys.errors import UserError
from chelys.text.document import FASTEST, MAX_CHARS, SLOWEST

Sampler = Literal["dpm++2m", "ddim", "ddpm", "distilled"]

#: Old names of options.
RENAMED = {"most_codes": "max_new_tokens", "longest": "max_chars"}


@renamed_arguments(**RENAMED)
@dataclass(frozen=True)
class SpeechOptions:
    """How to speak; the defaults are those of nano's preset ``fast`` without its distilled decoder."""

    candidates: int = 8  # candidates that are sampled for each sentence, 1 or more; CLVP ranks them
    #: candidates sampled at a time, of one sentence or several, 1 or more; it bounds the memory and changes none
    batch: int = 32
    temperature: float = 0.3  # Of sampling codes; 0 takes the likeliest code. Lower is steadier, higher livelier.
    top_p: float = 0.9  # Nucleus sampling (Holtzman et al. 2020), above 0 to 1.
    top_k: int = 50  # only the k likeliest codes; 0 is all
    #: Locally typical sampling (Meister et al. 2022): the probability mass that is kept; 1 keeps all.
    typical_mass: float = 1.0
    repetition_penalty: float = 2.0  # Divides the odds of codes already sampled (Keskar et al. 2019); 1 is none.
    max_new_tokens: int = 0  # maximum number of codes of a candidate; 0 leaves it to the length of the text
    speed: float = 1.0  # pace, 0.5 to 2: 2 is twice as fast; pitch and pauses stay
    cvvp: float = 0.0  # weight of CVVP, which compares candidates with the voice's clips, against CLVP: 0 to 1
    #: what renders the latents: ``diffusion`` and the vocoder, or ``hifigan`` alone, where a model has it
    decoder: str = "diffusion"
    #: ``dpm++2m`` (Lu et al. 2022), ``ddim`` (Song et al. 2020) or ``ddpm`` (Ho et al. 2020); ``distilled``, where a
    #: model has it, takes the few steps that it was distilled to, with the guidance that is in its adapters
    sampler: Sampler = "dpm++2m"
    steps: int = 10  # Diffusion steps, 1 or more. Fewer is faster and duller.
    eta: float = 0.0  # of DDIM, 0 to 1: 0 adds no noise on the way, 1 as much as DDPM
    #: Weight w of classifier-free guidance in (1 + w) * conditional - w * unconditional (Ho & Salimans 2022): 0 is
    #: none and halves the work. The ``guidance_scale`` of diffusers is w + 1.
    guidance: float = 3.5
    guidance_ramp: bool = False  # let the guidance grow from almost none at the first step to all of it at the last
    #: Share of the steps that are guided, from the first on, 0 to 1 (Kynkaanniemi et al. 2024).
    guidance_share: float = 0.8
    diffusion_temperature: float = 1.0  # scale of the noise that the diffusion starts from, 0 to 2
    #: how a long text is cut: ``sentences`` knows abbreviations; ``tortoise`` is the published rule
    splitting: str = "sentences"
    max_chars: int = MAX_CHARS  # most characters of a piece that a text is cut into
    #: whether ``stream`` gives the first seconds in pieces while they are being sampled, where the model can
    early: bool = False
    redact: bool = False  # speak what stands in [brackets], so that its mood carries over, then cut it out of the audio

    def __post_init__(self) -> None:
        for option in fields(self):
            object.__setattr__(self, option.name, _typed(option.name, getattr(self, option.name), type(option.default)))
        for name, low, high in (
            ("candidates", 1, 1024),
            ("batch", 1, 1024),
            ("temperature", 0.0, 10.0),
            ("top_p", 1e-6, 1.0),
            ("top_k", 0, 1_000_000),
            ("typical_mass", 1e-6, 1.0),
            ("repetition_penalty", 1.0, 100.0),
            ("max_new_tokens", 0, 10_000),
            ("speed", SLOWEST, FASTEST),
            ("cvvp", 0.0, 1.0),
            ("steps", 1, 4000),
            ("eta", 0.0, 1.0),
            ("guidance", 0.0, 20.0),
            ("guidance_share", 0.0, 1.0),
            ("diffusion_temperature", 0.0, 2.0),
            ("max_chars", 20, 2000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise UserError(f"{name} is {value}; it must lie between {low} and {high}")
        for name, choices in (
            ("decoder", ("diffusion", *registry.LATENT_DECODERS)),
            ("sampler", get_args(Sampler)),
            ("splitting", ("sentences", *registry.SPLITTERS)),
        ):
            if getattr(self, name) not in choices:
                raise UserError(f"{name} is {getattr(self, name)!r}; choose from {', '.join(choices)}")

    def __getattr__(self, name: str) -> Any:
        if name not in RENAMED:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        warn_renamed(f"SpeechOptions.{name}", RENAMED[name])
        return getattr(self, RENAMED[name])


def whole_number(name: str, value: object) -> int:
    """An argument that counts, also of numpy's kinds. Raises UserError if it is no whole number."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise UserError(f"{name} is {value!r:.60}; it must be a whole number") from None


def _typed(name: str, value: object, kind: type) -> object:
    if kind is int:
        return whole_number(name, value)
    fits = isinstance(value, Real) and not isinstance(value, bool) if kind is float else isinstance(value, kind)
    if not fits:
        wanted = {float: "a number", bool: "true or false", str: "a word"}[kind]
        raise UserError(f"{name} is {value!r:.60}; it must be {wanted}")
    return value if type(value) in (int, kind) else kind(value)  # numpy's numbers are no JSON


#: Options of diffusion that the adapters of a distilled decoder hold; to set one takes the decoder without them.
UNDISTILLED = ("sampler", "steps", "eta", "guidance", "guidance_ramp", "guidance_share")
#: Chosen by measurement; ``fast`` is the default. These take the distilled decoder where a model has it:
NANO_PRESETS = {
    "ultra_fast": SpeechOptions(candidates=2, steps=6, guidance=0.0),
    "fast": SpeechOptions(),
    "standard": SpeechOptions(candidates=16, steps=20, guidance_share=1.0),
    "high_quality": SpeechOptions(candidates=32, steps=40, guidance_share=1.0),
    "streaming": SpeechOptions(candidates=1, early=True),
}
DISTILLED_PRESETS = ("ultra_fast", "fast", "streaming")


def options_for(
    preset: str, presets: Mapping[str, SpeechOptions] = NANO_PRESETS, /, **changes: object
) -> SpeechOptions:
    """A preset with some options changed; options given as None stay.

    Raises UserError if the preset is unknown, or a value is out of range.
    """
    if not isinstance(preset, str) or preset not in presets:
        raise UserError(f"unknown preset {preset!r}: choose from {', '.join(presets)}")
    given = rename_keys({k: v for k, v in changes.items() if v is not None}, RENAMED, where="options")
    known = [option.name for option in fields(SpeechOptions)]
    if unknown := [name for name in given if name not in known]:
        raise UserError(f"no option {unknown[0]!r}: choose from {', '.join(known)}")
    return replace(presets[preset], **given)


def parse_options(assignments: Iterable[str]) -> dict[str, object]:
    """Options as a person writes them: ``temperature=0.5``, ``guidance_ramp=true``.

    Raises UserError if one is unknown, or its value is of another kind.
    """
    kinds: dict[str, type] = {field.name: type(field.default) for field in fields(SpeechOptions)}
    options: dict[str, object] = {}
    for assignment in assignments:
        name, equals, value = (part.strip() for part in assignment.partition("="))
        if name in RENAMED:
            warn_renamed(name, RENAMED[name])
            name = RENAMED[name]
        if not equals or name not in kinds:
            raise UserError(f"{assignment!r} sets no option: write NAME=VALUE with one of {', '.join(kinds)}")
        try:
            options[name] = _SWITCH[value.lower()] if kinds[name] is bool else kinds[name](value)
        except (KeyError, ValueError):
            wanted = {bool: "true or false", int: "a whole number"}.get(kinds[name], "a number")
            raise UserError(f"{name} is {value!r}; it must be {wanted}") from None
    return options


_SWITCH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
