"""The TFLite file: the runtime opens it and computes the reference's integers, within its rounding."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from policyport.core.errors import ToolError, UnsupportedModelError
from policyport.core.semantics import Integers
from policyport.deploy import exports, reference, vectors
from policyport.deploy.export_tflite import tflite_bytes
from policyport.deploy.layers import Lookup
from policyport.deploy.program import Program
from policyport.deploy.vectors import Case, random_inputs

CASES = {case.name: case for case in vectors.read_cases(Path(__file__).parents[1] / "vectors" / vectors.FILE_NAME)}
CHAINS = ("linear", "relu", "tanh", "sigmoid", "saturating", "foreign", "one", "policy")
MIXED = ["linear_w2", "linear_s8_to_s16", "linear_s16_to_s8", "policy_relu_mixed"]
CLAMPED = ["clip_s8", "clip_s16"]
WRITTEN = [name for name in CASES if name.startswith(CHAINS) and name not in MIXED + CLAMPED]


def run(program: Program, inputs: Integers) -> Integers:
    try:
        interpreter = exports.tflite_interpreter(tflite_bytes(program))
    except ToolError as error:
        if "No module named 'ai_edge_litert'" in str(error):
            pytest.skip("the runtime comes with policyport[tflite]")
        raise
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert source["dtype"] == (np.int8 if program.input.bits == 8 else np.int16)
    assert source["quantization"] == (pytest.approx(program.input.scale), program.input.zero_point)
    assert target["quantization"] == (pytest.approx(program.output.scale), program.output.zero_point)
    outputs = []
    for row in inputs:
        interpreter.set_tensor(source["index"], row[None].astype(source["dtype"]))
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(target["index"])[0].astype(np.int64))
    return np.array(outputs)


def limit(program: Program) -> int:
    """Largest difference: one step of rounding, as a function behind it magnifies that; 16-bit tables add theirs."""
    last = program.layers[-1]
    if program.output.bits == 16:
        return 8
    return math.ceil(last.input.scale / last.output.scale) if isinstance(last, Lookup) else 1


@pytest.mark.parametrize("name", WRITTEN)
def test_runtime_computes_the_same_integers(name: str) -> None:
    case: Case = CASES[name]
    inputs = np.concatenate([case.input, random_inputs(case.program, 40, np.random.default_rng(1))])
    expected = reference.run(case.program, inputs)[-1]
    assert len(np.unique(expected)) > 1
    assert np.abs(run(case.program, inputs) - expected).max() <= limit(case.program)


@pytest.mark.parametrize("name", MIXED)
def test_mixed_widths_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedModelError, match="two widths"):
        tflite_bytes(CASES[name].program)


@pytest.mark.parametrize("name", CLAMPED)
def test_clamps_without_a_fused_activation_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedModelError, match="no fused activation"):
        tflite_bytes(CASES[name].program)


def test_same_program_same_bytes() -> None:
    program = CASES["policy_tanh_s8"].program
    content = tflite_bytes(program)
    assert content == tflite_bytes(program) and content[4:8] == b"TFL3"


def test_no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str, _: object) -> None:
        raise ImportError(f"No module named {package!r}")

    monkeypatch.setattr(exports, "_interpreter", missing)
    with pytest.raises(ToolError) as caught:
        exports.tflite_interpreter(b"")
    assert "tflite_runtime" in str(caught.value) and "policyport[tflite]" in str(caught.value)
