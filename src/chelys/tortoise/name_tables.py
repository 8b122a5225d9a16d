"""The names of the published TorToise v2 checkpoints, and ours: one table for each network.

A table is plain data: pairs of a published name and ours. A pair names a module, and what lies in it (weight, bias)
keeps its name, or it names one tensor. In a name, ``{i}`` and ``{j}`` count from 0, and ``{2i+1}`` means what it says;
``n`` and ``m`` are numbers of layers, which are counted in the names themselves. `tortoise.state_dicts` reads the
tables both ways.

Source of the published names: the state dicts of neonbjb/tortoise-tts and neonbjb/DL-Art-School (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from chelys.nn.rotary import rotary_frequencies

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
