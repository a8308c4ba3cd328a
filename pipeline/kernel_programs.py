"""Small programs that call every kernel for Cortex-M, each in layers of several sizes: what kernels are profiled in."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from policyport.core.operators import Window
from policyport.deploy.lower_builder import View
from policyport.deploy.program import Program
from policyport.deploy.random_graph import RandomGraph
from policyport.deploy.vectors import Spec, random_program

IMAGES = ((5, 5, 3), (6, 7, 4), (9, 8, 8), (12, 10, 16))
"""(height, width, channels)"""

RELU = (0.0, np.inf)

VECTOR = (6, 10, 5, 24, 33, 12, 64, 48, 20, 120, 64, 7)
"""Elements of a vector, and of what each layer makes of it."""

FUNCTIONS = ("", "Relu", "Tanh", "Clip")


def kernel_programs() -> Iterator[Program]:
    """The programs; the same each time."""
    for seed, shape in enumerate(IMAGES):
        for bits in (8, 16):
            yield _convolutions(np.random.default_rng(seed), shape, bits)
            yield _other_operators(np.random.default_rng(seed), shape, bits)
        yield _heads(np.random.default_rng(seed), shape)
    yield from _vectors(np.random.default_rng(0))


def _same(kernel: int, stride: int = 1) -> Window:
    margin = kernel // 2
    return Window((kernel, kernel), (stride, stride), (1, 1), (margin, margin, margin, margin))


def _convolutions(rng: np.random.Generator, shape: tuple[int, int, int], bits: int) -> Program:
    """Convolutions of one image, each of its own kind; activations have ``bits``."""
    graph, channels = RandomGraph(rng, shape, bits), shape[2]
    x = graph.input
    last = x
    for weight_bits in (8, 4, 3, 2):
        for window, outputs in ((_same(3), channels), (_same(1), 2 * channels), (_same(3, 2), 2 * channels)):
            last = graph.convolution(x, outputs, window, weight_bits=weight_bits, bits=bits)
        for window in (_same(3), _same(3, 2), _same(5)):
            last = graph.convolution(x, channels, window, channels, weight_bits, bits, RELU)
        last = graph.convolution(x, 4, _same(3), 1, weight_bits, 24 - bits)
        last = graph.convolution(x, 2 * channels, _same(3), channels, weight_bits, 24 - bits)
    last = graph.convolution(x, 4, Window((3, 3), (1, 1), (2, 2), (2, 2, 2, 2)), bits=bits)
    for weight_bits in (8, 4):
        last = graph.convolution(
            x, 4, Window((3, 3), (2, 2), (1, 1), (1, 1, 1, 1)), 1, weight_bits, bits, output_padding=(1, 1)
        )
    return graph.finish(last)


def _other_operators(rng: np.random.Generator, shape: tuple[int, int, int], bits: int) -> Program:
    """Every other operator on one image."""
    graph = RandomGraph(rng, shape, bits)
    x = graph.input
    height, width, _ = shape
    last: View = x
    for size in (2, 3):
        last = graph.max_pool(x, Window((size, size), (size, size)))
        last = graph.average_pool(x, Window((size, size), (2, 2), (1, 1), (1, 1, 1, 1)))
    pooled = graph.average_pool(x, Window((height, width)))
    y = graph.rescale(x, bits, (-0.5, 0.25))
    wide = graph.rescale(x, 24 - bits)
    for one, other in ((x, y), (x, wide), (wide, wide)):
        for to in (8, 16):
            last = graph.add(one, other, to)
            last = graph.multiply(one, other, to)
    last = graph.multiply(x, pooled, bits)
    for function in ("Tanh", "HardSwish"):
        last = graph.lookup(x, function)
    last = graph.turned(x)
    if bits == 8:
        last = graph.concat([x, y], 0)
        last = graph.concat([x, y, x], 1)
        last = graph.pad(x, (1, 0, 2, 1), -5)
        last = graph.resize(x, 2 * height, 2 * width)
        last = graph.softmax(x)
    last = graph.argmax(x)
    return graph.finish(last)


def _heads(rng: np.random.Generator, shape: tuple[int, int, int]) -> Program:
    """Fully connected layers that read an image, and what something else than their kind reads or makes."""
    graph = RandomGraph(rng, shape)
    graph.max_pool(graph.input, Window((2, 2)))
    widths = [graph.dense(graph.input, 8 * size, clamp=RELU) for size in (1, 3)]
    sums = [graph.rescale(graph.dense(view, 10)) for view in widths]
    return graph.finish(graph.add(sums[0], sums[1]))


def _vectors(rng: np.random.Generator) -> Iterator[Program]:
    """Fully connected layers behind one another, of each width of weights and activations."""
    count = len(VECTOR) - 1
    for widths in ((8,), (16,), (8, 16)):
        bits = tuple(widths[i % len(widths)] for i in range(len(VECTOR)))
        for weight_bits in (8, 4, 3, 2):
            for first in (0, 1):
                functions = tuple(FUNCTIONS[(i + first) % len(FUNCTIONS)] for i in range(count))
                yield random_program(Spec(VECTOR, bits, functions, weight_bits=weight_bits), rng)
