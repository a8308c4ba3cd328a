"""Golden vectors: small programs with inputs and every layer's integers, to hold all implementations equal.

``python -m policyport.deploy.vectors FOLDER`` writes ``golden.json`` there. The numpy reference, the host
C and the emulated kernels are compared with the numbers in that file, not with each other.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core import semantics
from policyport.core.errors import ArtifactError
from policyport.core.semantics import SEMANTICS_VERSION, Integers
from policyport.deploy import reference
from policyport.deploy.layers import FullyConnected, Layer, Lookup, Tensor
from policyport.deploy.program import HostInput, Program, program_from_tables, program_to_tables
from policyport.deploy.random_graph import golden_graphs

VECTORS_VERSION = 2
FILE_NAME = "golden.json"


@dataclass(frozen=True)
class Case:
    """A program, inputs, and what it must yield."""

    name: str
    program: Program
    input: Integers
    """[n, inputs]"""

    layers: tuple[Integers, ...]
    """Each layer's output: [n, outputs]."""


@dataclass(frozen=True)
class Spec:
    """A random program in a few words."""

    sizes: tuple[int, ...]
    """Elements of the input and of each layer's output."""

    bits: tuple[int, ...]
    """Width of each of them."""

    functions: tuple[str, ...]
    """Per layer: empty, ``Relu``, ``Tanh``, ``Sigmoid``, or ``Clip`` for a clamp inside the range."""

    largest_weight: int = 127
    """Magnitude of the largest weight drawn; 128 draws -128 as well."""

    gain: float = 1.0
    """Spread of the layers' outputs relative to their range; above 1 they saturate."""

    weight_bits: int = 8
    """8, 4, 3 or 2."""


def random_program(spec: Spec, rng: np.random.Generator) -> Program:
    """A program with random weights whose activations use their range."""
    source = first = _tensor("input", spec.sizes[0], spec.bits[0], 1.0, _zero_point(spec.bits[0], rng))
    layers: list[Layer] = []
    for i, function in enumerate(spec.functions):
        layers.append(_layer(f"layer{i + 1}", source, spec, i, function, rng))
        source = layers[-1].output
    host = HostInput(np.zeros(first.size, np.float32), np.ones(first.size, np.float32), -np.inf, np.inf)
    return Program("random", host, first, source, tuple(layers))


def with_lookup(program: Program, function: str) -> Program:
    """The program with a pointwise function of its own behind the last layer, not fused."""
    source = program.output
    target = _function_output(f"{source.name}/{function}", source.size, source.bits, function)
    table = semantics.pointwise_table(
        function, source.scale, source.zero_point, target.scale, target.zero_point, target.bits
    )
    last = Lookup(target.name, (source,), target, table, function)
    return replace(program, output=target, layers=(*program.layers, last))


def random_inputs(program: Program, count: int, rng: np.random.Generator) -> Integers:
    """[count, inputs]: both extremes, the zero point, then uniform over the whole range."""
    tensor = program.input
    q = rng.integers(tensor.low, tensor.high, (count, tensor.size), endpoint=True)
    for row, value in enumerate((tensor.low, tensor.high, tensor.zero_point)[:count]):
        q[row] = value
    return q.astype(np.int64)


def model_vectors(program: Program, q_input: Integers) -> dict[str, NDArray[Any]]:
    """Inputs and every layer's integers as named arrays, for ``vectors.npz``: ``input``, ``layer1``, ``layer2``, ..."""
    outputs = reference.run(program, q_input)
    named = {"input": q_input, **{f"layer{i + 1}": q for i, q in enumerate(outputs)}}
    return {name: q.astype(np.int16) for name, q in named.items()}


def _tensor(name: str, size: int, bits: int, span: float, zero_point: int) -> Tensor:
    low, high = semantics.activation_range(bits)
    return Tensor(name, (size,), bits, float(np.float32(span / (high - low) * 2)), zero_point, low, high)


