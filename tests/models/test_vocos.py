"""The Fourier-head vocoder: as many samples as frames ask for, and an inverse transform that inverts."""

from __future__ import annotations

import pytest
import torch
import toy
from torch import Tensor, nn

from chelys.audio.mel import MelRange
from chelys.errors import ConfigError
from chelys.models.vocos import FourierHead, Vocos, VocosConfig

SMALL = VocosConfig(bands=6, dim=16, inner=24, blocks=2)
RANGE = MelRange(-8.0, -3.0)


@pytest.fixture
def vocoder() -> Vocos:
    with torch.random.fork_rng(devices=[]):
        made = Vocos(SMALL, RANGE)
    toy.stir(made, torch.Generator().manual_seed(0))
    return made.eval()


def mel(frames: int, batch: int = 1) -> Tensor:
    return torch.randn(batch, 6, frames, generator=torch.Generator().manual_seed(1)) * 2.5 - 5.5


@pytest.mark.parametrize("frames", [1, 2, 4, 37])
def test_a_frame_is_256_samples(vocoder: Vocos, frames: int) -> None:
    wave = vocoder(mel(frames, batch=2))
    assert wave.shape == (2, 256 * frames) and wave.isfinite().all() and wave.std() > 1e-3
    torch.testing.assert_close(wave[:1], vocoder(mel(frames, batch=2)[:1]))


def test_vocoding_stays_within_full_scale(vocoder: Vocos) -> None:
    loud = mel(12) + 60.0
    with torch.no_grad():
        vocoder.head.out.bias.add_(20.0)  # e to the 20th
    wave = vocoder.vocode(loud)
    assert wave.abs().max() == 1.0 and wave.isfinite().all()
    assert torch.equal(wave, vocoder(loud).clamp(-1, 1))


def test_mels_are_normalised_on_the_way_in(vocoder: Vocos) -> None:
    with torch.random.fork_rng(devices=[]):
        plain = Vocos(SMALL, MelRange(-1.0, 1.0)).eval()
    plain.load_state_dict(vocoder.state_dict())
    torch.testing.assert_close(vocoder(mel(5)), plain(RANGE.normalize(mel(5))))


def features_of(wave: Tensor, head: FourierHead) -> Tensor:
    """Log-magnitudes and phases ``(b, s, n_fft + 2)`` of the frames that the head would put together to this wave."""
    edge = (head.n_fft - head.hop) // 2
    frames = nn.functional.pad(wave, (edge, edge)).unfold(1, head.n_fft, head.hop) * head.window
    spectrum = torch.fft.rfft(frames)
    return torch.cat((spectrum.abs().clamp(min=1e-12).log(), spectrum.angle()), dim=2)


@pytest.mark.parametrize(("n_fft", "hop"), [(1024, 256), (64, 16)])
def test_the_frames_of_a_wave_make_the_wave(n_fft: int, hop: int) -> None:
    head = FourierHead(VocosConfig(dim=4, n_fft=n_fft, hop=hop))
    head.out = nn.Identity()  # type: ignore[assignment]
    wave = 0.1 * torch.randn(2, 9 * hop, generator=torch.Generator().manual_seed(2))
    features = features_of(wave, head)
    assert features.shape == (2, 9, n_fft + 2)
    torch.testing.assert_close(head(features), wave, rtol=1e-4, atol=1e-5)


def test_each_frame_sounds_where_it_stands() -> None:
    head = FourierHead(VocosConfig(dim=4))
    head.out = nn.Identity()  # type: ignore[assignment]
    features = features_of(torch.zeros(1, 20 * 256), head)
    features[:, 8, 40] = 3.0  # one bin of one frame
    power = head(features).square().view(20, 256).mean(1)
    assert (power > 1e-9).nonzero().flatten().tolist() == [6, 7, 8, 9, 10]  # a window of four hops around its hop
    assert power.argmax() == 8 and power[7] == pytest.approx(power[9].item(), rel=0.05)


def test_one_pitch_is_no_source() -> None:
    with pytest.raises(ConfigError, match="it must be 0, for no harmonic source, or two and more"):
        VocosConfig(pitches=1)


def test_a_runaway_frame_does_not_overflow() -> None:
    head = FourierHead(VocosConfig(dim=4))
    head.out = nn.Identity()  # type: ignore[assignment]
    features = torch.zeros(1, 6, 1026)
    features[:, 3, :513] = 1e4
    wave = head(features)
    assert wave.isfinite().all() and wave.abs().max() <= 2 * 100.0
