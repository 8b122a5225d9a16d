"""The published system is a room apart: chelys' own models do without it, and another family could stand beside it."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import toy

import chelys
from chelys import registry
from chelys.inference.family import Family
from chelys.inference.options import NANO_PRESETS, SpeechOptions
from chelys.inference.synthesizer import Synthesizer
from chelys.old_names import MOVED_MODULES
from chelys.text.document import Sentence
from chelys.weights.folder import ModelConfig, load_model, make_config, read_config, save_model

SPEAK = """
import sys, chelys
tts = chelys.load(sys.argv[1])
tts.speak("Hello there.", seed=1, options=tts.options("ultra_fast", candidates=1, steps=1, max_new_tokens=8))
tts.resolve_voice("random:1")
print(*sorted(name for name in sys.modules if name.startswith("chelys.tortoise")))
"""


def test_speaking_with_nano_imports_nothing_of_the_published_system(toy_folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(chelys.__file__).parents[1])}
    for model in (str(toy_folder), "nano"):
        done = subprocess.run(
            [sys.executable, "-c", SPEAK, model], capture_output=True, text=True, env=environment, check=True
        )
        assert done.stdout.split() == []


# ---------------------------------------------------------------- a third family


@dataclass(frozen=True)
class ThirdConfig(ModelConfig):
    shouts: bool = False

    SPEAKER: ClassVar[str] = f"{__name__}.Third"


class Third(Family):
    """It cuts a text at every slash."""

    @property
    def presets(self) -> Mapping[str, SpeechOptions]:
        return {"only": NANO_PRESETS["ultra_fast"]}

    def split(self, text: str, options: SpeechOptions) -> list[Sentence]:
        return [Sentence(part, 0.0) for part in text.split("/")]


def test_a_third_family_needs_a_line_in_the_registry_alone(
    tmp_path: Path, toy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or _this_module())
    monkeypatch.setitem(registry.FAMILIES, "third", f"{__name__}.ThirdConfig")
    plain = {key: value for key, value in vars(toy.config("one")).items()}
    config = make_config({**plain, "family": "third", "shouts": True})
    assert type(config) is ThirdConfig
    saved = save_model(tmp_path / "model", config, toy.networks(config), toy.tokenizer(), dtype=torch.float32)
    assert saved.shouts is True and type(load_model(tmp_path / "model").config) is ThirdConfig  # type: ignore[attr-defined]
    tts = Synthesizer.from_folder(tmp_path / "model")
    voice = tts.voice([_clip(tmp_path)], kept_seconds=0)
    speech = tts.speak("Hello/there/one", voice=voice, seed=1, options=tts.options("only", steps=1, candidates=1))
    assert [sentence["text"] for sentence in speech.receipt["sentences"]] == ["Hello", "there", "one"]


def _this_module() -> object:
    import types

    module = types.ModuleType(__name__)
    module.__dict__.update(ThirdConfig=ThirdConfig, Third=Third)
    return module


def _clip(folder: Path) -> Path:
    from chelys.audio.io import write
    from chelys.audio.rates import OUTPUT_RATE

    write(folder / "clip.wav", toy.tone(180.0, 1.0), OUTPUT_RATE)
    return folder / "clip.wav"


@pytest.mark.parametrize(("old", "new"), sorted(MOVED_MODULES.items()))
def test_old_module_names_give_the_new_modules(old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("chelys.compat", old):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.warns(DeprecationWarning, match=rf"{old} is deprecated .* use {new}$"):
        if old.startswith("chelys.compat."):
            with pytest.warns(DeprecationWarning, match="chelys.compat is deprecated"):
                importlib.import_module("chelys.compat")
        assert importlib.import_module(old) is importlib.import_module(new)


# ---------------------------------------------------------------- folders of chelys 0.1


def test_a_folder_of_chelys_0_1_loads_and_its_old_key_is_named(toy_folder: Path, tmp_path: Path) -> None:
    values = json.loads((toy_folder / "config.json").read_text())
    published = ("univnet", "cvvp", "hifigan", "autoregressive_prior", "diffusion_prior", "detector", "code_rules")
    old = {**values, **dict.fromkeys(published), "front_end": "shared", "cleaner": "chelys", "text_stops": 0}
    old["borrowed"] = old.pop("speaker_blend")
    (tmp_path / "config.json").write_text(json.dumps(old))
    with pytest.warns(DeprecationWarning, match="borrowed is deprecated .* use speaker_blend"):
        config = read_config(tmp_path)
    now = read_config(toy_folder)
    assert type(config) is ModelConfig and config == now
    assert not {field.name for field in fields(config)} & {*published, "front_end", "mel_spec"}


def test_the_old_keys_of_a_published_model(tmp_path: Path) -> None:
    from chelys.config import to_mapping
    from chelys.tortoise.model import TortoiseConfig, published_config

    values = to_mapping(published_config(hashes={}))
    values["front_end"] = values.pop("mel_spec")
    rules = values["code_rules"] = values.pop("silence_trimming")
    rules["calm"], rules["penalised_from_start"] = rules.pop("max_silence"), rules.pop("sampled_before")
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.warns(DeprecationWarning) as told:
        config = read_config(tmp_path)
    renamed = {"mel_spec", "silence_trimming", "max_silence", "sampled_before"}
    assert {str(warning.message).rpartition("use ")[2] for warning in told} == renamed
    assert type(config) is TortoiseConfig and config == published_config(hashes={})
