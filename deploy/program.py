"""The integer program: a network as integers alone, in the order the device runs it.

It is what the lowering of a QDQ ONNX or TFLite file yields, and what the reference interpreter, the C
generator, the memory planner and the exporters read. On disk it is ``program.json`` (structure) and
``program.npz`` (arrays), the same bytes for the same program, whenever and wherever they are written.
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
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from policyport.core import semantics
from policyport.core.errors import ArtifactError, ObservationError
from policyport.core.semantics import SEMANTICS_VERSION, Integers
from policyport.deploy.layer_tables import Arrays, layer_from_table, layer_to_table
from policyport.deploy.layers import Affine, Layer, Strips, Tensor

PROGRAM_SCHEMA = 2
STRUCTURE = "program.json"
ARRAYS = "program.npz"


@dataclass(frozen=True)
class HostInput:
    """What the host does to an observation before it quantizes it, in float32 and in this order:
    ``clip((observation - offset) * gain, low, high)``; then QuantizeLinear with the input tensor's scale.
    An image in planes (``CHW``) becomes pixels (``HWC``), as the device reads it.
    """

    offset: NDArray[np.float32]
    """Of a shape that broadcasts to the observation's."""

    gain: NDArray[np.float32]
    """Likewise."""

    low: float
    """``-inf`` where nothing is clipped."""

    high: float
    shape: tuple[int, ...] = ()
    """The observation's; empty for a vector."""

    order: Literal["", "CHW", "HWC"] = ""
    """What the axes of an image are; empty for a vector."""


@dataclass(frozen=True)
class Program:
    """A network as integers: layers from one input to one output, each after those whose outputs it reads."""

    name: str
    host_input: HostInput
    input: Tensor
    output: Tensor
    layers: tuple[Layer, ...]
    output_order: Literal["", "CHW", "HWC"] = ""
    """How the host gives out an image: the order of axes in the file it came from; empty for a vector."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(layer.macs for layer in self.layers)

    @property
    def weight_count(self) -> int:
        """Weights of all layers, biases not counted."""
        return sum(layer.weights.size for layer in self.operators if isinstance(layer, Affine))

    @property
    def operators(self) -> tuple[Layer, ...]:
        """The layers, and in place of those that run together each of them."""
        parts = (layer.layers if isinstance(layer, Strips) else (layer,) for layer in self.layers)
        return tuple(layer for part in parts for layer in part)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The input, then each layer's output."""
        return (self.input, *(layer.output for layer in self.layers))


def quantize_input(program: Program, observations: NDArray[np.float32]) -> Integers:
    """Observations as the integers that go to the device: the host part, then ``QuantizeLinear``.

    :param observations: [n, inputs], float32, finite; an image flattened in the observation's own order
    :returns: [n, inputs], int64, in the device's order
    :raises ObservationError: on another shape, NaN or infinity
    """
    real = np.asarray(observations, np.float32)
    if real.ndim != 2 or real.shape[1] != program.input.size:
        raise ObservationError("observations of a wrong shape", expected=f"(n, {program.input.size})", got=real.shape)
    if not np.all(np.isfinite(real)):
        row, column = (int(i) for i in np.argwhere(~np.isfinite(real))[0])
        raise ObservationError("observation is not a finite number", where=f"observation {row}, element {column}")
    host, tensor = program.host_input, program.input
    real = real.reshape(len(real), *(host.shape or tensor.shape))
    real = np.clip((real - host.offset) * host.gain, np.float32(host.low), np.float32(host.high))
    if host.order == "CHW":
        real = real.transpose(0, 2, 3, 1)
    flat = real.astype(np.float32).reshape(len(real), tensor.size)
    return semantics.quantize(flat, tensor.scale, tensor.zero_point, tensor.bits)


def dequantize_output(program: Program, q_output: Integers) -> NDArray[np.float32]:
    """The device's output integers as real values.

    :param q_output: [..., outputs]
    :returns: same shape, float32; an image in planes where the file has it so
    """
    q = np.asarray(q_output)
    if program.output_order == "CHW":
        image = q.reshape(-1, *program.output.shape)
        q = np.moveaxis(image, -1, 1).reshape(q.shape)
    return semantics.dequantize(q, program.output.scale, program.output.zero_point)


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
        "host_input": {
            "low": _finite(host.low),
            "high": _finite(host.high),
            "shape": list(host.shape),
            "order": host.order,
        },
        "input": {**asdict(program.input), "shape": list(program.input.shape)},
        "output": program.output.name,
        "output_order": program.output_order,
        "layers": [layer_to_table(layer, f"layer{i + 1}", arrays) for i, layer in enumerate(program.layers)],
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
        first = Tensor(**{**structure["input"], "shape": tuple(structure["input"]["shape"])})
        known = {first.name: first}
        layers = tuple(layer_from_table(t, f"layer{i + 1}", arrays, known) for i, t in enumerate(structure["layers"]))
        return Program(
            name=structure["name"],
            host_input=_host_input(structure["host_input"], arrays),
            input=first,
            output=known[structure["output"]],
            layers=layers,
            output_order=structure["output_order"],
        )
    except (KeyError, TypeError) as error:
        raise ArtifactError("torn program: a field is missing or unknown", where=where, got=error) from error


def _host_input(table: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> HostInput:
    low, high = table["low"], table["high"]
    return HostInput(
        offset=np.asarray(arrays["host.offset"], np.float32),
        gain=np.asarray(arrays["host.gain"], np.float32),
        low=-math.inf if low is None else float(low),
        high=math.inf if high is None else float(high),
        shape=tuple(table["shape"]),
        order=table["order"],
    )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
