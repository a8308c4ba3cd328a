"""The integer program: a network as integers alone, in the order the device runs it.

It is what the lowering of a QDQ ONNX yields, and what the reference interpreter, the C generator, the
memory planner and the exporters read. On disk it is ``program.json`` (structure) and ``program.npz``
(arrays), the same bytes for the same program, whenever and wherever they are written.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core import semantics
from policyport.core.errors import ArtifactError, ObservationError
from policyport.core.semantics import SEMANTICS_VERSION, Integers, Requantization

PROGRAM_SCHEMA = 1
STRUCTURE = "program.json"
ARRAYS = "program.npz"

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Tensor:
    """An activation vector: ``real = scale * (q - zero_point)``."""

    name: str
    size: int
    """Number of elements."""

    bits: int
    """8 (int8, asymmetric) or 16 (int16, zero point 0)."""

    scale: float
    """A float32 value."""

    zero_point: int
    low: int
    """Smallest integer it can hold, at most its width's: what a clamp or a table leaves."""

    high: int


@dataclass(frozen=True)
class HostInput:
    """What the host does to an observation before it quantizes it, in float32 and in this order:
    ``clip((observation - offset) * gain, low, high)``; then QuantizeLinear with the input tensor's scale.
    """

    offset: NDArray[np.float32]
    """[inputs]"""

    gain: NDArray[np.float32]
    """[inputs]"""

    low: float
    """``-inf`` where nothing is clipped."""

    high: float


