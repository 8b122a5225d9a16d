"""README, quickstart and voices: their commands and their programs run as they are printed."""

from __future__ import annotations

from pathlib import Path

import pytest
from runner import blocks, run_page

import chelys

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings of one speaker."""
    folder, tts = tmp_path_factory.mktemp("clips"), chelys.load()
    for name, text in {
        "clip1.wav": "I am a small tortoise, and I like to sing.",
        "clip2.mp3": "This is my voice.",
    }.items():
        tts.speak(text, voice="fern", preset="ultra_fast", seed=1).save(folder / name)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["README.md", "docs/quickstart.md", "docs/voices.md"])
def test_the_page(name: str, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / name
    for clip in clips.iterdir():
        (tmp_path / clip.name).symlink_to(clip)
    printed = run_page(page, tmp_path)
    assert len(printed) == sum(block.is_run for block in blocks(page)) >= 1
    assert any(path.stat().st_size > 10_000 for path in tmp_path.glob("*.wav") if not path.is_symlink())
    monkeypatch.chdir(tmp_path)
    programs = [block.text for block in blocks(page) if block.language == "python"]
    assert programs
    for program in programs:
        exec(program, {})
