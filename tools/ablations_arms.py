"""What `ablations.py` trains: ablations, their arms, and how each differs from nano's configuration.

Arms of one ablation share seed, data and, where they say nothing else, operations: the first takes so many steps, the
others as many as cost the same. ``$NAME`` in a change stands for a place or a part of the steps, see `overrides`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Literal


@dataclass(frozen=True)
class Places:
    """Where the data lie and the runs go.

    Attributes:
        features: Feature folder of the shared mel spec.
        codes: Its codes.
        text: Folder of the tokenizer.
        out: Folder of the runs.
        decoder: Weights of an autoregressive decoder of nano's sizes on these codes; None trains one.
        scale: Multiplies the steps.
    """

    features: Path
    codes: Path
    text: Path
    out: Path
    decoder: Path | None = None
    scale: float = 1.0

    def arm(self, name: str) -> Path:
        """Run folder of ``ABLATION/ARM``."""
        return self.out / name


@dataclass(frozen=True)
class Arm:
    """One side of a comparison.

    Attributes:
        name: Of its folder.
        said: In the table.
        changes: ``KEY=VALUE`` laid over the configuration and the ablation's own.
        needs: Arms that are trained before it, ``ABLATION/ARM``.
        before: What else is made before it.
    """

    name: str
    said: str
    changes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    before: Callable[[Places], None] | None = None


@dataclass(frozen=True)
class Ablation:
    """A question and the arms that answer it.

    Attributes:
        name: Of its folder.
        title: On the page.
        question: What is asked, and how.
        stage: What is trained.
        measure: What is asked of every arm, a name of `ablations_measure.MEASURES`.
        steps: Of the first arm.
        arms: The first is what the others are compared with.
        changes: Laid over the configuration of all arms.
        seconds: Length of a usual clip, at which a step is counted.
        equal: What arms have in common.
        curve: Figure of the held-out clips in the log that the arms may be compared by; empty for none.
        comparable: Whether figures of the arms are in the same units.
        shown: Whether it is on the page, or serves others only.
    """

    name: str
    title: str
    question: str
    stage: str
    measure: str
    steps: int
    arms: tuple[Arm, ...]
    changes: tuple[str, ...] = ()
    seconds: float = 2.8
    equal: Literal["operations", "steps"] = "operations"
    curve: str = ""
    comparable: bool = True
    shown: bool = True


def find(name: str) -> tuple[Ablation, Arm]:
    """The arm called ``ABLATION/ARM``."""
    return next((a, arm) for a in ABLATIONS for arm in a.arms if f"{a.name}/{arm.name}" == name)


def overrides(places: Places, ablation: Ablation, arm: Arm, steps: int) -> list[str]:
    """``KEY=VALUE`` for ``chelys train``; later ones hold."""
    changes = [
        "run=$run", "features=$features", *(() if ablation.stage == "dvae" else ("codes=$codes", "text=$text")),
        "loop.steps=$steps", "loop.warmup=$tenth", "loop.evaluate_every=$tenth", "loop.checkpoint_every=$quarter",
        f"loop.log_every={max(1, min(20, steps // 20))}", "loop.threads=1", "loop.pictures=false",
        "loop.tensorboard=false", *ablation.changes, *arm.changes,
    ]  # fmt: skip
    values = {
        "run": places.arm(f"{ablation.name}/{arm.name}"), "out": places.out, "features": places.features,
        "codes": places.codes, "text": places.text, "steps": steps, "tenth": max(1, steps // 10),
        "quarter": max(1, steps // 4), "most": max(1, steps * 3 // 4),
        "decoder": places.decoder or places.out / "decoder" / "plain" / "autoregressive.safetensors",
    }  # fmt: skip
    if any("$code_range" in change for change in changes):
        values["code_range"] = _range_of(places.out / "rates_data" / "features")
    return [Template(change).substitute(values) for change in changes]


# ---- the two rates --------------------------------------------------------------------------------------------------


def _range_of(features: Path) -> str:
    """A standard deviation to either side of the mean, as nano's range of the shared mel spec."""
    found = json.loads((features / "statistics.json").read_text(encoding="utf8"))
    return f"{{low: {found['mean'] - found['std']:.4f}, high: {found['mean'] + found['std']:.4f}}}"


