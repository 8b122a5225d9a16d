"""What the stages' losses count, and what they leave out."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
import toy_corpus

from chelys.audio.mel import log_mel, mel_band_edges
from chelys.audio.rates import MEL_24K
from chelys.audio.resample import low_pass
from chelys.data.dataset import Features
from chelys.data.features import extract
from chelys.data.manifest import Utterance, write_manifest
from chelys.data.pairs import Batch
from chelys.errors import ConfigError, ManifestError
from chelys.models.vocos import Vocos, VocosConfig
from chelys.training.losses import cross_entropy, info_nce, multi_resolution_mel_loss
from chelys.training.task import Task
from chelys.training.tasks.clvp import drop_ids
from chelys.training.tasks.vocoder import VocoderData, VocoderTask, VocoderTaskConfig, narrow_cutoff_hz

Build = Callable[..., Task]
STAGES = ["dvae", "vocoder", "autoregressive", "diffusion", "clvp", "cvvp", "hifigan"]


def row(batch: Batch, index: int) -> Batch:
    """One row without its padding."""
    t, m = int(batch.text_lengths[index]), int(batch.code_lengths[index])
    one = slice(index, index + 1)
    return Batch(
        batch.text[one, :t], batch.text_lengths[one], batch.codes[one, :m], batch.code_lengths[one],
        batch.reference[one],
    )  # fmt: skip


# ---- autoregressive -------------------------------------------------------------------------------------------------


def test_padding_is_no_part_of_the_loss(build: Build) -> None:
    stage: Any = build("autoregressive", stage={"text_nll": 1.0})
    batch = stage.data.batch(0)
    assert len(set(batch.code_lengths.tolist())) > 1 and len(set(batch.text_lengths.tolist())) > 1
    together = stage.training_step("", batch, torch.Generator())
    alone = [stage.training_step("", row(batch, i), torch.Generator()) for i in range(len(batch.text))]
    for name, lengths in (("code_nll", batch.code_lengths), ("text_nll", batch.text_lengths)):
        counts = (lengths + 1).tolist()  # each id, and one stop
        mean = sum(n * loss[name] for n, loss in zip(counts, alone, strict=True)) / sum(counts)
        torch.testing.assert_close(together[name], mean, rtol=1e-5, atol=1e-5)
    past_text = torch.arange(batch.text.shape[1]) >= batch.text_lengths[:, None]
    past_codes = torch.arange(batch.codes.shape[1]) >= batch.code_lengths[:, None]
    dirty = batch._replace(text=batch.text.masked_fill(past_text, 7), codes=batch.codes.masked_fill(past_codes, 3))
    for name, loss in stage.training_step("", dirty, torch.Generator()).items():
        assert torch.equal(loss, together[name]), "what lies in the padding is not read"


def test_each_row_stops_once() -> None:
    ids, lengths, stop, choices = torch.tensor([[1, 2, 3], [2, 0, 0]]), torch.tensor([3, 1]), 4, 5
    logits = torch.full((2, 4, choices), -100.0)
    for r, length in enumerate(lengths.tolist()):
        for column in range(length):
            logits[r, column, ids[r, column]] = 100.0  # every id is foretold, the stops alone are not
        logits[r, length] = 0.0
    expected = 2 * math.log(choices) / (3 + 1 + 2)
    assert float(cross_entropy(logits, ids, lengths, stop)) == pytest.approx(expected)
    logits[0, 3, stop] = logits[1, 1, stop] = 100.0
    assert float(cross_entropy(logits, ids, lengths, stop)) == pytest.approx(0.0, abs=1e-6)


def test_evaluation_looks_at_one_clip_at_a_time(build: Build) -> None:
    stage: Any = build("autoregressive", stage={"code_nll": 3.0})
    with torch.no_grad():
        metrics, again = stage.evaluate(), stage.evaluate()
        batches = [stage.pairs.collate([c], np.random.default_rng([7, i])) for i, c in enumerate(stage.pairs.test)]
        losses = [float(stage.training_step("", batch, torch.Generator())["code_nll"]) / 3 for batch in batches]
    assert metrics["code_nll"] == pytest.approx(np.mean(losses)), "in nats, whatever the weight"
    assert metrics["code_nll_wrong_text"] != metrics["code_nll"]
    assert metrics == again


def test_padding_as_stop(build: Build) -> None:
    ignored: Any = build("autoregressive", stage={"text_nll": 1.0})
    counted: Any = build("autoregressive", stage={"text_nll": 1.0, "padding": "stop"})
    batch = counted.data.batch(0)
    rows, t, m = len(batch.text), batch.text.shape[1], batch.codes.shape[1]
    assert counted.element_counts("", batch) == {"code_nll": rows * (m + 1), "text_nll": rows * (t + 1)}
    one = row(batch, 0)
    for name, loss in counted.training_step("", one, torch.Generator()).items():
        torch.testing.assert_close(loss, ignored.training_step("", one, torch.Generator())[name])  # nothing is padded
    stop = counted.decoder.config.stop_code
    padded = counted._pad_with_stops(batch)
    for codes, length in zip(padded.codes, batch.code_lengths.tolist(), strict=True):
        assert codes[length:].eq(stop).all() and not codes[:length].eq(stop).any()
    assert padded.code_lengths.eq(m).all() and padded.text_lengths.eq(t).all()


def test_parts_weighed_by_their_counts_add_up_to_the_batch(build: Build) -> None:
    stage: Any = build("autoregressive", stage={"text_nll": 1.0})
    whole = stage.data.batch(0)
    parts = [stage.data.load(0, range(0, 1)), stage.data.load(0, range(1, len(whole.text)))]
    for name, loss in stage.training_step("", whole, torch.Generator()).items():
        counts = [stage.element_counts("", part)[name] for part in parts]
        losses = [stage.training_step("", part, torch.Generator())[name] for part in parts]
        mean = sum(c * x for c, x in zip(counts, losses, strict=True)) / sum(counts)
        torch.testing.assert_close(loss, mean, rtol=1e-5, atol=1e-5)
        assert sum(counts) == stage.element_counts("", whole)[name]


def test_the_voice_is_the_mean_of_several_clips(build: Build) -> None:
    one: Any = build("autoregressive")
    two: Any = build("autoregressive", stage={"voice_clips": 2})
    batch, single = two.data.batch(0), one.data.batch(0)
    assert batch.reference.shape[1] == 2 and torch.equal(batch.reference[:, 0], single.reference)
    assert not torch.equal(batch.reference[:, 0], batch.reference[:, 1])
    voices = [two.decoder.condition(batch.reference[:, i]) for i in range(2)]
    torch.testing.assert_close(two._condition(batch.reference), (voices[0] + voices[1]) / 2)
    assert torch.equal(two.data.load(0, range(1, 2)).reference, batch.reference[1:2]), (
        "a row's own, however a batch is cut"
    )


def test_lengths_in_samples_are_counted_once(build: Build) -> None:
    """The community's forks multiplied them by 1024 once more, and taught 11 seconds of silence and one stop."""
    stage: Any = build("autoregressive")
    clips, batch = stage.pairs.clips(0), stage.data.batch(0)
    for clip, codes, text in zip(clips, batch.code_lengths.tolist(), batch.text_lengths.tolist(), strict=True):
        assert codes == sf.info(clip.audio).frames // 1024 and text == len(stage.pairs.tokenizer.encode(clip.text))
    assert batch.codes.shape[1] == max(batch.code_lengths), "no row is padded further than the longest"


