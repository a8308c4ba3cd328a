"""The TFLite file: the runtime opens it and computes the reference's integers, within its rounding."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from policyport.core.errors import ArtifactError, ToolError, UnsupportedModelError
from policyport.core.semantics import Integers
from policyport.deploy import exports, reference, vectors
from policyport.deploy.export_tflite import tflite_bytes
from policyport.deploy.layers import Affine, Lookup, Multiply, Softmax
from policyport.deploy.lower import lower
from policyport.deploy.program import Program
from policyport.deploy.vectors import Case, random_inputs

CASES = {case.name: case for case in vectors.read_cases(Path(__file__).parents[1] / "vectors" / vectors.FILE_NAME)}
REFUSED = {
    "two widths": [
        "linear_w2",
        "linear_s8_to_s16",
        "linear_s16_to_s8",
        "policy_relu_mixed",
        "conv_s16_to_s8",
        "conv_s8_to_s16",
        "add_mixed",
        "multiply_channels",
        "rescale",
    ],
    "grouped convolution": ["conv_grouped"],
    "a transposed convolution": ["transposed", "transposed_grouped_w4"],
    "whose padding": ["max_pool", "average_pool", "average_pool_padding"],
    "16-bit values": ["argmax_s16"],
}
"""By a word of the reason."""

WRITTEN = [name for name in CASES if not any(name in names for names in REFUSED.values())]


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
    return exports.run_tflite(interpreter, program, inputs)


def limit(program: Program) -> int:
    """Largest difference: one step of rounding, as a function behind it magnifies that; 16-bit tables add theirs."""
    last = program.layers[-1]
    if program.output.bits == 16 and isinstance(last, (Affine, Lookup)):
        return 8
    if isinstance(last, Softmax) and len(program.layers) > 1:
        # Two logits, each two steps away behind a sum and a mean; p (1 - p) is at most a quarter.
        return 1 + math.ceil(256 / 4 * 2 * 2 * last.input.scale)
    if isinstance(last, Multiply):
        a, b = last.inputs
        return 1 + math.ceil((128 + abs(a.zero_point)) * a.scale * b.scale / last.output.scale)
    return math.ceil(last.input.scale / last.output.scale) if isinstance(last, Lookup) else 1


@pytest.mark.parametrize("name", WRITTEN)
def test_runtime_computes_the_same_integers(name: str) -> None:
    case: Case = CASES[name]
    inputs = np.concatenate([case.input, random_inputs(case.program, 40, np.random.default_rng(1))])
    expected = reference.run(case.program, inputs)[-1]
    assert len(np.unique(expected)) > 1
    assert np.abs(run(case.program, inputs) - expected).max() <= limit(case.program)


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_written_is_read_back(tmp_path: Path, name: str) -> None:
    """The integers survive the file: no step of difference, whatever the reader fuses."""
    case, path = CASES[name], tmp_path / "policy.tflite"
    path.write_bytes(tflite_bytes(case.program))
    back = lower(path)
    assert back.input.quantized_as(case.program.input) and back.output.quantized_as(case.program.output)
    # TFLite's mean keeps the input's scale: another one takes a second operator, which rounds again.
    allowed = 1 if name == "average_pool_behind" else 0
    assert np.abs(reference.run(back, case.input)[-1] - case.layers[-1]).max() <= allowed


@pytest.mark.parametrize(("reason", "name"), [(reason, name) for reason, names in REFUSED.items() for name in names])
def test_what_tflite_cannot_hold_is_refused(reason: str, name: str) -> None:
    with pytest.raises(UnsupportedModelError, match=reason):
        tflite_bytes(CASES[name].program)


def test_torn_and_foreign_files(tmp_path: Path) -> None:
    content, path = tflite_bytes(CASES["residual"].program), tmp_path / "policy.tflite"
    with pytest.raises(ArtifactError, match="no such model"):
        lower(path)
    path.write_bytes(b"\0" * 100)
    with pytest.raises(ArtifactError, match="torn model"):
        lower(path)
    for cut in (200, len(content) // 2):
        path.write_bytes(content[:cut])
        with pytest.raises(ArtifactError, match="torn model"):
            lower(path)


def test_same_program_same_bytes() -> None:
    program = CASES["policy_tanh_s8"].program
    content = tflite_bytes(program)
    assert content == tflite_bytes(program) and content[4:8] == b"TFL3"


def test_no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str, *_: object) -> None:
        raise ImportError(f"No module named {package!r}")

    monkeypatch.setattr(exports, "_interpreter", missing)
    with pytest.raises(ToolError) as caught:
        exports.tflite_interpreter(b"")
    assert "tflite_runtime" in str(caught.value) and "policyport[tflite]" in str(caught.value)
