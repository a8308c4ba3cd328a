"""Networks whose observation is a vector, an image and another vector."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from policyport.core.operators import Window
from policyport.quantize.graph import FloatGraph, HostPrefix
from policyport.quantize.nodes import NONE, RELU, Concat, Convolution, Function, Linear, Reshape, Slice

TANH = Function("Tanh")
SIDE, VECTORS = 6, (3, 2)
PIXELS = 2 * SIDE * SIDE
SIZE = VECTORS[0] + PIXELS + VECTORS[1]


def mixed(function=RELU, *, channels_last=False, pads=(0, 0, 0, 0), seed=0):
    """A vector, an image of two channels, another vector; the image by a convolution, all joined by two layers."""
    rng = np.random.default_rng(seed)

    def floats(*shape):
        return rng.normal(size=shape).astype(np.float32)

    def linear(name, source, weights, function=NONE):
        linear_name = name if function == NONE else f"{name}_linear"
        bias = floats(len(weights)) / 4
        return Linear(
            name=name, inputs=(source,), linear_name=linear_name, weights=weights, bias=bias, function=function
        )

    at, spread = VECTORS[0], np.geomspace(0.01, 40, SIZE)
    sizes = np.concatenate([spread[:at], np.ones(16), spread[at + PIXELS :]]).astype(np.float32)
    nodes = (
        Slice(name="first", inputs=("observation",), start=0, stop=at),
        Slice(name="pixels", inputs=("observation",), start=at, stop=at + PIXELS),
        Slice(name="last", inputs=("observation",), start=at + PIXELS, stop=SIZE),
        Reshape(name="image", inputs=("pixels",), target=(2, SIDE, SIDE), channels_last=channels_last),
        Convolution(
            name="seen",
            inputs=("image",),
            linear_name="seen_linear",
            weights=floats(4, 2, 3, 3) / 255,
            bias=floats(4) / 4,
            function=RELU,
            window=Window((3, 3), (3, 3), pads=pads),
        ),
        Reshape(name="flat", inputs=("seen",), target=(16,)),
        Concat(name="joined", inputs=("first", "flat", "last")),
        linear("hidden", "joined", floats(8, 21) / sizes / 4, function),
        linear("output", "hidden", floats(3, 8)),
    )
    return FloatGraph("net", "observation", (SIZE,), "output", HostPrefix.identity((SIZE,)), nodes)


def observations(count, seed=0):
    """Vectors of very different size, an image of whole numbers."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, SIZE)) * np.geomspace(0.01, 40, SIZE)
    vectors[:, VECTORS[0] : VECTORS[0] + PIXELS] = rng.integers(0, 256, (count, PIXELS))
    return vectors.astype(np.float32)


def limited(graph):
    """With the limits of a camera; those of vectors are not known."""
    low, high = np.full(SIZE, -1e6, np.float32), np.full(SIZE, 1e6, np.float32)
    span = slice(VECTORS[0], VECTORS[0] + PIXELS)
    low[span], high[span] = 0, 255
    return replace(graph, limits=(low, high))
