"""Batches of text, codes and a reference clip."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_corpus import MEL_RANGE, SPEAKERS, ToyCorpus

from chelys.data.dataset import Clip, ClipTable, Codes, Features
from chelys.data.loader import is_held_out
from chelys.data.pairs import PairConfig, Pairs, load_pairs, repeat_to, speaker_weights
from chelys.errors import ManifestError
from chelys.text.tokenizer import SPELLED_LETTERS, Tokenizer


@pytest.fixture(scope="module")
def pairs(toy: ToyCorpus) -> Pairs:
    return toy.pairs()


def random() -> np.random.Generator:
    return np.random.default_rng(5)


def test_training_and_test_clips_are_apart(pairs: Pairs) -> None:
    assert (len(pairs.train), len(pairs.test)) == (15, 3)
    assert all(map(is_held_out, pairs.test.ids())) and not any(map(is_held_out, pairs.train.ids()))
    heard = {clip.id for rows, _ in pairs.by_speaker.values() for clip in pairs.train.take(rows)}
    assert len(heard) == 15 and not heard & set(pairs.test.ids()), "a held-out clip is no reference either"


def test_shapes_padding_and_lengths(pairs: Pairs) -> None:
    clips = sorted(pairs.train, key=lambda c: c.codes)[::4]
    batch = pairs.collate(clips, random())
    b, m = len(clips), max(c.codes for c in clips)
    texts = [pairs.tokenizer.encode(c.text) for c in clips]
    assert batch.text.shape == (b, max(map(len, texts))) and batch.codes.shape == (b, m)
    assert batch.reference.shape == (b, 100, 32)
    assert batch.text_lengths.tolist() == list(map(len, texts))
    assert batch.code_lengths.tolist() == [c.codes for c in clips]
    assert len(set(batch.code_lengths.tolist())) > 1, "a ragged batch, or nothing would be padded"
    for row, clip in enumerate(clips):
        t, codes = len(texts[row]), clip.codes
        assert batch.text[row, :t].tolist() == texts[row] and not batch.text[row, t:].any()
        assert torch.equal(batch.codes[row, :codes], pairs.codes.of(clip)) and not batch.codes[row, codes:].any()


def test_a_batch_is_a_function_of_seed_and_step(toy: ToyCorpus, pairs: Pairs) -> None:
    again = toy.pairs()
    for step in (7, 0, 3):
        for one, other in zip(pairs.batch(step), again.batch(step), strict=True):
            assert torch.equal(one, other)
    others = toy.pairs(seed=2)
    assert any(pairs.batch(step).text.shape != others.batch(step).text.shape for step in range(5))


def test_batches_keep_the_budget_and_the_longest(toy: ToyCorpus) -> None:
    pairs = toy.pairs(PairConfig(budget=90, reference_frames=32, max_codes=40))
    assert max(c.codes for c in pairs.train) <= 40 < max(c.codes for c in pairs.features.clips)
    for step in range(12):
        batch = pairs.batch(step)
        assert batch.codes.numel() <= 90 and batch.code_lengths.max() <= 40


def spelled_share(pairs: Pairs, share: float) -> float:
    letters = set(pairs.tokenizer.core.encode(SPELLED_LETTERS).ids)
    batch = pairs.collate(list(pairs.train) * 6, random(), graphemes=share)
    words = spelled = 0
    for row, length in zip(batch.text, batch.text_lengths, strict=True):
        for word in " ".join(map(str, row[:length].tolist())).split(" 2 "):  # 2 is the space
            words += 1
            spelled += int(word.split()[0]) in letters
    return spelled / words


def test_a_share_of_the_words_is_spelled(pairs: Pairs) -> None:
    assert spelled_share(pairs, 0.0) == 0.0
    assert spelled_share(pairs, 0.3) == pytest.approx(0.3, abs=0.06)
    assert spelled_share(pairs, 1.0) == 1.0


def found_in(pairs: Pairs, reference: torch.Tensor) -> list[int]:
    """Indices of the training clips that hold a crop: no two have a frame in common."""
    return [i for i, clip in enumerate(pairs.train) if holds(pairs, clip, reference)]


def holds(pairs: Pairs, clip: Clip, reference: torch.Tensor) -> bool:
    mel = MEL_RANGE.normalize(pairs.features.mel(clip))
    return any(
        torch.equal(mel[:, at : at + reference.shape[1]], reference)
        for at in (mel == reference[:, :1]).all(0).nonzero().flatten().tolist()
    )


def test_references_are_other_clips_of_the_speaker(pairs: Pairs) -> None:
    rng = random()
    heard = Counter()
    for index, clip in enumerate(list(pairs.train) * 4):
        (source,) = found_in(pairs, pairs.reference(clip, rng))
        assert pairs.train[source].speaker == clip.speaker and source != index % len(pairs.train)
        heard[source] += 1
    assert len(heard) == len(pairs.train), "each clip is somebody's reference"


def test_references_of_held_out_clips_are_training_clips(pairs: Pairs) -> None:
    for clip in pairs.test:
        (source,) = found_in(pairs, pairs.reference(clip, random()))
        assert pairs.train[source].speaker == clip.speaker


def test_a_speaker_with_one_clip_is_their_own_reference(pairs: Pairs) -> None:
    pairs = Pairs(pairs.features, pairs.codes, pairs.tokenizer, MEL_RANGE, pairs.config, 1)
    alone = pairs.test[0]
    del pairs.by_speaker[alone.speaker]  # as if no other clip had been recorded
    reference = pairs.reference(alone, random())
    assert holds(pairs, alone, reference)


def test_two_clips_of_a_speaker_are_each_others_reference(pairs: Pairs) -> None:
    pairs = Pairs(pairs.features, pairs.codes, pairs.tokenizer, MEL_RANGE, pairs.config, 1)
    rows, first = pairs.by_speaker["ada"]
    one, other = pairs.train.take(rows[:2])
    pairs.by_speaker["ada"] = rows[:2], first[:2]
    for seed in range(20):
        assert holds(pairs, other, pairs.reference(one, np.random.default_rng(seed)))
        assert holds(pairs, one, pairs.reference(other, np.random.default_rng(seed)))


def test_short_references_are_several_clips_of_the_speaker(toy: ToyCorpus) -> None:
    wanted = 400
    pairs = toy.pairs(PairConfig(budget=120, reference_frames=wanted))
    mels = {c.id: MEL_RANGE.normalize(pairs.features.mel(c)) for c in pairs.train}
    for clip in (*pairs.train, *pairs.test):
        others = [c for c in pairs.train if c.speaker == clip.speaker and c.id != clip.id]
        assert max(c.frames for c in others) < wanted < sum(c.frames for c in others)
        reference = pairs.reference(clip, random())
        at, heard = 0, []
        while at < wanted:  # take it apart again: no two clips have a frame in common
            (found,) = [c for c in others if torch.equal(mels[c.id][:, 0], reference[:, at])]
            piece = reference[:, at : at + found.frames]
            assert torch.equal(piece, mels[found.id][:, : piece.shape[1]])
            heard.append(found.id)
            at += found.frames
        assert reference.shape[1] == wanted and len(heard) == len(set(heard)) > 1


def test_all_that_a_speaker_said_is_repeated_where_it_is_too_little(toy: ToyCorpus) -> None:
    pairs = toy.pairs(PairConfig(budget=120, reference_frames=3000))
    clip = pairs.train[0]
    others = [c for c in pairs.train if c.speaker == clip.speaker and c.id != clip.id]
    period = sum(c.frames for c in others)
    reference = pairs.reference(clip, random())
    assert period < 1500 and torch.equal(reference[:, :-period], reference[:, period:])


def test_short_references_are_repeated() -> None:
    mel = torch.arange(6.0).view(2, 3)
    assert repeat_to(mel, 7).tolist() == [[0, 1, 2, 0, 1, 2, 0], [3, 4, 5, 3, 4, 5, 3]]
    assert torch.equal(repeat_to(mel, 2), mel[:, :2])


def test_voices_weigh_speakers(toy: ToyCorpus) -> None:
    pairs = toy.pairs(PairConfig(budget=120, voices={"ada": 3.0, "other": 1.0, "bob": 0.0}))
    heard = Counter(pairs.train[i].speaker for step in range(300) for i in pairs.sampler.at(step))
    assert set(SPEAKERS) - set(heard) == {"bob"}
    assert heard["ada"] / heard["cleo"] == pytest.approx(3, rel=0.05)


def test_no_clip_left(toy: ToyCorpus) -> None:
    with pytest.raises(ManifestError, match="no clip to train on"):
        toy.pairs(PairConfig(max_codes=3))


@pytest.mark.parametrize(
    ("text", "reason", "detail"),
    [
        ("", "text cannot be spoken", "the text is empty"),
        (" \n", "text cannot be spoken", "the text is empty"),
        ("... !", "text cannot be spoken", "nothing in the text"),
        ("\u4f60\u597d", "text cannot be spoken", "nothing in the text"),
        ("calm moon " * 12, "text too long for its clip", "119 characters in"),
        ("8888888888888888", "text too long", "ids; pairs.max_text_ids is 30"),
    ],
)
def test_texts_that_cannot_be_learned(toy: ToyCorpus, text: str, reason: str, detail: str) -> None:
    features = Features(toy.features)
    odd = features.clips[4]
    clips = list(features.clips)
    clips[4] = dataclasses.replace(odd, text=text)
    features.clips = ClipTable.of(clips)
    config = PairConfig(budget=120, reference_frames=32, max_text_ids=30 if "8" in text else 400)
    pairs = Pairs(features, Codes(toy.codes), Tokenizer.load(toy.text), MEL_RANGE, config, 1)
    bad = {clip.id: clip for clip in pairs.bad_clips.all()}
    assert bad[odd.id].reason == reason and detail in bad[odd.id].detail
    assert odd.id not in {clip.id for clip in (*pairs.train, *pairs.test)}
    for step in range(5):
        pairs.batch(step)
    assert len(bad) == 1 or "8" in text


def test_clips_that_are_too_long_are_noted(toy: ToyCorpus) -> None:
    pairs = toy.pairs(PairConfig(max_codes=40))
    noted = {clip.id: clip.reason for clip in pairs.bad_clips.all()}
    assert noted and noted == {clip.id: "too long" for clip in pairs.features.clips if clip.codes > 40}


def test_rows_of_a_batch_are_the_same_rows_alone(pairs: Pairs) -> None:
    for step in range(3):
        whole = pairs.batch(step)
        rows = len(pairs.clips(step))
        for row in range(rows):
            alone = pairs.batch(step, slice(row, row + 1))
            t, m = int(whole.text_lengths[row]), int(whole.code_lengths[row])
            assert alone.text[0].tolist() == whole.text[row, :t].tolist(), "spelled alike"
            assert torch.equal(alone.codes[0], whole.codes[row, :m])
            assert torch.equal(alone.reference[0], whole.reference[row])


def test_pairs_from_their_files(toy: ToyCorpus) -> None:
    config = PairConfig(budget=120, reference_frames=32)
    pairs = load_pairs(toy.features, toy.codes, toy.text, MEL_RANGE, config, seed=1)
    assert all(map(torch.equal, pairs.batch(3), toy.pairs().batch(3)))


def test_index_of_features_made_before_clips_had_a_start(toy: ToyCorpus, tmp_path: Path) -> None:
    for name in ("mel.f16", "statistics.json"):
        (tmp_path / name).symlink_to(toy.features / name)
    lines = [json.loads(line) for line in (toy.features / "index.jsonl").read_text("utf8").splitlines()]
    for line in lines:
        del line["start"]
    (tmp_path / "index.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert Features(tmp_path).clips == Features(toy.features).clips


def test_a_share_of_references_is_narrow(toy: ToyCorpus) -> None:
    pairs, wide = toy.pairs(PairConfig(budget=120, reference_frames=32, reference_lowpass=0.5)), toy.pairs()
    floor = MEL_RANGE.bounds[0]
    clip, narrow = pairs.train[0], 0
    for seed in range(40):
        mel = pairs.reference(clip, np.random.default_rng(seed))
        full = wide.reference(clip, np.random.default_rng(seed))
        cut = int((mel == full).all(1).sum())
        assert torch.equal(mel[:cut], full[:cut]) and (mel[cut:] == floor).all()
        assert cut == 100 or 80 <= cut < 92  # 6 to 9 kHz
        narrow += cut < 100
    assert 12 < narrow < 28


def test_voices_may_be_patterns(toy: ToyCorpus) -> None:
    weights = speaker_weights(toy.pairs().train, {"b*": 2.0, "[abc]*": 3.0, "cleo": 0.5, "other": 9.0})
    speakers = [clip.speaker for clip in toy.pairs().train]
    assert dict(zip(speakers, weights.tolist(), strict=True)) == {"ada": 3.0, "bob": 2.0, "cleo": 0.5}
