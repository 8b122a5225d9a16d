"""Model folders and voice files that are damaged or hostile: one line, before time or memory is spent on them."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from chelys.errors import ModelError, UserError, VoiceError
from chelys.inference.options import SpeechOptions
from chelys.inference.synthesizer import Synthesizer
from chelys.inference.voice import Voice
from chelys.text import lexicon
from chelys.text.tokenizer import Tokenizer
from chelys.weights import hashes
from chelys.weights.folder import load_model, sha256
from chelys.weights.tensor_file import MAX_TENSORS, read_head

QUICK = SpeechOptions(candidates=1, steps=1)


def refusal(folder: Path, seconds: float = 5.0) -> str:
    """The one line that loading or speaking is answered with, before long."""
    begin = time.monotonic()
    with pytest.raises(UserError) as raised:
        Synthesizer.from_folder(folder).speak("Hello there.", seed=1, options=QUICK)
    message = str(raised.value)
    assert "\n" not in message and len(message) < 1000 and time.monotonic() - begin < seconds
    return message


def change(path: Path, key: str, value: Any) -> None:
    """Another value in a JSON file, at ``outer.inner``."""
    values = json.loads(path.read_text())
    *outer, last = key.split(".")
    part = values
    for name in outer:
        part = part[name]
    part[last] = value
    path.write_text(json.dumps(values))


def rehash(folder: Path) -> None:
    """The hashes of a stranger who writes them anew."""
    config = json.loads((folder / "config.json").read_text())
    config["hashes"] = {name: sha256(folder / name) for name in config["hashes"]}
    (folder / "config.json").write_text(json.dumps(config))


# ---- config.json ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("clvp.speech_depth", 1_000_000),
        ("clvp.speech_depth", 900),
        ("autoregressive.layers", 10**9),
        ("autoregressive.layers", 500),
        ("autoregressive.layers", -1),
        ("autoregressive.dim", 2**40),
        ("autoregressive.dim", 2**20),
        ("autoregressive.dropout", 1e999),
        ("clvp.dropout", -1e300),
        ("diffusion.latent_blocks", 10**6),
        ("diffusion.timestep_encoder_layers", 999),
        ("diffusion.feed_forward", 10**7),
        ("vocos.hop", 0),
        ("vocos.hop", 2048),
        ("vocos.n_fft", 2**23),
        ("vocos.n_fft", 1),
        ("vocos.inner", 2**22),
        ("vocos.dim", 2**22),
        ("vocos.blocks", 0),
        ("vocos.blocks", 1000),
        ("vocos.pitches", 2**22),
        ("vocos.bands", 2**22),
        ("mel_range.low", -1e999),
        ("mel_range.high", 1e300),
        ("format", 10**30),
    ],
)
def test_sizes_that_the_files_belie_are_refused_before_anything_is_built(
    toy_copy: Callable[[], Path], key: str, value: Any
) -> None:
    folder = toy_copy()
    change(folder / "config.json", key, value)
    assert str(folder) in refusal(folder)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format": ' + "1" * 5000 + "}", "{" + '"a": 1, "a": 2}', "\xff", ""])
def test_a_configuration_that_cannot_be_parsed_is_damaged(toy_copy: Callable[[], Path], text: str) -> None:
    folder = toy_copy()
    (folder / "config.json").write_bytes(text.encode("latin1"))
    assert "config.json" in refusal(folder)


# ---- weights --------------------------------------------------------------------------------------------------------


def test_a_damaged_file_is_noticed_when_it_is_first_loaded_and_whenever_it_changed(
    toy_copy: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, read = toy_copy(), []
    monkeypatch.setattr(hashes, "sha256", lambda path: read.append(path.name) or sha256(path))  # type: ignore[func-returns-value]
    load_model(folder)
    assert sorted(read) == sorted(name for name in json.loads((folder / "config.json").read_text())["hashes"])
    load_model(folder)
    assert len(read) == 6, "it was read again though nothing changed"
    path = folder / "clvp.safetensors"
    data, status = bytearray(path.read_bytes()), path.stat()
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as a copy would leave it
    assert "clvp.safetensors is damaged: its SHA-256" in refusal(folder)


def test_what_was_verified_need_not_be_kept(toy_copy: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = toy_copy()
    (folder / "voices").rename(folder / "no")
    monkeypatch.setenv("CHELYS_MODELS", str(folder / "config.json" / "below"))
    load_model(folder)
    monkeypatch.setattr(hashes, "_file", lambda: folder / "README")
    (folder / "README").write_text("[" * 100_000)
    load_model(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 6e4])
@pytest.mark.parametrize("name", ["autoregressive", "clvp", "diffusion", "vocoder"])
def test_weights_that_are_not_finite_or_too_large_speak_nothing(
    toy_copy: Callable[[], Path], name: str, value: float
) -> None:
    folder = toy_copy()
    path = folder / f"{name}.safetensors"
    tensors = load_file(path)
    save_file({key: torch.full_like(tensor, value) for key, tensor in tensors.items()}, path)
    rehash(folder)
    try:
        speech = Synthesizer.from_folder(folder).speak("Hello there.", seed=1, options=QUICK)
    except ModelError as error:
        assert "\n" not in str(error)
    else:
        assert torch.from_numpy(speech.audio).isfinite().all() and value == 6e4 or name == "clvp"


def head(values: Any, data: bytes = b"") -> bytes:
    text = values if isinstance(values, bytes) else json.dumps(values).encode()
    return len(text).to_bytes(8, "little") + text + data


F32 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
HEADS = {
    "too many tensors": head({str(i): F32 | {"shape": [0], "data_offsets": [0, 0]} for i in range(MAX_TENSORS + 1)}),
    "a head of 2^60 bytes": (1 << 60).to_bytes(8, "little") + b"{}",
    "a deep head": head(b"[" * 100_000),
    "a list": head([1]),
    "2^70 rows": head({"a": F32 | {"shape": [2**70]}}, b"1234"),
    "2^60 rows": head({"a": F32 | {"shape": [2**60, 0], "data_offsets": [0, 0]}}),
    "rows that overflow": head({"a": F32 | {"shape": [2**39, 2**39, 0], "data_offsets": [0, 0]}}),
    "negative rows": head({"a": F32 | {"shape": [-1]}}, b"1234"),
    "negative bytes": head({"a": F32 | {"data_offsets": [4, 0]}}, b"1234"),
    "texts": head({"a": F32 | {"data_offsets": ["0", "4"]}}, b"1234"),
    "bools": head({"a": F32 | {"shape": [True]}}, b"1234"),
    "beyond the file": head({"a": F32 | {"shape": [100], "data_offsets": [0, 400]}}, b"1234"),
    "overlapping": head({"a": F32, "b": F32}, b"1234"),
    "twice": head(b'{"a": %s, "a": %s}' % ((json.dumps(F32).encode(),) * 2), b"1234"),
    "metadata of numbers": head({"__metadata__": {"a": 1}, "a": F32}, b"1234"),
    "no dtype": head({"a": {"shape": [1]}}, b"1234"),
    "an unknown dtype": head({"a": F32 | {"dtype": "F8_E5M2"}}, b"1234"),
    "a list for a dtype": head({"a": F32 | {"dtype": ["F32"]}}, b"1234"),
}


@pytest.mark.parametrize("data", HEADS.values(), ids=HEADS)
def test_a_head_that_claims_too_much_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    begin = time.monotonic()
    with pytest.raises(ModelError, match="is damaged") as refused:
        read_head(path)
    assert "\n" not in str(refused.value) and time.monotonic() - begin < 3
    with pytest.raises(VoiceError):
        Voice.load(path)


# ---- tokenizer and lexicon ------------------------------------------------------------------------------------------

REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": " " * 60}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.vocab.X", 10**6),
        ("model.unk_token", "none"),
        ("model.vocab.X", 2**33),
        ("normalizer.normalizers", [REPLACE] * 4),
        ("normalizer", {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""}),
        ("normalizer", {"type": "Replace", "pattern": {"Regex": "["}, "content": ""}),
        ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        ("normalizer", {"type": "Prepend", "prepend": "a" * 100}),
        ("normalizer", {"type": "Replace", "pattern": {"Regex": r"[\s\S]"}, "content": ""}),
        ("model", {"type": "Unigram", "vocab": []}),
        ("model", {"type": "BPE", "vocab": {"[STOP]": 0, "[UNK]": 1}, "merges": [["a", "b"]]}),
        (
            "pre_tokenizer",
            {"type": "Split", "pattern": {"Regex": "(?:a|aa)+"}, "behavior": "Isolated", "invert": False},
        ),
        ("added_tokens", [{"id": 10**6, "content": "H", "special": True}]),
    ],
)
def test_a_tokenizer_that_grows_stalls_or_points_beyond_the_table_is_refused(
    toy_copy: Callable[[], Path], key: str, value: Any
) -> None:
    folder = toy_copy()
    change(folder / "tokenizer.json", key, value)
    rehash(folder)
    refusal(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("padding", {"strategy": {"Fixed": 10**9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                     "pad_type_id": 0, "pad_token": "[STOP]"}),
        ("truncation", {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}),
    ],
)  # fmt: skip
def test_padding_and_truncation_are_left_out(toy_copy: Callable[[], Path], key: str, value: Any) -> None:
    folder = toy_copy()
    wanted = Tokenizer.load(folder).encode("Hello there.")
    change(folder / "tokenizer.json", key, value)
    assert Tokenizer.load(folder).encode("Hello there.") == wanted


@pytest.mark.parametrize(
    "data", [b"", b"[", b"[]", b"[" * 100_000, b"{}", b'{"model": {}}', b"\xff", b'{"model": null}']
)
def test_what_is_no_tokenizer_is_said(toy_copy: Callable[[], Path], data: bytes) -> None:
    folder = toy_copy()
    (folder / "tokenizer.json").write_bytes(data)
    assert "tokenizer.json" in refusal(folder)


def test_a_lexicon_that_unpacks_to_gigabytes_is_refused(
    toy_copy: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = toy_copy()
    monkeypatch.setattr(lexicon, "MAX_BYTES", 1 << 20)
    (folder / "lexicon.txt.gz").write_bytes(gzip.compress(b"\0" * (1 << 21)))
    assert "unpacks to more than" in refusal(folder)
    (folder / "lexicon.txt.gz").write_bytes(gzip.compress(b"hello\t" + "ə".encode() * 100_000))
    assert "line 1" in refusal(folder)
    (folder / "lexicon.txt.gz").unlink()
    os.mkfifo(folder / "lexicon.txt.gz")
    refusal(folder)


# ---- voices ---------------------------------------------------------------------------------------------------------


def latents(**changes: Any) -> dict[str, torch.Tensor]:
    return {"autoregressive": torch.zeros(32), "diffusion": torch.zeros(64)} | changes


@pytest.mark.parametrize(
    ("tensors", "about"),
    [
        (latents(), "[" * 100_000),
        (latents(), "1" * 5000),
        (latents(), "[1]"),
        (latents(), '{"model": "x", "model": "y"}'),
        (latents(autoregressive=torch.full((32,), float("nan"))), '{"model": "x"}'),
        (latents(autoregressive=torch.zeros(2, 2, 2)), '{"model": "x"}'),
        (latents(blended=torch.zeros(3)), '{"model": "x"}'),
        (latents(**{"clip.0": torch.zeros(9000)}), '{"model": "x"}'),
        (latents(**{"clip.x": torch.zeros(9000, dtype=torch.int16)}), '{"model": "x"}'),
        (latents(**{"clip." + "1" * 5000: torch.zeros(9000, dtype=torch.int16)}), '{"model": "x"}'),
        ({"autoregressive": torch.zeros(32)}, '{"model": "x"}'),
    ],
)
def test_a_strange_voice_file_is_one_line(tmp_path: Path, tensors: dict[str, torch.Tensor], about: str) -> None:
    path = tmp_path / "v.safetensors"
    path.write_bytes(save(tensors, metadata={"voice": about}))
    with pytest.raises(VoiceError) as refused:
        Voice.load(path)
    assert "\n" not in str(refused.value)


def test_a_voice_of_huge_numbers_speaks_nothing(tts: Synthesizer) -> None:
    from dataclasses import replace

    voice = tts.resolve_voice("low")
    loud = replace(voice, diffusion=torch.full_like(voice.diffusion, 3.4e38))
    with pytest.raises(ModelError, match="no finite numbers"):
        tts.speak("Hello.", voice=loud, seed=1, options=QUICK)
