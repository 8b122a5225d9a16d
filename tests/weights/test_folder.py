"""Model folders: what is saved comes back, and what is broken is named in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import toy
from safetensors.torch import load_file, save_file

from chelys.errors import ModelError, UserError
from chelys.weights.catalog import find_model
from chelys.weights.checks import place
from chelys.weights.folder import load_model, read_config, save_model, sha256

NETWORKS = ("autoregressive", "clvp", "diffusion", "vocoder")


def refusal(folder: Path) -> str:
    """The one line that loading is answered with."""
    with pytest.raises(ModelError) as raised:
        load_model(folder)
    message = str(raised.value)
    assert "\n" not in message and str(folder) in message
    return message


def change_config(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


# ---------------------------------------------------------------- there and back


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    config = toy.config()
    networks = toy.networks(config)
    saved = save_model(tmp_path / "m", config, networks, toy.tokenizer(), dtype=torch.float32)
    model = load_model(tmp_path / "m")
    assert model.config == saved == read_config(tmp_path / "m")
    assert replace(saved, hashes={}) == config
    for name in NETWORKS:
        network = getattr(model, name)
        wanted = networks[name].state_dict()
        assert network.state_dict().keys() == wanted.keys() and not network.training
        assert all(torch.equal(tensor, wanted[key]) for key, tensor in network.state_dict().items())
        assert not any(parameter.requires_grad or parameter.is_meta for parameter in network.parameters())
    assert model.tokenizer.encode("Hello, you.") == toy.tokenizer().encode("Hello, you.")


def test_files_are_half_precision_and_networks_are_not(toy_folder: Path) -> None:
    on_disk = load_file(toy_folder / "clvp.safetensors")
    assert {tensor.dtype for tensor in on_disk.values()} == {torch.float16}
    assert {p.dtype for p in load_model(toy_folder).clvp.parameters()} == {torch.float32}
    assert {p.dtype for p in load_model(toy_folder, dtype=torch.bfloat16).clvp.parameters()} == {torch.bfloat16}


def test_hashes_are_those_of_the_files(toy_folder: Path) -> None:
    hashes = read_config(toy_folder).hashes
    assert set(hashes) == {*(f"{name}.safetensors" for name in NETWORKS), "tokenizer.json", "lexicon.txt.gz"}
    assert all(sha256(toy_folder / name) == digest for name, digest in hashes.items())


def test_the_fingerprint_is_that_of_the_weights_that_voices_hang_on(tmp_path: Path) -> None:
    config = toy.config()
    networks = toy.networks(config)

    def fingerprint() -> str:
        return save_model(tmp_path / "m", config, networks, toy.tokenizer()).fingerprint

    first = fingerprint()
    assert len(first) == 12 and fingerprint() == first
    for name, matters in (("clvp", False), ("vocoder", False), ("diffusion", True), ("autoregressive", True)):
        before = fingerprint()
        with torch.no_grad():
            next(networks[name].parameters()).add_(0.5)
        assert (fingerprint() != before) == matters, name


def test_loading_neither_reads_nor_writes_global_random_state(toy_folder: Path) -> None:
    before = torch.get_rng_state()
    load_model(toy_folder)
    assert torch.equal(torch.get_rng_state(), before)


# ---------------------------------------------------------------- broken files


@pytest.mark.parametrize(
    "name", [*(f"{n}.safetensors" for n in NETWORKS), "tokenizer.json", "lexicon.txt.gz", "config.json"]
)
def test_a_missing_file_is_named(toy_copy: Callable[[], Path], name: str) -> None:
    folder = toy_copy()
    (folder / name).unlink()
    assert name in refusal(folder)


@pytest.mark.parametrize(
    "name", [*(f"{n}.safetensors" for n in NETWORKS), "tokenizer.json", "lexicon.txt.gz", "config.json"]
)
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_named(toy_copy: Callable[[], Path], name: str, share: float) -> None:
    folder = toy_copy()
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: int(share * len(data))])
    assert name in refusal(folder)


def test_what_training_alone_needs_may_be_missing(toy_copy: Callable[[], Path]) -> None:
    folder = toy_copy()
    change_config(folder, lambda values: values["hashes"].update({"dvae.safetensors": "0"}))
    load_model(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.pop("code_head.bias"), "tensor code_head.bias is missing"),
        (lambda tensors: tensors.update(extra=torch.zeros(2)), "tensor extra is unexpected"),
        (
            lambda tensors: tensors.update({"code_head.bias": torch.zeros(7)}),
            "tensor code_head.bias has shape (7,), expected (50,)",
        ),
        (
            lambda tensors: tensors.update({"code_head.bias": torch.zeros(50, dtype=torch.int32)}),
            "tensor code_head.bias is of kind torch.int32, expected torch.float32",
        ),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(
    toy_copy: Callable[[], Path], change: Callable[[dict[str, torch.Tensor]], Any], said: str
) -> None:
    folder = toy_copy()
    path = folder / "autoregressive.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    message = refusal(folder)
    assert said in message and "autoregressive.safetensors" in message


# ---------------------------------------------------------------- broken configuration


@pytest.mark.parametrize("text", ["", "{", "[]", '"abc"', "[1, 2]", "3", "null", "\udcff"])
def test_a_damaged_config_is_named(toy_copy: Callable[[], Path], text: str) -> None:
    folder = toy_copy()
    (folder / "config.json").write_bytes(text.encode("utf8", "surrogateescape"))
    assert "config.json" in refusal(folder)


def setting(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Change one value of a configuration."""

    def change(values: dict[str, Any]) -> None:
        *outer, last = path.split(".")
        for key in outer:
            values = values[key]
        values[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("color", "green", "color"),
        ("autoregressive.color", "green", "autoregressive.color"),
        ("autoregressive.dim", "wide", "autoregressive.dim"),
        ("autoregressive.positions", "absolute", "autoregressive.positions"),
        ("clvp.rotary_dim", 7, "rotary_dim is 7"),
        ("autoregressive", None, "autoregressive"),
        ("format", 2, "has format 2, this version of chelys reads 1"),
        ("vocos", None, "must name one vocoder"),
        ("univnet", {}, "must name one vocoder"),
        ("autoregressive.heads", 5, "autoregressive.dim must be a multiple of its heads"),
        ("autoregressive.heads", 0, "autoregressive.dim must be a multiple of its heads"),
        ("diffusion.heads", 5, "diffusion.dim must be a multiple of its heads"),
        ("diffusion.patch", 3, "diffusion.patch must divide 4"),
        ("diffusion.latent_dim", 64, "diffusion.latent_dim must be autoregressive.dim"),
        ("diffusion.bands", 80, "diffusion.bands must be those of the vocoder"),
        ("clvp.speech_tokens", 9, "clvp.speech_tokens must be at least autoregressive.codes"),
        ("clvp.text_tokens", 9, "tokenizer.json has 56 ids, config.json only 9"),
        ("mel_range.high", -9.0, "mel_range.low must lie below mel_range.high"),
        ("autoregressive.dim", -32, "config.json"),
        ("autoregressive.layers", 3, "autoregressive.safetensors does not fit config.json: tensor blocks.2"),
    ],
)
def test_a_wrong_value_is_named(toy_copy: Callable[[], Path], path: str, value: Any, said: str) -> None:
    folder = toy_copy()
    change_config(folder, setting(path, value))
    assert said in refusal(folder)


