"""Published checkpoints (``.pth``), and their weights under our names, and back: a table of names for each network.

A table is plain data: pairs of a published name and ours. A pair names a module, and what lies in it (weight, bias)
keeps its name, or it names one tensor. In a name, ``{i}`` and ``{j}`` count from 0, and ``{2i+1}`` means what it says;
``n`` and ``m`` are numbers of layers, which are counted in the names themselves. Nothing passes unseen: a name that is
in no table, or a tensor that the network wants and the file lacks, is an error.

A published ``.pth`` is a pickle, and a pickle can run any program. It is read by PyTorch's restricted reader, which
makes tensors, numbers, text and containers of them and nothing else; a file that asks for more is refused. Tensors are
mapped, not copied, so a file is opened in a moment and costs memory only where it is read.

Source of the published names: the state dicts of neonbjb/tortoise-tts and neonbjb/DL-Art-School (Apache-2.0).
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from chelys.errors import ModelError, first_line
from chelys.files import open_regular
from chelys.nn.attention import rotary_frequencies
from chelys.weights.tensor_file import KINDS, OUR_DIRECTION, OUR_LENGTH, fold

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


def _within(theirs: str, ours: str, names: str) -> Pairs:
    """Pairs, written ``their_name=our_name``, of what lies behind two prefixes."""
    return tuple((theirs + their, ours + our) for their, our in (pair.split("=") for pair in names.split()))


def _encoder(theirs: str, ours: str, *, wrap: str = "") -> Pairs:
    """A stack of `nn.encoder.EncoderBlock`; the published layers alternate between attention and feed-forward."""
    layers, block = f"{theirs}.transformer.attn_layers.layers", f"{ours}.blocks.{{i}}."
    even, odd = layers + ".{2i}.", layers + ".{2i+1}."
    return (
        (f"{theirs}.transformer.norm", f"{ours}.norm"),
        *_within(even, block, "0.0.g=attention_norm.weight"),
        *_within(f"{even}1{wrap}.to_", f"{block}attention.", "q=query k=key v=value out=output"),
        *_within(odd, block, "0.0.g=feed_forward_norm.weight"),
        *_within(f"{odd}1{wrap}.net.", f"{block}feed_forward.", "0.proj=input 3=output"),
    )


def _angles(*encoders: str) -> Callable[[], dict[str, Tensor]]:
    """The rotary frequencies that the files hold for each encoder."""
    name = ".transformer.attn_layers.rotary_pos_emb.inv_freq"
    return lambda: {encoder + name: rotary_frequencies(32) for encoder in encoders}


def _attention(theirs: str, ours: str, *, relative: bool = False) -> Pairs:
    """One block of `nn.attention.AttentionBlock`."""
    bias = " relative_pos_embeddings.relative_attention_bias=position.weight"
    return _within(f"{theirs}.", f"{ours}.", "norm=norm qkv=qkv proj_out=out" + bias * relative)


def _combiner(theirs: str, ours: str) -> Pairs:
    """What follows the blocks of one encoder of CVVP."""
    theirs, ours = f"{theirs}.pre_combiner.", f"{ours}.combiner."
    return *_within(theirs, ours, "0=input 2=output"), *_attention(f"{theirs}1", f"{ours}attention")


def _residual(theirs: str, ours: str) -> Pairs:
    """One residual block of the diffusion decoder."""
    names = "in_layers.0=norm1 in_layers.2=conv1 emb_layers.1=time out_layers.0=norm2 out_layers.3=conv2"
    return _within(f"{theirs}.", f"{ours}.", names)


TABLES: dict[str, NameTable] = {
    "autoregressive": NameTable(
        file="autoregressive.pth",
        pairs=(
            *_within("conditioning_encoder.", "conditioning_encoder.", "init=init"),
            *_attention("conditioning_encoder.attn.{i}", "conditioning_encoder.blocks.{i}"),
            *_within("text_", "text_", "embedding=embedding pos_embedding.emb=position head=head"),
            *_within("mel_", "code_", "embedding=embedding pos_embedding.emb=position head=head"),
            *_within("gpt.h.{i}.", "blocks.{i}.", "ln_1=attention_norm attn.c_attn=qkv attn.c_proj=out"),
            *_within("gpt.h.{i}.", "blocks.{i}.", "ln_2=mlp_norm mlp.c_fc=up mlp.c_proj=down"),
            *_within("", "", "gpt.ln_f=block_norm final_norm=final_norm"),
        ),
        transposed=(r"blocks\.\d+\.(qkv|out|up|down)\.weight",),
        ignored=(r"gpt\.h\.\d+\.attn\.(bias|masked_bias)",),  # the causal mask
    ),
    "clvp": NameTable(
        file="clvp2.pth",
        pairs=(
            *_within("", "", "temperature=temperature"),
            *_within("", "", "text_emb=text_encoder.embedding speech_emb=speech_encoder.embedding"),
            *_encoder("text_transformer", "text_encoder", wrap=".wrap"),
            *_encoder("speech_transformer", "speech_encoder", wrap=".wrap"),
            *_within("to_", "", "text_latent=text_encoder.projection speech_latent=speech_encoder.projection"),
        ),
        constants=_angles("text_transformer", "speech_transformer"),
    ),
    "cvvp": NameTable(
        file="cvvp.pth",
        pairs=(
            *_within("", "", "temperature=temperature cond_emb.0=conv1 cond_emb.1=conv2 speech_emb.emb=embedding"),
            *_encoder("conditioning_transformer", "clip_encoder"),
            *_encoder("speech_transformer", "speech_encoder"),
            *_combiner("conditioning_transformer", "clip_encoder"),
            *_combiner("speech_transformer", "speech_encoder"),
            *_within("to_", "", "conditioning_latent=clip_encoder.projection speech_latent=speech_encoder.projection"),
        ),
        constants=_angles("conditioning_transformer", "speech_transformer"),
    ),
    "diffusion": NameTable(
        file="diffusion_decoder.pth",
        pairs=(
            *_within("contextual_embedder.", "contextual_embedder.", "0=conv1 1=conv2"),
            *_attention("contextual_embedder.{i+2}", "contextual_embedder.blocks.{i}", relative=True),
            *_within("", "", "latent_conditioner.0=latent_in code_embedding=code_embedding"),
            *_attention("latent_conditioner.{i+1}", "latent_blocks.{i}", relative=True),
            *_attention("code_converter.{i}", "code_blocks.{i}", relative=True),
            *_within("", "", "code_norm=conditioning_norm unconditioned_embedding=uncond_embedding"),
            *_within("", "", "time_embed.0=time1 time_embed.2=time2 inp_block=mel_in integrating_conv=join"),
            *_residual("conditioning_timestep_integrator.{i}.resblk", "timestep_encoder.{i}.residual"),
            *_attention("conditioning_timestep_integrator.{i}.attn", "timestep_encoder.{i}.attention", relative=True),
            *_residual("layers.{i}.resblk", "layers.{i}.residual"),
            *_attention("layers.{i}.attn", "layers.{i}.attention", relative=True),
            *_residual("layers.{i+n}", "final.{i}"),  # the published list goes on where ours begins again
            *_within("", "", "out.0=out_norm out.2=out mel_head=mel_head"),
        ),
        counted=(("n", r"layers\.\d+\.residual\.conv1\.weight"),),
    ),
    "univnet": NameTable(
        file="vocoder.pth",
        entry="model_g",
        pairs=(
            *_within("conv_", "", "pre=input post.1=output"),
            *_within("res_stack.{i}.", "stages.{i}.", "convt_pre.1=upsample conv_blocks.{j}.1=convolutions.{j}"),
            *_within("res_stack.{i}.kernel_predictor.", "stages.{i}.predictor.", """
                input_conv.0=input residual_convs.{j}.1=blocks.{j}.0 residual_convs.{j}.3=blocks.{j}.2
                kernel_conv=kernels bias_conv=biases
            """),
        ),
        weight_norm=True,
    ),
    "hifigan": NameTable(
        file="hifidecoder.pth",
        pairs=(
            *_within("", "", "conv_pre=input cond_layer=voice ups.{i}=upsamples.{i} conv_post=output"),
            *_within("resblocks.{i}.", "blocks.{i}.", "convs1.{j}=dilated.{j} convs2.{j}=plain.{j}"),
        ),
        weight_norm=True,
        whole=(r"voice\.weight",),
    ),
    "autoregressive_prior": NameTable(file="rlg_auto.pth", pairs=(("layers.{i}", "layers.{i}"),)),
    "diffusion_prior": NameTable(file="rlg_diffuser.pth", pairs=(("layers.{i}", "layers.{i}"),)),
    "detector": NameTable(
        file="classifier.pth",
        pairs=(
            *_within("enc.", "", "init.0=input final.0=norm final.2=narrow"),
            *_within("enc.res.{i}.", "layers.{i}.", "in_layers.0=norm1 in_layers.2=conv1 op=conv"),
            *_within("enc.res.{i}.out_layers.", "layers.{i}.", "0=norm2 3=conv2"),
            *_attention("enc.attn.{i}", "attention.{i}"),
            ("head", "head"),
        ),
    ),
    "dvae": NameTable(
        file="dvae.pth",
        pairs=(
            *_within("encoder.", "encoder.", "{i}.0=down.{i} {n+m}=out"),
            *_within("encoder.{i+n}.net.", "encoder.blocks.{i}.", "0=conv1 2=conv2 4=conv3"),
            *_within("decoder.", "decoder.", "0=inp {i+m+1}.0.conv=up.{i} {n+m+1}=out"),
            *_within("decoder.{i+1}.net.", "decoder.blocks.{i}.", "0=conv1 2=conv2 4=conv3"),
            *_within("codebook.", "codebook.", "embed=vectors embed_avg=sums cluster_size=counts"),
        ),
        transposed=(r"codebook\.(vectors|sums)",),
        counted=(("n", r"encoder\.down\.\d+\.weight"), ("m", r"encoder\.blocks\.\d+\.conv1\.weight")),
    ),
}  # fmt: skip


LARGEST_COUNT = 40  # of {i} and {j}; the deepest published network has 30 layers
DIRECTION, LENGTH = "weight_v", "weight_g"  # how the published files split a kernel under weight norm

LEAVES = {"weight", "bias", DIRECTION, LENGTH}  # what may lie in a module that a pair names


def from_tortoise(network: str, published: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Published weights under our names, ready for ``model.load_state_dict``; the network is a key of `TABLES`.

    The model is ours of the same size, unchanged; whether it carries weight norm decides the form of the kernels.

    Raises:
        ModelError: If a name is unexpected or missing, or a shape is not that of the model.
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
        listed = []
        for fault, (first, *others) in ((fault, sorted(at)) for fault, at in faults.items() if at):
            listed.append(f"{fault}: {first!r}" + (f" and {len(others)} more" if others else ""))
        remedy = f"give TorToise v2's {table.file}, of the same size as the model"
        raise ModelError(f"{network}: weights {', '.join(listed)}; {remedy}")
    return {name: state[name].contiguous() for name in wanted}


def to_tortoise(network: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our weights, with weight norm or folded, under the published names: the inverse of `from_tortoise`.

    Raises:
        ModelError: If a name has no published counterpart; the published sizes have none such.
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


_ZIP, _PICKLE, _POINTER = b"PK\x03\x04", b"\x80", b"version https://git-lfs"

#: A tensor that each published network has and no other one.
_TELLING = {
    "autoregressive": "mel_pos_embedding.emb.weight", "clvp": "to_text_latent.weight",
    "cvvp": "to_conditioning_latent.weight", "diffusion": "unconditioned_embedding",
    "univnet": "res_stack.0.kernel_predictor.kernel_conv.bias", "hifigan": "cond_layer.weight",
    "autoregressive_prior": "layers.5.bias", "detector": "enc.init.0.weight", "dvae": "codebook.embed",
}  # fmt: skip


def read_checkpoint(path: Path, network: str) -> dict[str, Tensor]:
    """The tensors of a published file, mapped, of a network that is a key of TABLES.

    Raises:
        ModelError: If it is no checkpoint, is truncated, holds anything but plain tensors, or is another network's.
    """
    loaded = load_pickle(path)
    if not isinstance(loaded, Mapping):
        raise ModelError(f"{path} holds a {type(loaded).__name__}, not tensors by name: give TorToise v2's file")
    entry = TABLES[network].entry
    if entry and isinstance(loaded.get(entry), Mapping):
        loaded = loaded[entry]
    state = {}
    for name, tensor in loaded.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            kind = type(tensor).__name__
            raise ModelError(f"{path} has {str(name)[:80]!r}, a {kind}, among its tensors: give TorToise v2's file")
        if not is_plain(tensor):
            raise ModelError(f"{path}: tensor {name} is not plain numbers: give TorToise v2's file")
        state[name] = tensor
    _recognise(path, network, state)
    return state


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor that was loaded is real numbers in memory, each with a place of its own."""
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.device.type != "cpu":
        return False
    held = tensor.untyped_storage().nbytes()
    return tensor.dtype in KINDS.values() and tensor.numel() * tensor.element_size() <= held


