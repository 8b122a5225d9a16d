"""What reads bytes of strangers, each as a function of the bytes: a ``UserError`` is an answer, anything else a fault.

The attack, the fuzzer and the tests share these. Every function writes its bytes to one file of its own and goes the
road that a user's file goes.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import tiny_published  # noqa: E402
import toy  # noqa: E402
import toy_corpus  # noqa: E402

from chelys.audio import io as audio_io  # noqa: E402
from chelys.config import from_mapping  # noqa: E402
from chelys.configs import read_yaml  # noqa: E402
from chelys.data.arrays import read_npz  # noqa: E402
from chelys.data.check import _read as check_lines  # noqa: E402
from chelys.data.dataset import Codes, Features  # noqa: E402
from chelys.data.features import _waveform  # noqa: E402
from chelys.data.manifest import read_manifest  # noqa: E402
from chelys.data.shards import ShardFeatures, ShardReader, open_shards  # noqa: E402
from chelys.errors import UserError  # noqa: E402
from chelys.inference.voice import Voice  # noqa: E402
from chelys.parsing import ParseError, parse_json, parse_yaml  # noqa: E402
from chelys.text.lexicon import Lexicon  # noqa: E402
from chelys.text.tokenizer import Tokenizer, read_core, tokenizer_with  # noqa: E402
from chelys.tortoise.state_dicts import read_checkpoint  # noqa: E402
from chelys.tortoise.voices import read_latents  # noqa: E402
from chelys.training.tasks import RUNS  # noqa: E402
from chelys.weights.folder import read_config  # noqa: E402
from chelys.weights.tensor_file import read_head, read_tensors  # noqa: E402

Reader = Callable[[bytes], None]


@cache
def scratch() -> Path:
    """A folder of this process; in memory where there is any for files."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="chelys-attack-", dir=memory if memory.is_dir() else None))


@cache
def toy_model() -> Path:
    """A model folder of the tests."""
    return toy.make(scratch() / "toy")


@cache
def corpus() -> toy_corpus.ToyCorpus:
    """The corpus of the tests."""
    return toy_corpus.make(scratch() / "corpus")


def file(name: str, data: bytes) -> Path:
    path = scratch() / name
    path.write_bytes(data)
    return path


def audio(data: bytes, name: str = "a.wav") -> None:
    """As a clip of a voice is read."""
    for clip in audio_io.read_clips([file(name, data)], 24_000):
        assert np.isfinite(clip).all() and clip.dtype == np.float32


def safetensors(data: bytes) -> None:
    path = file("a.safetensors", data)
    head = read_head(path)
    try:
        for _, tensor in read_tensors(path, head, None):
            assert tensor.nbytes <= len(data)
    except Exception as error:  # load_network says these in one line
        if type(error).__name__ != "SafetensorError":
            raise


def voice(data: bytes) -> None:
    Voice.load(file("v.safetensors", data)).info  # noqa: B018


def latents(data: bytes) -> None:
    read_latents(file("v.pth", data), (32, 64))


def checkpoint(data: bytes) -> None:
    read_checkpoint(file("clvp2.pth", data), "clvp")


def tokenizer(data: bytes) -> None:
    core = read_core(file("tokenizer.json", data))
    made = tokenizer_with("chelys", core, Lexicon({"hello": "həlˈO"}))
    for text in ("Hello there, 3 of you.", "x" * 200, "(a) [b]; 'c' - \"d\""):
        assert all(0 <= number < made.vocabulary_size for number in made.encode(text))


def lexicon(data: bytes) -> None:
    found = Lexicon.load(file("lexicon.txt.gz", data))
    Tokenizer(toy.tokenizer().core, found).encode("Hello there, worlds.")


def config(data: bytes) -> None:
    folder = scratch() / "config"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_bytes(data)
    read_config(folder)


