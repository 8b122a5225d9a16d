"""The networks at their published sizes against the original, with weights that are computed, not stored.

Every tensor of a network is filled with numbers hashed from its published name, the inputs from theirs; the mean, the
spread and both ends of each output are those that the original gave. All together: minutes, and at most one network
in memory at a time.

    pytest -m slow tests/parity/test_parity_full_size.py
"""

from __future__ import annotations

import gc
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from chelys.inference.diffusion_sampling import ddim_step, guidance_at, guided_x0, sampling_schedule
from chelys.models.diffusion_schedule import DiffusionSchedule, q_posterior
from chelys.tortoise.state_dicts import TABLES, from_tortoise, to_tortoise

slow = pytest.mark.slow
TOLERANCE = 1e-4  # absolute; most outputs are of the size of 1
GAINS = {"univnet": 0.5}  # lengths of its kernels; twice as long, they make it chaotic
CHUNK = 2**20  # numbers hashed at a time, to stay within the processor's cache


def hashed(key: str, *shape: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    """Numbers in [-1, 1) that look random and follow from the key alone, times scale, plus shift."""
    count = int(np.prod(shape))
    values = np.empty(count, dtype=np.float32)
    seed = np.uint32(zlib.crc32(key.encode("ascii")))
    for first in range(0, count, CHUNK):
        h = np.arange(first, min(first + CHUNK, count), dtype=np.uint32)  # wraps at 2^32, as it is meant to
        h *= np.uint32(2654435761)
        h += seed
        h ^= h >> np.uint32(16)
        h *= np.uint32(2246822519)
        h ^= h >> np.uint32(13)
        h *= np.uint32(3266489917)
        h ^= h >> np.uint32(16)
        values[first : first + CHUNK] = (h / 2.0**31 - 1) * scale + shift
    return torch.from_numpy(values).view(*shape)


def ids(name: str, *shape: int, below: int) -> Tensor:
    """Whole numbers from 0 to below what is given."""
    return ((hashed(f"input:{name}", *shape).double() + 1) / 2 * below).floor().long()


def numbers(name: str, *shape: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    return hashed(f"input:{name}", *shape, scale=scale, shift=shift)


def weight(name: str, shape: torch.Size, gain: float) -> Tensor:
    """A tensor of a network: lengths of kernels near `gain`, other gains near 1, biases near 0, the rest as usual."""
    if not shape:
        return torch.ones(())
    if name.endswith("weight_g"):
        return hashed(name, *shape, scale=0.1 * gain, shift=gain)
    if name.endswith(".g") or (name.endswith("weight") and len(shape) == 1):
        return hashed(name, *shape, scale=0.1, shift=1.0)
    if len(shape) == 1:
        return hashed(name, *shape, scale=0.1)
    return hashed(name, *shape, scale=0.5 * (3 / (shape.numel() / shape[0])) ** 0.5)


@pytest.fixture(scope="module")
def network(published_size) -> Iterator[Callable[[str], Any]]:
    """Make a network of ours that never held other weights than those; the one before it is gone by then."""
    held: dict[str, nn.Module] = {}

    def get(name: str) -> nn.Module:
        if name not in held:
            held.clear()
            gc.collect()
            held[name] = filled(name, published_size(name))
        return held[name]

    yield get
    held.clear()


def filled(network: str, model: nn.Module) -> nn.Module:
    published = to_tortoise(network, model.state_dict())
    fixed = TABLES[network].constants()
    for name, tensor in published.items():
        published[name] = fixed[name] if name in fixed else weight(name, tensor.shape, GAINS.get(network, 1.0))
    model.load_state_dict(from_tortoise(network, published, model), assign=True)
    assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])
    return model.eval().requires_grad_(False)


@dataclass(frozen=True)
class Row:
    """What the original gave: shape, mean, standard deviation, the first four numbers and the last four."""

    shape: tuple[int, ...]
    mean: float
    spread: float
    first: tuple[float, ...]
    last: tuple[float, ...]

    def check(self, ours: Tensor) -> None:
        assert tuple(ours.shape) == self.shape
        flat = ours.double().flatten()
        told = [self.mean, self.spread, *self.first, *self.last]
        found = [flat.mean().item(), flat.std(correction=0).item(), *flat[:4].tolist(), *flat[-4:].tolist()]
        assert found == pytest.approx(told, rel=0, abs=TOLERANCE)


