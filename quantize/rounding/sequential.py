"""Rounds the weights of a torch network layer by layer, each seeing what the rounded layers before it yield.

Weights alone are quantized here, so that solvers can be compared by themselves; activations stay float.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.semantics import Reals
from policyport.quantize.rounding.layout import ConvolutionLayout, Layout, LinearLayout
from policyport.quantize.rounding.problem import Solution

Values = NDArray[np.float32]

Rounder = Callable[["Layer"], Solution]
"""Rounds one layer."""


class Layer:
    """One layer of a torch network as a rounder is given it."""

    def __init__(self, name: str, module: Any, function: str, float_inputs: Values, inputs: Values) -> None:
        self.name = name
        self.layout = layout_of(module)
        self.function = function
        """``Relu`` or empty: what follows the layer."""

        self.weights: Reals = self.layout.rows(_array(module.weight).astype(np.float64))
        """[G, R, D]"""

        self.bias: Reals = _array(module.bias).astype(np.float64).reshape(self.weights.shape[:2])
        """[G, R]"""

        self.float_inputs = float_inputs
        """[n, ...], what the float network's layer reads."""

        self.inputs = inputs
        """[n, ...], what the quantized network's layer reads."""


def layout_of(module: Any) -> Layout:
    """The layout of a torch Linear, Conv2d or ConvTranspose2d."""
    import torch

    if isinstance(module, torch.nn.Linear):
        return LinearLayout()
    top, left = module.padding
    return ConvolutionLayout(
        kernel=tuple(module.kernel_size),
        channels=module.in_channels,
        stride=tuple(module.stride),
        padding=(top, left, top, left),
        dilation=tuple(module.dilation),
        groups=module.groups,
        transposed=isinstance(module, torch.nn.ConvTranspose2d),
        output_padding=tuple(module.output_padding),
    )


def rounded(network: Any, layers: list[tuple[str, str]], inputs: Values, rounder: Rounder) -> Any:
    """A copy of a torch network with every layer's weights on its grid.

    :param layers: names of the layers in order, each with the function that follows it
    :param inputs: [n, ...], the calibration inputs
    """
    quantized = copy.deepcopy(network)
    for name, function in layers:
        module = quantized.get_submodule(name)
        before = captured(network, name, inputs), captured(quantized, name, inputs)
        layer = Layer(name, module, function, *before)
        install(module, layer.layout, rounder(layer))
    return quantized


def install(module: Any, layout: Layout, found: Solution) -> None:
    """Write rounded weights and their bias into a torch layer."""
    import torch

    weights = layout.weights(found.integers * found.scales[..., None])
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(np.ascontiguousarray(weights, np.float32)))
        module.bias.copy_(torch.from_numpy(found.bias.reshape(-1).astype(np.float32)))


def captured(network: Any, name: str, inputs: Values) -> Values:
    """What the layer ``name`` reads when the network is given ``inputs``: [n, ...] float32."""
    import torch

    held: list[Any] = []
    hook = network.get_submodule(name).register_forward_pre_hook(lambda _, given: held.append(given[0]))
    try:
        with torch.no_grad():
            network(torch.from_numpy(inputs))
    finally:
        hook.remove()
    return _array(held[0])


def outputs(network: Any, inputs: Values) -> Values:
    """The network's outputs, [n, outputs] float32."""
    import torch

    with torch.no_grad():
        return _array(network(torch.from_numpy(inputs)))


def _array(tensor: Any) -> NDArray[Any]:
    return tensor.detach().numpy()
