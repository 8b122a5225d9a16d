"""Empty upper bands: found, filled as in the full clips of the corpus, and nothing else changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr

from chelys.data.bandwidth import extend, first_empty
from chelys.data.dataset import Features
from chelys.data.features import extract
from chelys.data.manifest import Utterance, write_manifest
from chelys.errors import ManifestError

RATE = 24_000


def hiss(seed: int, seconds: float = 3.0) -> np.ndarray:
    """Noise whose level comes and goes, in all bands alike."""
    rng = np.random.default_rng(seed)
    level = 0.02 * 2 ** np.interp(np.arange(int(seconds * RATE)) / RATE, np.arange(0, 4, 0.25), rng.uniform(0, 4, 16))
    return (rng.standard_normal(len(level)) * level).astype(np.float32)


def features_of(folder: Path, wide: int, narrow: int) -> Features:
    utterances = []
    for number in range(wide + narrow):
        kind = "wide" if number < wide else "narrow"
        rate, name = (RATE, f"wide{number}") if kind == "wide" else (16_000, f"narrow{number}")
        sf.write(folder / f"{name}.wav", soxr.resample(hiss(number), RATE, rate), rate, subtype="FLOAT")
        utterances.append(Utterance(name, f"{name}.wav", "Hush.", kind, 3.0))
    write_manifest(folder / "m.jsonl", utterances)
    extract([folder / "m.jsonl"], folder / "features", workers=1)
    return Features(folder / "features")


def test_narrow_clips_are_filled_as_the_full_ones_are(tmp_path: Path) -> None:
    features = features_of(tmp_path, wide=12, narrow=2)
    before = np.array(features.frames, dtype=np.float32)
    filled = extend(features)
    assert set(filled) == {"narrow12", "narrow13"} and all(80 <= cut <= 87 for cut in filled.values())
    after = np.array(Features(features.folder).frames, dtype=np.float32)
    for clip in features.clips:
        old, new = (mels[clip.first : clip.first + clip.frames] for mels in (before, after))
        cut = filled.get(clip.id, 100)
        assert np.array_equal(new[:, :cut], old[:, :cut])
        assert first_empty(new) == 100
    # what the noise would have had there: its level follows that of the lower bands
    clip = features.clips[12]
    mel = after[clip.first : clip.first + clip.frames]
    assert np.corrcoef(mel[:, 60:80].mean(1), mel[:, 90:].mean(1))[0, 1] > 0.95
    wide = before[: 12 * clip.frames]
    assert mel[:, 90:].mean() - mel[:, 60:80].mean() == pytest.approx(
        wide[:, 90:].mean() - wide[:, 60:80].mean(), abs=0.2
    )
    assert mel[:, 95].std() == pytest.approx(wide[:, 95].std(), rel=0.4)
    assert extend(Features(features.folder)) == {}  # once is enough


def test_too_little_to_learn_from(tmp_path: Path) -> None:
    features = features_of(tmp_path, wide=2, narrow=1)
    with pytest.raises(ManifestError, match="1 clips lack their upper bands, and the others, 6 s"):
        extend(features)


def test_silence_is_not_narrow() -> None:
    assert first_empty(np.full((50, 100), -11.5129, np.float16)) == 100
