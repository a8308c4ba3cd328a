"""Outputs moved by a bias, so that integers decide as the real values before their last rounding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.quantize.integer_nodes import QuantizedLayer, QuantizedSum
from policyport.quantize.network import QuantizedNetwork
from policyport.quantize.nodes import NONE


def above_zero(network: QuantizedNetwork) -> QuantizedNetwork:
    """The network whose output integers are above zero where the real values before their rounding are.

    Rounding to the nearest calls nothing present within half a step above zero. So outputs move up by half a step; a
    network whose bias cannot do that stays as it is, see :func:`moved_outputs`.
    """
    return moved_outputs(network, np.full(network.output.size, network.output.scale / 2)) or network


def moved_outputs(network: QuantizedNetwork, by: NDArray[np.floating[Any]]) -> QuantizedNetwork | None:
    """The network with real values [outputs] added to its outputs, by the bias of the layer that yields them.

    Where the output is the sum of layers it is the first one's.

    :returns: None where the network ends in anything else
    :raises UnsupportedModelError: an accumulator could overflow
    """
    layer = _biased(network)
    if layer is None:
        return None
    bias = layer.bias + np.rint(np.asarray(by, np.float64) / layer.bias_scale).astype(np.int64)
    moved = replace(layer, bias=bias)
    _ = moved.requantize  # proves that no accumulator overflows
    return replace(network, nodes=tuple(moved if node is layer else node for node in network.nodes))


def _biased(network: QuantizedNetwork) -> QuantizedLayer | None:
    by_name = {node.name: node for node in network.nodes}
    last = by_name[network.output_name]
    if isinstance(last, QuantizedSum) and last.node.function == NONE and last.node.signs[0] > 0:
        last = by_name.get(last.inputs[0].name, last)
    if not isinstance(last, QuantizedLayer) or last.node.function != NONE or len(last.bias) != network.output.size:
        return None
    return last if network.reader_counts[last.name] == 1 else None
