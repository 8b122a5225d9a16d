"""Coverage-guided fuzzing of the readers of foreign bytes: ``python tools/attack/fuzz.py [READER ...] --minutes 5``.

Each reader of ``readers.py`` is run by atheris (libFuzzer) in a process of its own for its share of the time, beginning
with small files that are made by code and with those in ``corpus/READER``, where what was once found is kept. A crash,
a hang of 20 seconds or more than 2.5 GB end its run; the input is left in ``build/fuzz`` and named, and the exit status
is 1.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
#: Readers whose seeds are small enough to mutate.
DEFAULT = ["audio", "voice", "latents", "tokenizer", "lexicon", "tar", "config", "manifest", "codes", "json", "yaml"]
MAX_SEED = 1 << 16  # bytes


def fuzz(name: str, arguments: list[str]) -> None:
    """Fuzz one reader until libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["chelys", "yaml", "tarfile", "pickletools", "zipfile", "json"]):
        import readers

    from chelys.errors import UserError

    logging.getLogger("chelys").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
    read = readers.READERS[name]

    def one(data: bytes) -> None:
        try:
            read(data)
        except UserError as error:
            assert "\n" not in str(error)

    atheris.Setup([sys.argv[0], *arguments], one)
    atheris.Fuzz()


def main() -> int:
    """Fuzz readers one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader", nargs="*", help=f"default: {', '.join(DEFAULT)}")
    parser.add_argument("--minutes", type=float, default=5.0, help="of all readers together")
    parser.add_argument("--work", type=Path, default=Path("build") / "fuzz")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked, rest = parser.parse_known_args()
    sys.path.insert(0, str(HERE))
    if asked.one:
        fuzz(asked.one, rest)
        return 0
    import readers

    names, failed = asked.reader or DEFAULT, []
    seconds = max(1, round(60 * asked.minutes / len(names)))
    for name in names:
        found, seeds = asked.work / name, asked.work / f"{name}-seeds"
        for folder in (found, seeds):
            folder.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(readers.seeds(name)):
            if len(data) <= MAX_SEED:
                (seeds / str(number)).write_bytes(data)
        kept = [str(HERE / "corpus" / name)] if (HERE / "corpus" / name).is_dir() else []
        limits = [
            f"-max_total_time={seconds}",
            "-timeout=20",
            "-rss_limit_mb=2500",
            f"-artifact_prefix={asked.work}/{name}-",
        ]
        command = [
            sys.executable,
            __file__,
            "--one",
            name,
            *limits,
            "-print_final_stats=1",
            str(found),
            str(seeds),
            *kept,
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        said = [line for line in done.stderr.splitlines() if "number_of_executed_units" in line or "new_units" in line]
        print(f"{name}: {'nothing found' if not done.returncode else 'FOUND SOMETHING'}; {', '.join(said)}", flush=True)
        if done.returncode:
            failed.append(name)
            print(done.stderr[-3000:])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
