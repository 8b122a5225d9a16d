"""``chelys finetune``: a model that speaks in a voice of one's own, from minutes of recordings."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chelys.cli.console import (
    DeviceOption,
    DtypeOption,
    ModelOption,
    ThreadsOption,
    check_place,
    echo,
    load_model,
    progress_bar,
)
from chelys.cli.train import training_bar
from chelys.errors import ConfigError, OutputError, UserError, VoiceError

if TYPE_CHECKING:
    from chelys.inference.synthesizer import Synthesizer
    from chelys.training.finetune import Outcome
    from chelys.training.finetune_data import FinetuneConfig, Material

HELP = (
    "Adapt a model to one voice, from minutes of its speech with transcripts. The result is a model folder that speaks "
    "in that voice, and in those that it had."
)
EXAMPLE = (
    "Example: chelys finetune my-clips --name mary --out mary-model, then: chelys speak 'Hello.' --model mary-model. "
    "my-clips holds metadata.csv (NAME|TEXT) and wavs/, or a .txt beside each clip."
)
#: Of the autoregressive decoder, where it is adapted: steps, and rates of its weights and of adapters.
STEPS, RATES = 100, (1e-4, 1e-3)


def finetune(
    source: Annotated[Path, typer.Argument(metavar="CLIPS", help="Folder of clips with transcripts, or a manifest.")],
    name: Annotated[str, typer.Option("--name", help="Of the new voice, and of the model.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="A setting, for example diffusion.steps=500 or seed=2."),
    ] = None,
    model: ModelOption = "nano",
    out: Annotated[Path | None, typer.Option("--out", help="Model folder to write; default: NAME-model.")] = None,
    lora: Annotated[
        int | None,
        typer.Option("--lora", metavar="RANK", min=1, help="The autoregressive decoder learns, too, by such adapters."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="The autoregressive decoder learns, too, by all its weights.")
    ] = False,
    base: Annotated[
        Path | None,
        typer.Option("--base", metavar="MANIFEST", help="Corpus that is not to be forgotten; default: the model's own "
                     "speech in its own voices."),
    ] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    threads: ThreadsOption = None,
) -> None:  # fmt: skip
    """Check what can be checked beforehand, prepare, adapt, write the folder, report."""
    out = out or Path(f"{name}-model")
    _check_name(name)
    if lora is not None and everything:
        raise ConfigError("--lora and --all exclude each other: adapters learn, or the weights themselves")
    if out.exists():
        raise OutputError(f"{out} exists: choose another folder with --out, or remove it")
    from chelys.config import from_mapping
    from chelys.training import finetune as adapt
    from chelys.training.finetune_data import FinetuneConfig

    check_place(device, dtype)
    values = {"device": device, "precision": dtype, "threads": threads or 0}
    values = _settings(overrides or [], 0 if everything else lora, values)
    settings = from_mapping(FinetuneConfig, values, where="KEY=VALUE")
    synthesizer = load_model(model, settings.device, threads=settings.threads, brief=False)
    if name in synthesizer.voice_names:
        raise VoiceError(f"{name!r} is a voice of {synthesizer.model.config.name} already: choose another --name")
    adapt.check_model(synthesizer.model)
    work = out.with_name(f"{out.name}.work")
    fresh = not work.exists()
    _claim(work, {"source": str(source.absolute()), "base": str(base.absolute()) if base else None, "name": name,
                  "model": synthesizer.model.config.fingerprint, "settings": str(settings)})  # fmt: skip
    try:
        material = _prepare(synthesizer, source, work, settings, base)
    except UserError:
        if fresh:
            shutil.rmtree(work, ignore_errors=True)
        raise
    shown = sys.stderr is not None and sys.stderr.isatty()
    with ExitStack() as bars:

        def bar(stage: str) -> Callable[[int, int, dict[str, float]], None]:
            bars.close()
            return _watching(stage, bars.enter_context(training_bar(stage, shown=shown)))

        decoder, renderer, outcomes = adapt.adapt(synthesizer.model, material, work, settings, bar)
    partial = work / "model"
    shutil.rmtree(partial, ignore_errors=True)
    adapt.write_model(synthesizer.model, decoder, renderer, name, partial)
    _write_voices(synthesizer, material, name, partial, settings)
    (partial / "README.md").write_text(_card(name, synthesizer, material, outcomes), encoding="utf8")
    partial.replace(out)
    _report(outcomes, material, work, out, name)


def _watching(stage: str, update: Callable[..., None] | None) -> Callable[[int, int, dict[str, float]], None]:
    """Show the newest held-out losses: in the bar, or without one in a line for each evaluation."""
    from chelys.training.finetune import MONITORED

    held_out: dict[str, float] = {}

    def watch(step: int, steps: int, metrics: dict[str, float]) -> None:
        found = {kind: metrics.get(f"held_out/{kind}_{MONITORED[stage]}") for kind in ("voice", "base")}
        held_out.update({f"held-out {kind}": value for kind, value in found.items() if value is not None})
        evaluated = None not in found.values()
        if update:
            update(step, steps, held_out | ({} if evaluated else metrics))
        elif evaluated:
            losses = ", ".join(f"{kind} {value:.4f}" for kind, value in held_out.items())
            echo(f"{stage}: step {step} of {steps}: {losses}", error=True)

    return watch


def _check_name(name: str) -> None:
    from chelys.inference.voice_files import ALLOWED_NAMES, valid_name

    if not valid_name(name):
        raise VoiceError(f"a voice cannot be called {name!r}: give --name with {ALLOWED_NAMES}")


def _settings(overrides: list[str], rank: int | None, options: dict[str, Any]) -> dict[str, Any]:
    """Values of ``key.inner=value`` over the options and defaults; their types are checked with the configuration."""
    from chelys.config import to_mapping
    from chelys.deprecation import warn_renamed
    from chelys.training.finetune_data import Adaptation, FinetuneConfig

    values = to_mapping(FinetuneConfig()) | options
    if rank is not None:
        values["autoregressive"] |= {"rank": rank, "steps": STEPS, "learning_rate": RATES[rank > 0]}
    for override in overrides:
        key, equals, value = override.partition("=")
        *outer, last = key.split(".")
        inner, renamed = values, (Adaptation if outer else FinetuneConfig).RENAMED
        if new := renamed.get(last):
            warn_renamed(last, new)
            last = new
        for part in outer:
            inner = inner.get(part) if isinstance(inner.get(part), dict) else {}  # type: ignore[assignment]
        if not equals or last not in inner or isinstance(inner[last], dict):
            known = [k for k, v in values.items() if not isinstance(v, dict)]
            known += [f"{k}.{i}" for k, v in values.items() if isinstance(v, dict) for i in v]
            raise ConfigError(f"{override!r} is no setting: write KEY=VALUE with one of {', '.join(known)}")
        inner[last] = value
    return values


def _claim(work: Path, facts: dict[str, Any]) -> None:
    """Make the work folder, or go on in that of a run that was stopped.

    Raises OutputError if it is that of another run, or cannot be written.
    """
    path, text = work / "finetune.json", json.dumps(facts, indent=2) + "\n"
    try:
        if path.is_file() and path.read_text(encoding="utf8") != text:
            raise OutputError(f"{work} is of a run with other clips or settings: remove it, or choose another --out")
        work.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf8")
    except OSError as error:
        raise OutputError(f"cannot write {work}: {error.strerror or error}; choose another --out") from error


def _prepare(
    synthesizer: Synthesizer, source: Path, work: Path, settings: FinetuneConfig, base: Path | None
) -> Material:
    from chelys.audio.io import normalize_loudness
    from chelys.training import finetune as adapt

    done = 0
    with progress_bar() as update:

        def speak(text: str, voice: str, seed: int) -> Any:
            nonlocal done
            done += 1
            if update:
                update("the base model speaks", done, settings.sentences)
            return normalize_loudness(synthesizer.speak(text, voice=voice, preset="ultra_fast", seed=seed).audio)

        return adapt.prepare(
            synthesizer.model, source, work, settings,
            speak=speak, voices=synthesizer.voice_names, level=normalize_loudness, base=base,
        )  # fmt: skip


def _write_voices(
    synthesizer: Synthesizer, material: Material, name: str, folder: Path, settings: FinetuneConfig
) -> None:
    """The base's voices and the new one. The encoders of clips were not trained, so the base's latents stay valid."""
    from chelys.inference.synthesizer import Synthesizer

    adapted = Synthesizer.from_folder(folder)
    (folder / "voices").mkdir()
    for other, voice in synthesizer.voices.items():
        stamped = replace(voice, model=adapted.model.config.fingerprint)
        stamped.save(folder / "voices" / f"{other}.safetensors")
    made = adapted.voice(list(material.clips), name=name, speaker_blend=0.0)
    about = {**made.about, "sources": [f"{len(material.clips)} clips that the model was adapted to"]}
    autoregressive, diffusion, known = made.autoregressive, made.diffusion, list(synthesizer.voices.values())
    blend = settings.blend
    if blend and known:
        nearest = min(known, key=lambda voice: float((voice.autoregressive - autoregressive).norm()))
        autoregressive = autoregressive.lerp(nearest.autoregressive, blend)
        diffusion = diffusion.lerp(nearest.diffusion, -blend * settings.emphasis)
        about["speaker_blend"] = {nearest.name: blend}
    replace(made, autoregressive=autoregressive, diffusion=diffusion, about=about).save(
        folder / "voices" / f"{name}.safetensors"
    )


def _rows(outcomes: list[Outcome]) -> list[tuple[str, ...]]:
    return [
        (o.decoder, f"{o.best} of {o.steps}", f"{o.before[0]:.4f} -> {o.after[0]:.4f}",
         f"{o.before[1]:.4f} -> {o.after[1]:.4f}", o.reason.replace("held_out/", ""))
        for o in outcomes
    ]  # fmt: skip


_HEAD = ("decoder", "steps kept", "loss on the voice", "loss on the base", "it ended because")


def _report(outcomes: list[Outcome], material: Material, work: Path, out: Path, name: str) -> None:
    """A table on standard error, the folder on standard output."""
    rows = [_HEAD, *_rows(outcomes)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    for row in rows:
        echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), error=True)
    if len(material.bad_clips):
        listed = work / "bad_clips.jsonl"
        echo(f"{len(material.bad_clips)} clips were left out ({material.bad_clips.summary()}): {listed}", error=True)
    echo(f"logs and checkpoints are in {work}, which may be removed", error=True)
    echo(f"now: chelys speak 'Hello there.' --model {out} --voice {name}", error=True)
    echo(str(out))


def _card(name: str, synthesizer: Synthesizer, material: Material, outcomes: list[Outcome]) -> str:
    config = synthesizer.model.config
    table = [_HEAD, tuple("---" for _ in _HEAD), *_rows(outcomes)]
    return "\n".join([
        f"# {name}", "",
        f"The model {config.name} ({config.fingerprint}), adapted with `chelys finetune` to one voice, {name}, from "
        f"{len(material.clips)} clips.", "",
        f"License of the base's weights: {config.license}. The speaker of the clips must have agreed to this use of "
        "the voice.", "",
        *("| " + " | ".join(row) + " |" for row in table), "",
        "Losses are those on clips that were held out: of the voice, and of the base's own speech. The base's other "
        "voices are in the folder; their latents stay valid, because the encoders of clips were not trained.", "",
    ])  # fmt: skip
