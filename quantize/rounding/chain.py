"""A chain of fully connected integer layers on observations that stay, its rows changed one at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from policyport.core import semantics
from policyport.core.semantics import Integers, Reals
from policyport.quantize.network import QuantizedNetwork
from policyport.quantize.nodes import Floats
from policyport.quantize.quantizers import round_bias
from policyport.quantize.simulate import quantize_input


class Chain:
    """Weights, scales and biases of every layer, and what each computes.

    Sums are real and rounded as the integers are, but for the requantizing multiplier's last bit and the rounding of
    biases: what was found is to be judged by the integers of :meth:`network`.
    """

    def __init__(self, network: QuantizedNetwork, observations: Floats) -> None:
        """Of a network whose every layer reads the one before."""
        self.start, self.layers = network, network.layers
        self.weights: list[Reals] = [layer.weights.astype(np.float64) for layer in self.layers]
        """Integers [outputs, inputs] of each layer."""

        self.scales: list[Reals] = [layer.weight_scale.astype(np.float64) for layer in self.layers]
        self.biases: list[Reals] = [layer.bias * layer.bias_scale for layer in self.layers]
        self.free_scales = [len(scales) == 1 or bool(np.ptp(scales) > 0) for scales in self.scales]
        """Whether each row of a layer has a scale of its own."""

        entered = network.input.dequantize(quantize_input(network, observations))
        self.features: list[Reals] = [entered.astype(np.float64)]
        """[n, inputs] of each layer, then the outputs."""

        self.sums: list[Reals] = []
        """[n, outputs] of each layer, before anything is rounded."""

        self._onward(0)

    @property
    def outputs(self) -> Reals:
        """[n, outputs] of the network."""
        return self.features[-1]

    def slopes(self, layer: int) -> Reals:
        """[n, outputs, rows]: how the network's outputs move with each sum of a layer."""
        last = len(self.layers) - 1
        slopes = np.eye(len(self.weights[last]))[None] * self._steepness(last)[:, None, :]
        for index in range(last, layer, -1):
            slopes = (slopes @ self._real(index)) * self._steepness(index - 1)[:, None, :]
        return slopes

    def tried(self, layer: int, row: int, sums: Reals) -> Reals:
        """The network's outputs if a row had these sums [n]."""
        result = self._result(layer, sums)
        if layer == len(self.layers) - 1:
            outputs = self.outputs.copy()
            outputs[:, row] = result
            return outputs
        moved = result - self.features[layer + 1][:, row]
        following = self.sums[layer + 1] + moved[:, None] * self._real(layer + 1)[:, row]
        features = self._result(layer + 1, following)
        for index in range(layer + 2, len(self.layers)):
            features = self._result(index, features @ self._real(index).T + self.biases[index])
        return features

    def put(self, layer: int, row: int, weights: Reals, scale: float, bias: float) -> None:
        """Change a row."""
        self.weights[layer][row], self.scales[layer][row], self.biases[layer][row] = weights, scale, bias
        self.sums[layer][:, row] = self.features[layer] @ (weights * scale) + bias
        self.features[layer + 1][:, row] = self._result(layer, self.sums[layer][:, row])
        self._onward(layer + 1)

    def network(self) -> QuantizedNetwork:
        """The integers as they are now.

        :raises UnsupportedModelError: an accumulator could overflow
        """
        made = []
        for layer, weights, scales, bias in zip(self.layers, self.weights, self.scales, self.biases, strict=True):
            narrow = scales.astype(np.float32)
            whole = round_bias(bias, float(layer.input.scale), narrow)
            changed = replace(layer, weights=weights.astype(np.int64), weight_scale=narrow, bias=whole)
            _ = changed.requantize  # proves that no accumulator overflows
            made.append(changed)
        return replace(self.start, nodes=tuple(made))

    def _onward(self, first: int) -> None:
        """Compute from a layer on."""
        del self.features[first + 1 :], self.sums[first:]
        for index in range(first, len(self.layers)):
            self.sums.append(self.features[index] @ self._real(index).T + self.biases[index])
            self.features.append(self._result(index, self.sums[index]))

    def _real(self, layer: int) -> Reals:
        return self.weights[layer] * self.scales[layer][:, None]

    def _integers(self, layer: int, sums: Reals) -> Integers:
        before = self.layers[layer].before
        rounded = np.rint(sums / before.scale) + before.zero_point
        whole: Integers = np.clip(rounded, before.low, before.high).astype(np.int64)
        return whole

    def _result(self, layer: int, sums: Reals) -> Reals:
        """What sums of any shape become behind the layer's function."""
        of, q = self.layers[layer], self._integers(layer, sums)
        if of.table is not None:
            q = semantics.lookup(q, of.table)
        real: Reals = (q - of.output.zero_point) * float(of.output.scale)
        return real

    def _steepness(self, layer: int) -> Reals:
        """[n, outputs]: the slope of a layer's function at its sums, zero where integers saturate."""
        of, sums = self.layers[layer], self.sums[layer]
        q = self._integers(layer, sums)
        inside: NDArray[np.bool_] = (q > of.before.low) & (q < of.before.high)
        if of.table is None:
            return inside.astype(np.float64)
        function, step = semantics.POINTWISE[of.node.function.name], float(of.before.scale)
        return inside * (function(sums + step) - function(sums - step)) / (2 * step)
