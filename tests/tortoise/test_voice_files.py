"""Voice folders and ``.pth`` files of the original: read without running them, and never written to."""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import soundfile as sf
import torch
import toy

from chelys.audio.rates import OUTPUT_RATE
from chelys.errors import VoiceError
from chelys.inference.options import SpeechOptions
from chelys.inference.synthesizer import Synthesizer
from chelys.inference.voice import Voice
from chelys.tortoise.voices import latents_file, read_voice

HEARD, RENDERED = torch.linspace(-1, 1, 32)[None], torch.linspace(-2, 2, 64)[None]


class Writer:
    """Unpickled by an ordinary reader, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pair_of_vectors_is_a_voice(tts: Synthesizer, tmp_path: Path) -> None:
    folder = tmp_path / "pat"
    folder.mkdir()
    torch.save((HEARD, RENDERED), folder / "latents.pth")
    for path, name in ((folder / "latents.pth", "latents"), (folder, "pat")):
        voice = read_voice(path, tts.model.config)
        assert torch.equal(voice.autoregressive, HEARD[0]) and torch.equal(voice.diffusion, RENDERED[0])
        assert voice.info["name"] == name and voice.info["sources"] == ["latents.pth"] and voice.clips == ()
        assert tts.resolve_voice(voice) is voice
        voice.save(tmp_path / "pat.safetensors")
        assert torch.equal(Voice.load(tmp_path / "pat.safetensors").diffusion, voice.diffusion)
    assert len(tts.speak("Hello.", voice=voice, seed=1, options=SpeechOptions(candidates=1, steps=1)).audio)


def test_half_precision_is_taken_for_what_it_is(tts: Synthesizer, tmp_path: Path) -> None:
    torch.save((HEARD.half(), RENDERED.half()), tmp_path / "half.pth")
    voice = read_voice(tmp_path / "half.pth", tts.model.config)
    assert voice.autoregressive.dtype == torch.float32
    torch.testing.assert_close(voice.diffusion, RENDERED[0], rtol=1e-3, atol=1e-3)


def test_a_folder_with_clips_is_read_by_its_clips(tmp_path: Path) -> None:
    folder = tmp_path / "pat"
    folder.mkdir()
    assert latents_file(folder) is None and latents_file(tmp_path / "gone") is None
    torch.save((HEARD, RENDERED), folder / "pat.pth")
    assert latents_file(folder) == folder / "pat.pth"
    (folder / "1.wav").touch()
    assert latents_file(folder) is None
    (folder / "1.wav").unlink()
    torch.save((HEARD, RENDERED), folder / "other.pth")
    assert latents_file(folder) is None  # which of the two?
    assert latents_file(folder / "other.pth") == folder / "other.pth"


def test_b8_a_list_of_waveforms_is_not_taken_for_vectors(tts: Synthesizer, tmp_path: Path) -> None:
    """The original caches its clips in this form, and takes the file for vectors once the clips are gone."""
    torch.save([torch.zeros(1, 44_100), torch.zeros(1, 44_100)], tmp_path / "pat.pth")
    with pytest.raises(VoiceError, match="pat.pth holds waveforms, not the vectors of a voice: give the clips"):
        read_voice(tmp_path, tts.model.config)


def test_b8_nothing_is_written_into_a_voice_folder(tts: Synthesizer, tmp_path: Path) -> None:
    folder = tmp_path / "pat"
    folder.mkdir()
    for name in ("2.wav", "1.wav"):
        sf.write(folder / name, toy.tone(150.0, 1.0), OUTPUT_RATE)
    before = os.stat(folder), {path.name: path.read_bytes() for path in folder.iterdir()}
    assert tts.voice(folder).info["sources"] == ["1.wav", "2.wav"]
    tts.resolve_voice(folder)
    assert (os.stat(folder).st_mtime_ns, os.stat(folder).st_ino) == (before[0].st_mtime_ns, before[0].st_ino)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before[1]


def test_a_pickle_that_would_run_is_refused_and_runs_nothing(tts: Synthesizer, tmp_path: Path) -> None:
    torch.save((HEARD, Writer(tmp_path / "run")), tmp_path / "zipped.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps((HEARD.numpy(), Writer(tmp_path / "run"))))
    for name in ("zipped", "plain"):
        with warnings.catch_warnings(), pytest.raises(VoiceError) as raised:
            warnings.simplefilter("error")
            read_voice(tmp_path / f"{name}.pth", tts.model.config)
        assert "which is not opened" in str(raised.value) and "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()
    torch.load(tmp_path / "zipped.pth", weights_only=False)
    assert (tmp_path / "run").exists()  # it was a real one


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"a": HEARD}, "is no voice"),
        ([], "is no voice"),
        ((HEARD,), "is no voice"),
        ((HEARD, RENDERED, RENDERED), "is no voice"),
        ((HEARD[0], RENDERED[0]), "is no voice"),
        ((HEARD.long(), RENDERED), "is no voice"),
        ((HEARD * float("nan"), RENDERED), "is no voice"),
        ((HEARD, "words"), "is no voice"),
        ((HEARD.to_sparse(), RENDERED), "is damaged"),
        ((torch.zeros(1, 1024), torch.zeros(1, 2048)), "vectors of 1024 and 2048 numbers, the model has 32 and 64"),
        ((RENDERED, HEARD), "holds vectors of 64 and 32 numbers"),
        (b"", "is damaged"),
        (b"These are words." * 50, "is damaged"),
        ("truncated", "is damaged"),
    ],
)
def test_other_files_are_answered_in_one_line(tts: Synthesizer, tmp_path: Path, held: Any, said: str) -> None:
    path = tmp_path / "pat.pth"
    if isinstance(held, bytes):
        path.write_bytes(held)
    elif held == "truncated":
        torch.save((HEARD, RENDERED), path)
        path.write_bytes(path.read_bytes()[:-300])
    else:
        torch.save(held, path)
    with pytest.raises(VoiceError) as raised:
        read_voice(path, tts.model.config)
    assert said in str(raised.value) and str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_a_file_that_is_not_there(tts: Synthesizer, tmp_path: Path) -> None:
    for path in (tmp_path / "gone.pth", tmp_path):
        with pytest.raises(VoiceError, match="no voice file at"):
            read_voice(path, tts.model.config)


@pytest.mark.parametrize(
    "held",
    [
        (torch.zeros(1, 1).expand(1, 10**10), RENDERED),
        (HEARD, torch.zeros(1, 1).expand(1, 64)),
        (torch.empty(1, 32, device="meta"), RENDERED),
        (HEARD.to(torch.float8_e5m2), RENDERED),
        (HEARD.to(torch.complex64), RENDERED),
    ],
    ids=["ten thousand million zeros", "one number for all", "meta", "float8", "complex"],
)
def test_a_small_file_asks_for_no_memory(tts: Synthesizer, tmp_path: Path, held: Any) -> None:
    torch.save(held, tmp_path / "pat.pth")
    assert (tmp_path / "pat.pth").stat().st_size < 10_000
    with pytest.raises(VoiceError) as refused:
        read_voice(tmp_path / "pat.pth", tts.model.config)
    assert "\n" not in str(refused.value)


def test_a_compressed_archive_is_refused(tts: Synthesizer, tmp_path: Path) -> None:
    torch.save((HEARD, RENDERED), tmp_path / "pat.pth")
    with zipfile.ZipFile(tmp_path / "pat.pth") as plain, zipfile.ZipFile(tmp_path / "bomb.pth", "w") as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name), zipfile.ZIP_DEFLATED)
    read_voice(tmp_path / "pat.pth", tts.model.config)
    with pytest.raises(VoiceError, match="is damaged"):
        read_voice(tmp_path / "bomb.pth", tts.model.config)


def test_a_pickle_names_nothing_but_tensors(tts: Synthesizer, tmp_path: Path) -> None:
    """``bytearray(10**11)``, which the reader of plain tensors would run, is a hundred gigabytes in forty bytes."""
    (tmp_path / "pat.pth").write_bytes(b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\xe8\x76\x48\x17\x85R.")
    with pytest.raises(VoiceError, match="is damaged"):
        read_voice(tmp_path / "pat.pth", tts.model.config)


@pytest.mark.parametrize("legacy", [False, True])
def test_both_formats_of_torch_save_are_read(tts: Synthesizer, tmp_path: Path, legacy: bool) -> None:
    torch.save(
        (HEARD, torch.nn.Parameter(RENDERED).data), tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy
    )
    assert torch.equal(read_voice(tmp_path / "a.pth", tts.model.config).autoregressive, HEARD[0])