# ---- clvp -----------------------------------------------------------------------------------------------------------


def test_contrast_both_ways_round() -> None:
    scores = torch.tensor([[5.0, 1.0], [2.0, 3.0]])
    rows = math.log(1 + math.exp(-4)) + math.log(1 + math.exp(-1))
    columns = math.log(1 + math.exp(-3)) + math.log(1 + math.exp(-2))
    assert float(info_nce(scores)) == pytest.approx((rows + columns) / 4)
    assert float(info_nce(torch.zeros(6, 6))) == pytest.approx(math.log(6))
    besides = info_nce(
        scores, row_negatives=torch.tensor([[5.0], [3.0]]), column_negatives=torch.tensor([[5.0, 5.0], [3.0, 3.0]])
    )
    rows = math.log(2 + math.exp(-4)) + math.log(2 + math.exp(-1))
    columns = math.log(3 + math.exp(-3)) + math.log(3 + math.exp(-2))
    assert float(besides) == pytest.approx((rows + columns) / 4)


def test_thinning_keeps_the_first_id_and_the_order() -> None:
    ids = torch.arange(1, 41).repeat(50, 1)
    lengths = torch.tensor([40, 7] * 25)
    thin, left = drop_ids(ids, lengths, 0.7, torch.Generator().manual_seed(0))
    for r in range(50):
        kept = thin[r, : left[r]].tolist()
        assert kept[0] == 1 and kept == sorted(set(kept)) and max(kept) <= lengths[r]
    assert float(left.sum() / lengths.sum()) == pytest.approx(0.7, abs=0.04)
    whole, left = drop_ids(ids, lengths, 1.0, torch.Generator().manual_seed(0))
    assert torch.equal(whole, ids) and torch.equal(left, lengths)


