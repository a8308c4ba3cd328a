"""Layers of a TFLite file beside TFLite's reference kernels: at most one unit apart, given the same input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from policyport.core.errors import ToolError, UnsupportedModelError
from policyport.core.semantics import leaky_slope
from policyport.core.tflite_file import read_tflite, with_outputs
from policyport.deploy import exports, reference, vectors
from policyport.deploy.export_tflite import tflite_bytes
from policyport.deploy.layers import Lookup, Tensor
from policyport.deploy.lower import lower, lower_as_written
from policyport.deploy.tflite_layers import LayerPair, compare_layers
from policyport.deploy.tflite_writer import TFLiteWriter
from policyport.deploy.vectors import random_inputs

CASES = {case.name: case for case in vectors.read_cases(Path(__file__).parents[1] / "vectors" / vectors.FILE_NAME)}
NAMES = (
    *("policy_tanh_s8", "conv_s8", "conv_strided_dilated", "conv_depthwise", "conv_pointwise"),
    *("average_pool_behind", "add", "multiply", "concat_channels", "residual", "softmax", "lookup", "image_to_vector"),
)


@pytest.fixture(params=NAMES)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"{request.param}.tflite"
    path.write_bytes(tflite_bytes(CASES[request.param].program))
    return path


def compared(path: Path, count: int = 20) -> list[LayerPair]:
    try:
        return compare_layers(path, random_inputs(lower(path), count, np.random.default_rng(2)))
    except ToolError as error:
        if "No module named 'ai_edge_litert'" in str(error):
            pytest.skip("the runtime comes with policyport[tflite]")
        raise


def test_every_operator_is_within_a_unit(file: Path) -> None:
    pairs = compared(file)
    layers = {layer.output.name: layer for layer in lower_as_written(file).layers}
    yielded = {read_tflite(file).tensors[operator.outputs[0]].name for operator in read_tflite(file).operators}
    assert {pair.layer for pair in pairs} == yielded & set(layers)
    for pair in pairs:
        assert pair.wanted.shape == pair.got.shape == (20, layers[pair.layer].output.size)
        # A table of TFLite is made of float32 numbers.
        assert np.abs(pair.wanted - pair.got).max() <= (0 if isinstance(layers[pair.layer], Lookup) else 1)


def leaky(path: Path, slopes: list[float] | None, option: float = 0.0) -> Path:
    """A file of one LEAKY_RELU of a slope, or with ``slopes`` of one PRELU."""
    writer, shape = TFLiteWriter(), (4, 3, 2)
    source = Tensor("input", shape, 8, 0.05, -10, -128, 127)
    target = Tensor("output", shape, 8, 0.045, 3, -128, 127)
    numbers = [writer.activation(source), writer.activation(target)]
    if slopes is None:
        writer.operator("LEAKY_RELU", numbers[:1], numbers[1:], {0: ("float32", option)})
    else:
        scale = max(map(abs, slopes)) / 127
        integers = np.rint(np.broadcast_to(slopes, (1, 1, shape[2])) / scale).astype(np.int8)
        constant = writer.constant("slopes", integers, np.array([scale]), np.zeros(1, np.int64))
        writer.operator("PRELU", [numbers[0], constant], numbers[1:])
    path.write_bytes(writer.finish(numbers[:1], numbers[1:], "leaky"))
    return path


@pytest.mark.parametrize("slope", [0.01, 0.2, -0.3, 1.5])
@pytest.mark.parametrize("operator", ["LEAKY_RELU", "PRELU"])
def test_slopes_below_zero_are_within_a_unit(tmp_path: Path, operator: str, slope: float) -> None:
    path = leaky(tmp_path / "leaky.tflite", [slope] if operator == "PRELU" else None, slope)
    program = lower(path)
    (layer,) = program.layers
    assert isinstance(layer, Lookup) and leaky_slope(layer.function) == pytest.approx(slope, rel=1e-4)
    (pair,) = compared(path, 64)
    assert np.abs(pair.wanted - pair.got).max() <= 1
    assert (pair.wanted == pair.got).mean() > 0.8  # TFLite rounds products that end in a half otherwise
    again = tmp_path / "again.tflite"
    again.write_bytes(tflite_bytes(program))
    (read,) = lower(again).layers
    assert isinstance(read, Lookup) and read.function == layer.function
    np.testing.assert_array_equal(read.table, layer.table)


def test_a_slope_for_each_channel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="2 slopes"):
        lower(leaky(tmp_path / "leaky.tflite", [0.1, 0.2]))


def test_differences_do_not_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that is wrong is the only one that differs: those behind it get what TFLite computed."""
    path = tmp_path / "residual.tflite"
    path.write_bytes(tflite_bytes(CASES["residual"].program))
    honest, run_layer = compared(path, 4), reference.run_layer
    wrong = honest[1].layer

    def off_by_two(layer: reference.Layer, operands: list[reference.Integers]) -> reference.Integers:
        return run_layer(layer, operands) + 2 * (layer.output.name == wrong)

    monkeypatch.setattr(reference, "run_layer", off_by_two)
    for before, after in zip(honest, compared(path, 4), strict=True):
        np.testing.assert_array_equal(after.got, before.got)
        np.testing.assert_array_equal(after.wanted, before.wanted + 2 * (before.layer == wrong))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_gets_other_outputs_and_stays_what_it_is(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite_bytes(CASES["residual"].program))
    before = read_tflite(path)
    numbers = data.draw(st.lists(st.integers(0, len(before.tensors) - 1), max_size=6))
    path.write_bytes(with_outputs(path.read_bytes(), numbers) + bytes(data.draw(st.integers(0, 3))))
    after = read_tflite(path)
    assert after.outputs == tuple(numbers) and after.inputs == before.inputs
    assert [operator.inputs for operator in after.operators] == [operator.inputs for operator in before.operators]


def test_a_file_is_compiled_where_no_runtime_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str, *_: object) -> None:
        raise ImportError(f"No module named {package!r}")

    path, case = tmp_path / "given.tflite", CASES["policy_tanh_s8"]
    path.write_bytes(tflite_bytes(case.program))
    monkeypatch.setattr(exports, "_interpreter", missing)
    table = exports.write_exports(case.program, path, case.input, case.layers, tmp_path)
    assert {skipped["export"] for skipped in table["skipped"]} == {"given.tflite", "policy.tflite"}
    assert all("policyport[tflite]" in skipped["reason"] for skipped in table["skipped"])
    assert (tmp_path / "policy.tflite").is_file() and {row["layer"] for row in table["rows"]}
