"""What stands before the first integers: the host's part, and the network's input as an activation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from policyport.core import semantics
from policyport.core.errors import UnsupportedModelError
from policyport.quantize.activation import Activation, float32
from policyport.quantize.calibrate import (
    Range,
    activation_for,
    even_levels_range,
    least_error_range,
    minmax_range,
    percentile_range,
)
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.graph import FloatGraph, HostPrefix
from policyport.quantize.nodes import Floats, Linear, Slice, Weighted
from policyport.quantize.observation_parts import parts_of, undone


def enter(graph: FloatGraph, observations: Floats, config: QuantizeConfig, bits: int) -> tuple[FloatGraph, Activation]:
    """The graph with the host's part that quantizes best, and its input.

    A vector that only fully connected layers read, and a part of one, gets a centre and a gain for each feature, which
    their weights undo; an image beside a vector one centre and one gain. Everything else keeps the host's part that the
    model has. The range of an image is that of its limits where those are known, so that 8 bits take it over exactly.
    """
    if graph.state_size:
        return _enter_recurrent(graph, observations, config, bits)
    features = graph.enter(observations)
    headroom = config.headroom if bits == 16 else 1.0
    parts = parts_of(graph) if config.input_gain else None
    if parts is None:
        limits = _limited(graph)
        reach = _observed(features, config, bits).scaled(headroom) if limits is None else limits
        symmetric = config.symmetric
        return graph, activation_for(graph.input_name, graph.input_shape, reach, bits, symmetric=symmetric)
    if bits < 8:
        centre, radius = few_level_ranges(features, bits, config)
    else:
        centre, radius = feature_ranges(features, graph.prefix, bits, headroom)
    low, high = semantics.activation_range(bits)
    for part in parts:
        if part.is_image:
            span = slice(part.start, part.stop)
            centre[span], radius[span] = _image_range(graph, features[:, span], span, bits)
    entry = Activation(graph.input_name, graph.input_shape, bits, float32(1.0 / high), 0, low, high)
    layers: dict[str, Weighted] = {}
    for part in parts:
        for layer in part.layers:
            layers[layer.name] = part.undone(layers.get(layer.name, layer), centre, radius)
    ends = entry.range if bits < 8 else (-1.0, 1.0)
    return _spread(graph, tuple(layers.values()), centre, radius, ends), entry


def _enter_recurrent(
    graph: FloatGraph, inputs: Floats, config: QuantizeConfig, bits: int
) -> tuple[FloatGraph, Activation]:
    """The same of a recurrent network, whose state leaves and enters as the same integers.

    Input and output have one scale, which holds every output and every state. The features of the observation are
    brought to the size of the state, so that the weights of both take their share of a row's scale.

    :raises UnsupportedModelError: a state of 8 bits
    """
    if bits != 16:
        raise UnsupportedModelError("a state of 8 bits", where=graph.name, expected="16 bits", cure="activations int16")
    features, outputs = graph.enter(inputs), graph.evaluate(inputs)
    states = features[:, -graph.state_size :]
    size = max(float(np.abs(states).max()), 1e-6)
    observed = features.shape[1] - graph.state_size
    readers = graph.readers(graph.input_name)
    gained = config.input_gain and all(
        isinstance(node, Linear) or (isinstance(node, Slice) and node.start >= observed) for node in readers
    )
    reach = max(float(np.abs(outputs).max()), size, 0.0 if gained else float(np.abs(features).max()))
    entry = activation_for(graph.input_name, graph.input_shape, Range(-reach, reach).scaled(config.headroom), bits)
    if not gained:
        return graph, entry
    centre, radius = feature_ranges(features, graph.prefix, bits, 1.0)
    centre[observed:], radius[observed:] = 0.0, size
    gains = radius / size
    layers = [undone(node, centre, gains) for node in readers if isinstance(node, Linear)]
    end = size * config.headroom
    return _spread(graph, layers, centre, gains, (-end, end)), entry


def _limited(graph: FloatGraph) -> Range | None:
    """What the host can make of an image whose values have the same limits; None for all else.

    Bounds of other features are seldom reached.
    """
    if len(graph.input_shape) != 3 or graph.limits is None or any(np.ptp(ends) for ends in graph.limits):
        return None
    return minmax_range(np.concatenate([graph.enter(ends[None]) for ends in graph.limits]))


def _image_range(graph: FloatGraph, features: Floats, span: slice, bits: int) -> tuple[float, float]:
    """Centre and radius of an image beside other parts, so that its values' ends are those of the integers.

    :param features: the image alone [n, values], behind the host's part
    """
    low, high = float(features.min()), float(features.max())
    if graph.limits is not None and not any(np.ptp(ends[span]) for ends in graph.limits):
        low, high = (float(graph.enter(ends[None])[0, span].mean(dtype=np.float64)) for ends in graph.limits)
    reach = high - low or 1.0
    if bits >= 8 and np.isfinite([graph.prefix.low, graph.prefix.high]).any():
        return low + reach / 2, reach / 2
    first, last = semantics.activation_range(bits)
    return low - first * reach / (last - first), last * reach / (last - first)


def _observed(features: Floats, config: QuantizeConfig, bits: int) -> Range:
    """The range of an input with one scale: all that was seen, of few levels what the calibrator leaves of it."""
    if bits >= 8 or config.calibrator_for(bits) != "mse":
        return minmax_range(features)
    return least_error_range(features, bits)


def _spread(
    graph: FloatGraph,
    layers: Sequence[Weighted],
    centre: NDArray[np.float64],
    radius: NDArray[np.float64],
    ends: tuple[float, float],
) -> FloatGraph:
    """The graph with each feature brought to between two ends on the host.

    :param layers: those that read it, by which that is undone
    :param radius: what the host brings to 1
    """
    offset = graph.prefix.offset + centre / graph.prefix.gain
    gain = graph.prefix.gain / radius
    # No range reaches beyond a clip, so that each end of the new one stands where a range or the old clip ends.
    clips = np.isfinite([graph.prefix.low, graph.prefix.high]).any()
    bounds = ends if clips else (-np.inf, np.inf)
    prefix = HostPrefix(offset.astype(np.float32), gain.astype(np.float32), *bounds)
    return replace(graph.replaced(*layers), prefix=prefix)


def few_level_ranges(
    features: Floats, bits: int, config: QuantizeConfig
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre and radius of each feature, [inputs] float64, where each of few levels counts.

    The ends of a feature's range are its first and its last level; zero need not be one, for the host takes the centre.

    :param bits: 2 to 7
    """
    first, last = semantics.activation_range(bits)
    found = [_few_levels(column, bits, config) for column in features.T]
    low, reach = np.array([x.low for x in found]), np.array([x.high - x.low for x in found])
    constant = reach <= 1e-6 * np.abs(low)
    radius = np.where(constant, np.where(low != 0, np.abs(low), 1.0), last * reach / (last - first))
    return np.where(constant, low, low - first * reach / (last - first)), radius


def _few_levels(values: Floats, bits: int, config: QuantizeConfig) -> Range:
    """The range of a feature [n] whose ends are levels, by the configured calibrator."""
    match config.calibrator_for(bits):
        case "mse":
            return even_levels_range(values, bits)
        case "percentile":
            return percentile_range(values, config.percentile)
    return minmax_range(values)


def feature_ranges(
    features: Floats, prefix: HostPrefix, bits: int, headroom: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre and radius of each feature, [inputs] float64: what the host maps to [-1, 1].

    At 16 bits the middle is zero unless zero lies far outside the range: what was not observed on one
    side of zero may come yet, and resolution is there to spare. No range reaches beyond a clip of ``prefix``.
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
