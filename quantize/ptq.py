"""Post-training quantization: a float graph and observations to a :class:`QuantizedNetwork`."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from policyport.core import semantics
from policyport.core.errors import UnsupportedModelError
from policyport.core.semantics import Integers, Reals
from policyport.quantize import quantizers
from policyport.quantize.calibrate import activation_for, before_function, minmax_range, observer
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.graph import FloatGraph, Floats, HostPrefix
from policyport.quantize.network import Activation, QuantizedLayer, QuantizedNetwork, float32, table_output
from policyport.quantize.simulate import run_layer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Entry:
    """What stands before the first layer."""

    prefix: HostPrefix
    input: Activation
    weights: Reals
    """The first layer's weights, the host's gain undone in them."""

    bias: Reals


def quantize_graph(graph: FloatGraph, observations: Floats, config: QuantizeConfig, bits: int) -> QuantizedNetwork:
    """Quantize with activations of ``bits`` (8 or 16); a layer whose accumulator 16 bits could overflow reads 8.

    :param observations: [n, inputs], float32, as the environment gives them, for calibration
    :raises UnsupportedModelError: a layer too wide for 32-bit accumulators even with an 8-bit input
    """
    widths = [bits] * (len(graph.layers) + 1)
    trace = graph.trace(observations)
    while True:
        network, too_wide = _attempt(graph, observations, trace, config, widths)
        if network is not None:
            return network
        log.info("layer %s reads 8 bits: its accumulator could overflow with 16", graph.layers[too_wide].name)
        widths[too_wide] = 8


def _attempt(
    graph: FloatGraph,
    observations: Floats,
    trace: list[tuple[Floats, Floats]],
    config: QuantizeConfig,
    widths: list[int],
) -> tuple[QuantizedNetwork | None, int]:
    """The network with given widths of the input and of each layer's output; or the layer that overflows."""
    entry = _entry(graph, observations, config, widths[0])
    source = entry.input
    q = semantics.quantize(entry.prefix.apply(observations), source.scale, source.zero_point, source.bits)
    layers: list[QuantizedLayer] = []
    for i, layer in enumerate(graph.layers):
        weights, bias = layer.weights.astype(np.float64), layer.bias.astype(np.float64)
        if i == 0:
            weights, bias = entry.weights, entry.bias
        before, after = _activations(graph, i, trace[i], config, widths[i + 1])
        made = _layer(layer.name, layer.function, source, before, after, weights, bias, config)
        if config.bias_correction:
            made = _corrected(made, q, trace[i][0], bias)
        try:
            _, q = run_layer(made, q)
        except UnsupportedModelError:
            if source.bits == 8:
                raise
            return None, i
        layers.append(made)
        source = after
    return (
        QuantizedNetwork(graph.name, graph.input_name, graph.output_name, entry.prefix, entry.input, tuple(layers)),
        -1,
    )


def _activations(
    graph: FloatGraph, index: int, values: tuple[Floats, Floats], config: QuantizeConfig, bits: int
) -> tuple[Activation, Activation]:
    """A layer's activations: behind the requantization, and behind its function."""
    layer = graph.layers[index]
    linear, result = values
    size = len(layer.bias)
    headroom = config.headroom if bits == 16 else 1.0
    if layer.function in ("Tanh", "Sigmoid"):
        reach = observer(config, bits)(linear).scaled(headroom)
        before = before_function(layer.linear_name, layer.function, linear, reach, bits)
        return before, table_output(layer.name, size, layer.function, bits)
    reach = observer(config, bits)(result).scaled(headroom)
    output = activation_for(layer.name, size, reach, bits, relu=layer.function == "Relu")
    return output, output


def _layer(
    name: str,
    function: str,
    source: Activation,
    before: Activation,
    after: Activation,
    weights: Reals,
    bias: Reals,
    config: QuantizeConfig,
) -> QuantizedLayer:
    bits = config.weight_bits
    scales = quantizers.row_scales(weights, bias, source.scale, bits)
    return QuantizedLayer(
        name,
        function,
        source,
        before,
        after,
        quantizers.round_weights(weights, scales, bits),
        bits,
        scales,
        quantizers.round_bias(bias, source.scale, scales),
        weights,
    )


def _corrected(layer: QuantizedLayer, q: Integers, linear: Floats, bias: Reals) -> QuantizedLayer:
    """The layer with its bias shifted so that the mean over the observations equals the float layer's.

    Nagel et al. 2019 (Data-Free Quantization), section 4.2, with observed instead of derived means.

    :param q: [n, inputs], what the integer layers before it yield
    :param linear: [n, outputs], the float layer before its function
    """
    accumulator = semantics.accumulate(q, layer.weights, layer.folded_bias)
    error = np.mean(linear - accumulator * layer.bias_scale, axis=0)
    return replace(layer, bias=quantizers.round_bias(bias + error, layer.input.scale, layer.weight_scale))


def _entry(graph: FloatGraph, observations: Floats, config: QuantizeConfig, bits: int) -> _Entry:
    """The host's part, the input's activation and the first layer's weights to match."""
    first = graph.layers[0]
    weights, bias = first.weights.astype(np.float64), first.bias.astype(np.float64)
    features = graph.prefix.apply(observations)
    headroom = config.headroom if bits == 16 else 1.0
    size = graph.input_size
    if not config.input_gain:
        reach = minmax_range(features).scaled(headroom)
        return _Entry(graph.prefix, activation_for(graph.input_name, size, reach, bits), weights, bias)
    centre, radius = feature_ranges(features, graph.prefix, bits, headroom)
    offset = graph.prefix.offset + centre / graph.prefix.gain
    gain = graph.prefix.gain / radius
    prefix = HostPrefix(offset.astype(np.float32), gain.astype(np.float32))
    low, high = semantics.activation_range(bits)
    source = Activation(graph.input_name, size, bits, float32(1.0 / high), 0, low, high)
    return _Entry(prefix, source, weights * radius, bias + weights @ centre)


def feature_ranges(
    features: Floats, prefix: HostPrefix, bits: int, headroom: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre and radius of each feature, [inputs] float64: what the host maps to [-1, 1].

    At 16 bits the middle is zero unless zero lies far outside the range: what was not observed on one
    side of zero may come yet, and resolution is there to spare. No range reaches beyond a clip of
    ``prefix``, so the quantizer's saturation does that clip's work.
    """
    low, high = features.min(axis=0).astype(np.float64), features.max(axis=0).astype(np.float64)
    centre, radius = (low + high) / 2, (high - low) / 2
    if bits == 16:
        around_zero = np.maximum(high, -low)
        fits = around_zero <= min(prefix.high, -prefix.low)
        at_zero = (np.abs(centre) <= 3 * radius) & fits
        centre, radius = np.where(at_zero, 0.0, centre), np.where(at_zero, around_zero, radius)
    constant = radius <= 1e-6 * np.abs(centre)
    radius = np.where(constant, np.where(centre != 0, np.abs(centre), 1.0), radius) * headroom
    room = np.minimum(prefix.high - centre, centre - prefix.low)
    return centre, np.where(room > 0, np.minimum(radius, room), radius)
