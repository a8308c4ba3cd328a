"""Lowering QDQ ONNX: every spelling of the same network gives the same integers; the rest is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from policyport.core import semantics
from policyport.core.errors import ArtifactError, UnsupportedModelError
from policyport.deploy import reference
from policyport.deploy.layers import FullyConnected
from policyport.deploy.lower import lower
from policyport.deploy.program import Program, quantize_input

RNG = np.random.default_rng(3)
W1 = RNG.integers(-127, 128, (6, 4)).astype(np.int8)
W2 = RNG.integers(-127, 128, (2, 6)).astype(np.int8)
S1 = RNG.uniform(0.002, 0.01, 6).astype(np.float32)
S2 = RNG.uniform(0.002, 0.01, 2).astype(np.float32)
B1 = RNG.integers(-900, 900, 6).astype(np.int32)
B2 = RNG.integers(-900, 900, 2).astype(np.int32)
INPUT, HIDDEN, OUTPUT = (0.031, -7), (0.027, -128), (0.054, 12)


@dataclass(frozen=True)
class Spelling:
    """One way to write the same network."""

    function: str = "Relu"
    operator: str = "Gemm"
    """``Gemm``, ``Gemm^T`` (transB), ``MatMul`` or ``Transpose`` (a Transpose node before MatMul)."""

    bias: str = "int32"
    """``int32``, ``float`` or ``none``."""

    unsigned: bool = False
    wide: bool = False
    """16-bit activations."""

    quantized_before: bool = False
    """A QuantizeLinear and DequantizeLinear between the layer and its function too."""

    no_ops: bool = False
    host: bool = False
    """Sub, Div and Clip before the first QuantizeLinear."""


class Builder:
    """Nodes and initializers of a model under construction."""

    def __init__(self, spelling: Spelling) -> None:
        self.spelling = spelling
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def constant(self, name: str, value: Any, dtype: Any) -> str:
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        output = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=f"n{len(self.nodes)}", **attributes))
        return output

    def pair(self, source: str, parameters: tuple[float, int]) -> str:
        """QuantizeLinear and DequantizeLinear."""
        scale, zero_point = parameters
        dtype: Any = np.int8
        if self.spelling.wide:
            scale, zero_point, dtype = scale / 256, 0, np.int16
        elif self.spelling.unsigned:
            zero_point, dtype = zero_point + 128, np.uint8
        at = len(self.nodes)
        s = self.constant(f"s{at}", scale, np.float32)
        z = self.constant(f"z{at}", zero_point, dtype)
        return self.node("DequantizeLinear", self.node("QuantizeLinear", source, s, z), s, z)

    def affine(self, source: str, weights: Any, scale: Any, bias: Any, scale_in: float) -> str:
        at, operator = len(self.nodes), self.spelling.operator
        stored, axis = (weights, 0) if operator in ("Gemm^T", "Transpose") else (weights.T, 1)
        w = self.node(
            "DequantizeLinear",
            self.constant(f"w{at}", stored, np.int8),
            self.constant(f"ws{at}", scale, np.float32),
            self.constant(f"wz{at}", np.zeros(len(scale)), np.int8),
            axis=axis,
        )
        if operator == "Transpose":
            w = self.node("Transpose", w, perm=[1, 0])
        b = self._bias(at, bias, (np.float32(scale_in) * scale).astype(np.float32))
        if operator.startswith("Gemm"):
            return self.node("Gemm", source, w, *b, transB=int(operator == "Gemm^T"))
        product = self.node("MatMul", source, w)
        return self.node("Add", product, *b) if b else product

    def _bias(self, at: int, bias: Any, scale: Any) -> list[str]:
        if self.spelling.bias == "none":
            return []
        if self.spelling.bias == "float":
            return [self.constant(f"b{at}", bias * scale.astype(np.float64), np.float32)]
        name, s = self.constant(f"b{at}", bias, np.int32), self.constant(f"bs{at}", scale, np.float32)
        return [self.node("DequantizeLinear", name, s, axis=0)]


def make(spelling: Spelling) -> onnx.ModelProto:
    """A network of 4, 6 and 2 values."""
    b = Builder(spelling)
    here = "observation"
    if spelling.host:
        here = b.node("Sub", here, b.constant("mean", [0.5, 0, -1, 2], np.float32))
        here = b.node("Div", here, b.constant("deviation", [2, 4, 1, 0.5], np.float32))
        here = b.node("Clip", here, b.constant("low", -3, np.float32), b.constant("high", 3, np.float32))
    here = b.pair(here, INPUT)
    if spelling.no_ops:
        here = b.node("Identity", b.node("Flatten", here))
    scale_in = INPUT[0] / 256 if spelling.wide else INPUT[0]
    here = b.affine(here, W1, S1, B1, scale_in)
    hidden = HIDDEN
    if spelling.function in ("Tanh", "Sigmoid"):
        here = b.pair(here, (0.03, 5))
        hidden = (1 / 128, 0) if spelling.function == "Tanh" else (1 / 256, -128)
    elif spelling.quantized_before:
        here = b.pair(here, hidden)
    if spelling.function:
        here = b.node(spelling.function, here)
    here = b.pair(here, hidden)
    here = b.affine(here, W2, S2, B2, hidden[0] / 256 if spelling.wide else hidden[0])
    here = b.pair(here, OUTPUT)
    return close(b, here, 4)


def close(b: Builder, here: str, inputs: int) -> onnx.ModelProto:
    graph = helper.make_graph(
        b.nodes,
        "network",
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["N", inputs])],
        [helper.make_tensor_value_info(here, TensorProto.FLOAT, ["N", "M"])],
        b.initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.fixture
def lowered(tmp_path: Path) -> Callable[[onnx.ModelProto], Program]:
    def write_and_lower(model: onnx.ModelProto) -> Program:
        path = tmp_path / "model.onnx"
        onnx.save(model, path)
        return lower(path)

    return write_and_lower


Lowered = Callable[[onnx.ModelProto], Program]


def observations(count: int = 200) -> Any:
    return np.random.default_rng(7).normal(0, 1.5, (count, 4)).astype(np.float32)


def outputs(program: Program) -> list[Any]:
    return reference.run(program, quantize_input(program, observations()))


@pytest.mark.parametrize(
    "spelling",
    [
        Spelling(operator="Gemm^T"),
        Spelling(operator="MatMul"),
        Spelling(operator="Transpose"),
        Spelling(bias="float"),
        Spelling(unsigned=True),
        Spelling(quantized_before=True),
        Spelling(no_ops=True),
        Spelling(operator="MatMul", bias="float", unsigned=True, no_ops=True, quantized_before=True),
    ],
    ids=str,
)
def test_every_spelling_gives_the_same_integers(lowered: Lowered, spelling: Spelling) -> None:
    plain, other = lowered(make(Spelling())), lowered(make(spelling))
    assert len(other.layers) == 2
    for expected, got in zip(outputs(plain), outputs(other), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_integers_are_those_of_the_file(lowered: Lowered) -> None:
    program = lowered(make(Spelling()))
    first, second = program.layers
    assert isinstance(first, FullyConnected) and isinstance(second, FullyConnected)
    np.testing.assert_array_equal(first.weights, W1)
    np.testing.assert_array_equal(first.bias, B1 + 7 * W1.astype(int).sum(axis=1))
    np.testing.assert_array_equal(second.bias, B2 + 128 * W2.astype(int).sum(axis=1))
    ratio = float(np.float32(INPUT[0])) * S1.astype(np.float64) / float(np.float32(HIDDEN[0]))
    np.testing.assert_array_equal(first.requantize.multiplier, np.floor(ratio * 2.0**32 + 0.5))
    assert (first.output.low, first.output.high, first.input.zero_point) == (-128, 127, -7)
    assert (program.input.size, program.output.size, program.macs) == (4, 2, 36)


@pytest.mark.parametrize("function", ["", "Relu", "Tanh", "Sigmoid"])
@pytest.mark.parametrize("wide", [False, True])
def test_close_to_onnxruntime(lowered: Lowered, tmp_path: Path, function: str, wide: bool) -> None:
    if wide and function == "Sigmoid":
        pytest.skip("the scales above are those of 8 bits")
    onnxruntime = pytest.importorskip("onnxruntime")
    program = lowered(make(Spelling(function=function, wide=wide)))
    options = onnxruntime.SessionOptions()
    # Its full optimization computes 16-bit layers less exactly than the nodes say: up to 122 steps away here.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", options, providers=["CPUExecutionProvider"])
    (real,) = session.run(None, {"observation": observations()})
    q_runtime = np.rint(real / np.float32(program.output.scale)) + program.output.zero_point
    apart = np.abs(q_runtime - outputs(program)[-1])
    limit = 12 if wide and function == "Tanh" else 1  # a 16-bit table interpolates
    assert apart.max() <= limit


def test_tanh_becomes_the_table_of_the_layer_before(lowered: Lowered) -> None:
    first = lowered(make(Spelling(function="Tanh"))).layers[0]
    assert isinstance(first, FullyConnected) and first.table is not None
    expected = semantics.pointwise_table("Tanh", 0.03, 5, 1 / 128, 0, 8)
    np.testing.assert_array_equal(first.table, expected)
    assert first.function == "Tanh" and first.before_table.zero_point == 5 and first.output.zero_point == 0


def test_relu_of_another_scale_is_a_table(lowered: Lowered) -> None:
    b = Builder(Spelling())
    here = b.affine(b.pair("observation", INPUT), W1, S1, B1, INPUT[0])
    program = lowered(close(b, b.pair(b.node("Relu", b.pair(here, (0.03, 5))), HIDDEN), 4))
    (layer,) = program.layers
    assert isinstance(layer, FullyConnected) and layer.function == "Relu" and layer.table is not None
    np.testing.assert_array_equal(layer.table, semantics.pointwise_table("Relu", 0.03, 5, *HIDDEN, 8))


def test_clip_narrows_the_range(lowered: Lowered) -> None:
    b = Builder(Spelling())
    here = b.affine(b.pair("observation", INPUT), W1, S1, B1, INPUT[0])
    low, high = b.constant("low", 0, np.float32), b.constant("high", 0.54, np.float32)
    program = lowered(close(b, b.pair(b.node("Clip", here, low, high), OUTPUT), 4))
    assert (program.output.low, program.output.high) == (12, 22)


def test_host_part(lowered: Lowered, tmp_path: Path) -> None:
    program = lowered(make(Spelling(host=True)))
    host = program.host_input
    np.testing.assert_array_equal(host.offset, np.float32([0.5, 0, -1, 2]))
    np.testing.assert_array_equal(host.gain, np.float32([0.5, 0.25, 1, 2]))
    assert (host.low, host.high) == (-3, 3)
    x = np.float32([[100, 0, -1, 2.031]])
    expected = [[round(3 / 0.031) - 7, -7, -7, round(0.062 / 0.031) - 7]]
    np.testing.assert_array_equal(quantize_input(program, x), expected)


def refused(lowered: Lowered, model: onnx.ModelProto, *words: str) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        lowered(model)
    for word in words:
        assert word in str(caught.value)


def test_unknown_operator_is_named(lowered: Lowered) -> None:
    b = Builder(Spelling())
    here = b.pair(b.node("Erf", b.pair("observation", INPUT)), OUTPUT)
    refused(lowered, close(b, here, 4), "Erf node 'n2'", "Gemm", "Tanh")


def test_float_weights_are_refused(lowered: Lowered) -> None:
    b = Builder(Spelling())
    w = b.constant("w", RNG.normal(0, 1, (4, 6)), np.float32)
    here = b.pair(b.node("Gemm", b.pair("observation", INPUT), w), OUTPUT)
    refused(lowered, close(b, here, 4), "weights that are not quantized", "Gemm", "policyport quantize")


def test_float_network_is_refused(lowered: Lowered) -> None:
    b = Builder(Spelling())
    here = b.node("Gemm", "observation", b.constant("w", W1.T, np.float32))
    refused(lowered, close(b, here, 4), "Gemm")


def test_a_layer_with_weights_needs_a_quantized_input(lowered: Lowered) -> None:
    b = Builder(Spelling())
    here = b.affine(b.pair("observation", INPUT), W1, S1, B1, INPUT[0])
    refused(lowered, close(b, b.pair(b.affine(here, W2, S2, B2, 1.0), OUTPUT), 4), "Gemm", "not quantized")


def test_asymmetric_weights_are_refused(lowered: Lowered) -> None:
    model = make(Spelling())
    for tensor in model.graph.initializer:
        if tensor.name.startswith("wz"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.int8(30), tensor.name))
    refused(lowered, model, "zero point", "symmetric", "QInt8")


def test_mismatched_scales_are_refused(lowered: Lowered) -> None:
    model = make(Spelling())
    first = next(n for n in model.graph.node if n.op_type == "DequantizeLinear")
    other = numpy_helper.from_array(np.float32(0.5), "other")
    model.graph.initializer.append(other)
    first.input[1] = "other"
    refused(lowered, model, "DequantizeLinear of other scale")


def test_overflow_is_refused(lowered: Lowered) -> None:
    b = Builder(Spelling(wide=True))
    weights, scale = np.full((1, 600), 127, np.int8), np.float32([1.0])
    here = b.affine(b.pair("observation", INPUT), weights, scale, np.int32([0]), INPUT[0] / 256)
    refused(lowered, close(b, b.pair(here, OUTPUT), 600), "overflow", "Gemm node")


def test_no_layers_left_between_input_and_output(lowered: Lowered) -> None:
    b = Builder(Spelling())
    refused(lowered, close(b, b.pair("observation", INPUT), 4), "without layers")


def test_torn_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such model"):
        lower(tmp_path / "missing.onnx")
    torn = tmp_path / "torn.onnx"
    torn.write_bytes(make(Spelling()).SerializeToString()[:100])
    with pytest.raises(ArtifactError, match="torn model"):
        lower(torn)


def test_a_bias_of_another_size_than_the_outputs(lowered: Lowered) -> None:
    """Found by a fuzzer."""
    model = make(Spelling(bias="float"))
    name = next(node.input[2] for node in model.graph.node if node.op_type == "Gemm")
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    bias.CopyFrom(onnx.numpy_helper.from_array(np.zeros(24, np.float32), name))
    refused(lowered, model, "bias of another size", "1 or 6 values", "24")


def test_a_constant_of_no_type(tmp_path: Path) -> None:
    """Found by a fuzzer: onnx's checker lets it pass."""
    model = make(Spelling())
    model.graph.initializer[0].data_type = 91
    path = tmp_path / "strange.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match="torn model"):
        lower(path)


def test_spellings_differ_where_they_should(lowered: Lowered) -> None:
    """A network without biases is another network: the comparison above can fail."""
    plain, other = lowered(make(Spelling())), lowered(make(replace(Spelling(), bias="none")))
    assert not np.array_equal(outputs(plain)[0], outputs(other)[0])
