"""How fast this machine speaks: each part of the pipeline, beside a naive way to the same numbers and its floor.

The floor of a part is what its operations take at the rate of a large matrix product, or its weights at that of a read,
whichever is longer, both measured in the same run. Naive is one thing at a time, as the original computes: sentences
one after the other, keys and values that grow by concatenation, attention and GELU written out, candidates ranked one
by one, two passes for guidance, a vocoder over the whole clip.

One thread of a processor is measured in its own seconds, which others on the machine hardly change; all else in wall
seconds.
"""

from __future__ import annotations

import math
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from chelys.inference.synthesizer import Synthesizer
from chelys.machine import processor_name
from chelys.models.autoregressive import Autoregressive, Block
from chelys.models.clvp import CLVP
from chelys.models.code_reader import CodeReader, best_weights, linear_layers
from chelys.models.diffusion import Diffusion
from chelys.models.diffusion_steps import DiffusionSteps
from chelys.nn.attention import apply_rotary

TEXT = "The old boat drifted past the mill, and no one could say why. Seven birds sat on a wire, and one flew off."


#: Of one layer, ``(b, h, t, c)`` each.
KeysValues = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Workload:
    """One part of the pipeline, ready to run: ``fast`` as chelys speaks, ``naive`` the same numbers plainly."""

    name: str
    fast: Callable[[], object]
    naive: Callable[[], object]
    read: int  # bytes of weights, keys and values that it reads at least once
    alike: bool = True  # whether both ways draw the same noise