def test_a_missing_key_is_named(toy_copy: Callable[[], Path]) -> None:
    folder = toy_copy()
    change_config(folder, lambda values: values.pop("mel_range"))
    assert "mel_range" in refusal(folder)


# ---------------------------------------------------------------- finding and placing


def test_a_model_is_found_by_name_or_folder(toy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_model("nano").parts[-3:] == ("chelys", "assets", "nano")
    assert find_model(str(toy_folder)) == find_model(toy_folder) == toy_folder
    monkeypatch.setenv("HOME", str(toy_folder.parent))
    assert find_model("~/toy") == toy_folder


@pytest.mark.parametrize("name", ["giant", "x" * 5_000, "~nobody/model", __file__])
def test_an_unknown_model_is_answered_with_what_there_is(name: str) -> None:
    with pytest.raises(ModelError, match="name 'nano' or a folder that has a config.json"):
        find_model(name)


def test_a_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path} is not a model folder: it has no config.json"
    assert "no model folder at" in refusal(tmp_path / "gone")


def test_devices_and_dtypes() -> None:
    assert place("cpu", None) == ("cpu", torch.float32) and place("cpu", "bfloat16") == ("cpu", torch.bfloat16)
    with pytest.raises(UserError, match="unknown dtype 'int8': choose from float32, float16, bfloat16"):
        place("cpu", "int8")
    with pytest.raises(UserError, match="device 'cuda:99' cannot be used here .*: choose auto or cpu"):
        place("cuda:99", None)
    for device in ("abacus", "", "cuda:x", "meta"):
        with pytest.raises(UserError, match=f"device {device!r}.* cpu, cuda, cuda:N, mps or auto$") as raised:
            place(device, None)
        assert len(str(raised.value)) < 100, "torch's list of twenty devices is no help"
    assert place("auto", None)[0] in ("cpu", "cuda", "mps")
