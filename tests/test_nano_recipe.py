"""``runs/nano.sh`` at its smallest: corpus, features, codes, five networks, a model folder that speaks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile as sf

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_the_smallest_nano_is_made_from_nothing_and_speaks(tmp_path: Path) -> None:
    for package in ("hibari", "onnxruntime", "yaml"):
        pytest.importorskip(package, reason="needs pip install -e '.[train,corpus]'")
    binaries = str(Path(sys.executable).parent)
    environment = os.environ | {"PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}
    run = tmp_path / "nano"
    subprocess.run(["bash", ROOT / "runs" / "nano.sh", "smallest", run], check=True, env=environment, timeout=1200)

    stages = {"dvae", "autoregressive", "clvp", "diffusion", "vocoder"}
    assert stages <= {path.parent.name for path in run.glob("*/log.jsonl")}
    wav = tmp_path / "hello.wav"
    speak = ["chelys", "speak", "Hello there.", "--model", run / "model", "--seed", "1", "-o", wav]
    subprocess.run(speak, check=True, env=environment, timeout=300)
    information = sf.info(wav)
    assert (information.samplerate, information.channels) == (24_000, 1)
    assert information.frames > 2400
