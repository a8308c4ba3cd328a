"""The exported QDQ ONNX: onnxruntime computes the reference's integers to a step, and the lowering reads them back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from policyport.core.errors import UnsupportedModelError
from policyport.deploy import exports, reference, vectors
from policyport.deploy.export_onnx import onnx_bytes
from policyport.deploy.exports import write_exports
from policyport.deploy.lower import lower
from policyport.deploy.program import quantize_input

CASES = {case.name: case for case in vectors.read_cases(Path(__file__).parents[1] / "vectors" / vectors.FILE_NAME)}
GROUPS = "transposed_grouped_w4"
WRITTEN = [name for name in CASES if name != GROUPS]


@pytest.mark.parametrize("name", WRITTEN)
def test_onnxruntime_computes_the_same_layer_by_layer(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    table = write_exports(case.program, None, case.input, case.layers, tmp_path)
    assert all(row["export"] != exports.ONNX_NAME for row in table["skipped"])
    rows = [row for row in table["rows"] if row["runtime"].startswith("onnxruntime")]
    assert [row["layer"] for row in rows] == [layer.name for layer in case.program.layers]
    for row, layer in zip(rows, case.program.layers, strict=True):
        wide = any(tensor.bits == 16 for tensor in (*layer.inputs, layer.output))
        # 16-bit functions interpolate; a softmax magnifies a step of its logits.
        assert row["largest"] <= (8 if wide else 5 if name == "residual" else 1), row


@pytest.mark.parametrize("name", [name for name in WRITTEN if name != "transpose"])
def test_what_is_written_is_read_back(tmp_path: Path, name: str) -> None:
    """A transposition alone is no layer to the lowering: a file in another order is another network."""
    case, path = CASES[name], tmp_path / "policy.onnx"
    path.write_bytes(onnx_bytes(case.program))
    back = lower(path)
    observations = exports.observations_for(case.program, case.input).reshape(len(case.input), -1)
    q = quantize_input(back, observations)
    np.testing.assert_array_equal(q, case.input)
    np.testing.assert_array_equal(reference.run(back, q)[-1], case.layers[-1])


def test_scales_that_onnx_has_no_place_for_are_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="groups have scales of their own"):
        onnx_bytes(CASES[GROUPS].program)


def test_same_program_same_bytes() -> None:
    program = CASES["residual"].program
    assert onnx_bytes(program) == onnx_bytes(program)
