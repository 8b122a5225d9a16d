"""Clips become the codes that training would see."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from safetensors.torch import save_file
from toy_corpus import MEL_RANGE, ToyCorpus

from chelys.audio.mel import log_mel
from chelys.audio.rates import MEL_24K
from chelys.data.prepare.encode import load_encoder
from chelys.data.prepare.engine import Local
from chelys.data.prepare.metadata import read_clips
from chelys.data.prepare.pipeline import PrepareSettings, prepare
from chelys.errors import ConfigError, ModelError

Settings = Callable[..., PrepareSettings]


@pytest.fixture
def run_folder(toy: ToyCorpus, tmp_path: Path) -> Path:
    """What the dvae stage leaves behind."""
    folder = tmp_path / "dvae"
    folder.mkdir()
    dvae = toy.dvae()
    save_file({k: v.contiguous() for k, v in dvae.state_dict().items()}, folder / "dvae.safetensors")
    config = {"network": asdict(dvae.config), "mel_range": asdict(MEL_RANGE), "loop": {}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_shards_hold_the_codes_of_the_clips(
    raw: Path, tmp_path: Path, settings: Settings, run_folder: Path, toy: ToyCorpus
) -> None:
    out = tmp_path / "out"
    prepare(raw, out, settings(encode={"model": str(run_folder)}, pack={"contents": "both"}), engine=Local(0))
    dvae, found = toy.dvae(), {}
    for shard in (out / "shards").glob("*.tar"):
        with tarfile.open(shard) as tar:
            found |= {m.name.split(".")[0]: np.load(io.BytesIO(tar.extractfile(m).read()))  # type: ignore[union-attr]
                      for m in tar if m.name.endswith(".npy")}  # fmt: skip
    clips = list(read_clips(out))
    assert set(found) == {c.id for c in clips} and len(np.unique(np.concatenate(list(found.values())))) > 3
    for clip in clips:
        audio, _ = sf.read(out / (clip.audio or ""), dtype="float32",
                           start=round(clip.audio_start * 24_000), stop=round(clip.audio_end * 24_000))  # fmt: skip
        codes = len(audio) // 1024
        mel = MEL_RANGE.normalize(log_mel(torch.from_numpy(audio)[None], MEL_24K)[:, :, : 4 * codes])
        with torch.no_grad():
            np.testing.assert_array_equal(found[clip.id], dvae.encode(mel)[0].numpy())


def test_codes_alone(raw: Path, tmp_path: Path, settings: Settings, run_folder: Path) -> None:
    changes = {"encode": {"model": str(run_folder)}, "pack": {"contents": "codes"}}
    prepare(raw, tmp_path / "out", settings(**changes), engine=Local(0))
    with tarfile.open(tmp_path / "out" / "shards" / "000000.tar") as tar:
        assert {name.partition(".")[2] for name in tar.getnames()} == {"codes.npy", "json"}


def test_other_weights_are_other_work(raw: Path, tmp_path: Path, settings: Settings, run_folder: Path) -> None:
    changed = settings(encode={"model": str(run_folder)})
    prepare(raw, tmp_path / "out", changed, engine=Local(0))
    before = set((tmp_path / "out" / "work" / "encode").rglob("*.jsonl"))
    data = bytearray((run_folder / "dvae.safetensors").read_bytes())
    data[-1] ^= 1
    (run_folder / "dvae.safetensors").write_bytes(data)
    prepare(raw, tmp_path / "out", changed, engine=Local(0))
    assert len(set((tmp_path / "out" / "work" / "encode").rglob("*.jsonl"))) == 2 * len(before) > 0


def test_shards_of_codes_need_codes(raw: Path, tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(ConfigError, match="pack.contents is 'codes', but encode.model is missing"):
        prepare(raw, tmp_path / "out", settings(pack={"contents": "codes"}), engine=Local(0))


def test_nano_encodes() -> None:
    codes = load_encoder("nano")(np.zeros(24_000, np.float32), 24_000)
    assert codes.shape == (24_000 // 1024,) and codes.min() >= 0 and codes.max() < 1024
    assert len(load_encoder("nano")(np.zeros(16_000, np.float32), 16_000)) == 24_000 // 1024
    assert len(load_encoder("nano")(np.zeros(100, np.float32), 24_000)) == 0


def test_a_folder_without_a_vqvae(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no VQ-VAE: name the run folder"):
        load_encoder(str(tmp_path))
    with pytest.raises(ModelError, match="no model"):
        load_encoder(str(tmp_path / "missing"))