def tar(data: bytes) -> None:
    folder = scratch() / "shards"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "a.tar").write_bytes(data)
    index = open_shards(folder)
    reader = ShardReader(index)
    for number in range(len(index)):
        try:
            reader.read(number)
        except UserError:
            continue
    clips = ShardFeatures(folder)
    for clip in clips.clips:
        try:
            clips.mel(clip, 0, 8)
        except UserError:
            continue


def manifest(data: bytes) -> None:
    path = file("m.jsonl", data)
    for line in check_lines(path):
        assert line.utterance is not None or line.faults
    for utterance in read_manifest(path):
        _waveform(utterance, 24_000)


def features(name: str, data: bytes) -> None:
    """A feature folder with one other file in it."""
    folder = scratch() / "features"
    if not folder.exists():
        shutil.copytree(corpus().features, folder)
    whole = (folder / name).read_bytes() if (folder / name).exists() else None
    (folder / name).write_bytes(data)
    try:
        found = Features(folder)
        for clip in list(found.clips)[:3]:
            found.mel(clip)
    finally:
        (folder / name).unlink() if whole is None else (folder / name).write_bytes(whole)


def codes(data: bytes) -> None:
    Codes(file("codes.npy", data)).largest()


def npz(data: bytes) -> None:
    try:
        read_npz(file("a.npz", data), limit=1 << 26)
    except ValueError as error:
        raise UserError(str(error)) from error


def json_text(data: bytes) -> None:
    try:
        parse_json(data)
    except ParseError as error:
        raise UserError(str(error)) from error


def yaml_text(data: bytes) -> None:
    try:
        parse_yaml(data)
    except ParseError as error:
        raise UserError(str(error)) from error
    from_mapping(RUNS["dvae"], read_yaml(file("c.yaml", data)))


READERS: dict[str, Reader] = {
    "audio": audio,
    "safetensors": safetensors,
    "voice": voice,
    "latents": latents,
    "checkpoint": checkpoint,
    "tokenizer": tokenizer,
    "lexicon": lexicon,
    "config": config,
    "tar": tar,
    "manifest": manifest,
    "index": lambda data: features("index.jsonl", data),
    "statistics": lambda data: features("statistics.json", data),
    "mels": lambda data: features("mel.f16", data),
    "codes": codes,
    "npz": npz,
    "json": json_text,
    "yaml": yaml_text,
}


# ---- files to begin with --------------------------------------------------------------------------------------------


@cache
def seeds(name: str) -> list[bytes]:
    """Sound files of a reader, small ones."""
    return [data for data in _SEEDS[name]() if data]


def _audio() -> list[bytes]:
    import soundfile as sf

    made, wave = [], toy.tone(150.0, 0.6, rate=8000)
    both = np.stack([wave, -wave], axis=1)
    kinds = [
        ("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "IMA_ADPCM"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"),
        ("AIFF", "PCM_16"), ("AU", "ULAW"), ("CAF", "PCM_16"), ("W64", "PCM_16"), ("MP3", "MPEG_LAYER_III"),
    ]  # fmt: skip
    for container, coding in kinds:
        for samples in (wave, both):
            held = io.BytesIO()
            try:
                sf.write(held, samples, 8000, format=container, subtype=coding)
            except (sf.SoundFileError, ValueError):
                continue
            made.append(held.getvalue())
    try:
        import av
    except ImportError:
        return made
    packed = [
        ("mp4", "aac", 24_000), ("matroska", "aac", 24_000), ("ogg", "libopus", 24_000), ("webm", "libopus", 24_000),
        ("asf", "wmav2", 22_050), ("avi", "mp3", 24_000),
    ]  # fmt: skip
    for container, coding, rate in packed:
        held = io.BytesIO()
        try:
            with av.open(held, "w", format=container) as output:
                stream = output.add_stream(coding, rate=rate, layout="mono")
                frame = av.AudioFrame.from_ndarray(toy.tone(150.0, 0.6, rate=rate)[None], format="flt", layout="mono")
                frame.sample_rate = rate
                for packet in (*stream.encode(frame), *stream.encode(None)):
                    output.mux(packet)
        except (av.FFmpegError, ValueError):
            continue
        made.append(held.getvalue())
    return made


