"""Published files to a model folder and back: nothing is lost, nothing bad gets in, nothing half-written loads."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections import namedtuple
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import tiny_published
import torch

import chelys
from chelys.errors import ModelError, OutputError
from chelys.tortoise import convert
from chelys.tortoise.convert import OPTIONAL, REQUIRED, export, file_of, find_checkpoints
from chelys.tortoise.model import TortoiseConfig
from chelys.tortoise.state_dicts import TABLES, read_checkpoint
from chelys.weights import checks
from chelys.weights.folder import load_model, read_config
from chelys.weights.tensor_file import read_head, sha256

NETWORKS = (*REQUIRED, *OPTIONAL)
AR = TABLES["autoregressive"].file


def run(source: Path, target: Path, **options: Any) -> Any:
    return convert.convert(find_checkpoints(source), target, **options)


def refusal(source: Path, target: Path, kind: type[Exception] = ModelError, **options: Any) -> str:
    """The one line that converting is answered with, and nothing is left of it."""
    before = sorted(target.parent.rglob("*"))
    with pytest.raises(kind) as raised:
        run(source, target, **options)
    message = str(raised.value)
    assert "\n" not in message and len(message) < 600
    assert sorted(target.parent.rglob("*")) == before
    return message


def tensors(path: Path) -> dict[str, torch.Tensor]:
    loaded = torch.load(path, weights_only=True)
    return loaded.get("model_g", loaded)


@pytest.fixture(scope="module")
def converted(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of the small files; not to be changed."""
    target = tmp_path_factory.mktemp("converted") / "model"
    run(tiny, target)
    return target


# ---------------------------------------------------------------- there and back


def test_what_is_converted_loads(converted: Path) -> None:
    model = load_model(converted)
    for network, sizes in tiny_published.SIZES.items():
        assert getattr(model.config, network) == sizes
    config = model.config
    assert (config.family, config.mel_spec, config.cleaner, config.text_stops) == (
        "tortoise-v2", "published", "tortoise", 1,
    )  # fmt: skip
    assert config.silence_trimming is not None and config.silence_trimming.sampled_before == (1, tiny_published.CODES)
    assert model.tokenizer.vocabulary_size == 255 and config.mel_range.bounds == pytest.approx((-1.0, 1.0))
    for name in TortoiseConfig.EXTRAS:
        assert model.has(name) and model.extra(name) is model.extra(name)
        assert not any(p.requires_grad or p.is_meta for p in model.extra(name).parameters())


def test_hashes_of_sources_and_files_are_recorded(tiny: Path, converted: Path) -> None:
    config = read_config(converted)
    assert config.source_hashes == {path.name: sha256(path) for path in tiny.iterdir()}
    assert config.hashes == {path.name: sha256(path) for path in converted.iterdir() if path.name != "config.json"}
    assert set(config.hashes) == {*map(file_of, NETWORKS), "tokenizer.json"}


def test_back_again_every_tensor_is_the_same(tiny: Path, converted: Path, tmp_path: Path) -> None:
    files = export(converted, tmp_path / "back")
    assert {file.name for file in files} == {path.name for path in (tmp_path / "back").iterdir()}
    assert {file.name for file in files} == {path.name for path in tiny.iterdir()}
    for file in files:
        ours, theirs = tensors(file), tensors(tiny / file.name)
        assert ours.keys() == theirs.keys()
        for name, tensor in theirs.items():
            assert torch.equal(ours[name], tensor), f"{file.name}: {name}"
            assert ours[name].untyped_storage().nbytes() == tensor.nbytes  # nothing else hangs on it


def test_and_there_once_more_every_file_is_the_same(converted: Path, tmp_path: Path) -> None:
    export(converted, tmp_path / "back")
    again = run(tmp_path / "back", tmp_path / "again")
    assert again.hashes == read_config(converted).hashes


def test_the_other_layout(tiny: Path, converted: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "hub" / ".models")
    assert run(tmp_path / "hub", tmp_path / "model").hashes == read_config(converted).hashes


