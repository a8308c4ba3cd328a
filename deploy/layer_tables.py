"""A layer as plain JSON values and named arrays, and back: field by field, by the kind of its value."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.operators import WeightedSum, Window
from policyport.core.semantics import Requantization
from policyport.deploy.layers import LAYERS, Layer, Tensor

Arrays = dict[str, NDArray[Any]]

STORED_TYPES = {"weights": "<i1", "weight_scale": "<f8", "bias": "<i4", "multiplier": "<i4", "table": "<i4"}
"""Array type of each field that is an array."""


def layer_to_table(layer: Layer, prefix: str, arrays: Arrays) -> dict[str, Any]:
    """A layer's JSON values; its arrays go to ``arrays`` under ``<prefix>.<field>``."""
    table: dict[str, Any] = {"layer": type(layer).__name__}
    for field in dataclasses.fields(layer):
        value = getattr(layer, field.name)
        if isinstance(value, np.ndarray):
            arrays[f"{prefix}.{field.name}"] = value.astype(STORED_TYPES[field.name])
        elif isinstance(value, Requantization):
            table[field.name] = {"shift": value.shift}
            arrays[f"{prefix}.multiplier"] = value.multiplier.astype(STORED_TYPES["multiplier"])
        elif field.name == "inputs":
            table["inputs"] = [tensor.name for tensor in value]
        elif field.name == "layers":
            table["layers"] = [layer_to_table(part, f"{prefix}.{i + 1}", arrays) for i, part in enumerate(value)]
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            table[field.name] = dataclasses.asdict(value)
        else:
            table[field.name] = value
    return table


def layer_from_table(
    table: Mapping[str, Any], prefix: str, arrays: Mapping[str, NDArray[Any]], known: dict[str, Tensor]
) -> Layer:
    """The inverse of :func:`layer_to_table`.

    :param known: activations by name, from the input on; the layer's output is added
    :raises KeyError: a field, an array or an operand that is not there
    :raises TypeError: a field that is unknown
    """
    kind = LAYERS[table["layer"]]
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        array = arrays.get(f"{prefix}.{field.name}")
        if array is not None:
            values[field.name] = array.astype(np.float64 if array.dtype.kind == "f" else np.int64)
        else:
            values[field.name] = _value(field.name, table[field.name], prefix, arrays, known)
    layer = kind(**values)
    known[layer.output.name] = layer.output
    return layer


def _value(name: str, stored: Any, prefix: str, arrays: Mapping[str, NDArray[Any]], known: dict[str, Tensor]) -> Any:
    if name == "inputs":
        return tuple(known[operand] for operand in stored)
    if name == "layers":
        return tuple(layer_from_table(part, f"{prefix}.{i + 1}", arrays, known) for i, part in enumerate(stored))
    if name in ("output", "before_table"):
        return Tensor(**_tuples(stored))
    if name == "window":
        return Window(**_tuples(stored))
    if name == "by":
        return WeightedSum(**_tuples(stored))
    if name == "requantize" and stored is not None:
        return Requantization(arrays[f"{prefix}.multiplier"].astype(np.int64), stored["shift"])
    return tuple(stored) if isinstance(stored, list) else stored


def _tuples(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
