"""Writes a TFLite file with FlatBuffers table by table: tensors, buffers and operators in the order they are added.

Slots, enumerations and the file identifier are those of TensorFlow Lite's schema, version 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.deploy.layers import Tensor

SCHEMA_VERSION = 3
IDENTIFIER = b"TFL3"

CODES = {
    "ADD": (0, 4),
    "AVERAGE_POOL_2D": (1, 3),
    "CONCATENATION": (2, 3),
    "CONV_2D": (3, 5),
    "DEPTHWISE_CONV_2D": (4, 5),
    "FULLY_CONNECTED": (9, 7),
    "LOGISTIC": (14, 3),
    "MAX_POOL_2D": (17, 3),
    "MUL": (18, 4),
    "RELU": (19, 3),
    "RESHAPE": (22, 1),
    "SOFTMAX": (25, 3),
    "TANH": (28, 3),
    "PAD": (34, 3),
    "TRANSPOSE": (39, 5),
    "MEAN": (40, 3),
    "SUB": (41, 5),
    "PRELU": (54, 1),
    "MAXIMUM": (55, 2),
    "ARG_MAX": (56, 2),
    "MINIMUM": (57, 2),
    "PADV2": (60, 3),
    "SLICE": (65, 4),
    "TRANSPOSE_CONV": (67, 3),
    "RESIZE_NEAREST_NEIGHBOR": (97, 3),
    "LEAKY_RELU": (98, 2),
    "ELU": (111, 1),
    "QUANTIZE": (114, 2),
    "HARD_SWISH": (117, 1),
}
"""BuiltinOperator and the version that takes int8 and, where there is one, int16."""

OPTIONS = {
    "CONV_2D": 1,
    "DEPTHWISE_CONV_2D": 2,
    "AVERAGE_POOL_2D": 5,
    "MAX_POOL_2D": 5,
    "FULLY_CONNECTED": 8,
    "SOFTMAX": 9,
    "CONCATENATION": 10,
    "ADD": 11,
    "MUL": 21,
    "MEAN": 27,
    "SUB": 28,
    "ARG_MAX": 40,
    "TRANSPOSE_CONV": 49,
    "LEAKY_RELU": 75,
}
"""BuiltinOptions of the operators that have some here."""

TYPES = {"float32": 0, "int32": 2, "int64": 4, "int16": 7, "int8": 9}
"""TensorType"""

Fields = Mapping[int, tuple[str, Any]]
"""A table by slot: the kind of value, and the value."""


class TFLiteWriter:
    """A model under construction: tensors, buffers and operators in the order they are added."""

    def __init__(self) -> None:
        import flatbuffers

        self._builder = flatbuffers.Builder(1 << 16)
        self._buffers = [self._table({})]  # buffer 0 is empty by convention
        self._tensors: list[int] = []
        self._operators: list[int] = []
        self._codes: list[str] = []

    def activation(self, tensor: Tensor, shape: tuple[int, ...] | None = None, kind: str = "") -> int:
        """Add an activation, with a batch axis of one in front; its number.

        :param shape: another than its own, with the batch axis
        :param kind: another type than its own
        """
        scale, zero = np.array([tensor.scale]), np.array([tensor.zero_point])
        return self._tensor(tensor.name, shape or (1, *tensor.shape), kind or f"int{tensor.bits}", 0, scale, zero)

    def constant(self, name: str, values: NDArray[Any], scale: NDArray[Any], zero: NDArray[Any], axis: int = 0) -> int:
        """Add a constant tensor, quantized per channel along an axis; its number."""
        data = self._builder.CreateByteVector(np.ascontiguousarray(values).tobytes())
        self._buffers.append(self._table({0: ("offset", data)}))
        return self._tensor(name, values.shape, values.dtype.name, len(self._buffers) - 1, scale, zero, axis)

    def numbers(self, name: str, values: Any) -> int:
        """Add a constant int32 tensor that is not quantized; its number."""
        return self.constant(name, np.asarray(values, np.int32), np.zeros(0), np.zeros(0))

    def operator(self, name: str, inputs: list[int], outputs: list[int], options: Fields | None = None) -> None:
        """Add an operator.

        :param options: its options table, where :data:`OPTIONS` names one
        """
        if name not in self._codes:
            self._codes.append(name)
        fields: dict[int, tuple[str, Any]] = {
            0: ("uint32", self._codes.index(name)),
            1: ("offset", self._vector(np.array(inputs, np.int32))),
            2: ("offset", self._vector(np.array(outputs, np.int32))),
        }
        if options is not None:
            fields[3] = ("uint8", OPTIONS[name])
            fields[4] = ("offset", self._table(options))
        self._operators.append(self._table(fields))

    def finish(self, inputs: list[int], outputs: list[int], name: str) -> bytes:
        """The file's content."""
        codes = [
            self._table({0: ("int8", code), 2: ("int32", version), 3: ("int32", code)})
            for code, version in (CODES[name] for name in self._codes)
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
        self,
        name: str,
        shape: tuple[int, ...],
        kind: str,
        buffer: int,
        scale: NDArray[Any],
        zero: NDArray[Any],
        axis: int = 0,
    ) -> int:
        quantized: Fields = {
            2: ("offset", self._vector(scale.astype(np.float32))),
            3: ("offset", self._vector(zero.astype(np.int64))),
            6: ("int32", axis),
        }
        quantization = self._table(quantized if scale.size else {})
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

    def _table(self, fields: Fields) -> int:
        """A table by slot; values equal to the schema's default are left out, as FlatBuffers does."""
        add = {
            "offset": self._builder.PrependUOffsetTRelativeSlot,
            "int8": self._builder.PrependInt8Slot,
            "uint8": self._builder.PrependUint8Slot,
            "int32": self._builder.PrependInt32Slot,
            "uint32": self._builder.PrependUint32Slot,
            "bool": self._builder.PrependBoolSlot,
            "float32": self._builder.PrependFloat32Slot,
            "dilation": self._builder.PrependInt32Slot,
        }
        self._builder.StartObject(max(fields, default=-1) + 1)
        for slot, (kind, value) in fields.items():
            add[kind](slot, value, _DEFAULTS.get(kind, 0))
        return int(self._builder.EndObject())


_DEFAULTS: dict[str, Any] = {"bool": False, "float32": 0.0, "dilation": 1}
"""Of the kinds whose default is not 0."""
