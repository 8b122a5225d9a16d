"""How large the package is, and how much of it a reader meets: the table in docs/architecture.md.

    python tools/package_size.py

Modules are those in ``sys.modules`` once nano has said a sentence; files entered are counted with ``sys.setprofile``. A
training step is one of the diffusion decoder on the toy corpus of the tests; its batch is loaded before it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "chelys"


def lines(paths: list[Path]) -> int:
    """Lines of some files."""
    return sum(len(path.read_text(encoding="utf8").splitlines()) for path in paths)


def entered(work: Callable[[], Any]) -> int:
    """Files of the package of which a function is called."""
    files: set[str] = set()

    def note(frame: Any, event: str, _: Any) -> None:
        if event == "call":
            files.add(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return sum(PACKAGE in Path(file).parents for file in files)


def speaking() -> None:
    """Print what speaking imports and enters; in a process of its own, which has imported nothing else."""
    import chelys

    tts = chelys.load()
    tts.speak("Hello there.", seed=1)
    loaded = [getattr(module, "__file__", None) for name, module in sys.modules.items() if name.startswith("chelys")]
    paths = [Path(file) for file in loaded if file]
    print(f"| modules imported to load nano and speak | {len(paths)} |")
    print(f"| their lines | {lines(paths):,} |")
    print(f"| files entered by `Synthesizer.speak` | {entered(lambda: tts.speak('Hello there.', seed=1))} |")


def training() -> None:
    """Print what a step and a run of the diffusion decoder enter."""
    sys.path.insert(0, str(ROOT / "tests"))
    import toy_corpus

    from chelys.config import from_mapping
    from chelys.training.run_stage import train_run
    from chelys.training.tasks import RUNS
    from chelys.training.trainer import Trainer

    with tempfile.TemporaryDirectory() as folder:
        toy = toy_corpus.make(Path(folder) / "toy")
        sizes = {
            "dim": 32,
            "heads": 2,
            "layers": 1,
            "latent_dim": 32,
            "latent_blocks": 1,
            "codes": 16,
            "code_blocks": 1,
        }
        values = {
            "features": str(toy.features), "codes": str(toy.codes), "text": str(toy.text), "network": sizes,
            "mel_range": vars(toy_corpus.MEL_RANGE), "loop": toy_corpus.LOOP | {"steps": 2}, "run": f"{folder}/run",
            "pairs": {"budget": 100}, "stage": {"conditioning": "codes"},
        }  # fmt: skip
        run = from_mapping(RUNS["diffusion"], values)
        trainer = Trainer(run.build_or_load(), run.loop, Path(folder) / "steps")
        (micro, batches), *_ = trainer._load()
        print(f"| files entered by one training step of the diffusion decoder | "
              f"{entered(lambda: trainer._train_step(micro, batches))} |")  # fmt: skip
        print(f"| files entered by a whole training run of it | {entered(lambda: train_run('diffusion', run))} |")


def main() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    print(f"| Python files in `src` | {len(files)} |\n| their lines | {lines(files):,} |", flush=True)
    for part in ("speaking", "training"):
        subprocess.run([sys.executable, __file__, part], check=True)


if __name__ == "__main__":
    {"speaking": speaking, "training": training}.get(sys.argv[-1], main)()
