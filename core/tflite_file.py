"""Reads a TFLite file: its tensors and operators as plain Python values, by the schema's slots (version 3)."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ArtifactError, UnsupportedModelError

IDENTIFIER = b"TFL3"

GRAPHS, GRAPH_OUTPUTS = 2, 2
"""Slots: a model's subgraphs, and the numbers of a subgraph's outputs."""

TYPES = {0: "float32", 2: "int32", 3: "uint8", 4: "int64", 7: "int16", 9: "int8"}
"""numpy's name of each TensorType that is read."""

OPERATORS = {
    0: "ADD",
    1: "AVERAGE_POOL_2D",
    2: "CONCATENATION",
    3: "CONV_2D",
    4: "DEPTHWISE_CONV_2D",
    6: "DEQUANTIZE",
    9: "FULLY_CONNECTED",
    14: "LOGISTIC",
    17: "MAX_POOL_2D",
    18: "MUL",
    19: "RELU",
    21: "RELU6",
    22: "RESHAPE",
    25: "SOFTMAX",
    28: "TANH",
    34: "PAD",
    39: "TRANSPOSE",
    40: "MEAN",
    41: "SUB",
    43: "SQUEEZE",
    54: "PRELU",
    55: "MAXIMUM",
    56: "ARG_MAX",
    57: "MINIMUM",
    60: "PADV2",
    65: "SLICE",
    67: "TRANSPOSE_CONV",
    70: "EXPAND_DIMS",
    97: "RESIZE_NEAREST_NEIGHBOR",
    98: "LEAKY_RELU",
    111: "ELU",
    114: "QUANTIZE",
    117: "HARD_SWISH",
}
"""Name of each BuiltinOperator that is lowered."""


@dataclass(frozen=True)
class FileTensor:
    """A tensor of the file."""

    name: str
    shape: tuple[int, ...]
    type: str
    data: NDArray[Any] | None
    """Of its shape, where it is constant."""

    scale: NDArray[np.float64]
    """One value, one per channel, or none."""

    zero_point: NDArray[np.int64]
    axis: int
    """Along which there is one scale per channel."""


@dataclass(frozen=True)
class Operator:
    """An operator of the file."""

    name: str
    inputs: tuple[int, ...]
    """Numbers of tensors; -1 where an optional one is left out."""

    outputs: tuple[int, ...]
    options: Options