def _voices() -> list[bytes]:
    return [path.read_bytes() for path in sorted((toy_model() / "voices").iterdir())]


def _networks() -> list[bytes]:
    return [(toy_model() / f"{name}.safetensors").read_bytes() for name in ("clvp", "vocoder")]


def _saved(held: object) -> list[bytes]:
    import torch

    made = []
    for new in (True, False):
        output = io.BytesIO()
        torch.save(held, output, _use_new_zipfile_serialization=new)
        made.append(output.getvalue())
    return made


def _latents() -> list[bytes]:
    import torch

    return _saved((torch.linspace(-1, 1, 32)[None], torch.linspace(-2, 2, 64)[None]))


def _checkpoints() -> list[bytes]:
    folder = scratch() / "tiny"
    if not folder.exists():
        tiny_published.make(folder)
    return [(folder / "clvp2.pth").read_bytes()]


def _tokenizers() -> list[bytes]:
    from chelys.tortoise.tokenizer import make_tortoise_tokenizer

    return [made.core.to_str().encode() for made in (toy.tokenizer(), make_tortoise_tokenizer())]


def _tars() -> list[bytes]:
    import soundfile as sf

    made = []
    for format in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        output = io.BytesIO()
        with tarfile.open(fileobj=output, mode="w", format=format) as archive:
            for name in ("a", "b" * 120):
                flac, npy = io.BytesIO(), io.BytesIO()
                sf.write(flac, toy.tone(150.0, 0.5, rate=8000), 8000, format="FLAC")
                np.save(npy, np.arange(11, dtype=np.uint16))
                about = json.dumps({"id": name, "text": "Hello.", "speaker": "ada", "seconds": 0.5}).encode()
                if format == tarfile.USTAR_FORMAT:
                    name = name[:50]
                for suffix, data in (("flac", flac.getvalue()), ("codes.npy", npy.getvalue()), ("json", about)):
                    info = tarfile.TarInfo(f"{name}.{suffix}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
        made.append(output.getvalue())
    return made


def _manifests() -> list[bytes]:
    lines = corpus().manifest.read_text().splitlines()[:3]
    entries = [json.loads(line) for line in lines]
    for entry in entries:
        entry["audio"] = str(corpus().manifest.parent / entry["audio"])
    cut = [entry | {"start": 0.1, "end": 0.5} for entry in entries]
    return ["".join(json.dumps(entry) + "\n" for entry in part).encode() for part in (entries, cut)]


def _npzs() -> list[bytes]:
    made = []
    for save in (np.savez, np.savez_compressed):
        output = io.BytesIO()
        save(output, a=np.arange(30), b=np.array(["ada", "bob"]))
        made.append(output.getvalue())
    return made


def _npys() -> list[bytes]:
    output = io.BytesIO()
    np.save(output, np.arange(300, dtype=np.uint16))
    return [output.getvalue()]


def _configs() -> list[bytes]:
    return [path.read_bytes() for path in sorted((ROOT / "src" / "chelys" / "configs").rglob("*.yaml"))]


_SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "audio": _audio,
    "safetensors": _networks,
    "voice": _voices,
    "latents": _latents,
    "checkpoint": _checkpoints,
    "tokenizer": _tokenizers,
    "lexicon": lambda: [(toy_model() / "lexicon.txt.gz").read_bytes()],
    "config": lambda: [(toy_model() / "config.json").read_bytes()],
    "tar": _tars,
    "manifest": _manifests,
    "index": lambda: [(corpus().features / "index.jsonl").read_bytes()],
    "statistics": lambda: [(corpus().features / "statistics.json").read_bytes()],
    "mels": lambda: [(corpus().features / "mel.f16").read_bytes()],
    "codes": _npys,
    "npz": _npzs,
    "json": lambda: [(toy_model() / "config.json").read_bytes()],
    "yaml": _configs,
}
