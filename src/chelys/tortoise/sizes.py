"""Sizes of a published network, read off its tensors, so that fine-tuned and smaller variants convert as well.

Widths and numbers of layers are in the shapes. What leaves no trace there stays as published: strides without kernels,
dilations, slopes. Heads are as wide as published, 64 channels, where the shapes do not tell (only the diffusion decoder
and CLVP tell); a network narrower than that has one head.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from chelys.models import DVAEConfig
from chelys.models.autoregressive import AutoregressiveConfig
from chelys.models.clvp import CLVPConfig
from chelys.models.diffusion import DiffusionConfig
from chelys.tortoise.cvvp import CVVPConfig
from chelys.tortoise.detector import DetectorConfig
from chelys.tortoise.hifigan import HiFiGANConfig
from chelys.tortoise.univnet import UnivNetConfig
from chelys.tortoise.voice_prior import VoicePriorConfig

HEAD = 64  # channels of a published head

#: The published sizes of each network, by the names of the tables.
PUBLISHED: dict[str, Any] = {
    "autoregressive": AutoregressiveConfig.tortoise_v2(), "clvp": CLVPConfig.tortoise_v2(),
    "diffusion": DiffusionConfig.tortoise_v2(), "univnet": UnivNetConfig.c32(), "cvvp": CVVPConfig.tortoise_v2(),
    "hifigan": HiFiGANConfig.tortoise_v2(), "autoregressive_prior": VoicePriorConfig.tortoise_v2(1024),
    "diffusion_prior": VoicePriorConfig.tortoise_v2(2048), "detector": DetectorConfig.tortoise_v2(),
    "dvae": DVAEConfig.tortoise_v2(),
}  # fmt: skip


class Shapes:
    """Shapes of the tensors of a published file."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self._shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}

    def __call__(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor; that of a kernel, whole or split by weight norm, by the name of its module."""
        for form in (name, f"{name}.weight", f"{name}.weight_v"):
            if form in self._shapes:
                return self._shapes[form]
        raise KeyError(name)

    def count(self, pattern: str) -> int:
        """How many different numbers there are at the first group of a pattern."""
        found = (re.fullmatch(pattern, name) for name in self._shapes)
        return len({match[1] for match in found if match})


def infer_config(network: str, state: Mapping[str, Tensor]) -> Any:
    """Sizes of a network, a key of PUBLISHED, by the tensors of its published file.

    The published ones if the tensors are no such network's. The sizes fit no better than the tensors do, which
    `from_tortoise` checks one by one.
    """
    try:
        return _READERS[network](Shapes(state))
    except (KeyError, IndexError, ValueError, ZeroDivisionError):  # tensors are missing, or of another kind
        return PUBLISHED[network]


def _heads(dim: int) -> int:
    return max(1, dim // HEAD)


def _autoregressive(shapes: Shapes) -> AutoregressiveConfig:
    rows, dim = shapes("mel_embedding")
    _, bands, kernel = shapes("conditioning_encoder.init")
    return replace(
        AutoregressiveConfig.tortoise_v2(), text_tokens=shapes("text_embedding")[0] - 1, codes=rows - 2, dim=dim,
        heads=_heads(dim), layers=shapes.count(r"gpt\.h\.(\d+)\.ln_1\.weight"), bands=bands,
        text_positions=shapes("text_pos_embedding.emb")[0], code_positions=shapes("mel_pos_embedding.emb")[0],
        conditioning_kernel=kernel,
        conditioning_blocks=shapes.count(r"conditioning_encoder\.attn\.(\d+)\.norm\.weight"),
    )  # fmt: skip


def _clvp(shapes: Shapes) -> CLVPConfig:
    layers = "{}_transformer.transformer.attn_layers.layers"

    def tower(name: str) -> tuple[int, int]:
        """Its depth and its heads."""
        depth = shapes.count(re.escape(layers.format(name)) + r"\.(\d+)\.1\.wrap\.to_q\.weight")
        return depth, shapes(layers.format(name) + ".0.1.wrap.to_q")[0] // HEAD

    dim, inner = shapes(layers.format("text") + ".1.1.wrap.net.3")
    tokens, speech_dim = shapes("speech_emb")
    latent_dim = shapes("to_text_latent")[0]
    text, speech = (dim, *tower("text")), (speech_dim, *tower("speech"))
    others = [None if a == b else b for a, b in zip(text, speech, strict=True)]
    return replace(
        CLVPConfig.tortoise_v2(), text_tokens=shapes("text_emb")[0], speech_tokens=tokens, dim=dim, depth=text[1],
        heads=text[2], speech_dim=others[0], speech_depth=others[1], speech_heads=others[2],
        latent_dim=None if latent_dim == dim else latent_dim, ff_mult=inner // dim,
    )  # fmt: skip


def _cvvp(shapes: Shapes) -> CVVPConfig:
    def depth(encoder: str) -> int:
        return shapes.count(encoder + r"_transformer\.transformer\.attn_layers\.layers\.(\d+)\.1\.to_q\.weight")

    tokens, dim = shapes("speech_emb.emb")
    layers = "speech_transformer.transformer.attn_layers.layers"
    return replace(
        CVVPConfig.tortoise_v2(), bands=shapes("cond_emb.0")[1], speech_tokens=tokens, dim=dim,
        clip_depth=depth("conditioning"), speech_depth=depth("speech"),
        heads=shapes(f"{layers}.0.1.to_q")[0] // HEAD, ff_mult=shapes(f"{layers}.1.1.net.3")[1] // dim,
    )  # fmt: skip


def _diffusion(shapes: Shapes) -> DiffusionConfig:
    dim, bands, _ = shapes("inp_block")
    blocks = r"{}\.(\d+)\.qkv\.weight"
    return replace(
        DiffusionConfig.tortoise_v2(), bands=bands, dim=dim,
        heads=shapes("layers.0.attn.relative_pos_embeddings.relative_attention_bias")[1],
        layers=shapes.count(r"layers\.(\d+)\.attn\.norm\.weight"),
        final_blocks=shapes.count(r"layers\.(\d+)\.in_layers\.0\.weight"),
        timestep_encoder_layers=shapes.count(r"conditioning_timestep_integrator\.(\d+)\.attn\.norm\.weight"),
        latent_dim=shapes("latent_conditioner.0")[1], latent_blocks=shapes.count(blocks.format("latent_conditioner")),
        codes=shapes("code_embedding")[0] - 1, code_blocks=shapes.count(blocks.format("code_converter")),
        context_blocks=shapes.count(blocks.format("contextual_embedder")),
        learned_variance=shapes("out.2")[0] == 2 * bands,
    )  # fmt: skip


def _univnet(shapes: Shapes) -> UnivNetConfig:
    stages = shapes.count(r"res_stack\.(\d+)\.kernel_predictor\.kernel_conv\.bias")
    layers = shapes.count(r"res_stack\.0\.conv_blocks\.(\d+)\.1\.bias")
    channels, noise_dim, _ = shapes("conv_pre")
    hidden, mel_bands, _ = shapes("res_stack.0.kernel_predictor.input_conv.0")
    return replace(
        UnivNetConfig.c32(), mel_bands=mel_bands, noise_dim=noise_dim, channels=channels,
        strides=tuple(shapes(f"res_stack.{stage}.convt_pre.1")[2] // 2 for stage in range(stages)),
        dilations=tuple(3**layer for layer in range(layers)), kernel_size=shapes("res_stack.0.conv_blocks.0.1")[2],
        predictor_channels=hidden, predictor_kernel_size=shapes("res_stack.0.kernel_predictor.kernel_conv")[2],
        predictor_blocks=shapes.count(r"res_stack\.0\.kernel_predictor\.residual_convs\.(\d+)\.1\.bias"),
    )  # fmt: skip


def _hifigan(shapes: Shapes) -> HiFiGANConfig:
    channels, latent_dim, _ = shapes("conv_pre")
    stages = shapes.count(r"ups\.(\d+)\.bias")
    kinds = shapes.count(r"resblocks\.(\d+)\.convs1\.0\.bias") // stages
    taps = tuple(shapes(f"ups.{stage}")[2] for stage in range(stages))
    return replace(
        HiFiGANConfig.tortoise_v2(), latent_dim=latent_dim, voice_dim=shapes("cond_layer")[1], channels=channels,
        stride_kernels=taps, strides=tuple(kernel // 2 for kernel in taps),
        block_kernels=tuple(shapes(f"resblocks.{kind}.convs1.0")[2] for kind in range(kinds)),
        dilations=tuple(1 + 2 * layer for layer in range(shapes.count(r"resblocks\.0\.convs1\.(\d+)\.bias"))),
    )  # fmt: skip


def _prior(shapes: Shapes) -> VoicePriorConfig:
    return VoicePriorConfig(shapes("layers.0")[0], hidden_layers=shapes.count(r"layers\.(\d+)\.weight") - 1)


def _detector(shapes: Shapes) -> DetectorConfig:
    stages = shapes.count(r"enc\.res\.(\d+)\.op\.weight")
    dim = shapes("enc.final.2")[0]
    return replace(
        DetectorConfig.tortoise_v2(), channels=shapes("enc.init.0")[0], stages=stages, dim=dim,
        blocks=shapes.count(r"enc\.res\.(\d+)\.in_layers\.2\.weight") // stages,
        kernel_size=shapes("enc.res.0.in_layers.2")[2], classes=shapes("head")[0],
        attention_blocks=shapes.count(r"enc\.attn\.(\d+)\.qkv\.weight"),
        heads=max(1, dim // 128),  # four of 128 channels as published
    )  # fmt: skip


def _dvae(shapes: Shapes) -> DVAEConfig:
    hidden, bands, _ = shapes("encoder.0.0")
    width, tokens = shapes("codebook.embed")
    return replace(
        DVAEConfig.tortoise_v2(), bands=bands, tokens=tokens, code_width=width, hidden=hidden,
        strides=shapes.count(r"encoder\.(\d+)\.0\.weight"),
        residual_blocks=shapes.count(r"encoder\.(\d+)\.net\.0\.weight"),
    )  # fmt: skip


_READERS: dict[str, Callable[[Shapes], Any]] = {
    "autoregressive": _autoregressive, "clvp": _clvp, "cvvp": _cvvp, "diffusion": _diffusion, "univnet": _univnet,
    "hifigan": _hifigan, "autoregressive_prior": _prior, "diffusion_prior": _prior, "detector": _detector,
    "dvae": _dvae,
}  # fmt: skip