def load_pickle(path: Path) -> object:
    """What ``torch.save`` wrote, if that is tensors in lists, tuples and mappings; no code of the file is executed.

    Raises:
        ModelError: If it is anything else, damaged, or would take more memory than the file has bytes.
    """
    try:
        with open_regular(path) as file:
            head = file.read(len(_POINTER))
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    if not head:
        raise ModelError(f"{path} is empty: fetch it again")
    if head.startswith(_POINTER):
        raise ModelError(f"{path} is a Git LFS pointer, not the file itself: run 'git lfs pull' there")
    if not head.startswith((_ZIP, _PICKLE)) or tarfile.is_tarfile(path):  # in tar archives old readers ran programs
        raise ModelError(f"{path} is not a checkpoint: give TorToise v2's file")
    zipped = head.startswith(_ZIP)
    if zipped and not zipfile.is_zipfile(path):
        raise ModelError(f"{path} is truncated: fetch it again")
    _check_archive(path, zipped)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the reader's own; what matters is said below
            # files from before PyTorch 1.6 are no zip archives and cannot be mapped
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        reason = "it is damaged or holds more than tensors"
        raise ModelError(f"{path} is refused, {reason}: give a file of plain tensors") from error
    except Exception as error:  # the reader raises whatever a broken file makes it stumble over
        raise ModelError(f"{path} is damaged or no checkpoint ({first_line(error)}): fetch it again") from error


