"""A program's integers as a TFLite file, written with FlatBuffers table by table.

Slots, enumerations and the file identifier are those of TensorFlow Lite's schema, version 3. The
file's input and output are the integer tensors: what the host does to an observation stays outside.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import UnsupportedModelError
from policyport.core.semantics import activation_range
from policyport.deploy.layers import FullyConnected, Lookup, Tensor
from policyport.deploy.program import Program

SCHEMA_VERSION = 3
IDENTIFIER = b"TFL3"

FULLY_CONNECTED, LOGISTIC, RELU, TANH = 9, 14, 19, 28
"""BuiltinOperator"""

OPERATOR_VERSION = {FULLY_CONNECTED: 7, LOGISTIC: 3, RELU: 3, TANH: 3}
FUNCTIONS = {"Tanh": TANH, "Sigmoid": LOGISTIC, "Relu": RELU}
FULLY_CONNECTED_OPTIONS = 8
FUSED_NONE, FUSED_RELU = 0, 1
TYPES = {"int32": 2, "int64": 4, "int16": 7, "int8": 9}
"""TensorType"""


def tflite_bytes(program: Program) -> bytes:
    """The program as the content of a ``.tflite`` file.

    :raises UnsupportedModelError: a clamp that TFLite has no fused activation for
    """
    writer = _Writer()
    current = writer.activation(program.input)
    inputs = [current]
    for layer in program.layers:
        if isinstance(layer, FullyConnected):
            current = _fully_connected(writer, layer, current)
        elif isinstance(layer, Lookup) and layer.function in FUNCTIONS:
            current = _function(writer, layer, current)
        else:
            raise UnsupportedModelError(
                "a layer that is not written to TFLite", where=layer.name, got=type(layer).__name__
            )
    return writer.finish(inputs, [current], program.name)


def _fully_connected(writer: _Writer, layer: FullyConnected, source: int) -> int:
    """The operator, and the function behind it where a table is fused; the tensor it yields."""
    if layer.input.bits != layer.before_table.bits:
        raise UnsupportedModelError(
            "TFLite has no fully connected operator between activations of two widths",
            where=layer.name,
            expected=f"int{layer.input.bits}",
            got=f"int{layer.before_table.bits}",
        )
    zero = layer.input.zero_point * layer.weights.sum(axis=1)
    bias_type = np.int32 if layer.input.bits == 8 else np.int64
    weights = writer.constant(
        f"{layer.name}.weight", layer.weights.astype(np.int8), layer.weight_scale, np.zeros_like(layer.bias)
    )
    bias = writer.constant(
        f"{layer.name}.bias",
        (layer.bias + zero).astype(bias_type),
        layer.weight_scale * layer.input.scale,
        np.zeros_like(layer.bias),
    )
    target = writer.activation(layer.before_table)
    writer.operator(FULLY_CONNECTED, [source, weights, bias], [target], fused=_fused(layer.before_table))
    if layer.table is None:
        return target
    after = writer.activation(layer.output)
    writer.operator(FUNCTIONS[layer.function], [target], [after])
    return after


def _function(writer: _Writer, layer: Lookup, source: int) -> int:
    target = writer.activation(layer.output)
    writer.operator(FUNCTIONS[layer.function], [source], [target])
    return target


def _fused(tensor: Tensor) -> int:
    low, high = activation_range(tensor.bits)
    if (tensor.low, tensor.high) == (low, high):
        return FUSED_NONE
    if tensor.low == tensor.zero_point and tensor.high == high:
        return FUSED_RELU
    raise UnsupportedModelError(
        "TFLite has no fused activation for this clamp", where=tensor.name, got=f"[{tensor.low}, {tensor.high}]"
    )


class _Writer:
    """A model under construction: tensors, buffers and operators in the order they are added."""

    def __init__(self) -> None:
        import flatbuffers

        self._builder = flatbuffers.Builder(1 << 16)
        self._buffers = [self._table({})]  # buffer 0 is empty by convention
        self._tensors: list[int] = []
        self._operators: list[int] = []
        self._codes: list[int] = []

    def activation(self, tensor: Tensor) -> int:
        """Add an activation [1, size]; its index."""
        scale, zero = np.array([tensor.scale]), np.array([tensor.zero_point])
        return self._tensor(tensor.name, (1, tensor.size), f"int{tensor.bits}", 0, scale, zero)

    def constant(self, name: str, values: NDArray[Any], scale: NDArray[Any], zero: NDArray[Any]) -> int:
        """Add a constant tensor, quantized per channel along its first axis; its index."""
        data = self._builder.CreateByteVector(np.ascontiguousarray(values).tobytes())
        self._buffers.append(self._table({0: ("offset", data)}))
        return self._tensor(name, values.shape, values.dtype.name, len(self._buffers) - 1, scale, zero)

    def operator(self, code: int, inputs: list[int], outputs: list[int], fused: int = FUSED_NONE) -> None:
        """Add an operator."""
        if code not in self._codes:
            self._codes.append(code)
        fields: dict[int, tuple[str, Any]] = {
            0: ("uint32", self._codes.index(code)),
            1: ("offset", self._vector(np.array(inputs, np.int32))),
            2: ("offset", self._vector(np.array(outputs, np.int32))),
        }
        if code == FULLY_CONNECTED:
            fields[3] = ("uint8", FULLY_CONNECTED_OPTIONS)
            fields[4] = ("offset", self._table({0: ("int8", fused)}))
        self._operators.append(self._table(fields))

    def finish(self, inputs: list[int], outputs: list[int], name: str) -> bytes:
        """The file's content."""
        codes = [
            self._table({0: ("int8", code), 2: ("int32", OPERATOR_VERSION[code]), 3: ("int32", code)})
            for code in self._codes
        ]
        graph = self._table(
            {
                0: ("offset", self._offsets(self._tensors)),
                1: ("offset", self._vector(np.array(inputs, np.int32))),
                2: ("offset", self._vector(np.array(outputs, np.int32))),
                3: ("offset", self._offsets(self._operators)),
                4: ("offset", self._builder.CreateString(name)),
            }
        )
        model = self._table(
            {
                0: ("uint32", SCHEMA_VERSION),
                1: ("offset", self._offsets(codes)),
                2: ("offset", self._offsets([graph])),
                3: ("offset", self._builder.CreateString("policyport")),
                4: ("offset", self._offsets(self._buffers)),
            }
        )
        self._builder.Finish(model, file_identifier=IDENTIFIER)
        return bytes(self._builder.Output())

    def _tensor(
        self, name: str, shape: tuple[int, ...], kind: str, buffer: int, scale: NDArray[Any], zero: NDArray[Any]
    ) -> int:
        quantization = self._table(
            {
                2: ("offset", self._vector(scale.astype(np.float32))),
                3: ("offset", self._vector(zero.astype(np.int64))),
                6: ("int32", 0),
            }
        )
        table = {
            0: ("offset", self._vector(np.array(shape, np.int32))),
            1: ("int8", TYPES[kind]),
            2: ("uint32", buffer),
            3: ("offset", self._builder.CreateString(name)),
            4: ("offset", quantization),
        }
        self._tensors.append(self._table(table))
        return len(self._tensors) - 1

    def _vector(self, values: NDArray[Any]) -> int:
        return int(self._builder.CreateNumpyVector(values))

    def _offsets(self, items: list[int]) -> int:
        self._builder.StartVector(4, len(items), 4)
        for item in reversed(items):
            self._builder.PrependUOffsetTRelative(item)
        return int(self._builder.EndVector())

    def _table(self, fields: dict[int, tuple[str, Any]]) -> int:
        """A table by slot; values equal to the schema's default 0 are left out, as FlatBuffers does."""
        add = {
            "offset": self._builder.PrependUOffsetTRelativeSlot,
            "int8": self._builder.PrependInt8Slot,
            "uint8": self._builder.PrependUint8Slot,
            "int32": self._builder.PrependInt32Slot,
            "uint32": self._builder.PrependUint32Slot,
        }
        self._builder.StartObject(max(fields, default=-1) + 1)
        for slot, (kind, value) in fields.items():
            add[kind](slot, value, 0)
        return int(self._builder.EndObject())
