"""``chelys voices``, and the shelf of the user's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import pytest
import torch

import chelys
from chelys.audio.voice_pitch import median_pitch
from chelys.inference import voice_files
from chelys.inference.voice import Voice


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    return tmp_path / "shelf"


def test_the_shelf_is_the_users_data_folder_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHELYS_VOICES", raising=False)
    assert voice_files.user_folder() == Path(platformdirs.user_data_dir("chelys")) / "voices"
    monkeypatch.setenv("CHELYS_VOICES", "~/somewhere")
    assert voice_files.user_folder() == Path.home() / "somewhere"


def test_the_shelf_finds_voices_by_name_alone(monkeypatch: pytest.MonkeyPatch, shelf: Path) -> None:
    monkeypatch.setenv("CHELYS_VOICES", str(shelf))
    assert voice_files.list_user_voices() == {} and voice_files.find_user_voice("me") is None
    (shelf / "folder.safetensors").mkdir(parents=True)
    for name in ("you.safetensors", "me.safetensors", "notes.txt", ".part.safetensors"):
        (shelf / name).touch()
    (shelf.parent / "out.safetensors").touch()
    assert list(voice_files.list_user_voices()) == ["me", "you"]
    assert voice_files.find_user_voice("me") == shelf / "me.safetensors"
    assert voice_files.find_user_voice("../out") is None and voice_files.find_user_voice("folder") is None


@pytest.mark.parametrize("name", ["random", "", "a b", "a/b", "..", "a.b", "é", "a\n", "x" * 65, "a\\b", "heart:0.5"])
def test_names_that_could_be_paths_or_mixes_are_not_valid(name: str) -> None:
    assert not voice_files.valid_name(name)


def test_names_that_are_valid() -> None:
    assert all(map(voice_files.valid_name, ["me", "Me-2", "x" * 64, "_", "7"]))


def test_add_list_and_info_go_together(invoke: Callable[..., Any], clips: dict[str, Path], shelf: Path) -> None:
    added = invoke("voices", "add", "me", clips["good"], clips["good"])
    assert added.exit_code == 0 and added.stdout == f"me  2.0 s from 2 clips  {shelf}/me.safetensors\n"
    assert [path.name for path in shelf.iterdir()] == ["me.safetensors"]
    lines = invoke("voices", "list").stdout.splitlines()
    assert lines[0] == "heart   built in     18.0 s   198 Hz  woman  (default)"
    assert lines[-1] == "me      yours         2.0 s           from good.wav, good.wav"
    rows = json.loads(invoke("voices", "list", "--json").stdout)
    assert len(rows) == 14 and rows[0]["licence"] == "Apache-2.0" and rows[0]["pitch"] == 198
    assert rows[-1]["sources"] == ["good.wav", "good.wav"]
    for voice in ("me", shelf / "me.safetensors"):
        assert json.loads(invoke("voices", "info", voice, "--json").stdout)["seconds"] == 2.0
    assert "sources      good.wav, good.wav" in invoke("voices", "info", "me").stdout
    assert "description  woman" in invoke("voices", "info", "heart").stdout


def test_add_says_how_much_of_the_default_voice_is_blended_in(
    invoke: Callable[..., Any], clips: dict[str, Path]
) -> None:
    assert invoke("voices", "add", "me", clips["good"], "--speaker-blend", "0.25").exit_code == 0
    assert json.loads(invoke("voices", "info", "me", "--json").stdout)["speaker_blend"] == {"heart": 0.25}
    assert invoke("voices", "add", "you", clips["good"], "--speaker-blend", "1.5").exit_code == 2


def test_the_old_name_of_the_blend_still_sets_it(invoke: Callable[..., Any], clips: dict[str, Path]) -> None:
    with pytest.warns(DeprecationWarning, match="--borrowed is deprecated .* use --speaker-blend"):
        assert invoke("voices", "add", "me", clips["good"], "--borrowed", "0.25").exit_code == 0
    assert json.loads(invoke("voices", "info", "me", "--json").stdout)["speaker_blend"] == {"heart": 0.25}


def test_add_takes_a_folder(invoke: Callable[..., Any], clips: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "takes"
    folder.mkdir()
    for name in ("2.wav", "1.wav"):
        (folder / name).write_bytes(clips["good"].read_bytes())
    assert invoke("voices", "add", "me", folder).exit_code == 0
    assert json.loads(invoke("voices", "info", "me", "--json").stdout)["sources"] == ["1.wav", "2.wav"]


def test_an_existing_voice_is_replaced_only_by_force(
    invoke: Callable[..., Any], refused: Callable[..., str], clips: dict[str, Path]
) -> None:
    invoke("voices", "add", "me", clips["good"])
    assert "--force" in refused("voices", "add", "me", clips["good"], clips["good"])
    assert invoke("voices", "add", "me", clips["good"], clips["good"], "--force").exit_code == 0
    assert json.loads(invoke("voices", "info", "me", "--json").stdout)["seconds"] == 2.0


def test_a_forced_voice_that_fails_keeps_the_old(
    invoke: Callable[..., Any], refused: Callable[..., str], clips: dict[str, Path]
) -> None:
    invoke("voices", "add", "me", clips["good"])
    assert "is silent" in refused("voices", "add", "me", clips["silent"], "--force")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("empty", "is empty (0 bytes)"),
        ("silent", "is silent"),
        ("short", "lasts 0.10 s"),
        ("corrupt", "is not audio, or damaged"),
        ("words", "is not audio, or damaged"),
        ("gone", "there is no file"),
    ],
)
def test_bad_clips_are_named(refused: Callable[..., str], clips: dict[str, Path], kind: str, said: str) -> None:
    line = refused("voices", "add", "me", clips["good"], clips[kind])
    assert said in line and str(clips[kind]) in line


def test_other_mistakes(refused: Callable[..., str], clips: dict[str, Path], tmp_path: Path) -> None:
    for name in ("../me", "a/b", "a.b", "", "x" * 65):
        assert "a voice cannot be called" in refused("voices", "add", name, clips["good"])
    assert "'heart' is a built-in voice of nano" in refused("voices", "add", "heart", clips["good"])
    assert "Missing argument" in refused("voices", "add", "me")
    (tmp_path / "nothing").mkdir()
    assert "holds no recordings" in refused("voices", "add", "me", tmp_path / "nothing")
    assert "heart, bronze" in refused("voices", "info", "nobody")
    assert "a voice cannot be called 'random'" in refused("voices", "add", "random", clips["good"])
    assert "cannot read" in refused("voices", "add", "me", "x" * 300)
    assert "no model 'giant'" in refused("voices", "list", "--model", "giant")


def test_a_shelf_that_cannot_be_made_is_one_line(
    refused: Callable[..., str], clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHELYS_VOICES", str(clips["words"] / "shelf"))
    assert "cannot keep the voice" in refused("voices", "add", "me", clips["good"])


def test_a_voice_that_fails_while_it_is_saved_keeps_the_old(
    invoke: Callable[..., Any],
    refused: Callable[..., str],
    synthesizer: Any,
    clips: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    invoke("voices", "add", "me", clips["good"])

    def save(voice: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(synthesizer.voices["heart"]), "save", save)
    assert "No space left" in refused("voices", "add", "me", clips["good"], "--force")


def test_bad_files_do_not_hide_the_other_voices(
    invoke: Callable[..., Any], clips: dict[str, Path], shelf: Path
) -> None:
    invoke("voices", "add", "me", clips["good"])
    (shelf / "bad.safetensors").write_bytes(b"no voice")
    os.mkfifo(shelf / "pipe.safetensors")
    for name, about in {
        "odd": {"seconds": "x", "kind": None, "pitch": [1], "description": 7, "sources": "s"},
        "rude": {"description": "\x1b]0;owned\x07 a\nb", "seconds": 1e300, "name": "\x1b[31m"},
        "list": [1],
    }.items():
        head = json.dumps({"__metadata__": {"voice": json.dumps(about)}}).encode()
        (shelf / f"{name}.safetensors").write_bytes(len(head).to_bytes(8, "little") + head)
    rows = {row["name"]: row["kind"] for row in json.loads(invoke("voices", "list", "--json").stdout)}
    assert {name: kind for name, kind in rows.items() if kind != "built in"} == {
        "bad": "unusable", "list": "unusable", "me": "yours", "odd": "yours", "rude": "yours"
    }  # fmt: skip
    shown = invoke("voices", "list").stdout
    assert "is no voice file" in shown and "\x1b" not in shown and len(shown.splitlines()) == 13 + 5
    info = invoke("voices", "info", shelf / "rude.safetensors").stdout
    assert "\x1b" not in info and "\x07" not in info


def test_listing_needs_neither_torch_nor_the_model(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    folders = os.pathsep.join([str(tmp_path), str(Path(chelys.__file__).parents[1])])
    for verb in (["list"], ["info", "heart"], ["export", "heart", "-o", str(tmp_path / "h.safetensors")]):
        command = [sys.executable, "-m", "chelys", "voices", *verb]
        done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONPATH": folders})
        assert done.returncode == 0 and done.stderr == b""


def test_what_is_said_of_the_built_in_voices_was_measured() -> None:
    folder = Path(chelys.__file__).parent / "assets" / "nano" / "voices"
    about = json.loads((folder / "about.json").read_text())
    assert set(about) == {path.stem for path in folder.glob("*.safetensors")}
    for name, said in about.items():
        voice = Voice.load(folder / f"{name}.safetensors")
        assert said["pitch"] == round(median_pitch(np.concatenate(voice.waveforms), 24_000) or 0)
        assert said["description"] and said["origin"] and said["licence"]


def test_preview_speaks_in_each_voice(invoke: Callable[..., Any], refused: Callable[..., str]) -> None:
    lines = invoke("voices", "preview", "heart", "bronze").stdout.splitlines()
    assert lines == ["heart  heart.wav  1.00 s", "bronze  bronze.wav  1.00 s"]
    assert "bronze.wav exists" in refused("voices", "preview", "bronze")
    assert "unknown voice 'nobody'" in refused("voices", "preview", "nobody")
    assert invoke("voices", "preview", "bronze", "--force", "--text", "Hello.").stdout == "bronze  bronze.wav  0.50 s\n"


def test_the_shell_completes_voices_presets_and_models(
    invoke: Callable[..., Any], process: Callable[..., Any], clips: dict[str, Path]
) -> None:
    invoke("voices", "add", "hermes", clips["good"])
    for words, found in {
        "speak -v he": "heart\nhermes", "voices remove he": "hermes", "speak -p st": "standard\nstreaming",
        "speak --model to": "tortoise-v2", "voices info he": "heart\nhermes", "speak --model giant -v he": "hermes",
    }.items():  # fmt: skip
        asked = {
            "_CHELYS_COMPLETE": "complete_bash",
            "COMP_WORDS": f"chelys {words}",
            "COMP_CWORD": str(len(words.split())),
        }
        run = process(fake=False, env=asked)
        assert run.communicate()[0].decode().strip() == found, words


# ---------------------------------------------------------------- drawn voices, and those of the original


@pytest.fixture
def real(toy_folder: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a command over the toy model, in this process."""
    from typer.testing import CliRunner

    from chelys.cli.main import app

    monkeypatch.setenv("CHELYS_VOICES", str(shelf))

    def run(*arguments: str | Path) -> Any:
        return CliRunner().invoke(app, ["voices", *map(str, arguments), "--model", str(toy_folder)])

    return run


