"""Published checkpoints (``.pth``): read as plain tensors or not at all.

A ``.pth`` file is a pickle, and a pickle can run any program. Here it is read by PyTorch's restricted reader, which
makes tensors, numbers, text and containers of them and nothing else; a file that asks for more is refused. Tensors are
mapped, not copied, so a file is opened in a moment and costs memory only where it is read.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import tarfile
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from chelys.errors import ModelError
from chelys.tortoise.state_dicts import TABLES

_ZIP, _PICKLE, _POINTER = b"PK\x03\x04", b"\x80", b"version https://git-lfs"

#: A tensor that each published network has and no other one.
_TELLING = {
    "autoregressive": "mel_pos_embedding.emb.weight", "clvp": "to_text_latent.weight",
    "cvvp": "to_conditioning_latent.weight", "diffusion": "unconditioned_embedding",
    "univnet": "res_stack.0.kernel_predictor.kernel_conv.bias", "hifigan": "cond_layer.weight",
    "autoregressive_prior": "layers.5.bias", "detector": "enc.init.0.weight", "dvae": "codebook.embed",
}  # fmt: skip


def read_checkpoint(path: Path, network: str) -> dict[str, Tensor]:
    """The tensors of a published file, mapped, of a network that is a key of TABLES.

    Raises:
        ModelError: If it is no checkpoint, is truncated, holds anything but plain tensors, or is another network's.
    """
    loaded = _load(path)
    if not isinstance(loaded, Mapping):
        raise ModelError(f"{path} holds a {type(loaded).__name__}, not tensors by name: give TorToise v2's file")
    entry = TABLES[network].entry
    if entry and isinstance(loaded.get(entry), Mapping):
        loaded = loaded[entry]
    state = {}
    for name, tensor in loaded.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            kind = type(tensor).__name__
            raise ModelError(f"{path} has {str(name)[:80]!r}, a {kind}, among its tensors: give TorToise v2's file")
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_complex():
            raise ModelError(f"{path}: tensor {name} is not plain numbers: give TorToise v2's file")
        state[name] = tensor
    _recognise(path, network, state)
    return state


def _load(path: Path) -> object:
    try:
        with path.open("rb") as file:
            head = file.read(len(_POINTER))
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    if not head:
        raise ModelError(f"{path} is empty: fetch it again")
    if head.startswith(_POINTER):
        raise ModelError(f"{path} is a Git LFS pointer, not the file itself: run 'git lfs pull' there")
    if not head.startswith((_ZIP, _PICKLE)) or tarfile.is_tarfile(path):  # in tar archives old readers ran programs
        raise ModelError(f"{path} is not a checkpoint: give TorToise v2's file")
    zipped = head.startswith(_ZIP)
    if zipped and not zipfile.is_zipfile(path):
        raise ModelError(f"{path} is truncated: fetch it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the reader's own; what matters is said below
            # files from before PyTorch 1.6 are no zip archives and cannot be mapped
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        program = wanted[1] if wanted else "" if zipped else _first_program(path)
        reason = f"it would run {program}" if program else "it is damaged or holds more than tensors"
        raise ModelError(f"{path} is refused, {reason}: give a file of plain tensors") from error
    except Exception as error:  # the reader raises whatever a broken file makes it stumble over
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(f"{path} is damaged or no checkpoint ({reason}): fetch it again") from error


def _first_program(path: Path) -> str:
    """What a plain pickle would call first, read without running any of it; empty if that cannot be told."""
    words: list[str] = []
    try:
        with path.open("rb") as file:
            for code, value, _ in pickletools.genops(file):
                if code.name == "GLOBAL":
                    return str(value).replace(" ", ".")
                if code.name == "STACK_GLOBAL":
                    return ".".join(words[-2:])
                if isinstance(value, str):
                    words.append(value)
    except ValueError:  # it is damaged
        pass
    return ""


def _recognise(path: Path, network: str, state: Mapping[str, Tensor]) -> None:
    """Tell a file under another one's name; what is merely incomplete is found out later, tensor by tensor."""
    kind = "autoregressive_prior" if network == "diffusion_prior" else network
    if _TELLING[kind] in state:
        return
    for other, tensor in _TELLING.items():
        if tensor in state and other != kind:
            raise ModelError(
                f"{path} holds the weights of {TABLES[other].file}, not of {TABLES[network].file}:"
                " put each file under its own name"
            )