def test_the_hash_itself():
    expected = [-0.833062823, -0.747205157, 0.595375032, 0.441771233, -0.372033303]
    assert hashed("abc", 5).tolist() == pytest.approx(expected, abs=1e-7)
    long = hashed("abc", CHUNK + 5)
    # where a chunk ends, worked out in whole numbers of any size
    for i in (CHUNK - 1, CHUNK, CHUNK + 4):
        h = (i * 2654435761 + 891568578) % 2**32
        h ^= h >> 16
        h = h * 2246822519 % 2**32
        h ^= h >> 13
        h = h * 3266489917 % 2**32
        h ^= h >> 16
        assert long[i].item() == pytest.approx(h / 2**31 - 1, abs=1e-7)


@slow
def test_voice_prior(network):
    Row(
        (1, 1024), 0.001987989, 0.05698698,
        (0.0344461, -0.0935816, -0.0793763, -0.0683256), (0.016551, -0.0797594, -0.0494207, 0.0696948),
    ).check(network("autoregressive_prior")(numbers("rlg", 1, 1024)))  # fmt: skip


@slow
def test_detector(network):
    both = (0.463023, 0.185824)
    Row((1, 2), 0.3244237, 0.1385992, both, both).check(network("detector")(numbers("wav", 1, 16384)))


@slow
def test_univnet_with_weight_norm_and_folded(network):
    row = Row(
        (1, 3072), 0.07552987, 0.1171531,
        (0.0489026, 0.0518109, 0.0467899, 0.0375664), (0.348544, -0.187891, 0.0634777, -0.104508),
    )  # fmt: skip
    vocoder = network("univnet")
    mel, noise = numbers("mel24", 1, 100, 12, scale=2, shift=-3), numbers("z", 1, 64, 22)
    row.check(vocoder.vocode(mel, noise=noise))
    vocoder.fold()
    row.check(vocoder.vocode(mel, noise=noise))


@slow
def test_hifigan_with_weight_norm_and_folded(network):
    row = Row(
        (1, 6656), 0.1619385, 0.05794344,
        (0.076746, 0.0975249, 0.0277526, 0.170933), (0.148603, 0.173223, 0.0933018, 0.165439),
    )  # fmt: skip
    decoder = network("hifigan")
    latents, voice = numbers("lat", 1, 6, 1024), numbers("spk", 1, 1024)
    row.check(decoder.decode(latents, voice))
    decoder.fold()
    row.check(decoder.decode(latents, voice))


@slow
def test_cvvp(network):
    both = (0.242558, 0.0678434)
    mel, codes = numbers("mel22", 1, 80, 64), ids("codes", 2, 20, below=8192)
    Row((2,), 0.1552006, 0.08735721, both, both).check(network("cvvp").score(mel, codes))


@slow
def test_clvp(network):
    both = (-0.104638, -0.0677961)
    text, codes = ids("text", 2, 12, below=255), ids("codes", 2, 20, below=8192)
    Row((2,), -0.08621722, 0.01842116, both, both).check(network("clvp").score(text, codes))


@slow
def test_clvp_text_encoder(network):
    clvp, seen = network("clvp"), []
    hook = clvp.text_encoder.norm.register_forward_hook(lambda _, __, out: seen.append(out))
    clvp.encode_text(ids("text", 2, 12, below=255))
    hook.remove()
    Row(
        (2, 12, 768), 0.001485055, 1.007733,
        (-0.385007, -1.3672, -0.944435, -0.989827), (-1.57335, 0.180371, -0.489275, -1.31034),
    ).check(seen[0])  # fmt: skip


# ---- the autoregressive decoder, each test on what the one before it made --------------------------------------------


@pytest.fixture(scope="module")
def heard(network) -> Tensor:
    return network("autoregressive").condition(numbers("mel22", 2, 80, 40)).mean(0, keepdim=True)  # two clips


@pytest.fixture(scope="module")
def latents(network, heard) -> Tensor:
    text = ids("text", 1, 12, below=255)
    text[:, -1] = 0
    return network("autoregressive").latents(heard, text, ids("codes", 1, 20, below=8192))


@slow
def test_autoregressive_voice(heard):
    Row(
        (1, 1024), -0.005020919, 0.4118832,
        (-0.161377, -0.283259, -0.159426, 0.594856), (-0.82317, -0.195036, 0.365148, -0.0915307),
    ).check(heard)  # fmt: skip


@slow
def test_autoregressive_latents(latents):
    Row(
        (1, 20, 1024), 0.002804584, 1.003028,
        (0.811591, -1.4897, 0.169122, 0.784214), (1.19639, 0.0789448, 0.39204, 0.8064),
    ).check(latents)  # fmt: skip


