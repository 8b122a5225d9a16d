"""docs/training.md, tried out: every command runs, and its tables are those of today."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import keys
import soundfile as sf
import toy_corpus
from runner import blocks, run_page

from chelys.data.manifest import read_manifest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "training.md"

SHORT = [
    "loop.steps=4", "loop.warmup=2", "loop.evaluate_every=4", "loop.checkpoint_every=4", "loop.log_every=2",
    "loop.threads=1", "loop.precision=float32", "loop.pictures=false", "loop.tensorboard=false",
]  # fmt: skip
DECODER = {"codes": 64, "dim": 32, "layers": 2, "heads": 2, "conditioning_blocks": 1}
SMALL = ["pairs.budget=120", "pairs.reference_frames=32"]


def laid_over(section: str, sizes: dict[str, int]) -> list[str]:
    return [f"{section}.{key}={size}" for key, size in sizes.items()]


#: What makes the page's commands small.
TOY = {
    "train dvae": [
        *SHORT, *SMALL, "stage.start_at=2",
        *laid_over("network", {"tokens": 64, "code_width": 4, "hidden": 16, "residual_blocks": 1}),
    ],
    "train autoregressive": [*SHORT, *SMALL, *laid_over("network", DECODER)],
    "train clvp": [
        *SHORT, *SMALL,
        *laid_over("network", {
            "speech_tokens": 64, "dim": 32, "depth": 1, "heads": 2, "head_dim": 16, "rotary_dim": 8,
        }),
    ],
    "train diffusion": [
        *SHORT, *SMALL, *laid_over("decoder_network", DECODER),
        *laid_over("network", {
            "dim": 32, "heads": 2, "layers": 1, "latent_dim": 32, "latent_blocks": 1, "codes": 64,
        }),
    ],
    "train vocoder": [
        *SHORT, "stage.rows=2", "stage.frames=24", "stage.discriminator_start=2",
        *laid_over("network", {"dim": 32, "inner": 64, "blocks": 1}),
    ],
    "train plan": ["stage.rows=2"],
    "finetune": [
        "sentences=8", "threads=1", "autoregressive.steps=2", "autoregressive.budget=300", "diffusion.steps=2",
        "diffusion.budget=200",
    ],
}  # fmt: skip


def clips(folder: Path) -> None:
    """What the reader has: recordings in a folder for each speaker, a transcript beside each."""
    for utterance in read_manifest(toy_corpus.make_corpus(folder / "made", clips=36)):
        path = folder / "clips" / utterance.speaker / Path(utterance.audio).name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(utterance.audio, path)
        path.with_suffix(".txt").write_text(utterance.text)
    shutil.rmtree(folder / "made")


def test_the_road_can_be_gone(tmp_path: Path) -> None:
    clips(tmp_path)
    printed = run_page(PAGE, tmp_path, toy=TOY)
    assert len(printed) == sum(block.is_run for block in blocks(PAGE)) > 8
    for wave in ("ada.wav", "moon.wav"):
        assert sf.info(tmp_path / wave).frames > 0
    config = json.loads((tmp_path / "mine" / "config.json").read_text())
    assert config["name"] == "mine" and config["autoregressive"]["dim"] == 32
    runs = {path.parent.name for path in tmp_path.glob("runs/*/log.jsonl")}
    assert runs == {"dvae", "autoregressive", "clvp", "clvp-two", "diffusion", "vocoder"}


def test_the_tables_of_keys_are_those_of_today() -> None:
    page = PAGE.read_text(encoding="utf8")
    assert keys.renewed(page) == page, "run: python tests/docs/keys.py docs/training.md"
    for section, kind in keys.CLASSES.items():
        assert all(keys.attributes(kind).values()) and f"<!-- keys: {section} -->" in page


def test_what_is_not_run_says_why() -> None:
    left_out = [block for block in blocks(PAGE) if block.language == "bash" and not block.is_run]
    assert all(len(block.note) > len("not run: ") + 5 for block in left_out) and len(left_out) <= 3
