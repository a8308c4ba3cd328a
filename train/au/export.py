"""A view as a float32 ONNX graph: pixels in, a number per action unit out, above zero where the unit is present."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from policyport.train.au.augment import CENTRE, SPAN
from policyport.train.au.networks import Residual, View
from policyport.train.onnx_writer import OnnxGraph
from torch import nn


def logit(probability: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """log(p / (1 - p))."""
    p = np.asarray(probability, np.float64)
    return np.log(p / (1 - p))


def write_views(
    views: Sequence[View], thresholds: NDArray[np.floating[Any]], side: int, channels: int, path: Path
) -> int:
    """Write one view, or the mean of several: relation networks folded into classifiers, thresholds into their biases.

    Input ``observation`` [N, channels * side * side], pixels 0 to 255; output ``output`` [N, units]: the logit of a
    unit's probability less that of its threshold.

    :return: how many weights and biases the network has
    """
    graph = _ViewGraph()
    current = graph.node("Reshape", "picture", "observation", graph.constant("shape", [-1, channels, side, side]))
    current = graph.node("Sub", "centred", current, graph.constant("centre", CENTRE))
    current = graph.node("Div", "pixels", current, graph.constant("span", SPAN))
    outputs = []
    for view in views:
        folded = view.eval().folded()
        dense = folded[-1]
        assert isinstance(dense, nn.Linear)
        with torch.no_grad():
            dense.bias.sub_(torch.from_numpy(logit(thresholds)).float())
            for parameter in dense.parameters():
                parameter /= len(views)
        outputs.append(graph.layers(current, folded))
    if len(outputs) > 1:
        graph.node("Add", "mean", *outputs)
    graph.save(path, "action units", channels * side * side, len(thresholds))
    return sum(numpy_helper.to_array(c).size for c in graph.constants if c.name.endswith((".weight", ".bias")))


class _ViewGraph(OnnxGraph):
    """The modules of a view as nodes."""

    def layers(self, source: str, modules: Iterable[nn.Module]) -> str:
        """The modules one after the other, each batch normalization within the convolution before it."""
        pending: nn.Conv2d | None = None
        for module in modules:
            if isinstance(module, nn.Conv2d):
                pending = module
            elif isinstance(module, nn.BatchNorm2d):
                assert pending is not None
                source, pending = self.convolution(source, pending, module), None
            else:
                source = self.layer(source, module)
        return source

    def layer(self, source: str, module: nn.Module) -> str:
        """Anything but a convolution."""
        if isinstance(module, nn.ReLU):
            return self.node("Relu", f"{source}.relu", source)
        if isinstance(module, nn.Flatten):
            return self.node("Flatten", f"{source}.flat", source)
        if isinstance(module, nn.AdaptiveAvgPool2d):
            return self.node("GlobalAveragePool", f"{source}.mean", source)
        if isinstance(module, nn.MaxPool2d):
            kernel, stride, pad = (cast(int, size) for size in (module.kernel_size, module.stride, module.padding))
            window = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
            return self.node("MaxPool", f"{source}.max", source, **window)
        if isinstance(module, Residual):
            inner, around = self.layers(source, module.inner), source
            if isinstance(module.around, nn.Sequential):
                around = self.layers(source, module.around)
            return self.node("Relu", f"{inner}.joined.relu", self.node("Add", f"{inner}.joined", inner, around))
        assert isinstance(module, nn.Linear), module
        self.depth += 1
        name = f"layer{self.depth}"
        weight = self.constant(f"{name}.weight", module.weight.detach().numpy())
        return self.node(
            "Gemm", name, source, weight, self.constant(f"{name}.bias", module.bias.detach().numpy()), transB=1
        )

    def convolution(self, source: str, module: nn.Conv2d, norm: nn.BatchNorm2d) -> str:
        """A convolution with its batch normalization folded in."""
        self.depth += 1
        name = f"layer{self.depth}"
        assert norm.running_mean is not None and norm.running_var is not None
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weight = (module.weight * gain[:, None, None, None]).detach().numpy()
        bias = (norm.bias - norm.running_mean * gain).detach().numpy()
        given = source, self.constant(f"{name}.weight", weight), self.constant(f"{name}.bias", bias)
        padding = [int(size) for size in module.padding]
        return self.node(
            "Conv",
            name,
            *given,
            kernel_shape=list(module.kernel_size),
            strides=list(module.stride),
            pads=[*padding, *padding],
            group=module.groups,
        )
