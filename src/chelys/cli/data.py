"""``chelys data``: corpora and what training reads of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from chelys.cli import prepare, recipes
from chelys.cli.console import DeviceOption, WorkersOption, counting, echo, progress_bar, renamed
from chelys.errors import OutputError

app = typer.Typer(
    no_args_is_help=True,
    help="Make corpora, the lexicon and features.",
    epilog="Example: chelys data features corpus/manifest.jsonl --out features",
)
make_app = typer.Typer(no_args_is_help=True, help="Make a corpus.", epilog="Example: chelys data make synthetic --help")
app.add_typer(make_app, name="make")
app.command("prepare", help=prepare.HELP, epilog=prepare.EXAMPLE)(prepare.prepare)
app.command("recipe", help=recipes.RECIPE_HELP, epilog=recipes.RECIPE_EXAMPLE)(recipes.recipe)
_CheckCommand = renamed(shortest="min-seconds", longest="max-seconds")
app.command("check", cls=_CheckCommand, help=recipes.CHECK_HELP, epilog=recipes.CHECK_EXAMPLE)(recipes.check)
app.command("report", help=prepare.REPORT_HELP, epilog=prepare.REPORT_EXAMPLE)(prepare.report)


class Spelling(str, Enum):
    """What makes words of a text that is spelled."""

    tortoise = "tortoise"
    basic = "basic"
    chelys = "chelys"


class MelSpecName(str, Enum):
    """Whose mels."""

    shared = "shared"
    codes = "codes"


@make_app.command(
    "synthetic",
    help="Let a teacher speak a corpus; an interrupted run continues where it stopped.",
    epilog="Example: chelys data make synthetic --out corpus --clips 2000",
)
def make_synthetic(
    out: Annotated[Path, typer.Option("--out", help="Folder of the corpus.")],
    clips: Annotated[int, typer.Option("--clips", min=1, help="How many clips, about 3.6 s each.")],
    text: Annotated[Path | None, typer.Option("--text", help="Sentences, one a line; default: WordNet's.")] = None,
    teacher: Annotated[
        str, typer.Option("--teacher", help="hibari: one voice in nine sizes, fast; kokoro: 320 voices, slow.")
    ] = "hibari",
    workers: WorkersOption = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same corpus.")] = 1,
    voices: Annotated[
        str,
        typer.Option(
            "--voices",
            metavar="A,B-C,...",
            help="Of the teacher, in equal shares, spans as s64-s319 too; default: all of hibari's, 64 of kokoro's.",
        ),
    ] = "",
    first: Annotated[
        int, typer.Option("--first", min=0, help="Number of the first clip; other numbers, other sentences.")
    ] = 0,
) -> None:
    """Make the corpus, or what is missing of it."""
    from chelys.data.recipes.synthetic import SyntheticRecipe, make, parse_voices

    recipe = SyntheticRecipe(
        out=out, clips=clips, teacher=teacher, seed=seed, text=text, first=first,
        voices=parse_voices(teacher, voices),
    )  # fmt: skip
    with _folder(out), progress_bar() as update:
        manifest = make(recipe, workers=workers, progress=counting(update, "blocks"))
    echo(str(manifest))


@app.command(
    "lexicon", help="Compile the lexicon of pronunciations.", epilog="Example: chelys data lexicon --out lexicon.txt.gz"
)
def lexicon(out: Annotated[Path, typer.Option("--out", help="File to write.")]) -> None:
    """Compile and write it."""
    from chelys.data.recipes.pronunciations import make_lexicon

    if out.is_dir():
        raise OutputError(f"cannot write {out}: it is a folder; give a file name such as {out / 'lexicon.txt.gz'}")
    with _folder(out.parent), progress_bar() as update:
        make_lexicon(out, progress=counting(update, "words"))
    echo(str(out))


@app.command(
    "features",
    cls=renamed(front_end="mel-spec"),
    help="Lay out the log-mels of corpora for training.",
    epilog="Example: chelys data features corpus/manifest.jsonl --out features",
)
def features(
    manifests: Annotated[list[Path], typer.Argument(metavar="MANIFEST", help="JSONL manifests, in this order.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    mel_spec: Annotated[
        MelSpecName, typer.Option("--mel-spec", help="shared: 24 kHz, 100 bands; codes: as the published VQ-VAE hears.")
    ] = MelSpecName.shared,
    pitch: Annotated[bool, typer.Option("--pitch", help="Track the pitch too, for a vocoder that reads it.")] = False,
    workers: WorkersOption = None,
    device: DeviceOption = "cpu",
) -> None:
    """Extract them."""
    with _folder(out), progress_bar() as update:
        from chelys.data.features import extract
        from chelys.weights.checks import place

        extract(
            manifests, out, mel_spec=mel_spec.value, workers=workers, device=place(device, None)[0],
            progress=counting(update, "clips"),
        )  # fmt: skip
        if pitch:
            from chelys.data.dataset import Features
            from chelys.data.pitch import PitchCache
            from chelys.data.prepare.engine import available_cores

            PitchCache(Features(out)).fill(
                workers=workers or available_cores(), progress=counting(update, "clips' pitch")
            )
    echo(str(out))


@app.command(
    "tokenizer",
    help="Make the tokenizer that goes with a lexicon.",
    epilog="Example: chelys data tokenizer lexicon.txt.gz --out text",
)
def tokenizer(
    lexicon: Annotated[
        Path, typer.Argument(metavar="LEXICON", help="File that 'chelys data lexicon' wrote, or nano for its lexicon.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for tokenizer.json and the lexicon.")],
) -> None:
    """Make it."""
    from chelys.text.lexicon import NANO_LEXICON, Lexicon
    from chelys.text.tokenizer import make_tokenizer

    with _folder(out):
        make_tokenizer(Lexicon.load(NANO_LEXICON if str(lexicon) == "nano" else lexicon)).save(out)
    echo(str(out))


@app.command(
    "bpe",
    help="Learn a tokenizer of spelling from the texts of a corpus, by byte-pair encoding.",
    epilog="Example: chelys data bpe corpus/manifest.jsonl --out text --size 255",
)
def bpe(
    manifests: Annotated[list[Path], typer.Argument(metavar="MANIFEST", help="JSONL manifests.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for tokenizer.json.")],
    size: Annotated[int, typer.Option("--size", help="Ids in all, the special ones among them.")] = 255,
    cleaner: Annotated[
        Spelling, typer.Option("--cleaner", help="What makes words of a text; training must name it, too.")
    ] = Spelling.tortoise,
) -> None:
    """Learn it."""
    from chelys.data.manifest import read_manifest
    from chelys.tortoise.tokenizer import train_tokenizer

    texts = (utterance.text for manifest in manifests for utterance in read_manifest(manifest))
    with _folder(out):
        made = train_tokenizer(texts, size, cleaner=cleaner.value)
        made.save(out)
    echo(f"{out} ({made.vocabulary_size} ids)")


@app.command(
    "codes",
    help="Write the speech codes of a feature folder with a trained VQ-VAE.",
    epilog="Example: chelys data codes features --run runs/nano/dvae --out codes.npy",
)
def codes(
    features: Annotated[Path, typer.Argument(metavar="FEATURES", help="Feature folder.")],
    run: Annotated[Path, typer.Option("--run", help="Run folder of the dvae stage.")],
    out: Annotated[Path, typer.Option("--out", help="File to write, codes.npy.")],
    workers: WorkersOption = None,
    device: DeviceOption = "cpu",
) -> None:
    """Encode every clip."""
    from chelys.data.codes import encode
    from chelys.data.dataset import Features
    from chelys.training.tasks.dvae import trained_dvae
    from chelys.weights.checks import place

    with progress_bar() as update:
        dvae, mel_range = trained_dvae(run)
        encode(
            Features(features), dvae, mel_range, out, workers=workers, device=place(device, None)[0],
            progress=counting(update, "clips"),
        )  # fmt: skip
    echo(str(out))


@contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """Make a folder, before hours of work rather than after; it goes again if the work fails and left it empty."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}; choose another --out") from error
    try:
        yield
    except BaseException:
        for path in made:
            with suppress(OSError):
                path.rmdir()
        raise
