"""Every network on any device: on meta, where a tensor of another device or dtype is an error, and on what is here."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_published
import torch
import toy
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from chelys.inference.diffusion_sampling import sample_mel
from chelys.inference.synthesizer import Synthesizer
from chelys.models.dvae import DVAE, DVAEConfig
from chelys.tortoise.model import TortoiseConfig
from chelys.weights.checks import best_device
from chelys.weights.folder import load_model

CODES = torch.arange(6).repeat(2, 1)
IDS = torch.arange(3, 8).repeat(2, 1)
#: Network to what speaking asks of it.
USES: dict[str, Callable[[Any, Callable[..., Tensor]], Any]] = {
    "autoregressive": lambda net, at: (
        net.condition(at(torch.zeros(2, 80 if net.config.codes == tiny_published.CODES else 100, 24))),
        net.latents(at(torch.zeros(2, net.config.dim)), at(IDS), at(CODES)),
        net.code_head(_sampled(net, at)),
    ),
    "clvp": lambda net, at: net.score(at(IDS[:1]), at(CODES)),
    "diffusion": lambda net, at: sample_mel(
        net,
        net.conditioning(at(torch.zeros(1, 6, net.config.latent_dim)), _voice(net, at), 24 // net.config.patch),
        at(torch.zeros(1, 100, 24)), 3, 1.0, (-1.0, 1.0), sampler="ddpm", noise=lambda: at(torch.zeros(1, 100, 24)),
    ),
    "vocoder": lambda net, at: net.vocode(at(torch.zeros(1, 100, 24)), torch.Generator().manual_seed(0)),
    "univnet": lambda net, at: net.vocode(at(torch.zeros(1, 100, 24)), torch.Generator().manual_seed(0)),
    "cvvp": lambda net, at: (net.encode_clip(at(torch.zeros(1, 80, 24))), net.encode_speech(at(CODES))),
    "hifigan": lambda net, at: net.decode(
        at(torch.zeros(1, 6, net.config.latent_dim)), at(torch.zeros(1, net.config.voice_dim))
    ),
    "detector": lambda net, at: net(at(torch.zeros(1, 4000))),
    "dvae": lambda net, at: net.encode(at(torch.zeros(1, 80, 24))),
}  # fmt: skip


def _voice(net: Any, at: Callable[..., Tensor]) -> Tensor:
    voice: Tensor = net.voice([at(torch.zeros(1, 100, 24))])
    return voice


def _sampled(net: Any, at: Callable[..., Tensor]) -> Tensor:
    latents, cache = net.read_prompt(at(torch.zeros(2, net.config.dim)), at(IDS), torch.tensor([5, 5]), 4)
    return latents + net.read_code(at(torch.tensor([1, 2])), 1, cache)


class NoFloat64(TorchDispatchMode):
    """Refuses tensors in double precision on the device, which MPS has not."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, Tensor) and tensor.is_meta:
                assert tensor.dtype != torch.float64, f"{func} gives float64"
        return made


def networks() -> Iterator[tuple[str, torch.nn.Module]]:
    for name, network in toy.networks(toy.config()).items():
        yield f"nano {name}", network
    for name, sizes in tiny_published.SIZES.items():
        if name in USES:
            yield f"published {name}", TortoiseConfig.NETWORKS[name](sizes)
    yield "nano dvae", DVAE(DVAEConfig(bands=80, tokens=48, hidden=8, code_width=8))


NETWORKS = dict(networks())


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_compute_where_their_weights_are(name: str) -> None:
    network = NETWORKS[name].to("meta").eval()
    # where there is float64, the phase of the harmonic source is summed in it; `half_phase` knows MPS
    with torch.inference_mode(), nullcontext() if name == "nano vocoder" else NoFloat64():
        made = USES[name.split()[1]](network, lambda tensor: tensor.to("meta"))
    for tensor in made if isinstance(made, tuple) else (made,):
        assert tensor.is_meta


#: The lines at which speaking waits for numbers from the device: once a code, a batch of the ranking, a candidate.
HOST_COPIES = {
    "chosen = (probabilities.cpu() / waits).argmax(1, keepdim=True).to(ids.device)",
    "sampled = zip(active, codes.tolist(), group.hidden.unbind(), strict=True)",
    "valid = [i for i, codes in enumerate(rows) if len(codes) and int(codes.max()) < clvp.config.speech_tokens]",
    "for i, value in zip(places, total.tolist(), strict=True):",
    "states = self.latents(text_ids, trimmed, voice, latents if torch.equal(trimmed, codes[: len(trimmed)]) else ())",
    "kept.append(Candidate(np.concatenate((lead, audio, pause)), scores[i], [candidates[i].codes.tolist()]))",
    "audio: np.ndarray = samples.flatten().float().cpu().numpy()",
}


def test_the_pipeline_computes_where_its_weights_are(toy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = load_model(toy_folder), set[str]()
    model.device = "meta"
    for part in (model.autoregressive, model.clvp, model.diffusion, model.vocoder):
        part.to("meta")

    def copied(name: str, convert: Callable[[Tensor], Any]) -> None:
        owner = torch if name == "equal" else Tensor
        theirs = getattr(owner, name)

        def method(tensor: Tensor, *args: Any) -> Any:
            if not tensor.is_meta:
                return theirs(tensor, *args)
            frame = sys._getframe(1)
            seen.add(linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip())
            return convert(torch.ones(tensor.shape, dtype=tensor.dtype))

        monkeypatch.setattr(owner, name, method)

    copied("cpu", lambda ones: ones)
    copied("equal", lambda ones: True)
    for name, convert in {"tolist": Tensor.tolist, "item": Tensor.item}.items():
        copied(name, convert)
    for kind in (int, float, bool):
        copied(f"__{kind.__name__}__", kind)
    speech = Synthesizer(model).speak("one two.", seed=3, preset="ultra_fast")
    assert len(speech.audio) and seen == HOST_COPIES


@pytest.mark.gpu
@pytest.mark.skipif(best_device() == "cpu", reason="no accelerator")
def test_speech_is_that_of_the_cpu(toy_folder: Path) -> None:
    here, there = (Synthesizer.from_folder(toy_folder, device=device) for device in ("cpu", best_device()))
    ours, theirs = (tts.speak("one two three.", seed=3, preset="ultra_fast") for tts in (here, there))
    assert ours.candidates[0].codes == theirs.candidates[0].codes
    assert np.abs(ours.audio - theirs.audio).max() < 1e-3