def refusal(result: Any) -> str:
    assert result.exit_code == 2 and result.stdout == "" and result.stderr.count("\n") == 1, result.output
    return result.stderr


def test_a_drawn_voice_is_kept_under_a_name_or_in_a_file(real: Callable[..., Any], shelf: Path, tmp_path: Path) -> None:
    from chelys.inference.voice import Voice

    file = tmp_path / "stranger.safetensors"
    done = real("random", "--seed", "7", "--save", "stranger", "-o", file)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].startswith("random:7  a blend of ") and lines[0].endswith(f"  {file}")
    assert lines[1].startswith("stranger  random:7, a blend of ") and len(lines) == 2
    kept, written = Voice.load(shelf / "stranger.safetensors"), Voice.load(file)
    assert torch.equal(kept.autoregressive, written.autoregressive)
    assert (kept.name, kept.info["origin"], written.name) == ("stranger", "random:7", "random:7")
    assert real("random", "--seed", "7", "-o", tmp_path / "again.safetensors").exit_code == 0
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()
    rows = {row["name"]: row for row in json.loads(real("list", "--json").stdout)}
    assert rows["stranger"]["kind"] == "yours" and rows["stranger"]["description"].startswith("a blend of ")


def test_without_a_seed_each_drawn_voice_is_new_and_says_its_seed(real: Callable[..., Any], tmp_path: Path) -> None:
    names = {real("random", "-o", tmp_path / f"{i}.safetensors").stdout.split()[0] for i in range(2)}
    assert len(names) == 2 and all(name.startswith("random:") for name in names)