def lay_out_at_22k(places: Places) -> None:
    """The clips of the features again, of the codes' mel spec: 22.05 kHz, 80 bands."""
    from chelys.audio.rates import HOP, OUTPUT_RATE
    from chelys.data.dataset import Features
    from chelys.data.features import extract
    from chelys.data.manifest import Utterance, write_manifest

    data = places.out / "rates_data"
    if (data / "features" / "statistics.json").is_file():
        return
    clips = Features(places.features).clips
    write_manifest(
        data / "manifest.jsonl",
        [
            Utterance(c.id, c.audio, c.text, c.speaker, seconds, c.start, c.start + seconds)
            for c, seconds in ((c, c.frames * HOP / OUTPUT_RATE) for c in clips)
        ],
    )
    extract([data / "manifest.jsonl"], data / "features", mel_spec="codes", workers=1)


def write_codes(places: Places, arm: str, features: Path) -> None:
    """Codes of the features by an arm of ``rates_dvae``."""
    from chelys.data.dataset import Features
    from chelys.data.features import encode
    from chelys.training.tasks.dvae import trained_dvae

    out = places.out / "rates_data" / f"codes_{arm}.npy"
    if not out.is_file():
        out.parent.mkdir(parents=True, exist_ok=True)
        encode(Features(features), *trained_dvae(places.arm(f"rates_dvae/{arm}")), out)


def codes_at_24k(places: Places) -> None:
    """Codes of the shared mel spec."""
    write_codes(places, "one", places.features)


def codes_at_22k(places: Places) -> None:
    """Codes of the mel spec of their own."""
    write_codes(places, "two", places.out / "rates_data" / "features")


# ---- the list -------------------------------------------------------------------------------------------------------