def _zero_point(bits: int, rng: np.random.Generator) -> int:
    return int(rng.integers(-40, 40)) if bits == 8 else 0


def _function_output(name: str, size: int, bits: int, function: str) -> Tensor:
    low, high = semantics.activation_range(bits)
    if function == "Sigmoid":
        return Tensor(name, (size,), bits, 2.0**-8 if bits == 8 else 2.0**-15, -128 if bits == 8 else 0, low, high)
    return Tensor(name, (size,), bits, 2.0 ** (1 - bits), 0, low, high)


def _weights(spec: Spec, i: int, rng: np.random.Generator) -> Integers:
    largest = min(spec.largest_weight, 2 ** (spec.weight_bits - 1))
    weights = rng.normal(0.0, largest / 3, (spec.sizes[i + 1], spec.sizes[i]))
    weights = np.clip(np.rint(weights), -largest, min(largest, 2 ** (spec.weight_bits - 1) - 1)).astype(np.int64)
    weights.flat[0] = -largest
    return weights


def _layer(name: str, source: Tensor, spec: Spec, i: int, function: str, rng: np.random.Generator) -> FullyConnected:
    size, bits = spec.sizes[i + 1], spec.bits[i + 1]
    weights = _weights(spec, i, rng)
    weight_scale = rng.uniform(0.5, 1.5, size).astype(np.float32).astype(np.float64) / 127
    zero_point = -128 if (function, bits) == ("Relu", 8) else _zero_point(bits, rng)
    spread = np.abs(weights).max() * np.sqrt(weights.shape[1]) / 127 / spec.gain
    before = _tensor(name if function in ("", "Relu", "Clip") else f"{name}/before", size, bits, spread, zero_point)
    if function == "Relu":
        before = replace(before, low=zero_point)
    elif function == "Clip":
        before = replace(before, low=zero_point, high=zero_point + (before.high - zero_point) // 2)
    bias = rng.integers(-500, 500, size) - source.zero_point * weights.sum(axis=1)
    bound = int(semantics.accumulator_bound(weights, bias, source.low, source.high).max())
    by = semantics.requantization(source.scale * weight_scale / before.scale, bound, name)
    output, table = before, None
    if function in ("Tanh", "Sigmoid"):
        output = _function_output(name, size, bits, function)
        table = semantics.pointwise_table(
            function, before.scale, before.zero_point, output.scale, output.zero_point, bits
        )
    return FullyConnected(
        name=name,
        inputs=(source,),
        output=output,
        weights=weights,
        weight_bits=spec.weight_bits,
        weight_scale=weight_scale,
        bias=bias.astype(np.int64),
        requantize=by,
        before_table=before,
        table=table,
        function="" if table is None else function,
    )


GOLDEN: dict[str, Spec] = {
    "linear_s8": Spec((5, 3), (8, 8), ("",)),
    "linear_s16": Spec((7, 6), (16, 16), ("",)),
    "linear_s8_to_s16": Spec((4, 5), (8, 16), ("",)),
    "linear_s16_to_s8": Spec((9, 4), (16, 8), ("",)),
    "relu_s8": Spec((6, 8), (8, 8), ("Relu",)),
    "relu_s16": Spec((6, 5), (16, 16), ("Relu",)),
    "clip_s8": Spec((6, 5), (8, 8), ("Clip",)),
    "clip_s16": Spec((3, 5), (16, 16), ("Clip",)),
    "tanh_s8": Spec((8, 9), (8, 8), ("Tanh",)),
    "tanh_s16": Spec((8, 9), (16, 16), ("Tanh",)),
    "sigmoid_s8": Spec((4, 7), (8, 8), ("Sigmoid",)),
    "sigmoid_s16": Spec((4, 7), (16, 16), ("Sigmoid",)),
    "saturating_s8": Spec((70, 4), (8, 8), ("",), gain=8.0),
    "saturating_s16": Spec((33, 4), (16, 16), ("Tanh",), gain=8.0),
    "foreign_minus_128": Spec((6, 5), (8, 8), ("Relu",), largest_weight=128),
    "one_by_one": Spec((1, 1), (8, 8), ("",)),
    "linear_w4": Spec((9, 5), (8, 8), ("",), weight_bits=4),
    "linear_w3_s16": Spec((11, 6), (16, 16), ("Tanh",), weight_bits=3),
    "linear_w2": Spec((7, 5), (8, 16), ("Relu",), weight_bits=2),
    "policy_tanh_s8": Spec((4, 16, 16, 2), (8, 8, 8, 8), ("Tanh", "Tanh", "")),
    "policy_tanh_s16": Spec((4, 16, 16, 2), (16, 16, 16, 16), ("Tanh", "Tanh", "")),
    "policy_relu_mixed": Spec((3, 20, 12, 1), (16, 8, 8, 16), ("Relu", "Relu", "Tanh")),
}
"""The golden cases, by name."""


def golden_cases() -> list[Case]:
    """Makes the golden cases anew, by the numpy reference."""
    cases = []
    for seed, (name, spec) in enumerate(GOLDEN.items()):
        rng = np.random.default_rng(seed)
        program = random_program(spec, rng)
        if name in ("linear_s8", "linear_s16"):
            program = with_lookup(program, "Tanh")
        q = random_inputs(program, 6, rng)
        cases.append(Case(name, program, q, tuple(reference.run(program, q))))
    for seed, (name, program) in enumerate(golden_graphs().items()):
        q = random_inputs(program, 4, np.random.default_rng(seed))
        cases.append(Case(name, program, q, tuple(reference.run(program, q))))
    return cases


def write_cases(cases: Sequence[Case], path: Path) -> None:
    """Write golden vectors as JSON, a line per array."""
    entries = []
    for case in cases:
        structure, arrays = program_to_tables(case.program)
        entry = {
            "name": case.name,
            "structure": structure,
            "arrays": {
                name: {"dtype": a.dtype.str, "shape": list(a.shape), "values": a.reshape(-1).tolist()}
                for name, a in sorted(arrays.items())
            },
            "input": case.input.tolist(),
            "layers": [q.tolist() for q in case.layers],
        }
        entries.append(json.dumps(entry, separators=(",", ":")))
    head = f'{{"vectors": {VECTORS_VERSION}, "semantics": {SEMANTICS_VERSION}, "cases": [\n'
    path.write_text(head + ",\n".join(entries) + "\n]}\n")


def read_cases(path: Path) -> list[Case]:
    """Read golden vectors.

    :raises ArtifactError: of another version, or of other integer semantics
    """
    table = json.loads(path.read_text())
    got = (table.get("vectors"), table.get("semantics"))
    if got != (VECTORS_VERSION, SEMANTICS_VERSION):
        raise ArtifactError(
            "golden vectors of another version",
            where=path,
            expected=(VECTORS_VERSION, SEMANTICS_VERSION),
            got=got,
            cure=f"python -m policyport.deploy.vectors {path.parent}",
        )
    cases = []
    for entry in table["cases"]:
        arrays = {
            name: np.array(a["values"], np.dtype(a["dtype"])).reshape(a["shape"]) for name, a in entry["arrays"].items()
        }
        program = program_from_tables(entry["structure"], arrays, where=path)
        layers = tuple(np.array(q, np.int64) for q in entry["layers"])
        cases.append(Case(entry["name"], program, np.array(entry["input"], np.int64), layers))
    return cases


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: writes ``golden.json`` into a folder."""
    parser = argparse.ArgumentParser(prog="python -m policyport.deploy.vectors", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder for golden.json, tests/vectors say")
    folder = parser.parse_args(arguments).folder
    folder.mkdir(parents=True, exist_ok=True)
    write_cases(golden_cases(), folder / FILE_NAME)
    return 0


if __name__ == "__main__":
    sys.exit(main())
