"""Training of the VQ-VAE: reconstruction and commitment (Betker 2023, appendix B.1), a codebook that stays in use.

b rows, f bands, s mel frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from chelys.audio.mel import MelRange
from chelys.audio.rates import FRAMES_PER_CODE
from chelys.config import from_mapping
from chelys.configs import read_settings
from chelys.data.dataset import Clip, ClipDataset
from chelys.data.pairs import PairConfig, Pairs, load_pairs
from chelys.errors import ConfigError
from chelys.models.dvae import DVAE, DVAEConfig, Reconstruction
from chelys.text.tokenizer import Cleaner
from chelys.training.checkpoint import load_trained
from chelys.training.config import FeatureRun, check_sizes, published_sizes, require
from chelys.training.logging import Picture
from chelys.training.task import FeatureData, PairedData, Task


@dataclass(frozen=True)
class DVAETaskConfig:
    """Batches, weights of the losses, and the codebook."""

    rows: int = 24  # crops in a batch
    frames: int = 128  # mel frames of a crop
    commitment: float = 0.25  # weight of the commitment loss
    ctc: float = 0.1  # weight of the CTC loss of the texts, nats an id, where the network has a CTC head
    #: how the codebook starts: by ``kmeans`` over encoder vectors, or with ``random`` ones, as published
    start: Literal["kmeans", "random"] = "kmeans"
    start_at: int = 100  # step at which k-means is done; before it, vectors pass unquantised
    revive_every: int = 20  # steps between revivals of dead codes
    revive_until: int = 10**9  # step after which no code is revived

    def __post_init__(self) -> None:
        whole = self.frames % FRAMES_PER_CODE == 0
        require(whole, "stage.frames", self.frames, f"a multiple of {FRAMES_PER_CODE}, the frames of a code")


@dataclass(frozen=True, kw_only=True)
class DVAERun(FeatureRun):
    """Crops of clips, ``stage.rows`` of ``stage.frames``; or with ``text`` whole clips, as ``pairs`` says."""

    text: Path | None = None  # folder of the tokenizer, where the network has a CTC head
    cleaner: Cleaner = "chelys"  # what normalizes a text before the tokenizer reads it
    pairs: PairConfig | None = None  # what makes a batch of whole clips; without texts None
    network: Annotated[DVAEConfig, published_sizes(DVAEConfig.tortoise_v2)] = field(default_factory=DVAEConfig)
    stage: DVAETaskConfig = field(default_factory=DVAETaskConfig)

    def __post_init__(self) -> None:
        if self.text and self.pairs is None:
            object.__setattr__(self, "pairs", PairConfig())

    def build(self) -> Task:
        if bool(self.network.text_tokens) != bool(self.text):
            raise ConfigError(
                "network.text_tokens needs texts: name the folder of the tokenizer, text=FOLDER"
                if self.network.text_tokens
                else "text=FOLDER is for a network that reads texts from codes: set network.text_tokens"
            )
        if self.text:
            assert self.pairs is not None
            pairs = load_pairs(
                self.features, None, self.text, self.mel_range, self.pairs, self.loop.seed, cleaner=self.cleaner
            )
            check_sizes("network", self.network, pairs)
            return ClipDVAETask(DVAE(self.network), ClipDVAEData(pairs, self.stage))
        features = self.open_features(self.network.bands)
        return DVAETask(DVAE(self.network), DVAEData(features, self.mel_range, self.stage, self.loop.seed))


def trained_dvae(run: Path) -> tuple[DVAE, MelRange]:
    """The VQ-VAE of a finished run, and the mel range that it was trained with.

    Raises ConfigError if the run is missing or not finished.
    """
    config = run / "config.json"
    if not config.is_file():
        raise ConfigError(f"no run of the dvae stage in {run}: train it first")
    built = from_mapping(DVAERun, read_settings(config), where=str(config))
    return load_trained(DVAE(built.network), run / "dvae.safetensors"), built.mel_range


class DVAEData(FeatureData):
    """Crops of mels ``(b, f, s)`` in network units, at random places of random clips."""

    def __init__(self, features: ClipDataset, mel_range: MelRange, config: DVAETaskConfig, seed: int) -> None:
        self.features, self.mel_range, self.config, self.seed = features, mel_range, config, seed
        self.train_clips, test_clips = features.split(features.at_least(config.frames))
        self.test_clips = test_clips[:64]
        self.require_clips()

    def load(self, step: int, rows: range) -> Tensor:
        places = self.places(step)
        crops = [self.features.mel(clip, start, self.config.frames) for clip, start in (places[row] for row in rows)]
        return self.mel_range.normalize(torch.stack(crops))

    def places(self, step: int) -> list[tuple[Clip, int]]:
        rng = np.random.default_rng([self.seed, step])
        chosen = [self.train_clips[i] for i in rng.integers(len(self.train_clips), size=self.config.rows)]
        last = [(clip.frames - self.config.frames) // FRAMES_PER_CODE for clip in chosen]
        return [(c, int(rng.integers(code + 1)) * FRAMES_PER_CODE) for c, code in zip(chosen, last, strict=True)]


class DVAETask(Task):
    name = "dvae"

    def __init__(self, network: DVAE, data: DVAEData) -> None:
        self.modules = {"dvae": network}
        self.dvae, self.config = network, data.config
        self.data: DVAEData = data
        self._encoded: list[tuple[Tensor, Tensor]] = []  # encoder vectors and codes of each micro-batch of a step

    def training_step(self, module: str, batch: Tensor, generator: torch.Generator) -> Mapping[str, Tensor]:
        if not self._codebook_started():  # learn first what is to be quantised
            mel = self.dvae(batch, quantize=False).mel
            return {"reconstruction": F.mse_loss(mel.float(), batch)}
        out = self.dvae(batch)
        self._encoded.append((out.encoded.detach().flatten(0, 1), out.codes.flatten()))
        return {
            "reconstruction": F.mse_loss(out.mel.float(), batch),
            "commitment": self.config.commitment * F.mse_loss(out.encoded.float(), out.quantized.detach()),
        }

    def _codebook_started(self) -> bool:
        return self.config.start == "random" or bool(self.dvae.codebook.counts.any())

    def after_step(self, step: int, batch: Tensor, generator: torch.Generator) -> dict[str, float]:
        book, config = self.dvae.codebook, self.config
        if not self._codebook_started():
            if step + 1 >= config.start_at:
                self._start_codebook(step, generator)
            return {}
        encoded, codes = (torch.cat(parts) for parts in zip(*self._encoded, strict=True))
        self._encoded.clear()
        book.update(encoded, codes, total=self.context.all_reduce)
        metrics = {"codebook_perplexity": perplexity(book.counts)}
        if step % config.revive_every == 0 and step < config.revive_until:
            metrics["revived_codes"] = float(book.revive(self.context.all_gather(encoded), generator, least=0.03))
        return metrics

    @torch.no_grad()
    def _start_codebook(self, step: int, generator: torch.Generator) -> None:
        wanted = 20 * len(self.dvae.codebook.vectors)
        encoded: list[Tensor] = []
        while sum(map(len, encoded)) < wanted:
            step += 1
            batch = self.data.batch(step).to(self.dvae.codebook.vectors.device)
            encoded.append(self.dvae.encoder_vectors(batch).flatten(0, 1))
        self.dvae.codebook.start(torch.cat(encoded), generator)

    def evaluate(self) -> dict[str, float]:
        if not self.data.test_clips:
            return {}
        counts = torch.zeros_like(self.dvae.codebook.counts)
        error, commitment, reading = [], [], list[tuple[float, int]]()
        for clip in self.data.test_clips:
            mel = self._held_out(clip)
            out = self.dvae(mel)
            error.append(float((out.mel.float() - mel).abs().mean()))
            commitment.append(float(F.mse_loss(out.encoded.float(), out.quantized)))
            counts += torch.bincount(out.codes.flatten(), minlength=len(counts)).float()
            if out.text_logits is not None:
                reading.append(self._read(clip, out))
        nats, ids = map(sum, zip(*reading, strict=True)) if reading else (0, 0)
        return {
            "mel_l1": float(np.mean(error)),
            "commitment": float(np.mean(commitment)),
            "codebook_perplexity": perplexity(counts),
            **({"ctc": nats / ids} if reading else {}),
        }

    def _read(self, clip: Clip, out: Reconstruction) -> tuple[float, int]:
        """Nats of a clip's text by the CTC head, and its ids."""
        raise NotImplementedError("crops have no text")

    def _held_out(self, clip: Clip) -> Tensor:
        mel = self.data.mel_range.normalize(self.data.features.mel(clip))[None]
        return mel.to(self.dvae.codebook.counts.device)

    def pictures(self) -> dict[str, Picture]:
        """How evenly the codes are used in training, and a held-out mel with its reconstruction."""
        found = {"codebook": Picture(self.dvae.codebook.counts.sort(descending=True).values, x="code, by use", y="use")}
        if self.data.test_clips:
            mel = self._held_out(self.data.test_clips[0])
            both = torch.cat((mel, self.dvae(mel).mel.float()), 1)[0]
            found["reconstruction"] = Picture(both, x="frame", y="band: real below, reconstructed above")
        return found