@dataclass(frozen=True)
class FullyConnected:
    """``lookup(requantize(W q + b))``; the table is there where an activation function is fused."""

    name: str
    """Name of its output in the ONNX it came from."""

    input: Tensor
    output: Tensor
    weights: Integers
    """[outputs, inputs], values of ``weight_bits``."""

    weight_bits: int
    weight_scale: NDArray[np.float64]
    """[outputs], for exporters; the device never sees it."""

    bias: Integers
    """[outputs], int32, the input's zero point folded in."""

    requantize: Requantization
    before_table: Tensor
    """What the requantization yields; equal to ``output`` where there is no table."""

    table: Integers | None
    """[256] for int8, [257] for int16: see :func:`policyport.core.semantics.lookup`."""

    function: str
    """ONNX operator that the table holds, ``Tanh`` say; empty without one."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return int(self.weights.size)

    @property
    def accumulator_bound(self) -> Integers:
        """[outputs], largest magnitude of each accumulator for any input the tensor can hold."""
        return semantics.accumulator_bound(self.weights, self.bias, self.input.low, self.input.high)


@dataclass(frozen=True)
class Lookup:
    """A pointwise function by its table, where it could not be fused."""

    name: str
    input: Tensor
    output: Tensor
    table: Integers
    function: str

    @property
    def macs(self) -> int:
        """None: a lookup does not multiply."""
        return 0


Layer = FullyConnected | Lookup


@dataclass(frozen=True)
class Program:
    """A network as integers: a chain of layers from one input to one output."""

    name: str
    host_input: HostInput
    input: Tensor
    output: Tensor
    layers: tuple[Layer, ...]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(layer.macs for layer in self.layers)

    @property
    def weight_count(self) -> int:
        """Weights of all layers, biases not counted."""
        return sum(layer.weights.size for layer in self.layers if isinstance(layer, FullyConnected))


def quantize_input(program: Program, observations: NDArray[np.float32]) -> Integers:
    """Observations as the integers that go to the device: the host part, then ``QuantizeLinear``.

    :param observations: [n, inputs], float32, finite
    :returns: [n, inputs], int64
    :raises ObservationError: on another shape, NaN or infinity
    """
    real = np.asarray(observations, np.float32)
    if real.ndim != 2 or real.shape[1] != program.input.size:
        raise ObservationError("observations of a wrong shape", expected=f"(n, {program.input.size})", got=real.shape)
    if not np.all(np.isfinite(real)):
        row, column = (int(i) for i in np.argwhere(~np.isfinite(real))[0])
        raise ObservationError("observation is not a finite number", where=f"observation {row}, element {column}")
    host = program.host_input
    real = np.clip((real - host.offset) * host.gain, np.float32(host.low), np.float32(host.high))
    tensor = program.input
    return semantics.quantize(real.astype(np.float32), tensor.scale, tensor.zero_point, tensor.bits)


def dequantize_output(program: Program, q_output: Integers) -> NDArray[np.float32]:
    """The device's output integers as real values.

    :param q_output: [..., outputs]
    :returns: same shape, float32
    """
    return semantics.dequantize(q_output, program.output.scale, program.output.zero_point)


def write_program(program: Program, folder: Path) -> None:
    """Write ``program.json`` and ``program.npz`` into an existing folder."""
    structure, arrays = program_to_tables(program)
    (folder / STRUCTURE).write_text(json.dumps(structure, indent=1, sort_keys=True) + "\n")
    with zipfile.ZipFile(folder / ARRAYS, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(arrays):
            buffer = io.BytesIO()
            np.save(buffer, arrays[name], allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, buffer.getvalue())


def read_program(folder: Path) -> Program:
    """Read what :func:`write_program` wrote.

    :raises ArtifactError: missing, torn, of another schema or of other integer semantics
    """
    try:
        structure = json.loads((folder / STRUCTURE).read_text())
        with np.load(io.BytesIO((folder / ARRAYS).read_bytes()), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ArtifactError("no readable program here", where=folder, got=error) from error
    return program_from_tables(structure, arrays, where=folder)


def program_sha256(program: Program) -> str:
    """Hex sha256 of the program: its structure as canonical JSON, then every array's name, type, shape and bytes."""
    structure, arrays = program_to_tables(program)
    digest = hashlib.sha256(json.dumps(structure, sort_keys=True, separators=(",", ":")).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\0{name} {array.dtype.str} {array.shape}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def program_to_tables(program: Program) -> tuple[dict[str, Any], Arrays]:
    """A program as plain JSON values and named arrays of their smallest standard types."""
    host = program.host_input
    arrays: Arrays = {"host.offset": np.asarray(host.offset, "<f4"), "host.gain": np.asarray(host.gain, "<f4")}
    structure = {
        "schema": PROGRAM_SCHEMA,
        "semantics": SEMANTICS_VERSION,
        "name": program.name,
        "host_input": {"low": _finite(host.low), "high": _finite(host.high)},
        "input": asdict(program.input),
        "output": asdict(program.output),
        "layers": [_layer_to_table(layer, f"layer{i + 1}", arrays) for i, layer in enumerate(program.layers)],
    }
    return structure, arrays


def program_from_tables(structure: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], where: object) -> Program:
    """The inverse of :func:`program_to_tables`.

    :param where: what it was read from, for the error
    :raises ArtifactError: another schema, other semantics, or fields that are missing
    """
    for key, version in (("schema", PROGRAM_SCHEMA), ("semantics", SEMANTICS_VERSION)):
        if structure.get(key) != version:
            raise ArtifactError(f"program of another {key}", where=where, expected=version, got=structure.get(key))
    try:
        host = structure["host_input"]
        low, high = host["low"], host["high"]
        return Program(
            name=structure["name"],
            host_input=HostInput(
                offset=np.asarray(arrays["host.offset"], np.float32),
                gain=np.asarray(arrays["host.gain"], np.float32),
                low=-math.inf if low is None else float(low),
                high=math.inf if high is None else float(high),
            ),
            input=Tensor(**structure["input"]),
            output=Tensor(**structure["output"]),
            layers=tuple(_layer_from_table(t, f"layer{i + 1}", arrays) for i, t in enumerate(structure["layers"])),
        )
    except (KeyError, TypeError) as error:
        raise ArtifactError("torn program: a field is missing or unknown", where=where, got=error) from error


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _layer_to_table(layer: Layer, prefix: str, arrays: Arrays) -> dict[str, Any]:
    table: dict[str, Any] = {
        "kind": type(layer).__name__,
        "name": layer.name,
        "input": asdict(layer.input),
        "output": asdict(layer.output),
        "function": layer.function,
    }
    if layer.table is not None:
        arrays[f"{prefix}.table"] = layer.table.astype("<i2")
    if isinstance(layer, FullyConnected):
        table["weight_bits"] = layer.weight_bits
        table["shift"] = layer.requantize.shift
        table["before_table"] = asdict(layer.before_table)
        arrays[f"{prefix}.weights"] = layer.weights.astype("<i1")
        arrays[f"{prefix}.weight_scale"] = np.asarray(layer.weight_scale, "<f8")
        arrays[f"{prefix}.bias"] = layer.bias.astype("<i4")
        arrays[f"{prefix}.multiplier"] = layer.requantize.multiplier.astype("<i4")
    return table


def _layer_from_table(table: Mapping[str, Any], prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Layer:
    def integers(name: str) -> Integers:
        return np.asarray(arrays[f"{prefix}.{name}"], np.int64)

    source, target = Tensor(**table["input"]), Tensor(**table["output"])
    if table["kind"] == "Lookup":
        return Lookup(table["name"], source, target, integers("table"), table["function"])
    return FullyConnected(
        name=table["name"],
        input=source,
        output=target,
        weights=integers("weights"),
        weight_bits=table["weight_bits"],
        weight_scale=np.asarray(arrays[f"{prefix}.weight_scale"], np.float64),
        bias=integers("bias"),
        requantize=Requantization(integers("multiplier"), table["shift"]),
        before_table=Tensor(**table["before_table"]),
        table=integers("table") if table["function"] else None,
        function=table["function"],
    )
