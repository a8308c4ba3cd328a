"""What a rounding method is given of one layer, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from policyport.core.semantics import Integers
from policyport.quantize import quantizers
from policyport.quantize.activation import Activation
from policyport.quantize.integer_nodes import Compact
from policyport.quantize.nodes import Floats, Weighted, parts


@dataclass(frozen=True)
class LayerData:
    """A layer to be rounded, with its input on the calibration observations: float, and as the integers have it."""

    node: Weighted
    """The float layer; its ``rows`` turn an input into what the outputs are weighted sums of."""

    source: Activation
    """Of the input, already quantized."""

    before: Activation
    """Of the result before a table, the clamp of a ReLU included."""

    weight_bits: int
    per_channel: bool
    """Whether each output channel may have a scale of its own."""

    float_input: Floats
    """[n, *shape], what the float network gives the layer."""

    q_input: Compact
    """[n, *shape], what the integer network gives it."""

    def batches(self) -> Iterator[tuple[Floats, Floats]]:
        """The input in parts that fit in memory: (of the float network, of the integer one as real values)."""
        work = self.node.work(self.source.shape)
        for exact, q in parts(work, self.float_input, self.q_input):
            yield exact, self.source.dequantize(q)


@dataclass(frozen=True)
class RoundedLayer:
    """A layer's integers."""

    weights: Integers
    """[outputs, taps...] as the node's."""

    scale: NDArray[np.float32]
    """[outputs], positive, all equal without ``per_channel``."""

    bias: Integers
    """[outputs], int32 at ``source.scale * scale``."""


Rounding = Callable[[LayerData], RoundedLayer]


def nearest(data: LayerData) -> RoundedLayer:
    """Each weight to the nearest integer, at the scale that the largest of its row asks for."""
    weights, bias = data.node.weights.astype(np.float64), data.node.bias.astype(np.float64)
    scales = data.source.scale, data.before.scale
    scale = quantizers.layer_scales(weights, bias, *scales, data.weight_bits, per_channel=data.per_channel)
    return RoundedLayer(
        quantizers.round_weights(weights, scale, data.weight_bits),
        scale,
        quantizers.round_bias(bias, data.source.scale, scale),
    )