def test_what_is_wrong_belongs_to_its_row(build: Build) -> None:
    pairs = {"budget": 500, "grapheme_probability": 0.5}
    stage: Any = build("clvp", stage={"corrupted_texts": 3, "corrupted_speech": 2}, pairs=pairs)
    batch, part = stage.data.batch(1), stage.data.load(1, range(1, 3))
    for name, each in (("text", 3), ("codes", 2)):
        wrong, lengths = getattr(batch.corrupted, name), getattr(batch.corrupted, f"{name.removesuffix('s')}_lengths")
        assert wrong.shape[:2] == lengths.shape == (len(batch.text), each)
        own, own_lengths = getattr(part.corrupted, name), getattr(part.corrupted, f"{name.removesuffix('s')}_lengths")
        assert torch.equal(own_lengths, lengths[1:3]), "a row's own, however a batch is cut"
        for ids, others, length in zip(own.flatten(0, 1), wrong[1:3].flatten(0, 1), own_lengths.flatten(), strict=True):
            assert torch.equal(ids[:length], others[:length]) and not ids[length:].any()
    for row, clip in enumerate(stage.pairs.clips(1)):
        for k in range(2):
            codes = batch.corrupted.codes[row, k, : batch.corrupted.code_lengths[row, k]]
            assert not torch.equal(codes, stage.pairs.codes.of(clip))
    plain: Any = build("clvp", pairs=pairs)
    for mine, theirs in zip(batch[:5], plain.data.batch(1)[:5], strict=True):
        assert torch.equal(mine, theirs), "the pairs are the same, corrupted or not"


def test_a_row_is_compared_with_the_batch_and_with_what_is_wrong_for_it(build: Build) -> None:
    stage: Any = build("clvp", stage={"corrupted_texts": 2, "corrupted_speech": 1, "keep": 1.0})
    batch, clvp = stage.data.batch(0), stage.clvp
    rows = range(len(batch.text))
    nll = 0.0
    for row in rows:
        texts = [(batch.text[r], batch.text_lengths[r]) for r in (row, *(r for r in rows if r != row))]
        texts += [(batch.corrupted.text[row, k], batch.corrupted.text_lengths[row, k]) for k in range(2)]
        takes = [(batch.codes[r], batch.code_lengths[r]) for r in (row, *(r for r in rows if r != row))]
        takes += [(batch.corrupted.codes[row, 0], batch.corrupted.code_lengths[row, 0])]
        said, spoken = ([(ids[None, :length]) for ids, length in some] for some in (texts, takes))
        by_text = torch.cat([clvp.score(said[0], codes) for codes in spoken])
        by_take = torch.cat([clvp.score(text, spoken[0]) for text in said])
        nll -= (by_text.log_softmax(0)[0] + by_take.log_softmax(0)[0]).detach().item()
    loss = stage.training_step("", batch, torch.Generator())["info_nce"]
    assert float(loss.detach()) == pytest.approx(nll / 2 / len(rows), rel=1e-5)


def test_without_corruptions_the_loss_is_that_of_the_pairs(build: Build) -> None:
    stage: Any = build("clvp")
    batch, generator = stage.data.batch(0), torch.Generator().manual_seed(5)
    loss = stage.training_step("", batch, torch.Generator().manual_seed(5))["info_nce"]
    text = drop_ids(batch.text, batch.text_lengths, 0.9, generator)
    codes = drop_ids(batch.codes, batch.code_lengths, 0.9, generator)
    assert torch.equal(loss, info_nce(stage._scores(*text, *codes)))
    with pytest.raises(ConfigError, match=r"stage\.corrupted_speech is -1; it must be 0 or more"):
        build("clvp", stage={"corrupted_speech": -1})


def test_a_batch_of_one_row_has_its_corruptions(build: Build) -> None:
    stage: Any = build("clvp", stage={"corrupted_texts": 2, "corrupted_speech": 2}, pairs={"budget": 1})
    assert len(stage.data.batch(0).text) == 1
    assert bool(stage.training_step("", stage.data.batch(0), torch.Generator())["info_nce"] > 0)


# ---- dvae -----------------------------------------------------------------------------------------------------------


