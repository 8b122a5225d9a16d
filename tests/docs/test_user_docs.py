"""README and the pages of the documentation: their commands and their programs run as they are printed.

Pages about data and training have tests of their own, since they need a corpus. ``tests/test_wheel.py`` runs all of
these in an environment that has the wheel alone.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tiny_published
from runner import blocks, run_page

import chelys
from chelys.tortoise.convert import convert, find_checkpoints

ROOT = Path(__file__).parents[2]
#: Pages that something is tried out of elsewhere.
ELSEWHERE = {"docs/data.md", "docs/serving.md", "docs/training.md"}
#: What speaks in seconds with the published system's hundreds of candidates and steps.
SHORT = ("--candidates", "2", "--set", "steps=3", "--set", "max_new_tokens=12", "--voice", "random:1")


def pages() -> list[str]:
    """Those that show commands or programs."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    shown = [page for page in found if any(block.is_run or block.language == "python" for block in blocks(page))]
    return [name for page in shown if (name := page.relative_to(ROOT).as_posix()) not in ELSEWHERE]


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What readers have: recordings of one speaker, and the published files (small ones)."""
    folder, tts = tmp_path_factory.mktemp("things"), chelys.load()
    (folder / "folder_of_clips").mkdir()
    for name, text in {
        "clip1.wav": "I am a small tortoise, and I like to sing.",
        "clip2.mp3": "This is my voice.",
        "clip.wav": "I am a small tortoise, and I like to sing.",
        "folder_of_clips/one.wav": "This is my voice, and this is all I have.",
    }.items():
        tts.speak(text, voice="fern", preset="ultra_fast", seed=1).save(folder / name)
    (folder / "chapter.md").write_text("# One\n\nIt was a *dark* night.\n", encoding="utf8")
    tiny_published.make(folder / "FOLDER")
    convert(find_checkpoints(folder / "FOLDER"), folder / "models" / "tortoise-v2")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", pages())
def test_the_page(name: str, things: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / name
    shutil.copytree(things, tmp_path, dirs_exist_ok=True)
    before = set(tmp_path.rglob("*"))
    printed = run_page(page, tmp_path, toy={"speak Hello. --model": SHORT})
    assert len(printed) == sum(block.is_run for block in blocks(page))
    spoken = {path for path in tmp_path.glob("*.wav") if path not in before and path.stat().st_size > 10_000}
    assert spoken or not printed
    monkeypatch.chdir(tmp_path)
    for program in (block.text for block in blocks(page) if block.language == "python"):
        exec(program, {})


def test_what_is_not_run_says_why() -> None:
    for name in [*pages(), *ELSEWHERE]:
        left_out = [block for block in blocks(ROOT / name) if block.language == "bash" and not block.is_run]
        assert all(len(block.note) > len("not run: ") + 5 for block in left_out), name
