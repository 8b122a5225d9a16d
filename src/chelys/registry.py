"""What chelys imports only when a model or an option names it. A new family of models adds its lines here."""

from __future__ import annotations

from importlib import import_module
from typing import Any

#: Family of a model, as its ``config.json`` names it, to the class of its configuration; others are chelys' own.
FAMILIES = {"tortoise-v2": "chelys.tortoise.model.TortoiseConfig"}
#: Name of a model that is fetched to a function that gives its folder.
MODELS = {"tortoise-v2": "chelys.tortoise.download.tortoise_folder"}
#: Who speaks with a model.
SPEAKERS = {"nano": "chelys.inference.family.Family", "tortoise-v2": "chelys.tortoise.speaking.TortoiseFamily"}
#: Cleaner of raw text to the tokenizer that works with it; ``chelys`` is the plain one.
CLEANERS = {
    "tortoise": "chelys.tortoise.tokenizer.TortoiseTokenizer",
    "basic": "chelys.tortoise.tokenizer.TortoiseTokenizer",
}
#: Presets of other families that chelys' own models do not have.
MORE_PRESETS = ("paper",)
#: Networks that render latents in place of diffusion and vocoder, where a model has them.
LATENT_DECODERS = ("hifigan",)
#: Ways to cut a long text besides ``sentences``: functions of the text and the options.
SPLITTERS = {"tortoise": "chelys.tortoise.splitter.split_by_options"}
#: Suffix of a voice file to what reads such a voice, or a folder with one: a function of the path and a ModelConfig.
VOICE_FORMATS = {".pth": "chelys.tortoise.voices.voice_at"}
#: The same for a path that must be such a voice.
READ_TORTOISE_VOICE = "chelys.tortoise.voices.read_voice"
#: Stage of training that only another family has, to the class of its run.
STAGES = {
    "cvvp": "chelys.tortoise.tasks.CVVPRun",
    "hifigan": "chelys.tortoise.tasks.HiFiGANRun",
    "autoregressive_prior": "chelys.tortoise.tasks.AutoregressivePriorRun",
    "diffusion_prior": "chelys.tortoise.tasks.DiffusionPriorRun",
    "detector": "chelys.tortoise.tasks.DetectorRun",
}
#: What speaks [bracketed] prompts and cuts them out again.
REDACTION = "chelys.tortoise.redact.Redaction"


def find(path: str) -> Any:
    """The object at a full name; its module is imported."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)