def test_masks_of_older_files_are_passed_over(tiny_copy: Callable[[], Path], converted: Path, tmp_path: Path) -> None:
    source = tiny_copy()
    state = tensors(source / AR)
    for layer in range(2):
        state[f"gpt.h.{layer}.attn.bias"] = torch.ones(1, 1, 9, 9, dtype=torch.bool)
        state[f"gpt.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    torch.save(state, source / AR)
    assert run(source, tmp_path / "model").hashes == read_config(converted).hashes


def test_files_of_before_pytorch_16(tiny_copy: Callable[[], Path], converted: Path, tmp_path: Path) -> None:
    source = tiny_copy()
    loaded = torch.load(source / "vocoder.pth", weights_only=True)
    torch.save(loaded, source / "vocoder.pth", _use_new_zipfile_serialization=False)
    assert run(source, tmp_path / "model").hashes == read_config(converted).hashes


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(tiny: Path, converted: Path, tmp_path: Path, dtype: str) -> None:
    run(tiny, tmp_path / "half", dtype=dtype)
    kind = getattr(torch, dtype)
    for network in NETWORKS:
        assert {entry.dtype for entry in read_head(tmp_path / "half" / file_of(network)).values()} == {kind}
    exact, half = (load_model(folder).clvp.state_dict() for folder in (converted, tmp_path / "half"))
    assert all(torch.equal(half[name], tensor.to(kind).float()) for name, tensor in exact.items())


def test_weight_norm_is_kept_or_folded(tiny: Path, converted: Path, tmp_path: Path) -> None:
    run(tiny, tmp_path / "folded", weight_norm="fold")
    kept, folded = (read_head(folder / "vocoder.safetensors") for folder in (converted, tmp_path / "folded"))
    assert any("original0" in name for name in kept) and not any("original" in name for name in folded)
    one, other = (load_model(folder) for folder in (converted, tmp_path / "folded"))
    for name in ("vocoder", "hifigan"):
        mine, theirs = ((m.vocoder if name == "vocoder" else m.extra(name)).state_dict() for m in (one, other))
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_optional_networks_may_be_missing(tiny_copy: Callable[[], Path], tmp_path: Path) -> None:
    source = tiny_copy()
    for network in OPTIONAL:
        (source / TABLES[network].file).unlink()
    model = load_model_of(source, tmp_path / "model")
    for name in TortoiseConfig.EXTRAS:
        assert not model.has(name)
        with pytest.raises(ModelError, match=f"model 'tortoise-v2' in .* has no {name} network"):
            model.extra(name)


def load_model_of(source: Path, target: Path) -> Any:
    run(source, target)
    return load_model(target)


def test_optional_networks_can_be_left_out(tiny: Path) -> None:
    assert find_checkpoints(tiny, ["cvvp", "dvae"]).keys() == set(NETWORKS) - {"cvvp", "dvae"}
    with pytest.raises(ModelError, match="cannot leave out 'clvp': choose from cvvp"):
        find_checkpoints(tiny, ["clvp"])


def test_progress_reaches_its_end(tiny: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    run(tiny, tmp_path / "model", progress=lambda *what: told.append(what))
    assert told[0][0] == f"reading {AR}" and "writing dvae.safetensors" in {stage for stage, _, _ in told}
    assert told[-1][1] == told[-1][2] and [done for _, done, _ in told] == sorted(done for _, done, _ in told)


# ---------------------------------------------------------------- bad input


class Planted:
    """What a pickle makes when it is read: here, a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.system, (f"echo owned > {self.path}",))


@pytest.mark.parametrize("form", ["torch", "old torch", "pickle", "inside"])
def test_a_pickle_that_would_run_a_program_is_refused(tiny_copy: Callable[[], Path], tmp_path: Path, form: str) -> None:
    source, trace = tiny_copy(), tmp_path / "owned"
    path = source / "clvp2.pth"
    if form == "pickle":
        path.write_bytes(pickle.dumps(Planted(trace)))
    elif form == "inside":
        torch.save(tensors(path) | {"temperature": Planted(trace)}, path)
    else:
        torch.save(Planted(trace), path, _use_new_zipfile_serialization=form == "torch")
    message = refusal(source, tmp_path / "model")
    assert str(path) in message and "refused, it would run" in message and "system" in message
    assert not trace.exists()
    with suppress(Exception):
        torch.load(path, weights_only=False)  # which shows that it would have
    assert trace.exists()


@pytest.mark.parametrize("network", ["autoregressive", "univnet", "detector"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_named(tiny_copy: Callable[[], Path], tmp_path: Path, network: str, share: float) -> None:
    source = tiny_copy()
    path = source / TABLES[network].file
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    message = refusal(source, tmp_path / "model")
    assert message == f"{path} is {'truncated' if share else 'empty'}: fetch it again"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"<!DOCTYPE html><html>404</html>", "is not a checkpoint"),
        (b"RIFF\x00\x00\x00\x00WAVE", "is not a checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "is a Git LFS pointer"),
        (pickle.dumps(["words"]), "is refused, it is damaged or holds more than tensors"),
        (b"\x80\x04abc", "is"),
    ],
)
def test_what_is_no_checkpoint_is_named(tiny_copy: Callable[[], Path], tmp_path: Path, data: bytes, said: str) -> None:
    source = tiny_copy()
    (source / AR).write_bytes(data)
    message = refusal(source, tmp_path / "model")
    assert message.startswith(f"{source / AR} {said}")


def test_a_tar_archive_is_refused_unread(tiny_copy: Callable[[], Path], tmp_path: Path) -> None:
    """PyTorch before 2.6 ran programs out of such, even when told not to (CVE-2025-32434)."""
    source = tiny_copy()
    with tarfile.open(source / AR, "w", format=tarfile.GNU_FORMAT, encoding="latin1") as archive:
        archive.addfile(tarfile.TarInfo("\x80pickle"))
    assert (source / AR).read_bytes().startswith(b"\x80")
    assert "autoregressive.pth is not a checkpoint" in refusal(source, tmp_path / "model")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([torch.zeros(2)], "holds a list, not tensors by name"),
        ({"layers": {"a": torch.zeros(2)}}, "has 'layers', a dict, among its tensors"),
        ({"a": 3}, "has 'a', a int, among its tensors"),
        ({"a": torch.zeros(2).to_sparse()}, "holds more than plain tensors (torch._utils._rebuild_sparse_tensor)"),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, "holds more than plain tensors (torch.ComplexFloatStorage)"),
        ({"a": torch.zeros(2, device="meta")}, "holds more than plain tensors (torch._utils._rebuild_meta_tensor"),
        (
            {"a": torch.zeros(2, dtype=torch.float8_e5m2)},
            "holds more than plain tensors (torch._utils._rebuild_tensor_v3)",
        ),
        ({"a": torch.zeros(1).expand(10_000_000, 4)}, "tensor a is not plain numbers"),
        ({}, "does not fit: autoregressive: weights missing"),
    ],
)
def test_a_checkpoint_of_something_else_is_named(
    tiny_copy: Callable[[], Path], tmp_path: Path, value: Any, said: str
) -> None:
    source = tiny_copy()
    torch.save(value, source / AR)
    message = refusal(source, tmp_path / "model")
    assert str(source / AR) in message and said in message


@pytest.mark.parametrize("network", [n for n in NETWORKS if "prior" not in n])
def test_a_file_under_another_name_is_recognised(tiny_copy: Callable[[], Path], tmp_path: Path, network: str) -> None:
    source = tiny_copy()
    path, other = source / TABLES[network].file, "clvp2.pth" if network == "diffusion" else "diffusion_decoder.pth"
    shutil.copy(source / other, path)
    assert refusal(source, tmp_path / "model").startswith(f"{path} holds the weights of {other}, not of {path.name}")


def test_swapped_files_are_told(tiny_copy: Callable[[], Path], tmp_path: Path) -> None:
    source = tiny_copy()
    one, other = source / "rlg_auto.pth", source / "rlg_diffuser.pth"
    shutil.copy(one, tmp_path / "kept")
    shutil.copy(other, one)
    shutil.copy(tmp_path / "kept", other)
    message = refusal(source, tmp_path / "model")
    assert f"{one} do not belong together: autoregressive_prior.dim must be autoregressive.dim" in message


@pytest.mark.parametrize("network", REQUIRED)
def test_a_missing_file_is_named(tiny_copy: Callable[[], Path], tmp_path: Path, network: str) -> None:
    source = tiny_copy()
    path = source / TABLES[network].file
    path.rename(path.with_name("model.pth"))
    assert refusal(source, tmp_path / "model").startswith(f"{source} lacks {path.name}: ")


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    assert f"no folder at {tmp_path / 'gone'}" in refusal(tmp_path / "gone", tmp_path / "model")


@pytest.mark.parametrize("network", NETWORKS)
def test_tensors_missing_unexpected_and_of_a_wrong_size_are_named(
    tiny_copy: Callable[[], Path], tmp_path: Path, network: str
) -> None:
    source = tiny_copy()
    path = source / TABLES[network].file
    whole = tensors(path)
    name = next(n for n in whole if n.endswith(("bias", ".g")))
    changes = {
        "missing": {n: t for n, t in whole.items() if n != name},
        "unexpected": whole | {"ema.weight": torch.zeros(2)},
        "wrongly shaped": whole | {name: torch.zeros(len(whole[name]) + 1)},
    }
    for fault, state in changes.items():
        tiny_published.save(path, network, state)
        message = refusal(source, tmp_path / "model")
        assert message.startswith(f"{path} does not fit: ")
        assert f"{fault}: '{'ema.weight' if fault == 'unexpected' else name}'" in message


def test_a_wrong_tensor_that_sizes_are_read_off_is_named_in_a_published_file(
    monkeypatch: pytest.MonkeyPatch, tiny_copy: Callable[[], Path], tmp_path: Path
) -> None:
    """Beside sizes that were read off it all others would look wrong."""
    monkeypatch.setitem(convert.PUBLISHED, "diffusion", tiny_published.SIZES["diffusion"])
    source = tiny_copy()
    path = source / "diffusion_decoder.pth"
    torch.save(tensors(path) | {"inp_block.weight": torch.zeros(96, 100, 3)}, path)
    assert "wrongly shaped: 'inp_block.weight';" in refusal(source, tmp_path / "model")


def test_values_that_are_no_numbers_are_named(tiny_copy: Callable[[], Path], tmp_path: Path) -> None:
    source = tiny_copy()
    state = tensors(source / AR)
    state["mel_head.bias"][3] = float("nan")
    torch.save(state, source / AR)
    message = refusal(source, tmp_path / "model")
    assert message == f"{source / AR}: tensor code_head.bias has values that are no finite numbers"
    state["mel_head.bias"][3] = 1e6
    torch.save(state, source / AR)
    assert "too large for float16: choose bfloat16 or float32" in refusal(source, tmp_path / "model", dtype="float16")
    state["mel_head.bias"] = torch.zeros(302, dtype=torch.int64)
    torch.save(state, source / AR)
    assert "holds whole numbers" in refusal(source, tmp_path / "model")


def test_an_optional_file_that_does_not_fit_can_be_spared(
    tiny_copy: Callable[[], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = tiny_copy()
    (source / "hifidecoder.pth").write_bytes(b"nothing")
    assert "hifidecoder.pth is not a checkpoint" in refusal(source, tmp_path / "model")
    config = run(source, tmp_path / "model", spare=True)
    assert config.hifigan is None and config.cvvp is not None
    assert "hifidecoder.pth is not a checkpoint" in caplog.text and "goes without it" in caplog.text
    (source / AR).write_bytes(b"nothing")
    assert "autoregressive.pth is not a checkpoint" in refusal(source, tmp_path / "other", spare=True)


# ---------------------------------------------------------------- where it goes


def test_a_folder_with_something_in_it_is_left_alone(tiny: Path, converted: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "diary.txt").write_text("dear")
    (tmp_path / "file").write_text("")
    assert "is not empty" in refusal(tiny, tmp_path / "full", OutputError)
    assert "cannot write" in refusal(tiny, tmp_path / "file", OutputError)
    assert "is not empty" in refusal(tiny, tiny, OutputError)
    assert "is not empty" in refusal(tiny, converted, OutputError, dtype="float16")
    assert "is not empty" in refusal(tiny, converted, OutputError, weight_norm="fold")


def test_converting_twice_is_no_work(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(tiny, tmp_path / "model")
    monkeypatch.setattr(convert, "write_tensors", lambda *a, **k: pytest.fail("written again"))
    assert run(tiny, tmp_path / "model") == first


def test_too_little_disk_is_told_before_anything_is_written(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda path: usage(9, 8, 2_000_000))
    message = refusal(tiny, tmp_path / "model", OutputError)
    assert "the model takes" in message and "2.0 MB are free: make room or write elsewhere" in message
    target = tmp_path / "model"
    needed = float(message.split(" MB in ")[0].split()[-1])
    monkeypatch.undo()
    monkeypatch.setenv("CHELYS_MODELS", str(tmp_path))
    run(tiny, target)
    assert sum(path.stat().st_size for path in target.iterdir()) / 1e6 == pytest.approx(needed, rel=0.05)
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda path: usage(9, 8, 2_000_000))
    with pytest.raises(OutputError, match="checkpoints take .* MB in .*, and 2.0 MB are free"):
        export(target, tmp_path / "back")
    assert not (tmp_path / "back").exists()


# ---------------------------------------------------------------- interrupted


def test_a_file_that_was_written_and_not_noted_is_removed(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(convert.Journal, "note", full)
        assert "No space left" in refusal(tiny, tmp_path / "model", OutputError)
    assert not (tmp_path / "model").exists()
    run(tiny, tmp_path / "model")


@pytest.mark.parametrize("stopped_at", range(len(NETWORKS)))
def test_a_stopped_conversion_does_not_load_and_goes_on(
    tiny: Path, converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_at: int
) -> None:
    target = tmp_path / "model"
    write, written = convert.write_tensors, []

    def stop(path: Path, tensors: Any, **options: Any) -> str:
        if len(written) == stopped_at:
            seen = []
            options["progress"] = lambda count: seen.append(count) or (len(seen) > 2 and press_control_c())
        digest = write(path, tensors, **options)
        written.append(path.name)
        return digest

    def press_control_c() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(convert, "write_tensors", stop)
    with pytest.raises(KeyboardInterrupt):
        run(tiny, target)
    assert len(written) == stopped_at
    if stopped_at:
        assert {path.name for path in target.iterdir()} == {*written, ".conversion.json", ".conversion.lock"}
        with pytest.raises(ModelError, match="is not a model folder: it has no config.json"):
            load_model(target)
    else:
        assert not target.exists()
    monkeypatch.setattr(convert, "write_tensors", write)
    before = {name: (target / name).stat().st_mtime_ns for name in written}
    assert run(tiny, target).hashes == read_config(converted).hashes
    assert before == {name: (target / name).stat().st_mtime_ns for name in written}
    assert {path.name for path in target.iterdir()} == {path.name for path in converted.iterdir()}


KILLED = """
import os, signal, sys
from pathlib import Path
from chelys.tortoise import convert
from chelys.tortoise.convert import find_checkpoints
from chelys.weights import tensor_file
count = 0
def stage(what, done, total):
    global count
    count += 1
    if count == int(sys.argv[3]):
        if sys.argv[4] == "wait":
            print("here", flush=True)
            sys.stdin.read()
            os.kill(os.getpid(), signal.SIGKILL)
        tensor_file.save_file = killed
def killed(tensors, path, metadata):
    save_file(tensors, path, metadata)
    os.truncate(path, path.stat().st_size // 2)
    os.kill(os.getpid(), signal.SIGKILL)
save_file = tensor_file.save_file
convert.convert(find_checkpoints(Path(sys.argv[1])), Path(sys.argv[2]), progress=stage)
"""


def start(*arguments: object) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(chelys.__file__).parents[1])}
    command = [sys.executable, "-c", KILLED, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no such signal")
def test_a_killed_conversion_leaves_nothing_that_loads_and_goes_on(tiny: Path, converted: Path, tmp_path: Path) -> None:
    target = tmp_path / "model"
    process = start(tiny, target, 60, "kill")
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert list(target.glob(".*.part")) and not (target / "config.json").exists()
    assert run(tiny, target).hashes == read_config(converted).hashes
    assert {path.name for path in target.iterdir()} == {path.name for path in converted.iterdir()}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")
def test_two_conversions_do_not_mix(tiny: Path, tmp_path: Path) -> None:
    target = tmp_path / "model"
    other = start(tiny, target, 5, "wait")
    assert other.stdout is not None and other.stdout.readline() == b"here\n"
    with pytest.raises(OutputError, match="another conversion is writing"):
        run(tiny, target)
    other.communicate(timeout=60)
    for _ in range(50):  # until the system has let go of its lock
        try:
            run(tiny, target)
            break
        except OutputError:
            time.sleep(0.1)
    load_model(target)


def test_other_settings_start_anew(
    tiny: Path, converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model"
    stop_after_two(monkeypatch, tiny, target, dtype="float16")
    assert run(tiny, target).hashes == read_config(converted).hashes


def test_a_finished_file_that_was_changed_is_made_again(
    tiny_copy: Callable[[], Path], converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tiny_copy(), tmp_path / "model"
    stop_after_two(monkeypatch, source, target)
    (target / "autoregressive.safetensors").write_bytes(b"damaged")
    assert run(source, target).hashes == read_config(converted).hashes


def test_a_source_that_was_changed_is_read_again(
    tiny_copy: Callable[[], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tiny_copy(), tmp_path / "model"
    stop_after_two(monkeypatch, source, target)
    torch.save(tiny_published.published("autoregressive", seed=1), source / AR)
    config = run(source, target)
    assert config.source_hashes[AR] == sha256(source / AR)
    wanted = tensors(source / AR)["mel_head.bias"]
    assert torch.equal(load_model(target).autoregressive.code_head.bias, wanted)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"settings": 3, "sources": 4, "files": 5}'])
def test_a_damaged_journal_counts_for_nothing(
    tiny: Path, converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    target = tmp_path / "model"
    stop_after_two(monkeypatch, tiny, target)
    (target / ".conversion.json").write_text(text)
    assert run(tiny, target).hashes == read_config(converted).hashes


def stop_after_two(monkeypatch: pytest.MonkeyPatch, source: Path, target: Path, **options: Any) -> None:
    """Leave a conversion of which two networks are finished."""
    write, count = convert.write_tensors, iter(range(9))
    with monkeypatch.context() as patch:
        patch.setattr(convert, "write_tensors", lambda *a, **k: 1 / (2 - next(count)) and write(*a, **k))
        with pytest.raises(ZeroDivisionError):
            run(source, target, **options)
    assert len(json.loads((target / ".conversion.json").read_text())["files"]) == 2


# ---------------------------------------------------------------- the way back


def test_a_model_of_another_kind_has_no_way_back(toy_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no name in TorToise v2|has no univnet") as raised:
        export(toy_folder, tmp_path / "back")
    assert "\n" not in str(raised.value) and not (tmp_path / "back").exists()


def test_a_damaged_model_has_no_way_back(converted: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(converted, tmp_path / "model"))
    (folder / "clvp.safetensors").unlink()
    with pytest.raises(ModelError, match="lacks clvp.safetensors"):
        export(folder, tmp_path / "back")
    shutil.copy(folder / "vocoder.safetensors", folder / "clvp.safetensors")
    with pytest.raises(ModelError, match="clvp.safetensors does not fit config.json|has no name in TorToise v2"):
        export(folder, tmp_path / "back")


def test_what_was_saved_by_hand_is_read(tmp_path: Path) -> None:
    """Entries that are views, and tensors on a meta-free map, come as they are."""
    state = tiny_published.published("autoregressive_prior")
    both = torch.stack([state["layers.0.weight"], state["layers.1.weight"]])
    state["layers.0.weight"], state["layers.1.weight"] = both[0], both[1]
    torch.save(state, tmp_path / "rlg_auto.pth")
    found = read_checkpoint(tmp_path / "rlg_auto.pth", "autoregressive_prior")
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


# ---- journals of strangers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../victim", "inside", "{absolute}", "a\0b", "", ".", "sub/clvp.safetensors"])
def test_a_journal_that_names_other_files_deletes_none(tiny: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / "model"
    (target / "sub").mkdir(parents=True)
    victims = [tmp_path / "victim", target / "inside", target / "sub" / "clvp.safetensors"]
    for victim in victims:
        victim.write_text("mine")
    name = name.format(absolute=victims[0])
    journal = {"settings": {"dtype": "none"}, "sources": {name: "0"}, "files": {name: "0"}}
    (target / ".conversion.json").write_text(json.dumps(journal))
    run(tiny, target)
    assert all(victim.read_text() == "mine" for victim in victims)


@pytest.mark.parametrize("text", ["[" * 100_000, "{}", '{"settings": 1, "sources": [], "files": "x"}', "\0", "null"])
def test_a_journal_that_cannot_be_read_is_begun_anew(tiny: Path, tmp_path: Path, text: str) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / ".conversion.json").write_text(text)
    assert run(tiny, target).name


def test_a_folder_in_the_journal_s_place_is_one_line(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "model" / ".conversion.json").mkdir(parents=True)
    with pytest.raises(OutputError) as refused:
        run(tiny, tmp_path / "model")
    assert "\n" not in str(refused.value)