def test_dvae_quantises_from_its_step_on(build: Build, learn: Callable[..., Any]) -> None:
    stage: Any = build("dvae", stage={"start_at": 3, "revive_every": 4, "revive_until": 9})
    log = learn(stage, steps=14)
    assert ["commitment" in line for line in log] == [False] * 3 + [True] * 11
    assert [line["step"] - 1 for line in log if "revived_codes" in line] == [4, 8]


# ---- vocoder --------------------------------------------------------------------------------------------------------


def vocoder_stage(folder: Path, rate: int, voices: dict[str, float] | None = None, pitches: int = 0) -> VocoderTask:
    """A stage over pieces of one long stereo recording of a hum at 150 Hz, by two speakers."""
    rng = np.random.default_rng(0)
    left = toy_corpus.speak(["calm", "moon", "three"] * 4, 150.0, rng, rate=rate)
    sf.write(folder / "long.wav", np.stack([left, 0.5 * left], 1), rate, subtype="FLOAT")
    pieces = [(0.0, 0.8), (0.83, 1.7), (1.9001, 2.8)]
    write_manifest(
        folder / "m.jsonl",
        (
            Utterance(f"p{i}", "long.wav", "Calm.", "ada" if i else "bob", b - a, start=a, end=b)
            for i, (a, b) in enumerate(pieces)
        ),  # fmt: skip
    )
    extract([folder / "m.jsonl"], folder / "features", workers=1)
    vocoder = Vocos(VocosConfig(dim=8, inner=8, blocks=1, pitches=pitches), toy_corpus.MEL_RANGE)
    config = VocoderTaskConfig(rows=3, frames=24, voices=voices)
    features, noise_dim = Features(folder / "features"), vocoder.config.noise_dim
    return VocoderTask(vocoder, VocoderData(features, config, noise_dim, 1, pitch=bool(pitches)))


def test_waves_belong_to_their_mels(tmp_path: Path) -> None:
    stage = vocoder_stage(tmp_path, 24_000)
    assert len(stage.data.train_clips) == 3
    mel, wave = stage.data.batch(0)[:2]
    assert mel.shape == (3, 100, 24) and wave.shape == (3, 24 * 256)
    inner = log_mel(wave, MEL_24K)[:, :, 2:22]  # frames whose window lies within the piece
    assert (inner - mel[:, :, 2:22]).abs().max() < 0.02, "but for rounding to float16"


def test_speakers_come_as_often_as_the_vocoder_is_to_hear_them(tmp_path: Path) -> None:
    for voices, share in ((None, 1 / 3), ({"bob": 4.0}, 2 / 3), ({"bob": 0.0}, 0.0), ({"ada": 0.0, "other": 1.0}, 1.0)):
        stage = vocoder_stage(tmp_path, 24_000, voices)
        heard = [clip for step in range(200) for clip in stage.data.clip_ids(step)]
        assert heard.count("p0") / len(heard) == pytest.approx(share, abs=0.06)
    with pytest.raises(ConfigError, match="leaves no clip to train on"):
        vocoder_stage(tmp_path, 24_000, {"other": 0.0})


def test_a_crop_has_the_pitch_of_its_voice(tmp_path: Path) -> None:
    stage = vocoder_stage(tmp_path, 24_000, pitches=72)
    for step in range(4):
        pitch = stage.data.batch(step).f0_hz
        assert pitch.shape == (3, 24)
        voiced = pitch[pitch > 0]
        assert len(voiced) > 36 and (voiced / 150.0 - 1).abs().median() < 0.05
    wave, whole = stage.data._crop(stage.data.train_clips[2], 0, 80)
    crop, pitch = stage.data._crop(stage.data.train_clips[2], 30, 24)
    torch.testing.assert_close(pitch[8:16], whole[38:46], rtol=0.01, atol=0)
    assert torch.equal(crop, wave[30 * 256 : 54 * 256]) and torch.equal(
        crop, stage.data.features.waveform(stage.data.train_clips[2], 30, 24)
    )


def test_reading_the_pitch_is_a_loss_of_its_own(tmp_path: Path) -> None:
    stage = vocoder_stage(tmp_path, 24_000, pitches=72)
    batch = stage.data.batch(0)
    source = stage.vocoder.source  # type: ignore[union-attr]
    losses = stage.training_step("vocoder", batch, torch.Generator())
    x = stage.vocoder.features(batch.mel)  # type: ignore[union-attr]
    torch.testing.assert_close(losses["pitch"], 0.1 * source.pitch_loss(x, batch.f0_hz))
    losses["pitch"].backward()
    assert stage.vocoder.embed.weight.grad.abs().max() > 0  # type: ignore[union-attr]
    assert "pitch" not in vocoder_stage(tmp_path, 24_000).training_step("vocoder", batch, torch.Generator())


