"""Weights of the published TorToise v2 under our names, and back: a table of names for each network.

A table is plain data: pairs of a published name and ours. A pair names a module, and what lies in it (weight, bias)
keeps its name, or it names one tensor. In a name, ``{i}`` and ``{j}`` count from 0, and ``{2i+1}`` means what it says;
``n`` and ``m`` are numbers of layers, which are counted in the names themselves. Nothing passes unseen: a name that is
in no table, or a tensor that the network wants and the file lacks, is an error.

Source of the published names: the state dicts of neonbjb/tortoise-tts and neonbjb/DL-Art-School (Apache-2.0).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from chelys.errors import ModelError
from chelys.nn.attention import rotary_frequencies
from chelys.weights.tensor_file import OUR_DIRECTION, OUR_LENGTH, fold

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class NameTable:
    """How one published file names what we have."""

    file: str  # the published file
    pairs: Pairs
    entry: str = ""  # where the file is a dictionary of several things: the key under which the weights lie
    transposed: tuple[str, ...] = ()  # our names (patterns) of matrices that the file holds the other way round
    ignored: tuple[str, ...] = ()  # published names (patterns) that hold nothing learned
    constants: Callable[[], dict[str, Tensor]] = dict  # published tensors that are not learned
    weight_norm: bool = False  # kernels are split in direction and length
    whole: tuple[str, ...] = ()  # our names (patterns) of kernels that are not split all the same
    counted: tuple[tuple[str, str], ...] = ()  # a letter, and our names (a pattern) of one tensor in each such layer


def _encoder(theirs: str, ours: str, *, wrap: str = "") -> Pairs:
    """A stack of `nn.encoder.EncoderBlock`; the published layers alternate between attention and feed-forward."""
    layers = f"{theirs}.transformer.attn_layers.layers"
    even, odd = layers + ".{2i}", layers + ".{2i+1}"
    block = ours + ".blocks.{i}"
    return (
        (f"{theirs}.transformer.norm", f"{ours}.norm"),
        (f"{even}.0.0.g", f"{block}.attention_norm.weight"),
        (f"{even}.1{wrap}.to_q", f"{block}.attention.query"),
        (f"{even}.1{wrap}.to_k", f"{block}.attention.key"),
        (f"{even}.1{wrap}.to_v", f"{block}.attention.value"),
        (f"{even}.1{wrap}.to_out", f"{block}.attention.output"),
        (f"{odd}.0.0.g", f"{block}.feed_forward_norm.weight"),
        (f"{odd}.1{wrap}.net.0.proj", f"{block}.feed_forward.input"),
        (f"{odd}.1{wrap}.net.3", f"{block}.feed_forward.output"),
    )


def _angles(*encoders: str) -> Callable[[], dict[str, Tensor]]:
    """The rotary frequencies that the files hold for each encoder."""
    return lambda: {
        f"{encoder}.transformer.attn_layers.rotary_pos_emb.inv_freq": rotary_frequencies(32) for encoder in encoders
    }


def _attention(theirs: str, ours: str, *, relative: bool = False) -> Pairs:
    """One block of `nn.attention.AttentionBlock`."""
    pairs = (
        (f"{theirs}.norm", f"{ours}.norm"),
        (f"{theirs}.qkv", f"{ours}.qkv"),
        (f"{theirs}.proj_out", f"{ours}.out"),
    )
    bias = ((f"{theirs}.relative_pos_embeddings.relative_attention_bias", f"{ours}.position.weight"),)
    return pairs + bias if relative else pairs


def _combiner(theirs: str, ours: str) -> Pairs:
    """What follows the blocks of one encoder of CVVP."""
    return (
        (f"{theirs}.pre_combiner.0", f"{ours}.combiner.input"),
        *_attention(f"{theirs}.pre_combiner.1", f"{ours}.combiner.attention"),
        (f"{theirs}.pre_combiner.2", f"{ours}.combiner.output"),
    )


def _residual(theirs: str, ours: str) -> Pairs:
    """One residual block of the diffusion decoder."""
    return (
        (f"{theirs}.in_layers.0", f"{ours}.norm1"),
        (f"{theirs}.in_layers.2", f"{ours}.conv1"),
        (f"{theirs}.emb_layers.1", f"{ours}.time"),
        (f"{theirs}.out_layers.0", f"{ours}.norm2"),
        (f"{theirs}.out_layers.3", f"{ours}.conv2"),
    )


TABLES: dict[str, NameTable] = {
    "autoregressive": NameTable(
        file="autoregressive.pth",
        pairs=(
            ("conditioning_encoder.init", "conditioning_encoder.init"),
            *_attention("conditioning_encoder.attn.{i}", "conditioning_encoder.blocks.{i}"),
            ("text_embedding", "text_embedding"),
            ("text_pos_embedding.emb", "text_position"),
            ("mel_embedding", "code_embedding"),
            ("mel_pos_embedding.emb", "code_position"),
            ("gpt.h.{i}.ln_1", "blocks.{i}.attention_norm"),
            ("gpt.h.{i}.attn.c_attn", "blocks.{i}.qkv"),
            ("gpt.h.{i}.attn.c_proj", "blocks.{i}.out"),
            ("gpt.h.{i}.ln_2", "blocks.{i}.mlp_norm"),
            ("gpt.h.{i}.mlp.c_fc", "blocks.{i}.up"),
            ("gpt.h.{i}.mlp.c_proj", "blocks.{i}.down"),
            ("gpt.ln_f", "block_norm"),
            ("final_norm", "final_norm"),
            ("text_head", "text_head"),
            ("mel_head", "code_head"),
        ),
        transposed=(r"blocks\.\d+\.(qkv|out|up|down)\.weight",),
        ignored=(r"gpt\.h\.\d+\.attn\.(bias|masked_bias)",),  # the causal mask
    ),
    "clvp": NameTable(
        file="clvp2.pth",
        pairs=(
            ("temperature", "temperature"),
            ("text_emb", "text_encoder.embedding"),
            ("speech_emb", "speech_encoder.embedding"),
            *_encoder("text_transformer", "text_encoder", wrap=".wrap"),
            *_encoder("speech_transformer", "speech_encoder", wrap=".wrap"),
            ("to_text_latent", "text_encoder.projection"),
            ("to_speech_latent", "speech_encoder.projection"),
        ),
        constants=_angles("text_transformer", "speech_transformer"),
    ),
    "cvvp": NameTable(
        file="cvvp.pth",
        pairs=(
            ("temperature", "temperature"),
            ("cond_emb.0", "conv1"),
            ("cond_emb.1", "conv2"),
            ("speech_emb.emb", "embedding"),
            *_encoder("conditioning_transformer", "clip_encoder"),
            *_encoder("speech_transformer", "speech_encoder"),
            *_combiner("conditioning_transformer", "clip_encoder"),
            *_combiner("speech_transformer", "speech_encoder"),
            ("to_conditioning_latent", "clip_encoder.projection"),
            ("to_speech_latent", "speech_encoder.projection"),
        ),
        constants=_angles("conditioning_transformer", "speech_transformer"),
    ),
    "diffusion": NameTable(
        file="diffusion_decoder.pth",
        pairs=(
            ("contextual_embedder.0", "contextual_embedder.conv1"),
            ("contextual_embedder.1", "contextual_embedder.conv2"),
            *_attention("contextual_embedder.{i+2}", "contextual_embedder.blocks.{i}", relative=True),
            ("latent_conditioner.0", "latent_in"),
            *_attention("latent_conditioner.{i+1}", "latent_blocks.{i}", relative=True),
            ("code_embedding", "code_embedding"),
            *_attention("code_converter.{i}", "code_blocks.{i}", relative=True),
            ("code_norm", "conditioning_norm"),
            ("unconditioned_embedding", "uncond_embedding"),
            ("time_embed.0", "time1"),
            ("time_embed.2", "time2"),
            *_residual("conditioning_timestep_integrator.{i}.resblk", "timestep_encoder.{i}.residual"),
            *_attention("conditioning_timestep_integrator.{i}.attn", "timestep_encoder.{i}.attention", relative=True),
            ("inp_block", "mel_in"),
            ("integrating_conv", "join"),
            *_residual("layers.{i}.resblk", "layers.{i}.residual"),
            *_attention("layers.{i}.attn", "layers.{i}.attention", relative=True),
            *_residual("layers.{i+n}", "final.{i}"),  # the published list goes on where ours begins again
            ("out.0", "out_norm"),
            ("out.2", "out"),
            ("mel_head", "mel_head"),
        ),
        counted=(("n", r"layers\.\d+\.residual\.conv1\.weight"),),
    ),
    "univnet": NameTable(
        file="vocoder.pth",
        entry="model_g",
        pairs=(
            ("conv_pre", "input"),
            ("conv_post.1", "output"),
            ("res_stack.{i}.convt_pre.1", "stages.{i}.upsample"),
            ("res_stack.{i}.conv_blocks.{j}.1", "stages.{i}.convolutions.{j}"),
            ("res_stack.{i}.kernel_predictor.input_conv.0", "stages.{i}.predictor.input"),
            ("res_stack.{i}.kernel_predictor.residual_convs.{j}.1", "stages.{i}.predictor.blocks.{j}.0"),
            ("res_stack.{i}.kernel_predictor.residual_convs.{j}.3", "stages.{i}.predictor.blocks.{j}.2"),
            ("res_stack.{i}.kernel_predictor.kernel_conv", "stages.{i}.predictor.kernels"),
            ("res_stack.{i}.kernel_predictor.bias_conv", "stages.{i}.predictor.biases"),
        ),
        weight_norm=True,
    ),
    "hifigan": NameTable(
        file="hifidecoder.pth",
        pairs=(
            ("conv_pre", "input"),
            ("cond_layer", "voice"),
            ("ups.{i}", "upsamples.{i}"),
            ("resblocks.{i}.convs1.{j}", "blocks.{i}.dilated.{j}"),
            ("resblocks.{i}.convs2.{j}", "blocks.{i}.plain.{j}"),
            ("conv_post", "output"),
        ),
        weight_norm=True,
        whole=(r"voice\.weight",),
    ),
    "autoregressive_prior": NameTable(file="rlg_auto.pth", pairs=(("layers.{i}", "layers.{i}"),)),
    "diffusion_prior": NameTable(file="rlg_diffuser.pth", pairs=(("layers.{i}", "layers.{i}"),)),
    "detector": NameTable(
        file="classifier.pth",
        pairs=(
            ("enc.init.0", "input"),
            ("enc.res.{i}.in_layers.0", "layers.{i}.norm1"),
            ("enc.res.{i}.in_layers.2", "layers.{i}.conv1"),
            ("enc.res.{i}.out_layers.0", "layers.{i}.norm2"),
            ("enc.res.{i}.out_layers.3", "layers.{i}.conv2"),
            ("enc.res.{i}.op", "layers.{i}.conv"),
            ("enc.final.0", "norm"),
            ("enc.final.2", "narrow"),
            *_attention("enc.attn.{i}", "attention.{i}"),
            ("head", "head"),
        ),
    ),
    "dvae": NameTable(
        file="dvae.pth",
        pairs=(
            ("encoder.{i}.0", "encoder.down.{i}"),
            ("encoder.{i+n}.net.0", "encoder.blocks.{i}.conv1"),
            ("encoder.{i+n}.net.2", "encoder.blocks.{i}.conv2"),
            ("encoder.{i+n}.net.4", "encoder.blocks.{i}.conv3"),
            ("encoder.{n+m}", "encoder.out"),
            ("decoder.0", "decoder.inp"),
            ("decoder.{i+1}.net.0", "decoder.blocks.{i}.conv1"),
            ("decoder.{i+1}.net.2", "decoder.blocks.{i}.conv2"),
            ("decoder.{i+1}.net.4", "decoder.blocks.{i}.conv3"),
            ("decoder.{i+m+1}.0.conv", "decoder.up.{i}"),
            ("decoder.{n+m+1}", "decoder.out"),
            ("codebook.embed", "codebook.vectors"),
            ("codebook.embed_avg", "codebook.sums"),
            ("codebook.cluster_size", "codebook.counts"),
        ),
        transposed=(r"codebook\.(vectors|sums)",),
        counted=(("n", r"encoder\.down\.\d+\.weight"), ("m", r"encoder\.blocks\.\d+\.conv1\.weight")),
    ),
}


LARGEST_COUNT = 40  # of {i} and {j}; the deepest published network has 30 layers
DIRECTION, LENGTH = "weight_v", "weight_g"  # how the published files split a kernel under weight norm

LEAVES = {"weight", "bias", DIRECTION, LENGTH}  # what may lie in a module that a pair names


def from_tortoise(network: str, published: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Published weights under our names, ready for ``model.load_state_dict``.

    Args:
        network: a key of `TABLES`.
        published: the state dict of the file.
        model: our network of the same size, which says what is wanted; it is not changed. Whether it carries weight
            norm decides the form of the kernels.

    Returns:
        A state dict with exactly the names and shapes of the model's.

    Raises:
        ModelError: a name is unexpected, one is missing, or a shape is not that of the model.
    """
    table = TABLES[network]
    constants = table.constants()
    wanted = model.state_dict()
    layers = _layers(table, wanted)
    names, backwards = _names(table, layers, theirs_first=True), _names(table, layers, theirs_first=False)
    state: dict[str, Tensor] = {}
    unexpected = []
    for name, tensor in published.items():
        if name in constants or _matches(table.ignored, name):
            continue
        ours = _translate(name, names)
        if ours is None:
            unexpected.append(name)
        else:
            state[ours] = _turned(table, ours, tensor)
    state = _as_wanted(state, wanted)
    # Names are given as the file has them, for that is what the user can look at.
    unexpected += [_theirs(name, backwards) for name in state.keys() - wanted.keys()]
    missing = [_theirs(name, backwards) for name in wanted.keys() - state.keys()]
    reshaped = [
        _theirs(name, backwards) for name in state.keys() & wanted.keys() if state[name].shape != wanted[name].shape
    ]
    faults = {"missing": missing, "unexpected": unexpected, "wrongly shaped": reshaped}
    if any(faults.values()):
        listed = ", ".join(f"{fault}: {_list(names_at)}" for fault, names_at in faults.items() if names_at)
        raise ModelError(f"{network}: weights {listed}; give TorToise v2's {table.file}, of the same size as the model")
    return {name: state[name].contiguous() for name in wanted}


