"""Files as other tools write them, rebuilt node by node: each activation within a unit of onnxruntime's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from policyport.core.errors import PolicyportError, ToolError, UnsupportedModelError
from policyport.deploy import exports, reference
from policyport.deploy.layers import Conv2d, FullyConnected, Lookup, Pool
from policyport.deploy.lower import lower
from policyport.deploy.onnx_layers import ActivationPair, compare_activations, run_whole
from policyport.deploy.vectors import random_inputs
from policyport.deploy.weight_grid import found_grid
from qdq_net import CHANNELS, SIDE, Net

MICROSOFT = "com.microsoft"
FLAT = CHANNELS * SIDE * SIDE


class Foreign(Net):
    """The spellings of other tools."""

    def aimet_weights(self, shape: tuple[int, ...], bits: int = 8) -> str:
        """float32 behind a QuantizeLinear: the file holds no integers."""
        real = self.rng.normal(0, 0.1, shape).astype(np.float32)
        scale = np.abs(real).reshape(shape[0], -1).max(axis=1) / (2 ** (bits - 1) - 1)
        zeros: Any = np.zeros(shape[0], np.int8)
        if bits == 4:
            zeros = helper.make_tensor("z", onnx.TensorProto.INT4, [shape[0]], [0] * shape[0])
        s, z = self.constant(scale.astype(np.float32)), self.constant(zeros)
        q = self.node("QuantizeLinear", self.constant(real), s, z, axis=0)
        return self.node("DequantizeLinear", q, s, z, axis=0)

    def clipped_weights(self, shape: tuple[int, ...], bits: int) -> str:
        """int8 behind a Clip to fewer bits, as Brevitas writes them."""
        high = 2 ** (bits - 1) - 1
        q = self.constant(self.rng.integers(-high, high, shape, endpoint=True).astype(np.int8))
        bounds = self.constant(np.int8(-high)), self.constant(np.int8(high))
        scale = self.constant((self.rng.uniform(0.1, 0.3, shape[0]) / high).astype(np.float32))
        zeros = self.constant(np.zeros(shape[0], np.int8))
        return self.node("DequantizeLinear", self.node("Clip", q, *bounds), scale, zeros, axis=0)

    def baked_weights(self, shape: tuple[int, ...], bits: int = 8) -> str:
        """Rounded, then stored as float32, as Model Compression Toolkit writes them."""
        high = 2 ** (bits - 1) - 1
        q = self.rng.integers(-high, high, shape, endpoint=True)
        scale = self.rng.uniform(0.1, 0.3, (shape[0], *[1] * (len(shape) - 1))) / high
        return self.constant((q * scale).astype(np.float32))

    def grid(self, scale: float, zero_point: int = 128) -> list[str]:
        return [self.constant(np.float32(scale)), self.constant(np.uint8(zero_point))]

    def integers(self, shape: tuple[int, ...], scales: int) -> list[str]:
        """Weights of an operator on integers: values, scales and zero points."""
        values = self.rng.integers(-127, 127, shape, endpoint=True).astype(np.int8)
        scale = (self.rng.uniform(0.1, 0.3, scales) / 127).astype(np.float32)
        return [self.constant(values), self.constant(scale), self.constant(np.zeros(scales, np.int8))]

    def bias(self, outputs: int) -> str:
        return self.constant(self.rng.integers(-2000, 2000, outputs).astype(np.int32))


def compared(n: Net, output: str, folder: Path) -> tuple[list[ActivationPair], Path]:
    """A network's activations, computed twice; each at most a unit apart."""
    model = n.model(output, checked=False)
    path = folder / "net.onnx"
    onnx.save(model, path)
    program = lower(path)
    q = random_inputs(program, 6, np.random.default_rng(4))
    pairs = compare_activations(path, q)
    assert pairs
    for pair in pairs:
        assert np.abs(pair.wanted - pair.got).max() <= 1, pair.layer
        assert (pair.wanted == pair.got).mean() > 0.9, pair.layer
    whole = np.abs(reference.run(program, q)[-1] - run_whole(path, program, q))
    assert whole.max() <= 3 * len(pairs) * (1 if program.output.bits == 8 else 64)
    return pairs, path


