"""``integers.npz``: integers that training left beside a float network, so that they are taken as they are.

The file holds numbers alone, by tensor and layer name; the operators are those of the float network.
"""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ArtifactError
from policyport.quantize.activation import Activation
from policyport.quantize.graph import FloatGraph, HostPrefix
from policyport.quantize.integer_nodes import QuantizedLayer, QuantizedNode, quantized_operator
from policyport.quantize.network import QuantizedNetwork
from policyport.quantize.nodes import Weighted

INTEGERS = "integers.npz"

LAYER = ("weights", "weight_bits", "weight_scale", "bias")
"""Of each layer."""

ACTIVATION = ("bits", "scale", "zero_point", "low", "high")
"""Of each tensor, in this order."""


def write_trained(network: QuantizedNetwork, path: Path) -> None:
    """Write the integers and scales of a network."""
    prefix = network.prefix
    arrays: dict[str, Any] = {
        "prefix/offset": prefix.offset,
        "prefix/gain": prefix.gain,
        "prefix/bounds": np.array([prefix.low, prefix.high]),
    }
    for activation in network.activations.values():
        values = [float(getattr(activation, key)) for key in ACTIVATION]
        arrays[f"tensor/{activation.name}"] = np.array(values)
    for layer in network.layers:
        arrays |= {f"layer/{layer.name}/{key}": np.asarray(getattr(layer, key)) for key in LAYER}
    np.savez_compressed(path, **arrays)


def read_trained(graph: FloatGraph, path: Path) -> QuantizedNetwork:
    """The integers of a file on the operators of a graph.

    :raises ArtifactError: the file is torn, or of another network
    """
    try:
        with path.open("rb") as stream, np.load(stream) as archive:
            arrays = {name: archive[name] for name in archive.files}
        prefix = HostPrefix(arrays["prefix/offset"], arrays["prefix/gain"], *map(float, arrays["prefix/bounds"]))
        names = {graph.input_name, *(node.name for node in graph.nodes)}
        names |= {node.linear_name for node in graph.weighted if node.function.has_table}
        if {f"tensor/{name}" for name in names} != {name for name in arrays if name.startswith("tensor/")}:
            raise ValueError("it has other tensors")
        found = {name: _activation(name, graph.shapes[name], arrays) for name in sorted(names)}
        nodes: list[QuantizedNode] = []
        for node in graph.nodes:
            inputs = tuple(found[name] for name in node.inputs)
            if isinstance(node, Weighted):
                nodes.append(_layer(node, inputs, found, arrays))
            else:
                nodes.append(quantized_operator(node, inputs, found[node.name]))
    except (KeyError, OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ArtifactError(
            "the trained integers are torn, or of another network", where=path, got=error, cure="train again"
        ) from error
    entry = found[graph.input_name]
    made = (graph.name, graph.input_name, graph.output_name, prefix, entry, tuple(nodes), graph.channels_last)
    return QuantizedNetwork(*made)


def _activation(name: str, shape: tuple[int, ...], arrays: dict[str, NDArray[Any]]) -> Activation:
    bits, scale, zero_point, low, high = arrays[f"tensor/{name}"].tolist()
    return Activation(name, shape, int(bits), scale, int(zero_point), int(low), int(high))


def _layer(
    node: Weighted, inputs: tuple[Activation, ...], found: dict[str, Activation], arrays: dict[str, NDArray[Any]]
) -> QuantizedLayer:
    weights, bits, scale, bias = (arrays[f"layer/{node.name}/{key}"] for key in LAYER)
    if weights.shape != node.weights.shape:
        raise ValueError(f"{node.name} has weights {weights.shape} instead of {node.weights.shape}")
    floats = weights * scale.astype(np.float64).reshape(-1, *[1] * (weights.ndim - 1))
    return QuantizedLayer(
        node=replace(node, weights=floats.astype(np.float32)),
        inputs=inputs,
        output=found[node.name],
        before=found[node.linear_name if node.function.has_table else node.name],
        weights=weights,
        weight_bits=int(bits),
        weight_scale=scale,
        bias=bias,
    )
