"""The autoregressive decoder against the original."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from chelys.tortoise.state_dicts import from_tortoise


@pytest.fixture
def theirs(reference):
    return reference("autoregressive")


@pytest.fixture
def ours(theirs, build):
    model = build("autoregressive", theirs)
    model.load_state_dict(from_tortoise("autoregressive", theirs.weights, model))
    return model


def lengths(ids: torch.Tensor) -> torch.Tensor:
    """The original has no padding: all that is given counts."""
    return torch.full((len(ids),), ids.shape[1])


def code_lengths(theirs, name: str) -> torch.Tensor:
    return theirs.inputs[name] // theirs.sizes["mel_length_compression"]


def fill_with_stop(codes: torch.Tensor, code_lengths: torch.Tensor, stop: int) -> torch.Tensor:
    """What the original does to codes: one after the end of the sound is kept, the others become stop."""
    end = code_lengths + 1
    return codes.masked_fill(torch.arange(codes.shape[1]) >= end[:, None], stop)


def teacher_forced(ours, voice, text, codes) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of text and codes as the original gives them: one column more than ours, at the last stop."""
    longer_text = F.pad(text, (0, 1), value=ours.config.stop_text)
    text_logits, _, _ = ours(voice, longer_text, lengths(longer_text), codes, lengths(codes))
    longer_codes = F.pad(codes, (0, 1), value=ours.config.stop_code)
    _, code_logits, _ = ours(voice, text, lengths(text), longer_codes, lengths(longer_codes))
    return text_logits.transpose(1, 2), code_logits.transpose(1, 2)  # (b, ids, columns)


def test_voice(theirs, ours):
    clips = theirs.inputs["cond_mels"][0]
    theirs.check("cond_latent", ours.condition(clips).mean(0, keepdim=True))


def test_logits_and_losses(theirs, ours):
    text, stop = theirs.inputs["tf_text"], ours.config.stop_code
    codes = fill_with_stop(theirs.inputs["tf_codes"], code_lengths(theirs, "tf_wav_lengths"), stop)
    text_logits, code_logits = teacher_forced(ours, theirs.inputs["tf_cond"], text, codes)
    theirs.check("tf_text_logits", text_logits)
    theirs.check("tf_mel_logits", code_logits)
    theirs.check("tf_loss_text", F.cross_entropy(text_logits, F.pad(text, (0, 2), value=ours.config.stop_text)))
    theirs.check("tf_loss_mel", F.cross_entropy(code_logits, F.pad(codes, (0, 2), value=stop)))


def test_clipped_to_lengths(theirs, ours):
    kept = code_lengths(theirs, "clip_wav_lengths")
    text = theirs.inputs["tf_text"][:, : theirs.inputs["clip_text_lengths"].max()]
    codes = theirs.inputs["tf_codes"][:, : kept.max()]
    codes = fill_with_stop(codes, kept, ours.config.stop_code)
    text_logits, code_logits = teacher_forced(ours, theirs.inputs["tf_cond"], text, codes)
    theirs.check("clip_text_logits", text_logits)
    theirs.check("clip_mel_logits", code_logits)


def test_latents(theirs, ours):
    codes = fill_with_stop(theirs.inputs["tf_codes"], code_lengths(theirs, "tf_wav_lengths"), ours.config.stop_code)
    theirs.check("latents", ours.latents(theirs.inputs["tf_cond"], theirs.inputs["tf_text"], codes))


def test_the_most_likely_codes_one_by_one(theirs, ours):
    """With the cache, against their loop without it: only that one counts positions as training does."""
    codes = theirs.outputs["greedy_nokv_codes"]
    text = theirs.inputs["text"]
    latents, cache = ours.read_prompt(theirs.outputs["cond_latent"], text, lengths(text), codes.shape[1])
    all_logits = [ours.code_head(latents)]
    for number in range(1, codes.shape[1]):
        latents = ours.read_code(all_logits[-1].argmax(-1), number, cache)
        all_logits.append(ours.code_head(latents))
    logits = torch.stack(all_logits, dim=1)
    theirs.check("greedy_nokv_codes", logits.argmax(-1))
    theirs.check("greedy_nokv_logits", logits)