@pytest.mark.parametrize("bits", [8, 4])
def test_float_weights_behind_a_quantizer(tmp_path: Path, bits: int) -> None:
    n = Foreign()
    here = n.pair("image", 0.02, 120, np.uint8)
    here = n.pair(n.node("Relu", n.node("Conv", here, n.aimet_weights((5, 3, 3, 3), bits))), 0.03, 0, np.uint8)
    pairs, path = compared(n, here, tmp_path)
    assert len(pairs) == 1 and [type(layer).__name__ for layer in lower(path).layers] == ["Conv2d"]
    layer = lower(path).layers[0]
    assert isinstance(layer, Conv2d) and layer.weight_bits == bits


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_clipped_weights(tmp_path: Path, bits: int) -> None:
    n = Foreign()
    conv = n.node("Conv", n.pair("image"), n.clipped_weights((5, 3, 3, 3), bits), pads=[1] * 4)
    _, path = compared(n, n.pair(n.node("Relu", conv), 0.03, 0, np.uint8), tmp_path)
    layer = lower(path).layers[0]
    assert isinstance(layer, Conv2d) and layer.weight_bits == bits


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_float_weights_on_a_grid(tmp_path: Path, bits: int) -> None:
    n = Foreign()
    conv = n.node("Relu", n.node("Conv", n.pair("image"), n.baked_weights((5, 3, 3, 3), bits)))
    flat = n.node("Flatten", n.pair(conv, 0.03, 0, np.uint8))
    here = n.node("Gemm", flat, n.baked_weights((4, 180), bits), transB=1)
    _, path = compared(n, n.pair(here, 0.1), tmp_path)
    widths = [layer.weight_bits for layer in lower(path).layers if isinstance(layer, Conv2d | FullyConnected)]
    assert widths == [bits, bits]


def test_a_last_layer_left_in_float(tmp_path: Path) -> None:
    n = Foreign()
    flat = n.node("Flatten", n.pair("image"))
    pairs, path = compared(n, n.dense(flat, FLAT, 5), tmp_path)
    program = lower(path)
    assert program.output.bits == 16 and len(pairs) == 1
    # The grid holds the largest value that there can be, and little more.
    q = reference.run(program, random_inputs(program, 100, np.random.default_rng(0)))[-1]
    assert 0 < np.abs(q).max() < 2**15 - 1


def test_a_sum_and_a_mean_left_in_float(tmp_path: Path) -> None:
    """What is added is a convolution's own output, and the sum goes to the mean as it is."""
    n = Foreign()
    stem = n.node("Relu", n.conv(n.pair("image"), 3, 4))
    branch = n.conv(n.pair(stem, 0.05, 0, np.uint8), 4, 4)
    total = n.node("Relu", n.node("Add", branch, stem))
    mean = n.node("GlobalAveragePool", total)
    here = n.dense(n.pair(n.node("Flatten", mean), 0.02, 0, np.uint8), 4, 5)
    _, path = compared(n, n.pair(here, 0.02), tmp_path)
    layers = lower(path).layers
    assert sum(isinstance(layer, Conv2d) for layer in layers) == 2, "the stem is computed once"
    assert [layer.output.bits for layer in layers if isinstance(layer, Pool)] == [16]


def test_relu_left_in_float_is_exact(tmp_path: Path) -> None:
    n = Foreign()
    relu = n.node("Relu", n.pair("image", 0.02, 7))
    pairs, _ = compared(n, n.pair(n.node("GlobalAveragePool", relu), 0.01, -128), tmp_path)
    assert all(np.array_equal(pair.wanted, pair.got) for pair in pairs)


@pytest.mark.parametrize("turned", [False, True])
def test_a_mean_at_the_end_is_finer_than_what_it_is_of(tmp_path: Path, turned: bool) -> None:
    n = Foreign()
    mean = n.node("GlobalAveragePool", n.pair("image", 0.02, 7))
    pairs, path = compared(n, n.node("Flatten", mean) if turned else mean, tmp_path)
    program = lower(path)
    assert program.output.bits == 16 and len(pairs) == 1 and program.output.scale < 0.02 / 100


