"""Train the clip classifier of ``chelys data prepare`` on mixes of clean speech: docs/research/classifier.md.

    python tools/clip_classifier/train_classifier.py tools/clip_classifier/classifier.yaml [KEY=VALUE ...]

The run folder can be named wherever a folder of the classifier can (``measure.model=RUN``). A run that was stopped goes
on from its last checkpoint. ``--export FOLDER`` also writes config and float16 weights as the package ships them.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from classifier_task import ClassifierTask, ClassifierTaskConfig
from mixes import MixConfig

from chelys.config import from_mapping, to_mapping
from chelys.configs import read_config_file
from chelys.data.prepare.classifier import (
    CLASSES,
    CONFIG_FILE,
    WEIGHTS_FILE,
    ClipClassifier,
    ClipClassifierConfig,
    ClipClassifierNetwork,
)
from chelys.files import write_json
from chelys.training.config import Run
from chelys.training.run_stage import execute
from chelys.weights.tensor_file import write_tensors


@dataclass(frozen=True, kw_only=True)
class ClassifierRun(Run):
    """Run of the clip classifier's task, on mixes made from clean speech as they are wanted.

    Attributes:
        manifests: Corpora of clean speech.
    """

    manifests: list[Path]
    network: ClipClassifierConfig = field(default_factory=ClipClassifierConfig)
    mixes: MixConfig = field(default_factory=MixConfig)
    stage: ClassifierTaskConfig = field(default_factory=ClassifierTaskConfig)

    def build(self) -> ClassifierTask:
        network = ClipClassifierNetwork(self.network)
        return ClassifierTask(network, self.manifests, self.mixes, self.stage, self.loop.seed)


def train(config: Path, overrides: list[str]) -> Path:
    """Train, or go on; returns the run folder."""
    run = from_mapping(ClassifierRun, read_config_file(config, overrides), where=str(config))
    execute("classifier", run.build_or_load, run.loop, run.run, to_mapping(run))
    return run.run


def export(network: ClipClassifierNetwork, folder: Path) -> str:
    """Write what `ClipClassifier.load` reads, weights in float16; returns the SHA-256 of the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = write_tensors(folder / WEIGHTS_FILE, network.state_dict(), network="classifier", dtype=torch.float16)
    values = {"classes": CLASSES, "network": to_mapping(network.config), "sha256": digest, "license": "Apache-2.0"}
    write_json(folder / CONFIG_FILE, json.loads(json.dumps(values)))
    return digest


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--export", type=Path)
    arguments = parser.parse_args()
    folder = train(arguments.config, arguments.overrides)
    print(folder)
    if arguments.export:
        print(export(ClipClassifier.load(folder).network, arguments.export))
