"""docs/data.md does what it says: its commands, one after another, on two minutes of made-up talk."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import soundfile as sf
from runner import blocks, run_page

ROOT = Path(__file__).parents[2]
HELPERS = ROOT / "tests" / "data" / "prepare"
sys.path.insert(0, str(HELPERS))

import made_up  # noqa: E402

SHORT = (
    "loop.steps=2", "loop.warmup=1", "loop.evaluate_every=2", "loop.checkpoint_every=2", "loop.threads=1",
    "loop.pictures=false", "loop.tensorboard=false",
)  # fmt: skip
TOY = {
    # what these need is in extras, and what is said here nobody would understand
    "data prepare": (
        "segment.detector=energy", "measure.classifier=null", "transcribe.transcriber=made_up:Listener",
        "transcribe.model=none", "deduplicate.same_text=null",
    ),
    "data bpe": ("--size", "40"),
    "train dvae": (
        *SHORT, "network={bands: 100, tokens: 16, code_width: 4, hidden: 16}",
        "stage={rows: 2, frames: 48, start_at: 1}",
    ),
    "train autoregressive": (
        *SHORT, "network={text_tokens: 40, codes: 16, dim: 32, layers: 1, heads: 2, conditioning_blocks: 1}",
        "pairs.budget=120", "pairs.reference_frames=32",
    ),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the reader stands."""
    monkeypatch.setenv("PYTHONPATH", str(HELPERS))
    (tmp_path / "recordings").mkdir()
    for tape in range(6):
        talk = made_up.talk([1.2 + 0.3 * tape, 2.0, 2.6, 1.7], seed=tape + 60)
        sf.write(tmp_path / "recordings" / f"{tape}.flac", talk, made_up.RATE)
    (tmp_path / "clips").mkdir()
    for name, words in {"one": "This is the first.", "two": "And this is another one."}.items():
        sf.write(tmp_path / "clips" / f"{name}.wav", made_up.speech(1.6, len(words)), made_up.RATE)
        (tmp_path / "clips" / f"{name}.txt").write_text(words)
    return tmp_path


def test_the_page(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    page = ROOT / "docs" / "data.md"
    printed = list(run_page(page, folder, toy=TOY).values())
    assert printed[0].startswith("24 of 24 clips kept") and "report.html" in printed[0]
    assert "0 of 2 clips are good" not in printed[-2] and "of 2 clips are good" in printed[-2]
    assert (folder / "corpus" / "report.html").is_file() and (folder / "corpus" / "data_card.md").is_file()
    lines = [json.loads(line) for line in (folder / "corpus" / "clips.jsonl").read_text().splitlines()]
    assert {line["licence"] for line in lines} == {"CC BY 4.0"} and {line["speaker"] for line in lines} == {"Jane Doe"}
    table = page.read_text(encoding="utf8").split("## Metadata of the clips")[1].split("##")[0]
    assert not [key for key in lines[0] if f"`{key}`" not in table], "a key that the page does not explain"
    assert (folder / "runs" / "autoregressive" / "autoregressive.safetensors").is_file()
    (program,) = (block.text for block in blocks(page) if block.language == "python")
    monkeypatch.chdir(folder)
    exec(program, {})
    shown = r"24 \S+ said for .* torch.Size\(\[100, \d+\]\) torch.Size\(\[12800\]\)\n"
    assert re.fullmatch(shown, capsys.readouterr().out)