def test_a_softmax_at_the_end_has_its_own_grid(tmp_path: Path) -> None:
    n = Foreign()
    logits = n.pair(n.dense(n.node("Flatten", n.pair("image")), FLAT, 5), 0.05)
    _, path = compared(n, n.node("Softmax", logits, axis=1), tmp_path)
    assert (lower(path).output.scale, lower(path).output.zero_point) == (1 / 256, -128)


@pytest.mark.parametrize("function", ["Tanh", "Sigmoid", "HardSwish"])
def test_a_function_left_in_float_has_a_grid_of_its_range(tmp_path: Path, function: str) -> None:
    n = Foreign()
    _, path = compared(n, n.node(function, n.pair("image", 0.02, 7)), tmp_path)
    layer = lower(path).layers[-1]
    assert isinstance(layer, Lookup)
    assert int(layer.table.max()) - int(layer.table.min()) > 230


def test_one_value_quantized_twice_is_computed_once(tmp_path: Path) -> None:
    n = Foreign()
    conv = n.conv(n.pair("image"), 3, 4)
    both = n.node("Concat", n.pair(conv, 0.03), n.pair(conv, 0.03), axis=1)
    _, path = compared(n, n.pair(both, 0.03), tmp_path)
    assert sum(isinstance(layer, Conv2d) for layer in lower(path).layers) == 1


Build = Callable[[Foreign, str, list[str]], str]


def on_integers(build: Build) -> tuple[Foreign, str]:
    """A network whose operators take and yield integers."""
    n = Foreign()
    grid = n.grid(0.02)
    q = build(n, n.node("QuantizeLinear", "image", *grid), grid)
    return n, q


