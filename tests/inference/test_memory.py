"""A limit of the memory: fewer candidates at a time, weights let go after use, the same samples."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from chelys.errors import UserError
from chelys.inference import memory
from chelys.inference.memory import COLUMNS, OVERHEAD, MemoryLimit
from chelys.inference.synthesizer import Synthesizer
from chelys.models.code_reader import CodeReader, linear_layers, row_bytes

TEXT = "Hello there. One, two, three!"


def size(*networks: torch.nn.Module) -> int:
    return sum(tensor.nbytes for network in networks for tensor in network.state_dict().values())


def test_what_is_left_for_candidates(tts: Synthesizer) -> None:
    decoder, networks = tts.model.autoregressive, (tts.model.clvp, tts.model.diffusion, tts.model.vocoder)
    limit = MemoryLimit(tts.model, 1_000_000_000)  # float16 in the files, so nothing is mapped
    assert limit.room("float32") == 1_000_000_000 - OVERHEAD - size(decoder, *networks)
    halves = 2 * sum(layer.weight.numel() for layer in linear_layers(decoder))
    assert limit.room("float32") - limit.room("float16") == halves


def test_of_mapped_weights_those_of_one_network_count(toy_folder: Path) -> None:
    mapped = Synthesizer.from_folder(toy_folder, dtype=torch.float16)
    limit = MemoryLimit(mapped.model, 1_000_000_000)
    assert limit.room("float32") == 1_000_000_000 - OVERHEAD - size(mapped.model.autoregressive)


def test_too_little_is_one_line(tts: Synthesizer) -> None:
    limited = Synthesizer(tts.model)
    with pytest.raises(UserError, match=r"max_memory is 2[.\d]* MB, and toy takes 0.3 GB at least: allow more"):
        limited.max_memory = 2_000_000
    with pytest.raises(UserError, match="must be a whole number"):
        limited.max_memory = 0.5  # type: ignore[assignment]
    assert limited.max_memory is None


def test_speech_is_the_same_within_less_memory(tts: Synthesizer, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = tts.speak(TEXT, seed=5)
    limited = Synthesizer(tts.model)
    least = OVERHEAD + size(*(getattr(tts.model, name) for name in ("autoregressive", "clvp", "diffusion", "vocoder")))
    limited.max_memory = least + row_bytes(tts.model.autoregressive, COLUMNS)
    rows, real = [], CodeReader.read
    monkeypatch.setattr(CodeReader, "read", lambda *given: (rows.append(len(given[1])), real(*given))[1])
    np.testing.assert_array_equal(limited.speak(TEXT, seed=5).audio, wanted.audio)
    within = max(rows)
    limited.max_memory, rows[:] = None, []
    assert limited.reader.room == sys.maxsize
    np.testing.assert_array_equal(limited.speak(TEXT, seed=5).audio, wanted.audio)
    assert within < max(rows) == 16


def test_networks_are_let_go_in_the_order_of_their_use(toy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mapped = Synthesizer.from_folder(toy_folder, dtype=torch.float16)
    wanted = mapped.speak("Hello there.", seed=5)
    gone, real = [], memory.let_go
    monkeypatch.setattr(memory, "let_go", lambda path: (gone.append(path.stem), real(path))[1])
    mapped.max_memory = 1_000_000_000
    np.testing.assert_array_equal(mapped.speak("Hello there.", seed=5).audio, wanted.audio)
    assert gone == ["autoregressive", "clvp", "diffusion"]
    mapped.max_memory = None
    mapped.speak("Hello there.", seed=5)
    assert len(gone) == 3, "without a limit all stays"
