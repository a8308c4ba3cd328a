"""Graphs of random weights, for golden vectors and for tests: every operator, quantized so that it uses its range."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from policyport.core import semantics
from policyport.core.operators import SOFTMAX_SCALE, Window
from policyport.core.semantics import Integers
from policyport.deploy.layers import Argmax, Pad, Resize, Slice, Tensor
from policyport.deploy.lower_builder import OPEN, Builder, Clamp, Quantization, View, Weights, plain_view
from policyport.deploy.lower_pending import Chain, Distribution
from policyport.deploy.program import HostInput, Program

WHERE = "random graph"

MOST_CHANNELS = 12
"""More than these are made fewer by the next layer that reads them."""


class RandomGraph:
    """A program in the making; each method appends one layer and returns its output.

    :param shape: of the input: (elements,) or (height, width, channels)
    :param bits: of the input
    """

    def __init__(self, rng: np.random.Generator, shape: tuple[int, ...], bits: int = 8) -> None:
        self._rng, self._builder = rng, Builder()
        self.input = plain_view(self._builder.named(self._quantization("input", 1.0, bits)).tensor(shape))

    def finish(self, output: View) -> Program:
        """The program that ends with ``output``."""
        builder, order = self._builder, "HWC" if len(output.tensor.shape) == 3 else ""
        source: Tensor = self.input.tensor
        ones, image = np.ones(1, np.float32), len(source.shape) == 3
        host = HostInput(0 * ones, ones, -np.inf, np.inf, source.shape if image else (), "HWC" if image else "")
        return Program("random", host, source, output.tensor, tuple(builder.layers), order)  # type: ignore[arg-type]

    def dense(self, view: View, outputs: int, weight_bits: int = 8, bits: int = 8, clamp: Clamp = OPEN) -> View:
        """A fully connected layer."""
        weights = self._weights((outputs, view.tensor.size), weight_bits)
        target = self._quantization("dense", self._spread(view, view.tensor.size), bits)
        return self._builder.fully_connected(View(view.tensor, view.index.reshape(-1)), weights, target, clamp, WHERE)

    def convolution(
        self,
        view: View,
        outputs: int,
        window: Window,
        groups: int = 1,
        weight_bits: int = 8,
        bits: int = 8,
        clamp: Clamp = OPEN,
        output_padding: tuple[int, int] | None = None,
    ) -> View:
        """A convolution, or with ``output_padding`` a transposed one."""
        depth = view.shape[0] // groups
        weights = self._weights((outputs, *window.kernel, depth), weight_bits)
        target = self._quantization("conv", self._spread(view, int(np.prod(window.kernel)) * depth), bits)
        return self._builder.convolution(view, weights, window, groups, target, clamp, WHERE, output_padding)

    def max_pool(self, view: View, window: Window) -> View:
        """The largest that each window sees."""
        return self._builder.max_pool(view, window, "max", WHERE)

    def average_pool(self, view: View, window: Window, count_padding: bool = False) -> View:
        """The mean of what each window sees."""
        target = self._quantization("mean", self._reach(view) / 2, view.tensor.bits)
        return self._builder.average_pool(view, window, count_padding, target, OPEN, WHERE)

    def add(self, a: View, b: View, bits: int = 8, clamp: Clamp = OPEN) -> View:
        """A sum, or a difference."""
        target = self._quantization("add", self._reach(a) + self._reach(b), bits)
        sign = float(self._rng.choice([-1.0, 1.0]))
        return self._builder.weighted_sum([a, b], [1.0, sign], target, clamp, WHERE)

    def rescale(self, view: View, bits: int = 8, clamp: Clamp = OPEN) -> View:
        """The same reals at another scale."""
        return self._builder.rescaled(view, self._quantization("rescale", self._reach(view), bits), clamp, where=WHERE)

    def multiply(self, a: View, b: View, bits: int = 8) -> View:
        """A product."""
        target = self._quantization("multiply", self._reach(a) * self._reach(b) / 4, bits)
        return self._builder.multiply(a, b, target, OPEN, WHERE)

    def lookup(self, view: View, function: str) -> View:
        """A pointwise function."""
        bits = view.tensor.bits
        scale = 2.0 ** (1 - bits) if function == "Tanh" else self._reach(view) * 2.0 ** (1 - bits)
        return self._builder.lookup(
            view, function, Quantization(function, float(np.float32(scale)), 0, bits), OPEN, WHERE
        )

    def concat(self, views: list[View], axis: int) -> View:
        """Activations behind one another along an axis of (channels, height, width)."""
        names = tuple(f"{view.tensor.name}/rescaled" for view in views)
        chain = Chain(tuple(views), names, axis, WHERE)
        return chain.emit(self._builder, self._quantization("concat", max(map(self._reach, views)), 8), OPEN)

    def pad(self, view: View, pads: tuple[int, int, int, int], value: int) -> View:
        """An image with a border."""
        source = view.tensor
        height, width, channels = source.shape
        target = self._like(source, "pad", (height + pads[0] + pads[2], width + pads[1] + pads[3], channels))
        return plain_view(self._builder.add(Pad(target.name, (source,), target, pads, value)))

    def resize(self, view: View, height: int, width: int) -> View:
        """The nearest pixels."""
        target = self._like(view.tensor, "resize", (height, width, view.tensor.shape[2]))
        return plain_view(self._builder.add(Resize(target.name, (view.tensor,), target)))

    def slice(self, view: View, start: int, size: int) -> View:
        """A part of a vector."""
        target = self._like(view.tensor, "slice", (size,))
        return plain_view(self._builder.add(Slice(target.name, (view.tensor,), target, start)))

    def turned(self, view: View) -> View:
        """An image with height and width exchanged, made so in memory."""
        source = View(view.tensor, view.index.transpose(0, 2, 1))
        return plain_view(self._builder.channels_last(source, WHERE))

    def softmax(self, view: View) -> View:
        """A softmax over the last axis."""
        return Distribution(view, WHERE).emit(self._builder, Quantization("softmax", SOFTMAX_SCALE, -128, 8), OPEN)

    def argmax(self, view: View) -> View:
        """The index of the largest."""
        source = self._builder.flat(View(view.tensor, np.arange(view.tensor.size)), WHERE)
        name = self._builder.named(Quantization("argmax", 1.0, 0, 16)).name
        target = Tensor(name, (1,), 16, 1.0, 0, 0, source.size - 1)
        return plain_view(self._builder.add(Argmax(name, (source,), target)))

    def _like(self, source: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
        quantization = Quantization(name, source.scale, source.zero_point, source.bits)
        return self._builder.named(quantization).tensor(shape)

    def _quantization(self, name: str, reach: float, bits: int) -> Quantization:
        """Of values between about ``-reach`` and ``reach``."""
        zero_point = int(self._rng.integers(-60, 60)) if bits == 8 else 0
        return Quantization(name, float(np.float32(reach * 2.0 ** (1 - bits))), zero_point, bits)

    def _weights(self, shape: tuple[int, ...], bits: int) -> Weights:
        low, high = semantics.weight_range(bits)
        values: Integers = self._rng.integers(low, high, shape, np.int64, endpoint=True)
        scale = self._rng.uniform(0.5, 1.5, shape[0]).astype(np.float32).astype(np.float64) / high
        return Weights(values, bits, scale, self._rng.uniform(-0.3, 0.3, shape[0]))

    @staticmethod
    def _reach(view: View) -> float:
        return view.tensor.scale * 2.0 ** (view.tensor.bits - 1)

    def _spread(self, view: View, taps: int) -> float:
        """What a sum of random products reaches, one in a few saturating."""
        return self._reach(view) * float(np.sqrt(taps)) / 2


def random_graph(rng: np.random.Generator, layers: int) -> Program:
    """A graph of about so many random layers over small images; what nothing reads is summed up at the end."""
    graph = RandomGraph(rng, (int(rng.integers(4, 8)), int(rng.integers(4, 8)), int(rng.integers(1, 5))))
    views = [graph.input]
    for _ in range(layers):
        views.append(_random_layer(graph, views, rng))
    heads = [graph.dense(view, 3, _weight_bits(view, rng), int(rng.choice([8, 16]))) for view in views[-2:]]
    return graph.finish(graph.add(heads[0], heads[-1]))


def _random_layer(graph: RandomGraph, views: list[View], rng: np.random.Generator) -> View:
    view = views[int(rng.integers(len(views)))]
    channels, height, width = view.shape
    like = [other for other in views if other.shape == view.shape]
    other = like[int(rng.integers(len(like)))]
    relu = (0.0, np.inf) if rng.random() < 0.5 else OPEN
    bits = int(rng.choice([8, 8, 16]))
    window = _random_window(rng, height, width)
    choice = int(rng.integers(11))
    if choice < 3 or channels > MOST_CHANNELS:
        groups = int(rng.choice([1, channels])) if channels <= MOST_CHANNELS else 1
        outputs = groups * int(rng.integers(1, 4))
        return graph.convolution(view, outputs, window, groups, _weight_bits(view, rng), bits, relu)
    layers: list[Callable[[], View]] = [
        lambda: graph.max_pool(view, window),
        lambda: graph.average_pool(view, window, bool(rng.integers(2))),
        lambda: graph.add(view, other, bits, relu),
        lambda: graph.multiply(view, other, bits),
        lambda: graph.concat([view, other], int(rng.integers(3))),
        lambda: graph.lookup(view, str(rng.choice(["Tanh", "HardSwish", "Elu"]))),
        lambda: graph.rescale(view, bits, relu),
        lambda: graph.turned(view),
    ]
    return layers[choice - 3]()


def _weight_bits(view: View, rng: np.random.Generator) -> int:
    """Few where the activations have many: the accumulators must fit."""
    return int(rng.choice([8, 8, 4, 3, 2] if view.tensor.bits == 8 else [4, 3, 2]))


def _random_window(rng: np.random.Generator, height: int, width: int) -> Window:
    """A window that sees at least one pixel at each place."""
    kernel = (int(rng.integers(1, min(4, height + 1))), int(rng.integers(1, min(4, width + 1))))
    pads = [int(rng.integers(0, k)) for k in (*kernel, *kernel)]
    stride = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    return Window(kernel, stride, (1, 1), (pads[0], pads[1], pads[2], pads[3]))


def golden_graphs() -> dict[str, Program]:
    """A small program for each operator, by name."""
    return {name: make(np.random.default_rng(seed)) for seed, (name, make) in enumerate(_GOLDEN.items(), start=100)}


def _plain(
    layer: Callable[[RandomGraph, View], View], shape: tuple[int, ...] = (5, 6, 4), bits: int = 8
) -> Callable[[np.random.Generator], Program]:
    def make(rng: np.random.Generator) -> Program:
        graph = RandomGraph(rng, shape, bits)
        return graph.finish(layer(graph, graph.input))

    return make


THREE = Window((3, 3), (1, 1), (1, 1), (1, 1, 1, 1))


def _residual(rng: np.random.Generator) -> Program:
    """A residual block, pooled, with a head of two classes: what a small classifier is made of."""
    graph = RandomGraph(rng, (8, 8, 3))
    stem = graph.convolution(graph.input, 8, Window((3, 3), (2, 2), (1, 1), (0, 0, 1, 1)), clamp=(0.0, np.inf))
    branch = graph.convolution(stem, 8, THREE, groups=8, clamp=(0.0, np.inf))
    branch = graph.convolution(branch, 8, Window((1, 1)))
    both = graph.add(stem, branch, clamp=(0.0, np.inf))
    pooled = graph.average_pool(both, Window((4, 4)))
    return graph.finish(graph.softmax(graph.dense(pooled, 2)))


_GOLDEN: dict[str, Callable[[np.random.Generator], Program]] = {
    "conv_s8": _plain(lambda g, x: g.convolution(x, 5, THREE)),
    "conv_strided_dilated": _plain(
        lambda g, x: g.convolution(x, 3, Window((2, 3), (2, 1), (2, 1), (1, 0, 2, 2)), clamp=(0.0, np.inf))
    ),
    "conv_grouped": _plain(lambda g, x: g.convolution(x, 6, THREE, groups=2)),
    "conv_depthwise": _plain(lambda g, x: g.convolution(x, 4, THREE, groups=4, clamp=(0.0, 1.0))),
    "conv_depthwise_doubled": _plain(lambda g, x: g.convolution(x, 8, THREE, groups=4)),
    "conv_pointwise": _plain(lambda g, x: g.convolution(x, 7, Window((1, 1)))),
    "conv_w4": _plain(lambda g, x: g.convolution(x, 5, THREE, weight_bits=4)),
    "conv_w3": _plain(lambda g, x: g.convolution(x, 5, THREE, weight_bits=3)),
    "conv_w2": _plain(lambda g, x: g.convolution(x, 5, THREE, weight_bits=2)),
    "conv_s16": _plain(lambda g, x: g.convolution(x, 3, THREE, bits=16), bits=16),
    "conv_s16_to_s8": _plain(lambda g, x: g.convolution(x, 3, THREE), bits=16),
    "conv_s8_to_s16": _plain(lambda g, x: g.convolution(x, 3, THREE, bits=16)),
    "transposed": _plain(
        lambda g, x: g.convolution(x, 3, Window((3, 3), (2, 2), (1, 1), (1, 1, 1, 1)), output_padding=(1, 0))
    ),
    "transposed_whole": _plain(
        lambda g, x: g.convolution(x, 3, Window((3, 2), (2, 2), (1, 1), (0, 0, 1, 0)), output_padding=(0, 0))
    ),
    "transposed_grouped_w4": _plain(
        lambda g, x: g.convolution(
            x, 4, Window((2, 4), (2, 3), (1, 1), (0, 1, 1, 2)), groups=2, weight_bits=4, output_padding=(0, 1)
        )
    ),
    "max_pool": _plain(lambda g, x: g.max_pool(x, Window((3, 2), (2, 2), (1, 1), (1, 0, 0, 1)))),
    "max_pool_s16": _plain(lambda g, x: g.max_pool(x, Window((2, 2), (2, 2))), bits=16),
    "average_pool": _plain(lambda g, x: g.average_pool(x, Window((3, 3), (2, 2), (1, 1), (1, 1, 1, 1)))),
    "average_pool_behind": _plain(lambda g, x: g.average_pool(x, Window((2, 2), (2, 2), (1, 1), (0, 0, 1, 0)))),
    "average_pool_padding": _plain(lambda g, x: g.average_pool(x, Window((2, 3), (2, 2), (1, 1), (1, 1, 0, 1)), True)),
    "global_average_s16": _plain(lambda g, x: g.average_pool(x, Window((5, 6))), bits=16),
    "add": _plain(lambda g, x: g.add(x, g.convolution(x, 4, THREE), clamp=(0.0, np.inf))),
    "add_mixed": _plain(lambda g, x: g.add(x, g.convolution(x, 4, THREE, bits=16), bits=16)),
    "rescale": _plain(lambda g, x: g.rescale(g.rescale(x, 16), clamp=(-0.5, 0.25))),
    "multiply": _plain(lambda g, x: g.multiply(x, g.convolution(x, 4, THREE))),
    "multiply_channels": _plain(lambda g, x: g.multiply(g.average_pool(x, Window((5, 6))), x, bits=16)),
    "multiply_pixels": _plain(lambda g, x: g.multiply(x, g.convolution(x, 1, THREE))),
    "concat_channels": _plain(lambda g, x: g.concat([x, g.convolution(x, 3, THREE)], 0)),
    "concat_rows": _plain(lambda g, x: g.concat([x, g.convolution(x, 4, Window((2, 1))), x], 1)),
    "pad": _plain(lambda g, x: g.pad(x, (1, 0, 2, 1), -5)),
    "resize": _plain(lambda g, x: g.resize(x, 10, 9)),
    "transpose": _plain(lambda g, x: g.turned(x)),
    "lookup": _plain(lambda g, x: g.lookup(g.max_pool(x, Window((2, 2))), "HardSwish")),
    "softmax": _plain(lambda g, x: g.softmax(x), (11,)),
    "softmax_channels": _plain(lambda g, x: g.softmax(x)),
    "argmax": _plain(lambda g, x: g.argmax(x), (9,)),
    "argmax_s16": _plain(lambda g, x: g.argmax(x), (9,), 16),
    "image_to_vector": _plain(lambda g, x: g.dense(g.lookup(g.dense(g.convolution(x, 3, THREE), 6), "Tanh"), 2, 4)),
    "residual": _residual,
    "slice": _plain(lambda g, x: g.dense(g.slice(x, 3, 5), 4), (11,)),
    "slice_s16": _plain(lambda g, x: g.slice(x, 1, 7), (9,), 16),
}