def peaks(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """Operations a second of a large matrix product, and bytes a second of a read, with torch's threads."""
    a = torch.ones(1536, 1536, device=device, dtype=dtype)
    b = torch.ones(1 << 26, device=device)
    clock = clock_of(device)
    product = min(timed(lambda: a @ a, device, 5)[f"all_{clock}"])
    read = min(timed(b.sum, device, 5)[f"all_{clock}"])
    return 2 * a.numel() * len(a) / product, b.nbytes / read


def timed(work: Callable[[], object], device: torch.device, repeats: int) -> dict[str, Any]:
    """Median wall and CPU seconds of some runs after a first one, and all of each."""
    work()
    walls, spent = [], []
    for _ in range(repeats):
        _wait(device)
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        _wait(device)
        walls.append(time.perf_counter() - wall)
        spent.append(time.process_time() - cpu)
    return {"wall": statistics.median(walls), "cpu": statistics.median(spent), "all_wall": walls, "all_cpu": spent}


def clock_of(device: torch.device) -> str:
    """Which seconds ratios are of: ``cpu`` of one thread, else ``wall``."""
    return "cpu" if device.type == "cpu" and torch.get_num_threads() == 1 else "wall"


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.inference_mode()
def measure(
    parts: Iterator[Workload], device: torch.device, dtype: torch.dtype, repeats: int,
    progress: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:  # fmt: skip
    """Measure parts: JSON-able facts of the machine, and a row for each part."""
    rate, bandwidth, clock = *peaks(device, dtype), clock_of(device)
    rows = []
    for part in parts:
        progress(part.name)
        counter = FlopCounterMode(display=False)
        with counter:
            plain = part.naive()
        operations = counter.get_total_flops()
        fast, naive = timed(part.fast, device, repeats), timed(part.naive, device, repeats)
        floor = max(operations / rate, part.read / bandwidth)
        rows.append({
            "part": part.name, "seconds": fast["wall"], "cpu_seconds": fast["cpu"], "naive_seconds": naive["wall"],
            "naive_cpu_seconds": naive["cpu"], "operations": operations, "read": part.read, "floor": floor,
            "of_floor": fast[clock] / floor, "of_naive": naive[clock] / fast[clock],
            "difference": difference(part.fast(), plain) if part.alike else None,
        })  # fmt: skip
    return {
        "machine": processor_name(), "device": _name(device), "torch": torch.__version__,
        "dtype": str(dtype).removeprefix("torch."), "threads": torch.get_num_threads(), "repeats": repeats,
        "clock": clock, "operations_per_second": rate, "bytes_per_second": bandwidth, "parts": rows,
        "peak_memory_bytes": _peak_memory(),
    }  # fmt: skip


def difference(result: object, plain: object) -> float:
    """How far a result is from that of the naive twin, as a share of the twin's size (root mean squares)."""
    assert isinstance(result, Tensor) and isinstance(plain, Tensor)
    return float((result - plain).norm() / plain.norm())


def _peak_memory() -> int | None:
    """Of this process so far; None where it is not known."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def presets(tts: Synthesizer, names: list[str]) -> Iterator[dict[str, Any]]:
    """Seconds of work, and of a processor, for a second of speech, and to the first chunk of a stream, also where it is
    to come early."""
    for name in names:
        tts.speak("Hello.", preset=name, seed=1)
        cpu, wall = time.process_time(), time.perf_counter()
        speech = tts.speak(TEXT, preset=name, seed=1)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        seconds = len(speech.audio) / speech.sample_rate
        row = {"preset": name, "seconds_of_speech": seconds, "real_time_factor": wall / seconds, "cpu": cpu / seconds}
        firsts = [("first_chunk", False)] + ([("first_early_chunk", True)] if tts.family.speaks_early else [])
        for key, early in firsts:
            begun = time.perf_counter()
            next(tts.stream(TEXT, preset=name, seed=1, early=early))
            row[key] = time.perf_counter() - begun
        yield row


# ---- the parts ------------------------------------------------------------------------------------------------------


def parts_of(
    decoder: Autoregressive | None, clvp: CLVP | None, diffusion: Diffusion | None, vocoder: Any, *, codes: int,
    sentences: int, candidates: int,
) -> Iterator[Workload]:  # fmt: skip
    """What of these networks takes the time; a network that is None is left out.

    ``codes``: of a candidate; ``sentences``: that are sampled together; ``candidates``: of each.
    """
    if decoder is not None:
        yield _sampling(decoder, codes, sentences, candidates)
        yield _latents(decoder, codes)
    if clvp is not None:
        yield _ranking(clvp, codes, candidates)
    if diffusion is not None:
        yield _guided_step(diffusion, codes)
    if vocoder is not None:
        yield _vocoding(vocoder, codes)


def _ids(count: int, device: torch.device) -> Tensor:
    return torch.arange(count, device=device) % 40 + 5


def _sampling(decoder: Autoregressive, codes: int, sentences: int, candidates: int) -> Workload:
    """One code of each candidate, halfway through a sentence of 50 ids."""
    device, dim = decoder.code_head.weight.device, decoder.config.dim
    generator = torch.Generator().manual_seed(0)
    caches, pasts = [], []
    for _ in range(sentences):
        conditioning = torch.zeros(1, dim, device=device, dtype=decoder.code_head.weight.dtype)
        _, cache = decoder.read_prompt(conditioning, _ids(50, device)[None], torch.tensor([50]), codes)
        cache.select(torch.zeros(candidates, dtype=torch.long, device=device))
        sampled = cache.store[..., cache.length : cache.length + codes // 2, :]
        sampled.copy_(torch.randn(sampled.shape, generator=generator))
        cache.length += codes // 2
        caches.append(cache)
        pasts.append([(k.clone(), v.clone()) for k, v in cache.store[..., : cache.length, :].unbind()])
    weights = best_weights(decoder)
    reader, number = CodeReader(decoder, weights), codes // 2 + 1
    column, last = caches[0].length, torch.arange(candidates, device=device)
    laid = {layer: layer.weight.t().contiguous() for layer in linear_layers(decoder)}

    def fast() -> Tensor:
        for cache in caches:
            cache.length = column
        groups = [(candidates, number, cache) for cache in caches]
        return reader.logits(reader.read(last.repeat(sentences), groups))

    def naive() -> Tensor:
        return torch.cat([naive_code(decoder, laid, last, number, past)[0] for past in pasts])

    size = 2 if weights == "float16" else decoder.code_head.weight.element_size()
    read = sum(matrix.numel() for matrix in laid.values()) * size
    read += sum(part.nbytes for past in pasts for pair in past for part in pair)
    return Workload(f"a code of {sentences} x {candidates}, {weights} weights", fast, naive, read)


def naive_code(
    decoder: Autoregressive, laid: dict[nn.Linear, Tensor], codes: Tensor, number: int, past: list[KeysValues]
) -> tuple[Tensor, list[KeysValues]]:
    """Read one more code a row ``(b,)`` as the original's library did: logits ``(b, ids)``, and the longer ``past``.

    ``laid``: weights from input to output. ``past``: keys and values of each layer, ``(b, h, t, c)``.
    """

    def product(layer: nn.Module, x: Tensor) -> Tensor:
        layer = cast(nn.Linear, layer)
        return torch.addmm(layer.bias, x, laid[layer])

    x = decoder.embed_codes(codes[:, None], number)[:, 0]
    rotary = decoder._rotary(torch.tensor([number], device=x.device))
    grown = []
    for block, before in zip(cast(list[Block], list(decoder.blocks)), past, strict=True):
        qkv = product(block.qkv, block.attention_norm(x)).view(len(x), 1, 3, block.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # (b, h, 1, c)
        if rotary is not None:
            query, key = apply_rotary(query, *rotary), apply_rotary(key, *rotary)
        key, value = torch.cat((before[0], key), dim=2), torch.cat((before[1], value), dim=2)
        grown.append((key, value))
        shares = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)
        x = x + product(block.out, (shares @ value).transpose(1, 2).flatten(1))
        inner = product(block.up, block.mlp_norm(x))
        inner = 0.5 * inner * (1.0 + torch.tanh((2 / math.pi) ** 0.5 * (inner + 0.044715 * inner.pow(3.0))))
        x = x + product(block.down, inner)
    return product(decoder.code_head, decoder.final_norm(decoder.block_norm(x))), grown


def _latents(decoder: Autoregressive, codes: int) -> Workload:
    device, weight = decoder.code_head.weight.device, decoder.code_head.weight
    given = torch.zeros(1, decoder.config.dim, device=device, dtype=weight.dtype)
    text, speech = _ids(50, device)[None], _ids(codes, device)[None]

    def work() -> Tensor:
        return decoder.latents(given, text, speech)

    return Workload(f"latents of {codes}", work, work, _bytes(decoder.blocks))


def _ranking(clvp: CLVP, codes: int, candidates: int) -> Workload:
    device = clvp.temperature.device
    text, lengths = _ids(50, device)[None], torch.tensor([codes - i for i in range(candidates)], device=device)
    rows = _ids(codes, device).repeat(candidates, 1)

    def fast() -> Tensor:
        return clvp.score(text, rows, None, lengths, text_latents=clvp.encode_text(text))

    def naive() -> Tensor:
        return torch.cat([clvp.score(text, row[None, : int(n)]) for row, n in zip(rows, lengths, strict=True)])

    return Workload(f"ranking of {candidates}", fast, naive, _bytes(clvp))


def _guided_step(network: Diffusion, codes: int) -> Workload:
    free = network.uncond_embedding
    frames = 4 * codes
    x = torch.randn(1, network.config.bands, frames, generator=torch.Generator().manual_seed(0)).to(free)
    given = torch.zeros(1, network.config.dim, frames // network.config.patch, device=free.device, dtype=free.dtype)
    steps, time_of_step = DiffusionSteps(network, given, guided=True), torch.tensor([500], device=free.device)

    def naive() -> Tensor:
        with torch.enable_grad():  # then the bias of each layer is written out, as in training and in the original
            return torch.cat((network(x, time_of_step, given), network(x, time_of_step, None)))

    return Workload(f"guided step, {frames} frames", lambda: steps(x, 500), naive, _bytes(network.layers))


def _vocoding(vocoder: Any, codes: int) -> Workload:
    parameter = next(vocoder.parameters())
    frames = 4 * codes
    mel = torch.full((1, vocoder_bands(vocoder), frames), -5.0, device=parameter.device, dtype=parameter.dtype)
    noise = torch.zeros(1, vocoder.config.noise_dim, frames, device=parameter.device, dtype=parameter.dtype)

    def fast() -> Tensor:
        waveform: Tensor = vocoder.vocode(mel, torch.Generator().manual_seed(0))
        return waveform

    return Workload(f"vocoder, {frames} frames", fast, lambda: vocoder(mel, noise), _bytes(vocoder), False)


def vocoder_bands(vocoder: Any) -> int:
    """Mel bands that a vocoder reads."""
    bands: int = vocoder.config.mel_bands if hasattr(vocoder.config, "mel_bands") else vocoder.config.bands
    return bands


def _bytes(*modules: nn.Module) -> int:
    return sum(parameter.nbytes for module in modules for parameter in module.parameters())
