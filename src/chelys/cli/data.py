"""``chelys data``: corpora and what training reads of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from chelys.cli import prepare
from chelys.cli.console import DeviceOption, WorkersOption, counting, echo, progress_bar, renamed
from chelys.errors import ConfigError, OutputError, UserError
from chelys.machine import available_cores, set_threads

app = typer.Typer(
    no_args_is_help=True,
    help="Make corpora, the lexicon and features.",
    epilog="Example: chelys data features corpus/manifest.jsonl --out features",
)
make_app = typer.Typer(no_args_is_help=True, help="Make a corpus.", epilog="Example: chelys data make synthetic --help")
app.add_typer(make_app, name="make")
app.command("prepare", help=prepare.HELP, epilog=prepare.EXAMPLE)(prepare.prepare)


@app.command(
    "recipe",
    help=(
        "Write the manifest of a corpus: ljspeech, libritts, librispeech, hifitts, vctk, common-voice, a folder of "
        "clips (folder), or sentences for a teacher to speak (synthetic). Audio stays where it is."
    ),
    epilog="Example: chelys data recipe ljspeech LJSpeech-1.1 lj/manifest.jsonl",
)
def recipe(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The corpus.")],
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Its folder; for synthetic, a file of sentences.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Manifest to write (*.jsonl), or a folder for it.")],
    licence: Annotated[str | None, typer.Option("--licence", help="Of a folder of clips, to be noted.")] = None,
) -> None:
    from chelys.data.recipes.corpora import CORPORA, make_manifest

    if name == "synthetic":
        _speak(source, out)
        return
    if name not in CORPORA:
        raise UserError(f"unknown recipe {name!r}: choose from {', '.join(CORPORA)}, synthetic")
    with progress_bar() as update:
        made = make_manifest(name, source, out, licence=licence, progress=counting(update, "clips"))
    echo(made.line(source), error=True)
    echo(str(made.manifest))


@app.command(
    "set",
    help=(
        "Lay out a set of recordings for 'chelys eval': unseen (twenty speakers of LibriSpeech's test-clean), "
        "recordings (a hundred clips of LJSpeech). Audio stays where it is."
    ),
    epilog="Example: chelys data set unseen LibriSpeech sets/unseen; chelys eval nano --texts sets/unseen/list.jsonl",
)
def lay_out_set(
    name: Annotated[str, typer.Argument(metavar="NAME", help="unseen or recordings.")],
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder of the corpus that it is of.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the list.")],
) -> None:
    from chelys.evaluation.recorded import lay_out

    echo(str(lay_out(name, source, out)))


def _speak(source: Path, out: Path) -> None:
    """Let hibari speak each sentence of a file; 'chelys data make synthetic' has more options."""
    from chelys.data.recipes.synthetic import SyntheticRecipe, make, read_sentences

    clips = len(read_sentences(source))
    with progress_bar() as update:
        echo(str(make(SyntheticRecipe(out=out, clips=clips, text=source), progress=counting(update, "blocks"))))


@app.command(
    "check",
    cls=renamed(shortest="min-seconds", longest="max-seconds"),
    help=(
        "Check a manifest and every clip in it. The bad ones are counted on standard output and listed in a file; "
        "the exit status is 1 if there are any."
    ),
    epilog="Example: chelys data check lj/manifest.jsonl --fix lj/good.jsonl",
)
def check(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="JSONL manifest.")],
    fix: Annotated[Path | None, typer.Option("--fix", help="Write a manifest without the bad clips.")] = None,
    bad: Annotated[
        Path | None, typer.Option("--list", help="Where to list the bad clips; default: MANIFEST's name, .bad.jsonl.")
    ] = None,
    allow: Annotated[
        list[str] | None, typer.Option("--allow", help="A kind of fault to ignore, such as 'repeated text'.")
    ] = None,
    min_seconds: Annotated[float, typer.Option("--min-seconds", help="Seconds of the shortest clip.")] = 0.6,
    max_seconds: Annotated[float, typer.Option("--max-seconds", help="Seconds of the longest clip.")] = 20.0,
    rate: Annotated[int, typer.Option("--rate", help="Lowest sample rate, Hz.")] = 22_050,
    workers: WorkersOption = None,
) -> None:
    from chelys.data.check import KINDS, CheckLimits, check

    limits = CheckLimits(min_seconds=min_seconds, max_seconds=max_seconds, rate=rate, allowed=frozenset(allow or ()))
    with progress_bar() as update:
        checked = check(manifest, limits, workers=workers, progress=counting(update, "files"))
    listed = bad or manifest.with_suffix(".bad.jsonl")
    checked.write_bad(listed)
    for kind, count in checked.counts().items():
        echo(f"{count:8d}  {kind:<15} {KINDS[kind]}")
    good = len(checked.lines) - len(checked.bad)
    echo(f"{good:8d}  of {len(checked.lines)} clips are good")
    if checked.bad:
        echo(f"the bad ones are listed in {listed}", error=True)
    if fix is not None:
        checked.write_good(fix)
    if checked.bad:
        raise typer.Exit(1)


app.command("report", help=prepare.REPORT_HELP, epilog=prepare.REPORT_EXAMPLE)(prepare.report)


@app.command(
    "speed",
    help="Make new speakers of those of a corpus: its clips played faster and slower, so that pitch and formants move.",
    epilog="Example: chelys data speed corpus/manifest.jsonl --out faster-and-slower",
)
def speed(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="JSONL manifest.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; files that are there are kept.")],
    factors: Annotated[
        str,
        typer.Option(
            "--factors", metavar="A,B,...", help="How many times as fast, 0.5 to 2; default: six of 0.86 to 1.18."
        ),
    ] = "",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Decides which speaker gets which factors.")] = 1,
    workers: WorkersOption = None,
) -> None:
    from chelys.data.speed import FACTORS, perturb_speed

    try:
        wanted = tuple(float(factor) for factor in factors.split(",")) if factors else FACTORS
    except ValueError as error:
        raise ConfigError(f"--factors {factors}: write numbers with commas between them, such as 0.9,1.1") from error
    with _folder(out), progress_bar() as update:
        made = perturb_speed(
            manifest, out, factors=wanted, seed=seed, workers=workers, progress=counting(update, "clips")
        )
    if len(made.bad_clips):
        echo(f"{len(made.bad_clips)} clips were left out ({made.bad_clips.summary()})", error=True)
    echo(f"{made.clips} clips of {made.speakers} new speakers", error=True)
    echo(str(made.manifest))


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
    full_band: Annotated[
        bool,
        typer.Option(
            "--full-band", help="Fill the empty upper bands of narrow recordings from what the full ones have."
        ),
    ] = False,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
) -> None:
    with _folder(out), progress_bar() as update:
        from chelys.data.features import extract
        from chelys.weights.checks import place

        extract(
            manifests, out, mel_spec=mel_spec.value, workers=workers, device=place(device, None)[0],
            progress=counting(update, "clips"),
        )  # fmt: skip
        if full_band:
            from chelys.data.bandwidth import extend
            from chelys.data.dataset import Features

            extend(Features(out), progress=counting(update, "clips' bands"))
        if pitch:
            from chelys.data.dataset import Features
            from chelys.data.pitch import PitchCache

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
    device: DeviceOption = "auto",
) -> None:
    from chelys.data.dataset import Features
    from chelys.data.features import encode
    from chelys.training.tasks.dvae import trained_dvae
    from chelys.weights.checks import place

    set_threads(workers)
    with progress_bar() as update:
        dvae, mel_range = trained_dvae(run)
        encode(
            Features(features), dvae, mel_range, out, workers=workers, device=place(device, None)[0],
            progress=counting(update, "clips"),
        )  # fmt: skip
    echo(str(out))


@app.command(
    "pack",
    help="Pack corpora into a few files, as 'chelys train nano' takes them to an accelerator.",
    epilog="Example: chelys data pack corpus/manifest.jsonl --text text --out packs --part-mib 55",
)
def pack(
    manifests: Annotated[list[Path], typer.Argument(metavar="MANIFEST", help="JSONL manifests.")],
    text: Annotated[Path, typer.Option("--text", help="Folder of the tokenizer.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    part_mib: Annotated[float, typer.Option("--part-mib", min=0.1, help="Largest part, MiB.")] = 60.0,
    kbps: Annotated[int, typer.Option("--kbps", min=6, help="Bit rate of Opus.")] = 20,
    exclude_speaker: Annotated[list[str] | None, typer.Option(help="Keep a speaker out; may be repeated.")] = None,
    exclude_source: Annotated[list[str] | None, typer.Option(help="Keep a source out; may be repeated.")] = None,
    unread_source: Annotated[
        list[str] | None, typer.Option(help="A source whose texts are not what is said; may be repeated.")
    ] = None,
    pitch_hours: Annotated[
        float, typer.Option("--pitch-hours", min=0.0, help="Hours whose pitch is tracked, for the vocoder.")
    ] = 8.0,
    workers: WorkersOption = None,
) -> None:
    """Write the parts."""
    from chelys.data.clip_pack import PackOptions, pack_clips
    from chelys.text.tokenizer import Tokenizer

    options = PackOptions(
        part_mib=part_mib, kbps=kbps, exclude_speakers=exclude_speaker or (), exclude_sources=exclude_source or (),
        unread_sources=unread_source or (), pitch_hours=pitch_hours,
    )  # fmt: skip
    with _folder(out), progress_bar() as update:
        parts = pack_clips(
            manifests, Tokenizer.load(text), out, options, workers=workers or available_cores(),
            progress=counting(update, "clips"),
        )  # fmt: skip
    for part in parts:
        echo(str(part))


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