def test_drawn_voices_that_cannot_be_kept(real: Callable[..., Any], shelf: Path, tmp_path: Path) -> None:
    assert "--save NAME" in refusal(real("random", "--seed", "7"))
    assert "a voice cannot be called '../me'" in refusal(real("random", "--save", "../me"))
    assert "'low' is a built-in voice" in refusal(real("random", "--save", "low"))
    assert "give it that suffix" in refusal(real("random", "-o", tmp_path / "voice.wav"))
    assert "must lie between 0 and" in refusal(real("random", "--seed", "-1", "--save", "me"))
    assert not shelf.exists()
    assert real("random", "--seed", "7", "--save", "me").exit_code == 0
    before = (shelf / "me.safetensors").read_bytes()
    assert "--force" in refusal(real("random", "--seed", "8", "--save", "me"))
    assert (shelf / "me.safetensors").read_bytes() == before
    assert real("random", "--seed", "8", "--save", "me", "--force").exit_code == 0
    assert (shelf / "me.safetensors").read_bytes() != before


def test_a_voice_of_the_original_is_added_from_its_pth_or_its_folder(
    real: Callable[..., Any], shelf: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pat"
    folder.mkdir()
    torch.save((torch.ones(1, 32), torch.ones(1, 64)), folder / "latents.pth")
    for name, source in (("one", folder), ("two", folder / "latents.pth")):
        done = real("add", name, source)
        assert done.stdout == f"{name}  latents of latents.pth  {shelf}/{name}.safetensors\n", done.output
        assert json.loads(real("info", name, "--json").stdout)["sources"] == ["latents.pth"]
    assert [path.name for path in folder.iterdir()] == ["latents.pth"]
    torch.save([torch.ones(1, 9_999)], folder / "latents.pth")
    assert "holds waveforms" in refusal(real("add", "three", folder))
    assert sorted(path.stem for path in shelf.iterdir()) == ["one", "two"]


def test_mix_rename_export_and_remove(
    real: Callable[..., Any], shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert real("mix", "calm", "low:3+high").stdout == f"calm  low:0.75+high:0.25  {shelf}/calm.safetensors\n"
    assert real("mix", "me", "high").exit_code == 0
    assert "you already have a voice 'me'" in refusal(real("rename", "calm", "me"))
    assert "you have no voice 'low': choose from your own (calm, me)" in refusal(real("rename", "low", "h"))
    before = Voice.load(shelf / "calm.safetensors")
    assert real("rename", "calm", "soft").stdout == f"soft  was calm  {shelf}/soft.safetensors\n"
    after = Voice.load(shelf / "soft.safetensors")
    assert (after.name, after.fingerprint) == ("soft", before.fingerprint) and not (shelf / "calm.safetensors").exists()
    assert real("export", "soft").stdout == "soft  soft.safetensors\n"
    assert Path("soft.safetensors").read_bytes() == (shelf / "soft.safetensors").read_bytes()
    assert "soft.safetensors exists" in refusal(real("export", "soft"))
    assert real("export", "soft", "--force").exit_code == 0
    assert "say with -o FILE.safetensors" in refusal(real("export", "low:0.5+high:0.5"))
    assert "give it that suffix" in refusal(real("export", "soft", "-o", "soft.wav"))
    assert real("export", "low:3+high", "-o", "mix.safetensors").exit_code == 0
    assert Voice.load("mix.safetensors").fingerprint == before.fingerprint
    assert real("add", "again", "soft.safetensors").stdout.startswith("again  soft of soft.safetensors  ")
    assert Voice.load(shelf / "again.safetensors").fingerprint == before.fingerprint


def test_remove_takes_all_or_none(invoke: Callable[..., Any], refused: Callable[..., str], shelf: Path) -> None:
    shelf.mkdir()
    for name in ("me", "you"):
        (shelf / f"{name}.safetensors").touch()
    assert "you have no voice 'him': choose from your own (me, you)" in refused("voices", "remove", "me", "him")
    assert invoke("voices", "remove", "me", "you").stdout.splitlines()[0] == f"me  removed  {shelf}/me.safetensors"
    assert list(shelf.iterdir()) == []
