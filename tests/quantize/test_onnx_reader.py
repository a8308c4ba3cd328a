"""Reading float32 ONNX: equal to onnxruntime where it reads, a clear refusal where it does not."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from policyport.core.errors import ArtifactError, UnsupportedModelError
from policyport.quantize.onnx_reader import SUPPORTED, read_onnx

RNG = np.random.default_rng(1)
W1, B1 = RNG.normal(size=(5, 3)), RNG.normal(size=5)
W2, B2 = RNG.normal(size=(2, 5)), RNG.normal(size=2)
MEAN, STD = np.array([1.0, -2.0, 0.5]), np.array([2.0, 0.5, 3.0])


def node(kind, inputs, output, **attributes):
    return helper.make_node(kind, inputs, [output], name=f"the_{kind}_{output}", **attributes)


GEMM2 = node("Gemm", ["h", "w2", "b2"], "output", transB=1)
CONSTANTS = {"w1": W1, "b1": B1, "w2": W2, "b2": B2, "w1t": W1.T, "mean": MEAN, "std": STD}

READABLE = {
    "transB": [node("Gemm", ["observation", "w1", "b1"], "a", transB=1), node("Relu", ["a"], "h"), GEMM2],
    "no transB": [node("Gemm", ["observation", "w1t", "b1"], "a"), node("Tanh", ["a"], "h"), GEMM2],
    "MatMul and Add": [
        node("MatMul", ["observation", "w1t"], "m"),
        node("Add", ["b1", "m"], "a"),
        node("Sigmoid", ["a"], "h"),
        GEMM2,
    ],
    "MatMul without bias": [node("MatMul", ["observation", "w1t"], "h"), GEMM2],
    "transposed constant": [
        node("Transpose", ["w1"], "turned", perm=[1, 0]),
        node("MatMul", ["observation", "turned"], "h"),
        GEMM2,
    ],
    "alpha and beta": [node("Gemm", ["observation", "w1", "b1"], "h", transB=1, alpha=0.5, beta=-2.0), GEMM2],
    "flatten and identity": [
        node("Flatten", ["observation"], "f"),
        node("Identity", ["f"], "i"),
        node("Gemm", ["i", "w1", "b1"], "a", transB=1),
        node("Relu", ["a"], "r"),
        node("Identity", ["r"], "h"),
        GEMM2,
    ],
    "Sub, Div, Clip": [
        node("Sub", ["observation", "mean"], "s"),
        node("Div", ["s", "std"], "d"),
        node("Clip", ["d", "low", "high"], "c"),
        node("Gemm", ["c", "w1", "b1"], "h", transB=1),
        GEMM2,
    ],
    "affine behind the clip": [
        node("Sub", ["mean", "observation"], "s"),
        node("Clip", ["s", "low"], "c"),
        node("Mul", ["c", "std"], "m"),
        node("Add", ["m", "mean"], "d"),
        node("Gemm", ["d", "w1", "b1"], "h", transB=1),
        GEMM2,
    ],
    "a branch, a sum and functions on their own": [
        node("Gemm", ["observation", "w1", "b1"], "a", transB=1),
        node("Relu", ["a"], "r"),
        node("Tanh", ["r"], "t"),
        node("Sub", ["t", "a"], "s"),
        node("Elu", ["s"], "h"),
        GEMM2,
    ],
    "a function at the head, arithmetic behind it": [
        node("Tanh", ["observation"], "t"),
        node("Mul", ["t", "std"], "m"),
        node("Add", ["m", "mean"], "d"),
        node("Gemm", ["d", "w1", "b1"], "h", transB=1),
        GEMM2,
    ],
    "arithmetic at the end": [
        node("Gemm", ["observation", "w1", "b1"], "h", transB=1),
        node("Gemm", ["h", "w2", "b2"], "g", transB=1),
        node("Tanh", ["g"], "t"),
        node("Mul", ["t", "two"], "output"),
    ],
    "gates": [
        node("Gemm", ["observation", "w1", "b1"], "a", transB=1),
        node("Sigmoid", ["a"], "s"),
        node("Mul", ["s", "a"], "silu"),
        node("Add", ["silu", "three"], "p"),
        node("Clip", ["p", "zero0", "six"], "c"),
        node("Mul", ["silu", "c"], "g"),
        node("Div", ["g", "six"], "h"),
        GEMM2,
    ],
    "a scaler of scikit-learn": [
        node("Scaler", ["observation"], "s", domain="ai.onnx.ml", offset=MEAN.tolist(), scale=STD.tolist()),
        node("Gemm", ["s", "w1", "b1"], "h", transB=1),
        GEMM2,
    ],
    "weights stored as integers": [
        node("DequantizeLinear", ["w8", "two"], "wide"),
        node("Gemm", ["observation", "wide", "b1"], "h", transB=1),
        GEMM2,
    ],
    "a layer on a part": [
        node("Slice", ["observation", "at0", "at2", "at1"], "p"),
        node("Gemm", ["p", "w2"], "h"),
        GEMM2,
    ],
    "a part beside a layer": [
        node("Slice", ["observation", "at0", "at2", "at1"], "p"),
        node("Gemm", ["observation", "w1", "b1"], "a", transB=1),
        node("Relu", ["a"], "r"),
        node("Concat", ["p", "r"], "c", axis=1),
        node("Slice", ["c", "at2", "at7", "at1"], "h"),
        GEMM2,
    ],
    "parts joined again": [
        node("Slice", ["observation", "at0", "at2", "at1"], "p"),
        node("Slice", ["observation", "at2", "at3", "at1"], "q"),
        node("Concat", ["p", "q"], "j", axis=1),
        node("Gemm", ["j", "w1", "b1"], "h", transB=1),
        GEMM2,
    ],
    "scaled linear layer": [
        node("Gemm", ["observation", "w1", "b1"], "a", transB=1),
        node("Mul", ["a", "b1"], "h"),
        GEMM2,
    ],
}


@pytest.mark.parametrize("case", READABLE)
def test_reads_what_onnxruntime_computes(case, tmp_path, save_nodes):
    numbers = {"low": -0.5, "high": 0.75, "two": 2, "three": 3, "six": 6, "zero0": 0}
    constants = {**CONSTANTS, **{name: np.float32(value) for name, value in numbers.items()}}
    constants |= {f"at{i}": np.array([i], np.int64) for i in (*range(4), 7)}
    constants["w8"] = np.rint(W1 * 40).astype(np.int8)
    path = save_nodes(READABLE[case], constants, tmp_path / "net.onnx", 3, 2)
    observations = np.random.default_rng(2).normal(0, 2, (64, 3)).astype(np.float32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected = session.run(None, {"observation": observations})[0]
    graph = read_onnx(path)
    np.testing.assert_allclose(graph.evaluate(observations), expected, rtol=1e-4, atol=1e-4)
    assert (graph.input_name, graph.output_name) == ("observation", "output")


def test_the_host_part_ends_at_the_clip(tmp_path, save_nodes):
    constants = {**CONSTANTS, "low": np.float32(-10), "high": np.float32(10)}
    graph = read_onnx(save_nodes(READABLE["Sub, Div, Clip"], constants, tmp_path / "net.onnx", 3, 2))
    np.testing.assert_array_equal(graph.prefix.offset, MEAN.astype(np.float32))
    np.testing.assert_allclose(graph.prefix.gain, 1 / STD, rtol=1e-7)
    assert (graph.prefix.low, graph.prefix.high) == (-10, 10)


LINEAR = node("Gemm", ["observation", "w1", "b1"], "h", transB=1)
REFUSED = {
    "another operator": ([LINEAR, node("Erf", ["h"], "e"), node("Gemm", ["e", "w2", "b2"], "output", transB=1)], "Erf"),
    "a function of another shape": (
        [LINEAR, node("Elu", ["h"], "e", alpha=0.5), node("Gemm", ["e", "w2", "b2"], "output", transB=1)],
        "alpha 1",
    ),
    "a constant that cannot be computed": (
        [node("Reshape", ["w1", "at2"], "odd"), node("MatMul", ["observation", "odd"], "output")],
        "Reshape",
    ),
    "a sum of different shapes": (
        [LINEAR, node("Gemm", ["h", "w2", "b2"], "g", transB=1), node("Add", ["h", "g"], "output")],
        "different shape",
    ),
    "weights not constant": ([node("Gemm", ["w1", "observation"], "output")], "Gemm"),
    "transA": ([node("Gemm", ["observation", "w1", "b1"], "h", transA=1, transB=1), GEMM2], "transA"),
    "wrong size": ([node("Gemm", ["observation", "w2", "b2"], "output", transB=1)], "5"),
    "zero gain": (
        [node("Mul", ["observation", "zero"], "z"), node("Gemm", ["z", "w1", "b1"], "h", transB=1), GEMM2],
        "zero",
    ),
    "no layer": ([node("Mul", ["observation", "std"], "output")], "no layer"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_and_names_the_node(case, tmp_path, save_nodes):
    nodes, named = REFUSED[case]
    constants = {**CONSTANTS, "two": np.float32(2), "zero": np.zeros(3)}
    constants |= {f"at{i}": np.array([i], np.int64) for i in range(4)}
    path = save_nodes(nodes, constants, tmp_path / "net.onnx", 3, 2)
    with pytest.raises(UnsupportedModelError) as error:
        read_onnx(path)
    assert named in str(error.value)
    assert "net.onnx" in str(error.value)


def test_an_unsupported_operator_comes_with_the_supported_set(tmp_path, save_nodes):
    path = save_nodes(REFUSED["another operator"][0], CONSTANTS, tmp_path / "net.onnx", 3, 2)
    with pytest.raises(UnsupportedModelError) as error:
        read_onnx(path)
    assert "the_Erf_e" in str(error.value.where)
    assert "Gemm" in str(error.value.expected) and error.value.cure


def test_the_page_of_models_names_every_operator():
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    words = set(re.findall(r"\w+", page))
    assert set(SUPPORTED.split(", ")) <= words


def test_weights_that_are_not_finite_are_refused(tmp_path, save_nodes):
    bad = np.where(np.arange(15).reshape(5, 3) == 7, np.nan, W1)
    path = save_nodes([LINEAR, GEMM2], {**CONSTANTS, "w1": bad}, tmp_path / "net.onnx", 3, 2)
    with pytest.raises(UnsupportedModelError, match="finite"):
        read_onnx(path)


def test_several_outputs_are_refused(tmp_path, save_nodes):
    path = save_nodes([LINEAR, GEMM2], CONSTANTS, tmp_path / "net.onnx", 3, 2)
    model = onnx.load(path)
    model.graph.output.append(helper.make_tensor_value_info("h", onnx.TensorProto.FLOAT, ["N", 5]))
    onnx.save(model, path)
    with pytest.raises(UnsupportedModelError, match="actor alone"):
        read_onnx(path)


def test_an_input_of_no_fixed_size_is_refused(tmp_path, save_nodes):
    path = save_nodes([LINEAR, GEMM2], CONSTANTS, tmp_path / "net.onnx", 3, 2)
    model = onnx.load(path)
    shape = helper.make_tensor_value_info("observation", onnx.TensorProto.FLOAT, ["N", 3, "height", 8])
    model.graph.input[0].CopyFrom(shape)
    onnx.save(model, path)
    with pytest.raises(UnsupportedModelError, match="float32"):
        read_onnx(path)


def test_a_missing_or_torn_file_is_one_clear_error(tmp_path, save_nodes):
    with pytest.raises(ArtifactError, match="no such model"):
        read_onnx(tmp_path / "none.onnx")
    path = save_nodes([LINEAR, GEMM2], CONSTANTS, tmp_path / "net.onnx", 3, 2)
    whole = path.read_bytes()
    for torn in (whole[: len(whole) // 2], whole[:-3], b"", b"no onnx at all"):
        path.write_bytes(torn)
        with pytest.raises(ArtifactError, match="torn"):
            read_onnx(path)
