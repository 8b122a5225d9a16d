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
MORE_PRESETS = ("paper", "streaming")
#: Networks that render latents in place of diffusion and vocoder, where a model has them.
LATENT_DECODERS = ("hifigan",)
#: Ways to cut a long text besides ``sentences``: functions of the text and the options.
SPLITTERS = {"tortoise": "chelys.tortoise.splitter.split_by_options"}
#: Suffix of a voice file to what reads such a voice, or a folder with one: a function of the path and a ModelConfig.
VOICE_FORMATS = {".pth": "chelys.tortoise.voices.voice_at"}
#: The same for a path that must be such a voice.
READ_TORTOISE_VOICE = "chelys.tortoise.voices.read_voice"
#: What `chelys.text.tokenizer` had before.
TORTOISE_TOKENIZER = "chelys.tortoise.tokenizer.make_tortoise_tokenizer"
#: What speaks [bracketed] prompts and cuts them out again.
REDACTION = "chelys.tortoise.redact.Redaction"

#: Old module to new one, for one release.
MOVED_MODULES = {
    "chelys.inference.decode": "chelys.inference.generation",
    "chelys.inference.sampling": "chelys.inference.generation",
    "chelys.inference.denoise": "chelys.inference.diffusion_sampling",
    "chelys.inference.samplers": "chelys.inference.diffusion_sampling",
    "chelys.inference.rerank": "chelys.inference.reranking",
    "chelys.inference.voices": "chelys.inference.voice_library",
    "chelys.inference.voice_shelf": "chelys.inference.voice_library",
    "chelys.nn.kv_cache": "chelys.nn.attention",
    "chelys.nn.rotary": "chelys.nn.attention",
    "chelys.text.characters": "chelys.text.normalize",
    "chelys.text.transliterate": "chelys.tortoise.cleaner",
    "chelys.weights.placement": "chelys.weights.checks",
    "chelys.models.schedule": "chelys.models.diffusion_schedule",
    "chelys.models.gaussian": "chelys.models.diffusion_schedule",
    "chelys.models.harmonic_source": "chelys.models.vocos",
    "chelys.compat": "chelys.tortoise",
    "chelys.compat.tortoise": "chelys.tortoise.api",
    "chelys.compat.tortoise_models": "chelys.tortoise.api",
    "chelys.compat.tortoise_voices": "chelys.tortoise.voices",
    "chelys.audio.published": "chelys.tortoise.mel",
    "chelys.data.bad_clips": "chelys.data.manifest",
    "chelys.data.check_audio": "chelys.data.check",
    "chelys.data.codes": "chelys.data.features",
    "chelys.data.prepare.deduplicate": "chelys.data.prepare.measure",
    "chelys.data.prepare.references": "chelys.data.prepare.report",
    "chelys.models.clip_classifier": "chelys.data.prepare.classifier",
    "chelys.data.prepare.ledger": "chelys.data.prepare.metadata",
    "chelys.data.prepare.pack": "chelys.data.prepare.shard_writer",
    "chelys.data.prepare.ray_engine": "chelys.data.prepare.engine",
    "chelys.data.prepare.settings": "chelys.data.prepare.pipeline",
    "chelys.data.recipes.lexicon": "chelys.data.recipes.pronunciations",
    "chelys.data.recipes.make": "chelys.data.recipes.corpora",
    "chelys.data.recipes.teachers": "chelys.data.recipes.synthetic",
    "chelys.inference.aligner": "chelys.tortoise.redact",
    "chelys.inference.alignment": "chelys.tortoise.redact",
    "chelys.inference.detection": "chelys.tortoise.detector",
    "chelys.inference.redact": "chelys.tortoise.redact",
    "chelys.inference.tortoise_voice": "chelys.tortoise.voices",
    "chelys.models.code_rules": "chelys.tortoise.model",
    "chelys.models.cvvp": "chelys.tortoise.cvvp",
    "chelys.models.detector": "chelys.tortoise.detector",
    "chelys.models.hifigan": "chelys.tortoise.hifigan",
    "chelys.models.univnet": "chelys.tortoise.univnet",
    "chelys.models.voice_prior": "chelys.tortoise.voice_prior",
    "chelys.text.split_tortoise": "chelys.tortoise.splitter",
    "chelys.text.train_tokenizer": "chelys.tortoise.tokenizer",
    "chelys.weights.checkpoint": "chelys.tortoise.state_dicts",
    "chelys.weights.convert": "chelys.tortoise.convert",
    "chelys.weights.export": "chelys.tortoise.convert",
    "chelys.weights.name_tables": "chelys.tortoise.state_dicts",
    "chelys.weights.sizes": "chelys.tortoise.sizes",
    "chelys.weights.tortoise": "chelys.tortoise.state_dicts",
}


def find(path: str) -> Any:
    """The object at a full name; its module is imported."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)