#: Bytes of the pickle inside an archive: names and shapes.
_MAX_PICKLE = 1 << 24
#: What pickles of tensors name. ``weights_only`` lets more pass: kinds of tensors that take memory which the file has
#: not, and types that are made as large as the file says.
_NAMED = re.compile(
    r"collections\.OrderedDict|torch\._utils\._rebuild_(tensor|tensor_v2|parameter)|torch\.(Size|device)"
    r"|torch\.(BFloat16|Half|Float|Double|Byte|Char|Short|Int|Long|Bool)(Storage|Tensor)"
    r"|torch\.storage\.(UntypedStorage|TypedStorage|_UntypedStorage|_TypedStorage)"
    r"|torch\.(bfloat16|float16|float32|float64|uint8|int8|int16|int32|int64|bool)|torch\.nn\.parameter\.Parameter"
)


def _check_archive(path: Path, zipped: bool) -> None:
    """Refuse a file whose pickle names anything but tensors, or whose members are compressed, before it is loaded."""
    try:
        with open_regular(path) as file:
            if not zipped:
                programs = list(_named(file))
            else:
                with zipfile.ZipFile(file) as archive:
                    members = archive.infolist()
                    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                        raise ModelError(f"{path} is compressed: give the file that torch.save wrote")
                    pickles = [m for m in members if m.filename.rpartition("/")[2] == "data.pkl"]
                    if any(member.file_size > _MAX_PICKLE for member in pickles):
                        raise ModelError(f"{path} is refused, it holds more than tensors: give a file of plain tensors")
                    programs = [name for m in pickles for name in _named(io.BytesIO(archive.read(m)))]
    except ModelError:
        raise
    except Exception as error:  # whatever zipfile stumbles over
        raise ModelError(f"{path} is damaged or no checkpoint ({first_line(error)}): fetch it again") from error
    if strange := next((name for name in programs if not _NAMED.fullmatch(name)), ""):
        ours = strange.startswith("torch.")
        reason = f"it holds more than plain tensors ({strange[:80]})" if ours else f"it would run {strange[:80]}"
        raise ModelError(f"{path} is refused, {reason}: give a file of plain tensors")


def _named(file: BinaryIO) -> Iterator[str]:
    """What pickles name, one after another until no more can be read; nothing of them is run."""
    words: list[str] = []
    try:
        for _ in range(5):  # of a file from before PyTorch 1.6; numbers follow
            for code, value, _ in pickletools.genops(file):
                if code.name in ("GLOBAL", "INST"):
                    yield str(value).replace(" ", ".")
                elif code.name == "STACK_GLOBAL":
                    yield ".".join(words[-2:])
                elif isinstance(value, str):
                    words = [*words[-1:], value]
    except Exception:  # the end, or damage, which loading says
        return


def _recognise(path: Path, network: str, state: Mapping[str, Tensor]) -> None:
    """Tell a file under another one's name; what is merely incomplete is found out later, tensor by tensor."""
    kind = "autoregressive_prior" if network == "diffusion_prior" else network
    if _TELLING[kind] in state:
        return
    for other, tensor in _TELLING.items():
        if tensor in state and other != kind:
            raise ModelError(
                f"{path} holds the weights of {TABLES[other].file}, not of {TABLES[network].file}:"
                " put each file under its own name"
            )