_BOOK = ("stage.start_at=$tenth", "stage.revive_until=$most")
_CODES = ("pairs.budget=500",)
ABLATIONS = (
    Ablation(
        "codebook", "Narrow or wide code vectors, many codes or more",
        "The paper wished for code vectors of fewer dimensions (Yu et al. 2021). VQ-VAEs of one size but for the code "
        "book, which all start by k-means, with dead codes revived for three quarters of the steps.",
        "dvae", "dvae", 1000,
        (Arm("narrow", "1024 codes of width 16"),
         Arm("wide", "1024 codes of width 96, as published in proportion", ("network.code_width=96",)),
         Arm("widest", "1024 codes of width 512, as published", ("network.code_width=512",)),
         Arm("more", "2048 codes of width 16", ("network.tokens=2048",))),
        changes=_BOOK, seconds=3.6, curve="held_out/mel_l1",
    ),
    Ablation(
        "positions", "Rotary or learned positions",
        "Autoregressive decoders trained on clips of up to 90 codes and then asked for longer ones: clips as they are, "
        "and two clips of one speaker joined, of more than 150 codes. No long clip was in training. The rows of the "
        "learned table past 90 are there, and untrained.",
        "autoregressive", "positions", 600,
        (Arm("rotary", "rotary angles"), Arm("learned", "learned, absolute", ("network.positions=learned",))),
        changes=("pairs.budget=1000", "pairs.max_codes=90", "network.dropout=0.0", "stage.code_corruption=0.0"),
        seconds=2.2, curve="held_out/code",
    ),
    Ablation(
        "feed_forward", "Feed-forward parts in the diffusion decoder",
        "With them, and without: the saving goes into more steps, or into layers until a step costs the same.",
        "diffusion", "diffusion", 600,
        (Arm("with", "six layers with feed-forward parts"),
         Arm("without", "six layers without, more steps", ("network.feed_forward=0",)),
         Arm("deeper", "nine layers without", ("network.feed_forward=0", "network.layers=9"))),
        changes=_CODES, curve="held_out/error",
    ),
    Ablation(
        "clvp", "Batch and clip length of CLVP",
        "The paper wished for longer clips in CLVP. Batches of 1000 and 4000 codes, clips of up to 100 and 300, judged "
        "on one task: the right text for each held-out take of any length, out of all of them, and out of the sixteen "
        "nearest in length.",
        "clvp", "clvp", 1600,
        (Arm("small-long", "batch 1000, clips up to 300", ("pairs.budget=1000",)),
         Arm("large-long", "batch 4000, clips up to 300", ("pairs.budget=4000",)),
         Arm("small-short", "batch 1000, clips up to 100", ("pairs.budget=1000", "pairs.max_codes=100")),
         Arm("large-short", "batch 4000, clips up to 100", ("pairs.budget=4000", "pairs.max_codes=100"))),
        # the contrast alone: a reader learns as much from small batches
        changes=("network.readings=0", "network.dropout=0.0"),
    ),
    Ablation(
        "rates_dvae", "One sampling rate or two: the codes",
        "A VQ-VAE on each mel spec, for the section below. The errors are each in units of its own mel spec, one "
        "standard deviation of its mels: they cannot be compared.",
        "dvae", "dvae", 1000,
        (Arm("one", "24 kHz, 100 bands, shared"),
         Arm("two", "22.05 kHz, 80 bands, of the codes alone",
             ("features=$out/rates_data/features", "mel_range=$code_range", "network.bands=80", "stage.frames=120"),
             before=lay_out_at_22k)),
        changes=_BOOK, seconds=3.6, comparable=False,
    ),
    Ablation(
        "rates", "One sampling rate or two: what is rendered",
        "Diffusion decoders on the codes of each VQ-VAE above, rendering the same mels at 24 kHz, for equal steps of "
        "as much audio. One mel frame a position in both, for pieces of the second have odd numbers of frames. The "
        "voice is heard from the clip itself; the second arm hears its mels as they are, not normalised, as published.",
        "diffusion", "diffusion", 500,
        (Arm("one", "codes of the shared mel spec", ("codes=$out/rates_data/codes_one.npy", "pairs.budget=300"),
             needs=("rates_dvae/one",), before=codes_at_24k),
         Arm("two", "codes at 22.05 kHz, stretched by 160/147",
             ("features=$out/rates_data/features", "target_features=$features", "codes=$out/rates_data/codes_two.npy",
              "pairs.budget=276", "pairs.max_codes=367", "stage.crop=88"),
             needs=("rates_dvae/two",), before=codes_at_22k)),
        changes=("network.patch=1", "stage.voice_from=clip", "stage.voice_frames=128"), equal="steps",
    ),
    Ablation(
        "decoder", "The decoder behind the latents", "", "autoregressive", "", 600,
        (Arm("plain", "as nano's"),), changes=("pairs.budget=1000", "network.dropout=0.0"), shown=False,
    ),
    Ablation(
        "trick", "The TorToise trick: latents or codes",
        "Both go on from one diffusion decoder that was trained on codes (`feed_forward/with`): on codes, and on the "
        "latents of a frozen autoregressive decoder. What that decoder computes in training is counted.",
        "diffusion", "diffusion", 600,
        (Arm("codes", "codes", ("stage.conditioning=codes",), needs=("feed_forward/with",)),
         Arm("latents", "latents", ("stage.conditioning=latents", "decoder=$decoder"),
             needs=("feed_forward/with", "decoder/plain"))),
        changes=(*_CODES, "start=$out/feed_forward/with/diffusion.safetensors", "loop.learning_rate=8e-4",
                 "loop.seed=2"),
        curve="held_out/error",
    ),
)  # fmt: skip
