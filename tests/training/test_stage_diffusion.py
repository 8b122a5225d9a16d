"""What the diffusion decoder's stage is given, and what its losses count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from chelys.audio.mel import MEL_EXTREMES, PUBLISHED_MEL_RANGE
from chelys.errors import ConfigError
from chelys.training.task import Task

Build = Callable[..., Task]
PUBLISHED = {"prediction": "epsilon", "learned_variance": True, "patch": 1, "feed_forward": 0}


def starts(stage: Any, crop: Any, step: int) -> list[int]:
    """Frame of its clip at which each row's piece begins."""
    found = []
    for clip, piece in zip(stage.pairs.clips(step), crop.mel, strict=True):
        mel = stage.data.targets.mel_range.normalize(stage.data.targets.features.mel(stage.data.targets.twin(clip)))
        last = mel.shape[1] - piece.shape[1]
        found += [f for f in range(last + 1) if torch.equal(mel[:, f : f + piece.shape[1]], piece)]
    assert len(found) == len(crop.mel)
    return found


def test_pieces_hold_the_codes_of_their_mel(build: Build) -> None:
    stage: Any = build("diffusion", stage={"crop": 12}, pairs={"budget": 200})
    crop = stage.data.batch(1)
    assert len(crop.text) > 2 and crop.at.shape == (len(crop.text), 12)
    assert crop.mel.shape == crop.noise.shape == (len(crop.text), 100, 48)
    for at, frame in zip(crop.at, starts(stage, crop, 1), strict=True):
        assert at.tolist() == list(range(frame // 4, frame // 4 + 12)) and frame % 4 == 0
    assert all(torch.equal(a, b) for a, b in zip(crop, stage.data.batch(1), strict=True)), "a function of the step"


def test_a_row_is_the_same_however_the_batch_is_cut(build: Build) -> None:
    stage: Any = build("diffusion", stage={"voice_from": "clip", "voice_frames": 20}, pairs={"budget": 200})
    whole, part = stage.data.batch(1), stage.data.load(1, range(1, 2))
    m, t = part.codes.shape[1], part.text.shape[1]
    for name in ("mel", "at", "reference", "voice", "timesteps", "noise", "uncond_mask", "code_lengths"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[1:2]), name
    assert torch.equal(part.codes, whole.codes[1:2, :m]) and torch.equal(part.text, whole.text[1:2, :t])


def test_no_piece_is_longer_than_the_shortest_clip(build: Build) -> None:
    stage: Any = build("diffusion", pairs={"budget": 600})
    crop = stage.data.batch(0)
    assert crop.at.shape[1] == crop.code_lengths.min() < crop.code_lengths.max()


def test_the_voice_is_of_the_same_clip_if_so_wished(build: Build) -> None:
    stage: Any = build("diffusion", stage={"voice_from": "clip", "voice_frames": 24})
    crop = stage.data.batch(0)
    assert crop.voice.shape[2] == 24 and crop.reference.shape[2] == 32
    for clip, voice in zip(stage.pairs.clips(0), crop.voice, strict=True):
        mel = stage.pairs.mel_range.normalize(stage.pairs.features.mel(clip))
        assert any(torch.equal(mel[:, f : f + 24], voice) for f in range(mel.shape[1] - 23))
    other: Any = build("diffusion")
    assert torch.equal(other.data.batch(0).voice, other.data.batch(0).reference)


def test_latents_are_those_of_the_teacher_forced_decoder(build: Build, frozen: Callable[..., Path]) -> None:
    decoder = str(frozen("autoregressive"))
    stage: Any = build(
        "diffusion", stage={"conditioning": "latents", "crop": 12}, pairs={"budget": 200}, decoder=decoder
    )
    batch = stage.data.batch(1)
    latents = stage._latents(batch)
    assert latents.shape[:2] == batch.codes.shape, "one latent to a code"
    network = stage.frozen["decoder"]
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    for r, (t, m) in enumerate(zip(batch.text_lengths.tolist(), batch.code_lengths.tolist(), strict=True)):
        one = slice(r, r + 1)
        voice = network.condition(batch.reference[one])
        with torch.no_grad():
            alone = network.latents(voice, batch.text[one, :t], batch.codes[one, :m])[0]
        torch.testing.assert_close(latents[r, :m], alone, rtol=1e-3, atol=1e-3)
        logits = network.code_head(alone)
        with torch.no_grad():
            foretold = network(voice, batch.text[one, :t], torch.tensor([t]), batch.codes[one, :m], torch.tensor([m]))
        torch.testing.assert_close(logits, foretold[1][0, :m]), "latent i is the state that foretells code i"


def test_each_phase_trains_what_it_uses(build: Build, learn: Callable[..., Any], frozen: Callable[..., Path]) -> None:
    decoder = str(frozen("autoregressive"))

    def moved(**stage: Any) -> set[str]:
        built: Any = build("diffusion", stage={"crop": 8} | stage, decoder=decoder)
        modules = {**dict(built.diffusion.named_children()), "decoder": built.frozen.get("decoder")}
        before = {n: [p.clone() for p in m.parameters()] for n, m in modules.items() if m is not None}
        learn(built, steps=4, weight_decay=0.0)
        return {
            name for name, old in before.items()
            if any(not torch.equal(a, b) for a, b in zip(old, modules[name].parameters(), strict=True))
        }  # fmt: skip

    codes, latents = moved(conditioning="codes"), moved(conditioning="latents")
    assert codes >= {"code_embedding", "contextual_embedder", "layers", "out"} and "latent_in" not in codes
    assert latents >= {"latent_in", "contextual_embedder", "layers", "out"} and "code_embedding" not in latents
    assert "decoder" not in latents
    assert moved(conditioning="latents", trains="latent_path") <= {"latent_in", "latent_blocks"}


def test_a_share_of_the_content_is_withheld(build: Build) -> None:
    def losses(share: float) -> tuple[float, float]:
        stage: Any = build("diffusion", stage={"conditioning_dropout": share})
        total = stage.training_step("", stage.data.batch(0), torch.Generator())
        sum(total.values()).backward()
        taught = stage.diffusion.mel_head.weight.grad
        return float(total["mel"].detach()), float(taught.abs().sum())

    mel, taught = losses(0.0)
    assert mel > 0 and taught > 0
    assert losses(1.0) == (0.0, 0.0), "rows without content say nothing of what content alone can tell"
    stage: Any = build("diffusion", pairs={"budget": 400})
    drawn = torch.cat([stage.data.batch(step).uncond_mask for step in range(60)])
    assert len(drawn) > 200 and 0.09 < float(drawn.float().mean()) < 0.21


def test_steps_are_drawn_evenly(build: Build) -> None:
    stage: Any = build("diffusion", pairs={"budget": 400})
    steps = torch.cat([stage.data.batch(step).timesteps for step in range(60)])
    assert steps.min() < 200 and steps.max() > 3800
    assert float(steps.float().mean()) == pytest.approx(2000, abs=300)


def test_the_bound_teaches_the_variance_alone(build: Build) -> None:
    def taught(name: str) -> tuple[float, float]:
        stage: Any = build("diffusion", network=PUBLISHED)
        losses = stage.training_step("", stage.data.batch(0), torch.Generator())
        assert list(losses) == ["mse", "vlb", "mel"]
        losses[name].backward()
        prediction, variance = stage.diffusion.out.weight.grad.chunk(2)
        return float(prediction.abs().sum()), float(variance.abs().sum())

    prediction, variance = taught("mse")
    assert prediction > 0 and variance == 0
    prediction, variance = taught("vlb")
    assert prediction == 0 and variance > 0


def test_what_is_learned_lacks_the_mean_spectrum(build: Build) -> None:
    plain: Any = build("diffusion")
    stage: Any = build("diffusion", network={"clip_mean": True})
    batch, network = stage.data.batch(0), stage.diffusion
    assert network.mean_spectrum.abs().max() > 0.05, "of the training clips"
    assert network.mean_spectrum[:50].mean() == pytest.approx(0.0, abs=1e-5)
    centred = batch._replace(mel=network.without_spectrum(batch.mel, network.voices(batch.voice)))
    assert not torch.equal(centred.mel, batch.mel)
    losses = [task.training_step("", given, torch.Generator()) for task, given in ((stage, batch), (plain, centred))]
    for name in losses[0]:
        torch.testing.assert_close(losses[0][name], losses[1][name])


# ---- two mel specs -------------------------------------------------------------------------------------------------


def published(build: Build, two: Any, **sections: Any) -> Any:
    paths = two.codes_paths() | {"target_features": str(two.rendered)}
    given = {"low": PUBLISHED_MEL_RANGE.low, "high": PUBLISHED_MEL_RANGE.high}
    return build("diffusion", network=PUBLISHED, mel_range=given, **(paths | sections))


def test_pieces_of_two_mel_specs_lie_at_the_same_time(build: Build, two_mel_specs: Callable[[], Any]) -> None:
    two = two_mel_specs()
    stage = published(build, two, stage={"crop": 12, "voice_frames": 500}, pairs={"budget": 150})
    for step in range(4):
        crop = stage.data.batch(step)
        length = crop.at.shape[1]
        assert crop.mel.shape[1:] == (100, length * 4 * 160 // 147)
        assert crop.reference.shape[1] == 80 and crop.voice.shape[1:] == (100, 500)
        for at, frame in zip(crop.at[:, 0].tolist(), starts(stage, crop, step), strict=True):
            assert abs(at * 4 / 22_050 - frame / 24_000) * 256 <= 0.0161, "a frame and a half at most"
        assert crop.mel.min() >= -1.01 and crop.voice.min() == pytest.approx(MEL_EXTREMES[0]), "silence follows"
    losses = stage.training_step("", crop, torch.Generator())
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_features_that_do_not_go_together(build: Build, two_mel_specs: Callable[[], Any]) -> None:
    two = two_mel_specs()
    with pytest.raises(ConfigError, match="name the same corpus of the shared one, target_features=FOLDER"):
        build("diffusion", **two.codes_paths())
    with pytest.raises(ConfigError, match="target_features=FOLDER goes with features of the codes' mel spec"):
        build("diffusion", target_features=str(two.rendered))
    stage = published(build, two)
    stage.data.targets._twins.clear()
    with pytest.raises(ConfigError, match="lacks toy-.*: make both feature folders of one manifest"):
        stage.data.batch(0)