class Options:
    """An operator's options, by slot."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def integer(self, slot: int, default: int = 0, bits: int = 32) -> int:
        """An integer of 8 or 32 bits."""
        import flatbuffers.number_types as kinds

        kind = kinds.Int8Flags if bits == 8 else kinds.Int32Flags
        return default if self._table is None else int(self._table.GetSlot(4 + 2 * slot, default, kind))

    def real(self, slot: int) -> float:
        """A float32, 0 where it is left out."""
        import flatbuffers.number_types as kinds

        return 0.0 if self._table is None else float(self._table.GetSlot(4 + 2 * slot, 0.0, kinds.Float32Flags))


@dataclass(frozen=True)
class TFLiteFile:
    """The file's one subgraph."""

    path: Path
    tensors: tuple[FileTensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_tflite(path: Path) -> TFLiteFile:
    """Read the file.

    :raises ArtifactError: missing, torn, or no TFLite
    :raises UnsupportedModelError: several subgraphs, or types that are not read
    """
    if not path.is_file():
        raise ArtifactError("no such model", where=path, expected="an int8 .tflite file")
    content = path.read_bytes()
    if content[4:8] != IDENTIFIER:
        raise ArtifactError("torn model: it does not read as TFLite", where=path, got=content[4:8])
    try:
        return _model(path, content)
    except (IndexError, TypeError, ValueError, struct.error) as error:
        raise ArtifactError("torn model: it does not read as TFLite", where=path, got=error) from error


def with_outputs(content: bytes, numbers: Sequence[int]) -> bytes:
    """A file with other tensors as its outputs: a runtime keeps these until an inference has ended.

    :param content: of a file that :func:`read_tflite` reads
    :param numbers: of tensors that operators yield
    """
    model = _root(content)
    field = model.tables(GRAPHS)[0].place(GRAPH_OUTPUTS)
    whole = bytearray(content) + bytes(-len(content) % 4)
    # References are distances forward, so a vector behind everything else can be one's target.
    whole[field : field + 4] = struct.pack("<I", len(whole) - field)
    return bytes(whole + struct.pack(f"<I{len(numbers)}i", len(numbers), *numbers))


class _Table:
    """A table at its place in the file."""

    def __init__(self, table: Any) -> None:
        self.table = table

    def _offset(self, slot: int) -> int:
        return int(self.table.Offset(4 + 2 * slot))

    def place(self, slot: int) -> int:
        """Where in the file a field lies that is there."""
        return int(self.table.Pos) + self._offset(slot)

    def tables(self, slot: int) -> list[_Table]:
        """A vector of tables."""
        from flatbuffers.table import Table

        offset = self._offset(slot)
        if not offset:
            return []
        start, count = self.table.Vector(offset), self.table.VectorLen(offset)
        places = [self.table.Indirect(start + 4 * i) for i in range(count)]
        return [_Table(Table(self.table.Bytes, place)) for place in places]

    def child(self, slot: int) -> _Table | None:
        """A table inside this one."""
        from flatbuffers.table import Table

        offset = self._offset(slot)
        return _Table(Table(self.table.Bytes, self.table.Indirect(self.table.Pos + offset))) if offset else None

    def array(self, slot: int, dtype: str) -> NDArray[Any]:
        """A vector of numbers."""
        offset = self._offset(slot)
        if not offset:
            return np.zeros(0, dtype)
        start, count = self.table.Vector(offset), self.table.VectorLen(offset)
        return np.frombuffer(self.table.Bytes, np.dtype(dtype).newbyteorder("<"), count, start)

    def text(self, slot: int) -> str:
        """A string."""
        offset = self._offset(slot)
        return str(self.table.String(self.table.Pos + offset).decode()) if offset else ""


def _root(content: bytes) -> _Table:
    from flatbuffers import encode, packer
    from flatbuffers.table import Table

    return _Table(Table(bytearray(content), encode.Get(packer.uoffset, content, 0)))


def _model(path: Path, content: bytes) -> TFLiteFile:
    model = _root(content)
    graphs, buffers = model.tables(GRAPHS), model.tables(4)
    if len(graphs) != 1:
        raise UnsupportedModelError("a TFLite file of several subgraphs", where=path, expected=1, got=len(graphs))
    codes = [_code(path, table) for table in model.tables(1)]
    graph = graphs[0]
    return TFLiteFile(
        path,
        tuple(_tensor(path, table, buffers) for table in graph.tables(0)),
        tuple(_operator(table, codes) for table in graph.tables(3)),
        tuple(graph.array(1, "int32").tolist()),
        tuple(graph.array(GRAPH_OUTPUTS, "int32").tolist()),
    )


def _code(path: Path, table: _Table) -> str:
    options = Options(table.table)
    code = max(options.integer(0, bits=8), options.integer(3))
    if code not in OPERATORS:
        raise UnsupportedModelError(
            "a TFLite operator that is not supported",
            where=path,
            expected=", ".join(sorted(OPERATORS.values())),
            got=table.text(1) or f"builtin operator {code}",
        )
    return OPERATORS[code]


def _tensor(path: Path, table: _Table, buffers: list[_Table]) -> FileTensor:
    options, name = Options(table.table), table.text(3)
    shape = tuple(int(n) for n in table.array(0, "int32"))
    kind = TYPES.get(options.integer(1, bits=8))
    if kind is None:
        raise UnsupportedModelError(
            "a TFLite tensor of a type that is not read",
            where=f"{path.name}, tensor {name}",
            expected=", ".join(TYPES.values()),
            got=options.integer(1, bits=8),
        )
    raw = buffers[options.integer(2)].array(0, "uint8")
    data = None
    if len(raw):
        data = raw.view(np.dtype(kind).newbyteorder("<"))[: math.prod(shape)].reshape(shape)
    quantization = table.child(4)
    scale = np.zeros(0) if quantization is None else quantization.array(2, "float32").astype(np.float64)
    zero = np.zeros(0, np.int64) if quantization is None else quantization.array(3, "int64")
    axis = 0 if quantization is None else Options(quantization.table).integer(6)
    return FileTensor(name, shape, kind, data, scale, zero, axis)


def _operator(table: _Table, codes: list[str]) -> Operator:
    options = table.child(4)
    return Operator(
        codes[Options(table.table).integer(0)],
        tuple(table.array(1, "int32").tolist()),
        tuple(table.array(2, "int32").tolist()),
        Options(None if options is None else options.table),
    )