@slow
def test_autoregressive_logits(network, latents):
    Row(
        (1, 20, 8194), -0.006780622, 0.5046098,
        (0.0255953, 0.251007, 0.164579, -0.15903), (0.505617, 0.515752, 0.281694, 0.113785),
    ).check(network("autoregressive").code_head(latents))  # fmt: skip


# ---- the diffusion decoder, and one step of its samplers -------------------------------------------------------------

FRAMES = 39  # of nine codes
STEP, INDEX = 1777, 4  # the fifth of ten visited steps


@pytest.fixture(scope="module")
def rendered(network) -> Tensor:
    return network("diffusion").voice(list(numbers("mel24c", 2, 1, 100, 48, scale=3, shift=-5)))  # two clips


@pytest.fixture(scope="module")
def content(network, rendered) -> Tensor:
    return network("diffusion").conditioning(numbers("lat", 1, 9, 1024), rendered, FRAMES)


@pytest.fixture(scope="module")
def x() -> Tensor:
    return numbers("x", 1, 100, FRAMES)


@pytest.fixture(scope="module")
def schedule() -> DiffusionSchedule:
    return sampling_schedule("ddpm", 10)


@pytest.fixture(scope="module")
def said(network, schedule, x, content) -> tuple[Tensor, Tensor | None]:
    """The clean mel and what the network says of the variance, guided by 2 on the ramp."""
    guidance = guidance_at(schedule, INDEX, 2.0, ramp=True)
    return guided_x0(network("diffusion"), schedule, INDEX, x, content, guidance, (-1.0, 1.0))


@slow
def test_diffusion_voice(rendered):
    Row(
        (1, 2048), -0.0437878, 1.354792,
        (0.293198, 2.11112, -0.330127, -1.51617), (2.27264, 1.89788, -0.920269, 1.57933),
    ).check(rendered)  # fmt: skip


@slow
def test_diffusion_content_of_latents(content):
    Row((1, 1024, 39), -0.03328086, 2.122418, (-3.54005,) * 4, (1.4181,) * 4).check(content)


@slow
def test_diffusion_conditioning_of_codes(network, rendered):
    content = network("diffusion").conditioning_of_codes(ids("codes", 1, 9, below=8192), rendered, FRAMES)
    Row((1, 1024, 39), 0.03165015, 2.066017, (0.00310433,) * 4, (1.57704,) * 4).check(content)


@slow
def test_diffusion_forward(network, x, content):
    Row(
        (1, 200, 39), 0.004043702, 0.3054993,
        (0.263756, 0.220351, 0.244817, 0.285697), (0.225595, 0.268248, 0.186097, 0.0399894),
    ).check(network("diffusion")(x, torch.tensor([STEP]), content))  # fmt: skip


@slow
def test_diffusion_forward_without_conditioning(network, x):
    Row(
        (1, 200, 39), -0.01344278, 0.2980049,
        (0.0625784, -0.102963, -0.289124, -0.0913557), (0.120656, 0.204125, 0.200359, 0.154368),
    ).check(network("diffusion")(x, torch.tensor([STEP]), None))  # fmt: skip


@slow
def test_sampler_posterior_mean(schedule, x, said):
    assert schedule.timesteps[INDEX] == STEP
    Row(
        (1, 100, 39), 0.01777588, 0.5746392,
        (0.485978, -0.313463, -0.680915, -0.57983), (-0.33295, 0.757144, -0.726917, 0.707036),
    ).check(q_posterior(schedule, INDEX, x, *said).mean)  # fmt: skip


@slow
def test_sampler_posterior_log_variance(schedule, x, said):
    Row(
        (1, 100, 39), -0.6578607, 0.03554052,
        (-0.602427, -0.59269, -0.590323, -0.58423), (-0.635667, -0.630513, -0.64044, -0.658096),
    ).check(q_posterior(schedule, INDEX, x, *said).log_variance)  # fmt: skip


@slow
def test_sampler_clean_mel(said):
    Row((1, 100, 39), 0.05048688, 0.8800501, (0.437028, -1, -1, -1), (-0.935756, 1, -1, 1)).check(said[0])


@slow
def test_sampler_ddim_step(schedule, x, said):
    Row(
        (1, 100, 39), 0.009755225, 0.6748483,
        (0.663776, -0.125842, -0.766834, -0.590499), (-0.186881, 0.899811, -0.847081, 0.812401),
    ).check(ddim_step(schedule, INDEX, x, said[0], 0.0, None))  # fmt: skip
