"""Which clips are kept: a readable file of limits, and a reason for every clip that is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from chelys.config import from_mapping, read_yaml
from chelys.data.prepare.ledger import Clip
from chelys.errors import ConfigError

NO_WORDS = "no words"


@dataclass(frozen=True)
class Limits:
    """What a measurement may be; None is no limit."""

    least: float | None = None
    most: float | None = None


Rules = Mapping[str, Limits]


def read_rules(path: Path | None = None) -> Rules:
    """Rules of a YAML file; without one, those that come with chelys.

    Raises:
        ConfigError: If the file is missing or malformed.
    """
    if path is None:
        with resources.as_file(resources.files("chelys.data.prepare") / "rules.yaml") as own:
            values = read_yaml(own)
    else:
        values = read_yaml(path)
    rules = {}
    for name, limits in values.items():
        where = f"{path or 'rules.yaml'}: {name}"
        if not isinstance(limits, dict):
            raise ConfigError(f"{where}: write {{least: NUMBER, most: NUMBER}}, or one of the two")
        rules[str(name)] = from_mapping(Limits, limits, where=where)
    return rules


def judge(clip: Clip, rules: Rules) -> list[str]:
    """Why a clip is not kept, one reason for each rule that it breaks; none if it keeps them all."""
    values = {"seconds": clip.seconds, "confidence": clip.confidence, **clip.measured}
    reasons = []
    if clip.text is not None:
        values["characters_per_second"] = len(clip.text) / max(clip.seconds, 0.01)
        if not any(character.isalnum() for character in clip.text):
            reasons.append(NO_WORDS)
    for name, limits in rules.items():
        value = values.get(name)
        if value is None:
            continue
        if limits.least is not None and value < limits.least:
            reasons.append(f"{name} below {limits.least:g}")
        if limits.most is not None and value > limits.most:
            reasons.append(f"{name} above {limits.most:g}")
    return reasons
