"""``layers.json`` and ``layers.csv``: what became of each layer."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from policyport.core.semantics import dequantize
from policyport.quantize.graph import FloatGraph, Floats
from policyport.quantize.metrics import sqnr_db
from policyport.quantize.network import Activation, QuantizedLayer, QuantizedNetwork
from policyport.quantize.simulate import simulate

LAYERS_SCHEMA = 1

Row = dict[str, Any]


def layer_rows(graph: FloatGraph, network: QuantizedNetwork, observations: Floats) -> list[Row]:
    """One row per layer; SQNR of its output against the float layer's, errors of earlier layers included.

    :param observations: [n, inputs], float32, held out from calibration
    """
    floats = graph.trace(observations)
    integers = simulate(network, observations).layers
    return [
        _row(layer, sqnr_db(exact, dequantize(q, layer.output.scale, layer.output.zero_point)))
        for layer, (_, exact), q in zip(network.layers, floats, integers, strict=True)
    ]


def _row(layer: QuantizedLayer, sqnr: float) -> Row:
    weights = layer.float_weights
    return {
        "name": layer.name,
        "function": layer.function,
        "inputs": layer.weights.shape[1],
        "outputs": layer.weights.shape[0],
        **_activation("input", layer.input),
        **_activation("before", layer.before),
        **_activation("output", layer.output),
        "weight_bits": layer.weight_bits,
        "weight_min": float(weights.min()),
        "weight_max": float(weights.max()),
        "weight_std": float(weights.std()),
        "weight_scale_min": float(layer.weight_scale.min()),
        "weight_scale_max": float(layer.weight_scale.max()),
        "requantize_shift": layer.requantize.shift,
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


def write_layers(rows: list[Row], json_path: Path, csv_path: Path) -> None:
    """Write the rows as JSON and as CSV."""
    json_path.write_text(json.dumps({"schema": LAYERS_SCHEMA, "layers": rows}, indent=2) + "\n")
    with csv_path.open("w", newline="") as stream:
        table = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
