"""Codes of a feature folder: those of the VQ-VAE, clip by clip, written once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from toy_corpus import DVAE_SIZES, MEL_RANGE, ToyCorpus, clip

from chelys.data import features as codes_module
from chelys.data.dataset import Codes, Features
from chelys.data.features import encode
from chelys.errors import ManifestError


def test_each_clip_has_the_codes_that_it_has_alone(toy: ToyCorpus) -> None:
    features, codes, dvae = Features(toy.features), Codes(toy.codes), toy.dvae()
    assert codes.all.dtype == np.uint16 and len(codes.all) * 4 == len(features.frames)
    for one in features.clips:
        with torch.inference_mode():
            expected = dvae.encode(MEL_RANGE.normalize(features.mel(one))[None])[0]
        assert codes.of(one).dtype == torch.int64
        assert torch.equal(codes.of(one), expected)
    assert len(np.unique(codes.all)) == DVAE_SIZES.tokens, "a dull corpus would prove little"


def test_codes_are_written_once(toy: ToyCorpus, tmp_path: Path) -> None:
    out = tmp_path / "codes.npy"
    out.write_bytes(b"made before")
    encode(Features(toy.features), toy.dvae(), MEL_RANGE, out)
    assert out.read_bytes() == b"made before"
    out.unlink()
    encode(Features(toy.features), toy.dvae(), MEL_RANGE, out)
    assert out.read_bytes() == toy.codes.read_bytes()
    assert list(tmp_path.iterdir()) == [out]


def test_no_codes(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no codes at .*codes.npy: write them with 'chelys data codes'"):
        Codes(tmp_path / "codes.npy")


def test_codes_of_other_features(toy: ToyCorpus) -> None:
    codes = Codes(toy.codes)
    with pytest.raises(ManifestError, match="lacks codes of late"):
        codes.of(clip("late", first=4 * (len(codes.all) - 5), frames=24))


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_and_processes_give_the_same_codes(
    toy: ToyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(codes_module, "BATCH_FRAMES", 400)
    counts: list[int] = []
    encode(
        Features(toy.features), toy.dvae(), MEL_RANGE, tmp_path / "codes.npy", workers=workers,
        progress=lambda done, _: counts.append(done),
    )  # fmt: skip
    assert (tmp_path / "codes.npy").read_bytes() == toy.codes.read_bytes()
    assert len(counts) > 3 and counts[-1] == 18