def to_tortoise(network: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our weights under the published names: the inverse of `from_tortoise`.

    Args:
        network: a key of `TABLES`.
        weights: a state dict of ours, with weight norm or folded; kernels come out split where the published file
            splits them.

    Raises:
        ModelError: a name has no published counterpart; the published sizes have none such.
    """
    table = TABLES[network]
    names = _names(table, _layers(table, weights), theirs_first=False)
    weights = {_plain(name): tensor for name, tensor in weights.items()}
    if table.weight_norm:
        weights = _split_kernels(weights, [name for name in weights if not _matches(table.whole, name)])
    published = table.constants()
    for name, tensor in weights.items():
        theirs = _translate(name, names)
        if theirs is None:
            raise ModelError(
                f"{network}: {name!r} has no name in TorToise v2; only a model of its kind can be written so"
            )
        published[theirs] = _turned(table, name, tensor).contiguous()
    return published


def _layers(table: NameTable, ours: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """How many layers of each counted kind there are."""
    ours = list(ours)
    return tuple((letter, sum(_matches((pattern,), name) for name in ours)) for letter, pattern in table.counted)


@cache
def _names(table: NameTable, layers: tuple[tuple[str, int], ...], *, theirs_first: bool) -> dict[str, str]:
    """The pairs of a table with every count written out, in the direction asked for."""
    names = {}
    for pair in table.pairs:
        theirs, ours = pair if theirs_first else pair[::-1]
        for i in range(LARGEST_COUNT if re.search(r"\{\d*i", theirs) else 1):
            for j in range(LARGEST_COUNT if re.search(r"\{\d*j", theirs) else 1):
                counts = {"i": i, "j": j, **dict(layers)}
                names[_count(theirs, counts)] = _count(ours, counts)
    return names


def _count(name: str, counts: Mapping[str, int]) -> str:
    """``a.{2i+1}`` with i = 3 is ``a.7``."""

    def term(text: str) -> int:
        return int(text) if text.isdecimal() else int(text[:-1] or 1) * counts[text[-1]]

    return re.sub(r"\{(.+?)\}", lambda match: str(sum(map(term, match[1].split("+")))), name)


def _translate(name: str, names: Mapping[str, str]) -> str | None:
    """A tensor by its own name, or else by that of the module it lies in."""
    if name in names:
        return names[name]
    module, _, leaf = name.rpartition(".")
    return f"{names[module]}.{leaf}" if module in names and leaf in LEAVES else None


def _theirs(name: str, backwards: Mapping[str, str]) -> str:
    return _translate(_plain(name), backwards) or name


def _plain(name: str) -> str:
    """The name that the published files would give to a part of a kernel under weight norm."""
    return name.replace(OUR_DIRECTION, DIRECTION).replace(OUR_LENGTH, LENGTH)


def _turned(table: NameTable, ours: str, tensor: Tensor) -> Tensor:
    """A tensor as the other side holds it; one that is no matrix is refused for its shape later."""
    return tensor.t() if _matches(table.transposed, ours) and tensor.dim() == 2 else tensor


def _matches(patterns: Iterable[str], name: str) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def _as_wanted(state: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Kernels in the form in which the model holds them, split or folded, whichever they come in."""
    normed = {name.removesuffix(OUR_LENGTH) for name in wanted if name.endswith(OUR_LENGTH)}
    if normed:
        split = _split_kernels(state, [f"{module}weight" for module in normed])
        return {name.replace(DIRECTION, OUR_DIRECTION).replace(LENGTH, OUR_LENGTH): split[name] for name in split}
    folded = dict(state)
    for name in state:
        module = name.removesuffix(LENGTH)
        direction = state.get(module + DIRECTION) if module != name else None
        if direction is None or direction.dim() == 0:
            continue  # it is reported as unexpected
        if state[name].shape == (len(direction), *[1] * (direction.dim() - 1)):
            folded[module + "weight"] = fold(folded.pop(name), folded.pop(module + DIRECTION))
    return folded


def _split_kernels(state: Mapping[str, Tensor], kernels: Iterable[str]) -> dict[str, Tensor]:
    """Those of `kernels` that are whole, in direction and length."""
    split, chosen = {}, set(kernels)
    for name, tensor in state.items():
        module = name.removesuffix("weight")
        if module == name or name not in chosen:
            split[name] = tensor
        else:
            axes = tuple(range(1, tensor.dim()))
            split[module + LENGTH] = torch.linalg.vector_norm(tensor, dim=axes, keepdim=True)
            split[module + DIRECTION] = tensor
    return split


def _list(names: Iterable[str]) -> str:
    """The first name in order, and how many there are beside it."""
    first, *others = sorted(names)
    return f"{first!r}" + (f" and {len(others)} more" if others else "")
