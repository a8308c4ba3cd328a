"""``layers.json`` and ``layers.csv``: what became of each operator."""

from __future__ import annotations

import csv
import json
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from policyport.core.progress import progress
from policyport.quantize.activation import Activation
from policyport.quantize.graph import FloatGraph
from policyport.quantize.integer_nodes import QuantizedLayer, QuantizedNode
from policyport.quantize.metrics import Noise
from policyport.quantize.network import QuantizedNetwork
from policyport.quantize.nodes import Floats
from policyport.quantize.simulate import simulate

LAYERS_SCHEMA = 2

BATCH = 64
"""Observations that all tensors are held of at once."""

Row = dict[str, Any]


def layer_rows(graph: FloatGraph, network: QuantizedNetwork, observations: Floats) -> list[Row]:
    """One row per operator; SQNR of its output against the float one's, errors of earlier operators included.

    :param observations: [n, inputs] or [n, *shape], float32, held out from calibration
    """
    noises = {node.name: Noise() for node in network.nodes}
    with progress("compare", len(observations)) as advance:
        for start in range(0, len(observations), BATCH):
            part = observations[start : start + BATCH]
            floats, integers = graph.trace(part), simulate(network, part).tensors
            for node in network.nodes:
                noises[node.name].update(floats[node.name], node.output.dequantize(integers[node.name]))
            advance(min(start + BATCH, len(observations)))
    return [_row(node, noises[node.name].sqnr_db) for node in network.nodes]


def _row(node: QuantizedNode, sqnr: float) -> Row:
    layer = node if isinstance(node, QuantizedLayer) else None
    before = node.output if layer is None else layer.before
    function = getattr(node.node, "function", None)
    return {
        "name": node.name,
        "operator": type(node.node).__name__,
        "function": "" if function is None else function.name,
        "inputs": sum(prod(source.shape) for source in node.inputs),
        "outputs": prod(node.output.shape),
        **_activation("input", node.inputs[0]),
        **_activation("before", before),
        **_activation("output", node.output),
        **_weights(layer),
        "sqnr_db": round(sqnr, 2),
    }


def _activation(which: str, activation: Activation) -> Row:
    low, high = activation.range
    return {
        f"{which}_bits": activation.bits,
        f"{which}_scale": activation.scale,
        f"{which}_zero_point": activation.zero_point,
        f"{which}_low": low,
        f"{which}_high": high,
    }


def _weights(layer: QuantizedLayer | None) -> Row:
    """What only a layer has; None for other operators."""
    keys = ("min", "max", "std", "scale_min", "scale_max")
    if layer is None:
        return {"weight_bits": None, **{f"weight_{key}": None for key in keys}, "requantize_shift": None}
    weights, scale = layer.node.weights.astype(np.float64), layer.weight_scale
    values = (weights.min(), weights.max(), weights.std(), scale.min(), scale.max())
    return {
        "weight_bits": layer.weight_bits,
        **{f"weight_{key}": float(value) for key, value in zip(keys, values, strict=True)},
        "requantize_shift": layer.requantize.shift,
    }


def write_layers(rows: list[Row], json_path: Path, csv_path: Path) -> None:
    """Write the rows as JSON and as CSV."""
    json_path.write_text(json.dumps({"schema": LAYERS_SCHEMA, "layers": rows}, indent=2) + "\n")
    with csv_path.open("w", newline="") as stream:
        table = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