class ClipDVAEBatch(NamedTuple):
    """Whole clips, padded, with their texts."""

    mel: Tensor  # ``(b, f, s)`` in network units, zero behind the clips
    mask: Tensor  # True where there is sound, ``(b, s)``
    mean: Tensor  # mean spectra ``(b, f)``
    text: Tensor  # ids ``(b, t)``
    text_lengths: Tensor  # ``(b,)``
    read: Tensor  # whether the text is what is said, ``(b,)``


class ClipDVAEData(PairedData):
    """Whole clips, as many as `Pairs` puts into a batch."""

    def __init__(self, pairs: Pairs, config: DVAETaskConfig) -> None:
        super().__init__(pairs)
        self.config, self.features, self.mel_range = config, pairs.features, pairs.mel_range
        self.test_clips = pairs.test[:64]

    def load(self, step: int, rows: range) -> ClipDVAEBatch:
        clips = self.pairs.clips(step)
        return self.collate([clips[row] for row in rows])

    def collate(self, clips: Sequence[Clip]) -> ClipDVAEBatch:
        """A batch of the given clips."""
        mels = [self.mel_range.normalize(self.features.mel(clip)) for clip in clips]
        frames = torch.tensor([mel.shape[1] for mel in mels])
        texts = [torch.tensor(self.pairs.tokenizer.encode(clip.text)) for clip in clips]
        return ClipDVAEBatch(
            mel=pad_sequence([mel.T for mel in mels], batch_first=True).transpose(1, 2),
            mask=torch.arange(int(frames.max())) < frames[:, None],
            mean=torch.stack([mel.mean(1) for mel in mels]),
            text=pad_sequence(texts, batch_first=True),
            text_lengths=torch.tensor([len(text) for text in texts]),
            read=torch.ones(len(clips)),
        )