def _conv(n: Foreign, q: str, grid: list[str], outputs: int = 4, groups: int = 1) -> tuple[str, list[str]]:
    to = n.grid(0.05, 100)
    inputs = [q, *grid, *n.integers((outputs, CHANNELS // groups, 3, 3), outputs), *to, n.bias(outputs)]
    return n.node("QLinearConv", *inputs, pads=[1] * 4, group=groups), to


def _unary(operator: str, scale: float, zero_point: int, **attributes: Any) -> Build:
    def build(n: Foreign, q: str, grid: list[str]) -> str:
        return n.node(operator, q, *grid, *n.grid(scale, zero_point), domain=MICROSOFT, **attributes)

    return build


def _binary(operator: str, scale: float) -> Build:
    def build(n: Foreign, q: str, grid: list[str]) -> str:
        a, a_grid = _conv(n, q, grid)
        b, b_grid = _conv(n, q, grid)
        return n.node(operator, a, *a_grid, b, *b_grid, *n.grid(scale), domain=MICROSOFT)

    return build


def _concat(n: Foreign, q: str, grid: list[str]) -> str:
    a, a_grid = _conv(n, q, grid)
    return n.node("QLinearConcat", *n.grid(0.05, 100), a, *a_grid, q, *grid, axis=1, domain=MICROSOFT)


def _gemm(turned: bool, bias: bool) -> Build:
    def build(n: Foreign, q: str, grid: list[str]) -> str:
        shape = (5, FLAT) if turned else (FLAT, 5)
        given = [n.node("Flatten", q), *grid, *n.integers(shape, 5), n.bias(5) if bias else "", *n.grid(0.1)]
        return n.node("QGemm", *given, transB=int(turned), alpha=1.0, domain=MICROSOFT)

    return build


def _matmul(n: Foreign, q: str, grid: list[str]) -> str:
    return n.node("QLinearMatMul", n.node("Flatten", q), *grid, *n.integers((FLAT, 5), 5), *n.grid(0.1))


def _softmax(n: Foreign, q: str, grid: list[str]) -> str:
    here, to = _gemm(turned=True, bias=True)(n, q, grid), list(n.nodes[-1].input)[-2:]
    return n.node("QLinearSoftmax", here, *to, *n.grid(1 / 256, 0), axis=1, opset=13, domain=MICROSOFT)


ON_INTEGERS: dict[str, Build] = {
    "conv": lambda n, q, grid: _conv(n, q, grid)[0],
    "conv_depthwise": lambda n, q, grid: _conv(n, q, grid, 6, 3)[0],
    "gemm": _gemm(turned=False, bias=True),
    "gemm_turned": _gemm(turned=True, bias=True),
    "gemm_without_bias": _gemm(turned=True, bias=False),
    "matmul": _matmul,
    "add": _binary("QLinearAdd", 0.08),
    "multiply": _binary("QLinearMul", 0.2),
    "concat": _concat,
    "softmax": _softmax,
    "sigmoid": _unary("QLinearSigmoid", 1 / 256, 0),
    "leaky_relu": _unary("QLinearLeakyRelu", 0.02, 40, alpha=0.2),
    "average_pool": _unary("QLinearAveragePool", 0.015, 128, kernel_shape=[2, 2], strides=[2, 2]),
    "global_average_pool": _unary("QLinearGlobalAveragePool", 0.004, 128, channels_last=0),
    "max_pool": lambda n, q, grid: n.node("MaxPool", _conv(n, q, grid)[0], kernel_shape=[2, 2], strides=[2, 2]),
}


def ended(name: str) -> tuple[Foreign, str]:
    """A network of one such operator behind others, and its output made real."""
    n, q = on_integers(ON_INTEGERS[name])
    last = next(node for node in reversed(n.nodes) if node.op_type.startswith("Q") and node.op_type != "QuantizeLinear")
    at = 0 if last.op_type == "QLinearConcat" else -2 if last.op_type != "QLinearConv" else 6
    return n, n.node("DequantizeLinear", q, *list(last.input)[at:][:2])


@pytest.mark.parametrize("name", ON_INTEGERS)
def test_operators_on_integers(tmp_path: Path, name: str) -> None:
    pairs, path = compared(*ended(name), tmp_path)
    assert len(lower(path).layers) >= 1
    assert len({pair.layer for pair in pairs}) == len(pairs)


def refused(n: Net, output: str, folder: Path, *words: str) -> None:
    path = folder / "net.onnx"
    onnx.save(n.model(output, checked=False), path)
    with pytest.raises(UnsupportedModelError) as caught:
        lower(path)
    for word in words:
        assert word in str(caught.value)


def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    n = Foreign()
    q = n.nodes.append(helper.make_node("DynamicQuantizeLinear", ["image"], ["q", "s", "z"], name="dynamic"))
    assert q is None
    refused(n, n.node("DequantizeLinear", "q", "s", "z"), tmp_path, "DynamicQuantizeLinear node 'dynamic'", "calibr")
    n, q = on_integers(_unary("QLinearGlobalAveragePool", 0.004, 128, channels_last=1))
    refused(
        n, n.node("DequantizeLinear", q, *n.grid(0.004)), tmp_path, "QLinearGlobalAveragePool node", "channels last"
    )
    n, q = on_integers(_unary("QLinearSigmoid", 1 / 256, 0))
    del n.nodes[-1].input[2:]
    refused(n, n.node("DequantizeLinear", q, *n.grid(0.004)), tmp_path, "QLinearSigmoid node", "lacks inputs")
    n, q = on_integers(ON_INTEGERS["gemm"])
    n.nodes[-1].input[1] = n.constant(np.float32([0.1, 0.2]))
    refused(n, n.node("DequantizeLinear", q, *n.grid(0.1)), tmp_path, "QGemm node", "several scales")
    n = Foreign()
    grid = n.grid(0.02)
    shape = (4, CHANNELS, 3, 3)
    values, scale = n.constant(n.rng.integers(0, 255, shape).astype(np.uint8)), n.constant(np.float32(0.01))
    weights = n.node("DequantizeLinear", values, scale, n.constant(np.uint8(90)))
    conv = n.node("Conv", n.node("DequantizeLinear", n.node("QuantizeLinear", "image", *grid), *grid), weights)
    refused(n, n.pair(conv), tmp_path, "zero point", "[90]", "weight_type=QInt8")
    n = Foreign()
    wide = n.pair("image", 0.001, 40000, np.uint16)
    refused(n, n.pair(n.conv(wide, 3, 4)), tmp_path, "16-bit activation with a zero point")
    n = Foreign()
    conv = n.node("Conv", n.pair("image"), n.constant(n.rng.normal(0, 1, shape).astype(np.float32)))
    refused(n, n.pair(conv), tmp_path, "weights that are not quantized", "float32 on a grid")


def test_weights_with_a_zero_point_that_fits(tmp_path: Path) -> None:
    n = Foreign()
    values = n.constant(n.rng.integers(60, 180, (4, CHANNELS, 3, 3)).astype(np.uint8))
    weights = n.node("DequantizeLinear", values, n.constant(np.float32(0.002)), n.constant(np.uint8(121)))
    compared(n, n.pair(n.node("Conv", n.pair("image"), weights), 0.03), tmp_path)


def test_a_file_that_onnxruntime_does_not_load(tmp_path: Path) -> None:
    n = Foreign()
    here = n.pair(n.conv(n.pair("image"), 3, 4))
    path = tmp_path / "net.onnx"
    onnx.save(n.model(here, checked=False), path)
    program = lower(path)
    q = random_inputs(program, 2, np.random.default_rng(0))
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("Unheard", [here], ["more"], domain="nowhere"))
    model.opset_import.append(helper.make_opsetid("nowhere", 1))
    onnx.save(model, path)
    with pytest.raises(ToolError, match="does not load"):
        run_whole(path, program, q)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, of scales that harm has made infinite
@pytest.mark.parametrize("name", ["conv", "gemm", "concat"])
def test_harmed_files_are_refused(tmp_path: Path, name: str) -> None:
    n, output = ended(name)
    whole = n.model(output, checked=False).SerializeToString()
    path, chance = tmp_path / "net.onnx", np.random.default_rng(8)
    read = 0
    for _ in range(60):
        harmed = bytearray(whole)
        for at in chance.integers(0, len(harmed), 2):
            harmed[at] ^= int(chance.integers(1, 256))
        path.write_bytes(harmed)
        try:
            lower(path)
            read += 1
        except PolicyportError:
            continue
    assert 0 < read < 60


def test_exports_compare_the_file_itself(tmp_path: Path) -> None:
    n, output = ended("max_pool")
    path = tmp_path / "net.onnx"
    onnx.save(n.model(output, checked=False), path)
    program = lower(path)
    inputs = random_inputs(program, 20, np.random.default_rng(0))
    table = exports.write_exports(program, path, inputs, reference.run(program, inputs), tmp_path)
    rows = {kind: [row for row in table["rows"] if row["runtime"].endswith(kind)] for kind in (", source", "by layers")}
    (whole,), layers = rows.values()
    assert whole["values"] == 20 * program.output.size and whole["largest"] <= 1
    assert [row["values"] for row in layers] == [8 * layer.output.size for layer in program.layers]


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 8), st.integers(0, 2**32 - 1), st.floats(1e-4, 10), st.integers(0, 1))
def test_a_grid_is_found_again(bits: int, seed: int, unit: float, axis: int) -> None:
    rng = np.random.default_rng(seed)
    q = rng.integers(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1), (4, 6))
    scales = (unit * rng.uniform(0.5, 2, q.shape[axis])).reshape((-1, 1) if axis == 0 else (1, -1))
    weights = (q * scales.astype(np.float32)).astype(np.float32)
    found = found_grid(weights, axis)
    assert found is not None
    integers, steps = found
    assert np.abs(integers).max() <= np.abs(q).max()
    np.testing.assert_allclose(integers * steps.reshape(scales.shape), weights, rtol=1e-4, atol=1e-5 * unit)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_weights_in_float_lie_on_no_grid(seed: int) -> None:
    weights = np.random.default_rng(seed).normal(0, 1, (4, 9)).astype(np.float32)
    assert found_grid(weights, 0) is None
    assert found_grid(np.full((2, 3), np.nan, np.float32), 0) is None
