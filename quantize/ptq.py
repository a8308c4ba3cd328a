"""Post-training quantization: a float graph and observations to a :class:`QuantizedNetwork`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from policyport.core.errors import UnsupportedModelError
from policyport.core.progress import each
from policyport.core.semantics import stored_bits
from policyport.quantize import quantizers
from policyport.quantize.activation import Activation
from policyport.quantize.calibrate import collect
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.entry import enter
from policyport.quantize.graph import FloatGraph, Live, evaluate
from policyport.quantize.integer_nodes import Compact, QuantizedLayer, QuantizedNode, quantized_operator
from policyport.quantize.layer_data import LayerData, Rounding, nearest
from policyport.quantize.network import QuantizedNetwork
from policyport.quantize.nodes import Floats, Weighted, parts
from policyport.quantize.ranges import Ties, assign
from policyport.quantize.simulate import run_node

log = logging.getLogger(__name__)


def quantize_graph(
    graph: FloatGraph, observations: Floats, config: QuantizeConfig, bits: int, rounding: Rounding = nearest
) -> QuantizedNetwork:
    """Quantize with activations of ``bits`` (8 or 16), but for those that ``config`` gives a width of their own.

    Between input and output ``config`` may give fewer than 8. A layer whose accumulator 16 bits could overflow reads 8.

    :param observations: [n, inputs] or [n, *shape], float32, as the environment gives them, for calibration
    :param rounding: asked, layer by layer, for the integers of the weights
    :raises UnsupportedModelError: a layer too wide for 32-bit accumulators even with an 8-bit input
    :raises ObservationError: no observations
    """
    graph.check_finite()
    hidden = config.activation_bits if bits == 8 else bits
    chosen = {graph.input_name: config.input_bits or bits, graph.output_name: config.output_bits or bits}
    chosen |= config.tensor_bits((graph.input_name, *(node.name for node in graph.nodes)))
    while True:
        widths = Ties(graph).widths(hidden, chosen)
        walk = _Walk.prepare(graph, observations, config, widths, rounding)
        network = walk.run(observations)
        if network is not None:
            return network
        log.info("%s has 8 bits: an accumulator could overflow with 16", walk.too_wide)
        chosen[walk.too_wide] = 8


@dataclass
class _Walk:
    """From node to node, the float and the integer network side by side."""

    graph: FloatGraph
    activations: Mapping[str, Activation]
    config: QuantizeConfig
    weight_bits: Mapping[str, int]
    rounding: Rounding
    too_wide: str = ""
    """The tensor that must have 8 bits, after a run that found one."""

    @classmethod
    def prepare(
        cls,
        graph: FloatGraph,
        observations: Floats,
        config: QuantizeConfig,
        widths: Mapping[str, int],
        rounding: Rounding,
    ) -> _Walk:
        """Calibrate: the host's part, the ranges."""
        graph, entry = enter(graph, observations, config, widths[graph.input_name])
        activations = assign(graph, entry, collect(graph, observations), config, widths)
        names = tuple(node.name for node in graph.weighted)
        return cls(graph, activations, config, config.layer_bits(names), rounding)

    def run(self, observations: Floats) -> QuantizedNetwork | None:
        """The network; None where a tensor turned out too wide."""
        graph, entry = self.graph, self.activations[self.graph.input_name]
        features = graph.enter(observations)
        floats = Live({graph.input_name: features}, graph.reader_counts)
        integers = Live({graph.input_name: entry.compact(entry.quantize(features))}, graph.reader_counts)
        nodes: list[QuantizedNode] = []
        for node in each("quantize", graph.nodes):
            exact = [floats.take(name) for name in node.inputs]
            q = [integers.take(name) for name in node.inputs]
            values = evaluate(node, *exact)
            inputs = tuple(self.activations[name] for name in node.inputs)
            try:
                if isinstance(node, Weighted):
                    made: QuantizedNode = self._layer(node, exact[0], q[0], values[node.linear_name])
                else:
                    made = quantized_operator(node, inputs, self.activations[node.name])
                result = run_node(made, *q)[node.name]
            except UnsupportedModelError:
                if all(source.bits <= 8 for source in inputs):
                    raise
                self.too_wide = next(source.name for source in inputs if source.bits == 16)
                return None
            floats.put(node.name, values[node.name])
            integers.put(node.name, result)
            nodes.append(made)
        return QuantizedNetwork(
            graph.name,
            graph.input_name,
            graph.output_name,
            graph.prefix,
            entry,
            tuple(nodes),
            graph.channels_last,
        )

    def _layer(self, node: Weighted, exact: Floats, q: Compact, linear: Floats) -> QuantizedLayer:
        source, output = self.activations[node.inputs[0]], self.activations[node.name]
        before = self.activations[node.linear_name] if node.function.has_table else output
        bias = quantizers.bounded_bias(node.bias, node.weights, source.range, before.range)
        node = replace(node, bias=bias.astype(np.float32))
        bits = self.weight_bits[node.name]
        per_channel = self.config.per_channel and node.takes_channel_scales
        rounded = self.rounding(LayerData(node, source, before, bits, per_channel, exact, q))
        layer = QuantizedLayer(
            node=node,
            inputs=(source,),
            output=output,
            before=before,
            weights=rounded.weights,
            weight_bits=stored_bits(bits),
            weight_scale=rounded.scale,
            bias=rounded.bias,
        )
        return corrected(layer, q, linear) if self.config.bias_correction else layer


def corrected(layer: QuantizedLayer, q: Compact, linear: Floats) -> QuantizedLayer:
    """The layer with its bias shifted so that the mean over the observations equals the float layer's.

    Nagel et al. 2019 (Data-Free Quantization), section 4.2, with observed instead of derived means.

    :param q: [n, *shape], what the integer layers before it yield
    :param linear: [n, outputs, ...], the float layer before its function
    """
    outputs = len(layer.bias)
    total = np.zeros(outputs)
    for (part,) in parts(layer.node.work(layer.input.shape), q):
        total += layer.accumulate(part).reshape(-1, outputs).sum(axis=0, dtype=np.float64)
    places = linear.size // outputs
    exact = linear.reshape(len(linear), outputs, -1).sum(axis=(0, 2), dtype=np.float64)
    error = (exact - total * layer.bias_scale) / places
    bias = layer.bias * layer.bias_scale + error
    bias = quantizers.bounded_bias(bias, layer.node.weights, layer.input.range, layer.before.range)
    return replace(layer, bias=quantizers.round_bias(bias, layer.input.scale, layer.weight_scale))