class ClipDVAETask(DVAETask):
    """Whole clips rather than crops: a clip has a text, and a mean spectrum of its own."""

    def __init__(self, network: DVAE, data: Any) -> None:
        super().__init__(network, data)
        self._unquantised: list[Tensor] = []

    def element_counts(self, module: str, batch: ClipDVAEBatch) -> Mapping[str, float]:
        frames, ids = float(batch.mask.sum()), float((batch.text_lengths * batch.read).sum())
        return {"reconstruction": frames, "commitment": frames, "ctc": ids}

    def training_step(self, module: str, batch: Any, generator: torch.Generator) -> Mapping[str, Tensor]:
        started, config = self._codebook_started(), self.config
        out = self.dvae(batch.mel, batch.mean, batch.mask, quantize=started)
        sound, mask = batch.mask[:, :: 2**self.dvae.config.strides], batch.mask
        losses = {"reconstruction": ((out.mel.float() - batch.mel).square().mean(1) * mask).sum() / mask.sum()}
        if started:
            error = (out.encoded.float() - out.quantized.detach()).square().mean(2)
            losses["commitment"] = config.commitment * (error * sound).sum() / sound.sum()
        if out.text_logits is not None:
            nll = self.dvae.text_nll(out.text_logits, batch.text, batch.text_lengths, sound.sum(1)) * batch.read
            losses["ctc"] = config.ctc * nll.sum() / (batch.text_lengths * batch.read).sum().clamp(min=1)
        if torch.is_grad_enabled() and not batch.mel.is_meta:  # not in an evaluation, or where work is only counted
            encoded = out.encoded.detach()[sound].float()
            if started:
                self._encoded.append((encoded, out.codes[sound]))
            else:
                self._unquantised = [*self._unquantised[-7:], encoded]
        return losses

    @torch.no_grad()
    def _start_codebook(self, step: int, generator: torch.Generator) -> None:
        encoded = self.context.all_gather(torch.cat(self._unquantised))
        if len(encoded) >= len(self.dvae.codebook.vectors):  # else with a later step
            self.dvae.codebook.start(encoded[-20 * len(self.dvae.codebook.vectors) :], generator)
            self._unquantised.clear()

    def _read(self, clip: Clip, out: Reconstruction) -> tuple[float, int]:
        ids = self.data.pairs.tokenizer.encode(clip.text)  # type: ignore[attr-defined]
        text = torch.tensor([ids], device=out.codes.device)
        lengths = torch.tensor([len(ids)]), torch.tensor([out.codes.shape[1]])
        assert out.text_logits is not None
        return float(self.dvae.text_nll(out.text_logits, text, *lengths)), len(ids)


def perplexity(counts: Tensor) -> float:
    """Perplexity of the code distribution: how many codes an even use of this entropy would take."""
    share = counts / counts.sum()
    return float(torch.exp(-(share * torch.log(share.clamp(min=1e-12))).sum()))