def test_a_corpus_of_another_rate_is_resampled(tmp_path: Path) -> None:
    mel, wave = vocoder_stage(tmp_path, 22_050).data.batch(0)[:2]
    inner = log_mel(wave, MEL_24K)[:, :80, 3:21]  # up to where the recording has nothing
    assert (inner - mel[:, :80, 3:21]).abs().mean() < 0.1
    later = log_mel(wave, MEL_24K)[:, :80, 4:22]
    assert (later - mel[:, :80, 3:21]).abs().mean() > 0.2, "one frame late is not it"


def test_filled_bands_teach_nothing(tmp_path: Path) -> None:
    """A recording of 16 kHz says nothing of what is above 8 kHz, where its mel was filled."""
    stage = vocoder_stage(tmp_path, 24_000)
    wide = 0.1 * torch.randn(3, 24 * 256, generator=torch.Generator().manual_seed(0))
    mel, narrow = log_mel(wide, MEL_24K)[:, :, :24], low_pass(wide, torch.tensor([math.inf, 8000.0, 8000.0]), 24_000)
    cutoff_hz = torch.tensor([narrow_cutoff_hz(m, w) for m, w in zip(mel, narrow, strict=True)])
    assert cutoff_hz[0] == math.inf and all(7000 < hz < 8000 for hz in cutoff_hz[1:])

    class Constant(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.made = torch.nn.Parameter(wide.roll(100, 1))

        def forward(self, mel: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
            return self.made

    stage.vocoder = made = Constant()  # type: ignore[assignment]
    batch = stage.data.batch(0)._replace(mel=mel, waveform=low_pass(narrow, cutoff_hz, 24_000), cutoff_hz=cutoff_hz)
    stage.training_step("vocoder", batch._replace(step=10**6), torch.Generator())["feature_matching"].backward()
    learned = torch.fft.rfft(made.made.grad).abs()
    above = torch.fft.rfftfreq(wide.shape[1], 1 / 24_000) > 8000
    assert (learned[1:, above].amax(1) < 1e-4 * learned[1:, ~above].amax(1)).all() and learned[0, above].amax() > 0


def test_recordings_of_a_narrow_corpus_are_compared_below_what_they_lack(tmp_path: Path) -> None:
    stage = vocoder_stage(tmp_path, 24_000)
    assert stage.data.batch(0).cutoff_hz.tolist() == []
    frames = np.memmap(stage.data.features.folder / "mel.f16", np.float16, "r+").reshape(-1, 100)  # type: ignore[attr-defined]
    frames[:, 85:] += 1.0  # as if filled
    frames.flush()
    batch = VocoderData(Features(tmp_path / "features"), stage.config, 0, 1, pitch=False).batch(0)
    cutoff_hz = float(mel_band_edges(MEL_24K)[83])
    assert batch.cutoff_hz.tolist() == pytest.approx([cutoff_hz] * 3)
    above = torch.fft.rfftfreq(24 * 256, 1 / 24_000) > cutoff_hz
    assert torch.fft.rfft(batch.waveform)[:, above].abs().amax() < 1e-3


def test_mel_loss() -> None:
    wave = torch.randn(2, 8192, generator=torch.Generator().manual_seed(0)) * 0.1
    assert float(multi_resolution_mel_loss(wave, wave)) == 0.0
    assert float(multi_resolution_mel_loss(2 * wave, wave)) == pytest.approx(math.log(2), rel=1e-3)


# ---- corpora that are too small -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STAGES)
def test_without_held_out_clips_there_is_nothing_to_evaluate(build: Build, name: str) -> None:
    stage: Any = build(name)
    if hasattr(stage.data, "pairs"):
        stage.data.pairs.test = []
    else:
        stage.data.test_clips = []
    assert stage.evaluate() == {}


@pytest.mark.parametrize("name", STAGES)
def test_held_out_figures_are_finite_and_the_same_each_time(build: Build, name: str) -> None:
    stage = build(name, **({"stage": {"start_at": 0}} if name == "dvae" else {}))
    stage.network.eval()
    with torch.no_grad():
        metrics, again = stage.evaluate(), stage.evaluate()
    assert metrics == again and metrics and all(map(math.isfinite, metrics.values()))


@pytest.mark.parametrize("name", ["dvae", "vocoder"])
def test_no_clip_is_long_enough(build: Build, name: str) -> None:
    with pytest.raises(ManifestError, match=r"no clip to train on has stage\.frames=900"):
        build(name, stage={"frames": 900})
