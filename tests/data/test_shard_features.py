"""Training from shards: the same batches as from a feature folder and its codes."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
import toy_corpus

from chelys.data.dataset import Codes, Features
from chelys.data.manifest import read_manifest
from chelys.data.pairs import PairConfig, Pairs
from chelys.data.shards import ShardCodes, ShardFeatures, open_codes, open_features
from chelys.errors import ManifestError
from chelys.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def shards(toy: toy_corpus.ToyCorpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy corpus as ``chelys data prepare`` would pack it, seven clips a shard."""
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "shards").mkdir()
    codes = {clip.id: Codes(toy.codes).of(clip) for clip in Features(toy.features).clips}
    utterances = list(read_manifest(toy.manifest))
    for first in range(0, len(utterances), 7):
        with tarfile.open(folder / "shards" / f"{first:06d}.tar", "w") as tar:
            for utterance in utterances[first : first + 7]:
                flac, npy = io.BytesIO(), io.BytesIO()
                wave, rate = sf.read(utterance.audio, dtype="int16")
                sf.write(flac, wave, rate, format="FLAC")
                np.save(npy, codes[utterance.id].numpy().astype(np.uint16))
                about = {"id": utterance.id, "text": utterance.text, "speaker": utterance.speaker,
                         "seconds": round(len(wave) / rate, 3)}  # fmt: skip
                for suffix, data in (("flac", flac.getvalue()), ("codes.npy", npy.getvalue()),
                                     ("json", json.dumps(about).encode())):  # fmt: skip
                    info = tarfile.TarInfo(f"{utterance.id}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return folder


def pairs(toy: toy_corpus.ToyCorpus, features: Features, codes: Codes) -> Pairs:
    config = PairConfig(budget=120, reference_frames=32)
    return Pairs(features, codes, Tokenizer.load(toy.text), toy_corpus.MEL_RANGE, config, 1)


def test_batches_are_those_of_the_feature_folder(toy: toy_corpus.ToyCorpus, shards: Path) -> None:
    own = pairs(toy, Features(toy.features), Codes(toy.codes))
    other = pairs(toy, ShardFeatures(shards), ShardCodes(shards))
    ours, theirs = ({clip.id: clip for clip in (*p.train, *p.test)} for p in (own, other))
    assert ours.keys() == theirs.keys() and [c.id for c in own.test] == [c.id for c in other.test]
    same = [id_ for id_ in ours if ours[id_].frames == theirs[id_].frames]
    assert len(same) > len(ours) / 2
    lost = {ours[id_].frames - theirs[id_].frames for id_ in ours}
    assert lost <= {0, 4}, "a clip that ends with a code may lose it, as seconds are rounded"
    for id_ in same:
        rngs = (np.random.default_rng(3), np.random.default_rng(3))
        want, got = (
            p.collate([clips[id_]], rng) for p, clips, rng in zip((own, other), (ours, theirs), rngs, strict=True)
        )
        assert torch.equal(want.text, got.text) and torch.equal(want.codes, got.codes)
        mels = [p.features.mel(clips[id_]) for p, clips in zip((own, other), (ours, theirs), strict=True)]
        torch.testing.assert_close(mels[1], mels[0], atol=5e-3, rtol=0)  # features are kept as float16


def test_each_clip_once_an_epoch_and_any_step_alone(toy: toy_corpus.ToyCorpus, shards: Path) -> None:
    made = pairs(toy, ShardFeatures(shards), ShardCodes(shards))
    clips: Counter[str] = Counter()
    step = 0
    while sum(clips.values()) < len(made.train):
        clips.update(clip.id for clip in made.clips(step))
        step += 1
    assert set(clips.values()) == {1} and len(clips) == len(made.train)
    fresh = pairs(toy, ShardFeatures(shards), ShardCodes(shards))
    whole, part = made.batch(step), fresh.batch(step, slice(0, 1))
    assert torch.equal(whole.codes[:1, : part.codes.shape[1]], part.codes), "a rank reads its rows only"


@pytest.mark.parametrize("mel_spec", ["shared", "codes"])
def test_a_crop_is_a_piece_of_the_whole(shards: Path, mel_spec: Any) -> None:
    features = ShardFeatures(shards, mel_spec)
    clip = features.clips[3]
    whole = features.mel(clip)
    for start, frames in ((0, 8), (1, 1), (2, 5), (4, 8), (clip.frames - 1, 1), (clip.frames - 7, 7), (0, 9999)):
        torch.testing.assert_close(
            features.mel(clip, start, frames), whole[:, start : start + frames], atol=1e-4, rtol=0
        )
    torch.testing.assert_close(features.mel(clip, 6), whole[:, 6:], atol=1e-4, rtol=0)


@pytest.mark.parametrize(("mel_spec", "bands"), [("shared", 100), ("codes", 80)])
def test_mel_specs(shards: Path, mel_spec: Any, bands: int) -> None:
    features = ShardFeatures(shards, mel_spec)
    clip = features.clips[0]
    assert features.mel(clip).shape == (bands, clip.frames) and features.spec.bands == bands
    assert clip.frames % 4 == 0 and features.statistics["hours"] > 0


def test_it_can_be_handed_to_a_worker(shards: Path) -> None:
    features, codes = ShardFeatures(shards), ShardCodes(shards)
    clip = features.clips[0]
    before = features.mel(clip), codes.of(clip)
    features, codes = pickle.loads(pickle.dumps((features, codes)))
    assert torch.equal(features.mel(clip), before[0]) and torch.equal(codes.of(clip), before[1])
    assert codes.largest() < 16


def test_either_is_opened_by_its_path(toy: toy_corpus.ToyCorpus, shards: Path) -> None:
    assert isinstance(open_features(shards), ShardFeatures) and isinstance(open_codes(shards / "shards"), ShardCodes)
    assert type(open_features(toy.features)) is Features and type(open_codes(toy.codes)) is Codes


def test_what_shards_lack_is_said(tmp_path: Path) -> None:
    def write(files: dict[str, bytes]) -> None:
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))

    flac, npy = io.BytesIO(), io.BytesIO()
    sf.write(flac, np.zeros(24_000), 24_000, format="FLAC")
    np.save(npy, np.zeros(5, np.uint16))
    about = {"id": "a", "text": None, "speaker": None, "source": "tape.mp3", "seconds": 1.0}
    write({"a.flac": flac.getvalue(), "a.json": json.dumps(about).encode()})
    features = ShardFeatures(tmp_path)
    assert (features.clips[0].speaker, features.clips[0].text) == ("tape.mp3", "")
    with pytest.raises(ManifestError, match="holds no codes: prepare it with encode.model"):
        ShardCodes(tmp_path).of(features.clips[0])
    write({"a.codes.npy": npy.getvalue(), "a.json": json.dumps(about).encode()})
    features = ShardFeatures(tmp_path)
    with pytest.raises(ManifestError, match="holds no sound of a"):
        features.mel(features.clips[0])
    with pytest.raises(ManifestError, match="lacks codes of a"):
        ShardCodes(tmp_path).of(features.clips[0])
    write({"a.flac": flac.getvalue(), "a.json": json.dumps(about | {"seconds": 9.0}).encode()})
    features = ShardFeatures(tmp_path)
    with pytest.raises(ManifestError, match="shorter than its description"):
        features.mel(features.clips[0])
    write({"a.flac": flac.getvalue(), "a.json": json.dumps(about | {"seconds": 0.05}).encode()})
    with pytest.raises(ManifestError, match="as long as two codes"):
        ShardFeatures(tmp_path)
