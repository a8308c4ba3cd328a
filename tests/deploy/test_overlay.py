"""Outputs over operands: every kernel's reads and writes replayed byte by byte, and the C itself over such an arena."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from policyport.core.operators import Window
from policyport.core.semantics import Integers
from policyport.deploy import reference
from policyport.deploy.choice import choose_convolution, variant_choice
from policyport.deploy.choice_neon import neon_choice
from policyport.deploy.codegen import write_sources
from policyport.deploy.codegen_memory import plan_memory, scratch_bytes, storages_of
from policyport.deploy.host import HostLibrary
from policyport.deploy.layers import Add, Conv2d, Layer, Pad, Pool, Resize, Tensor, TransposedConv2d
from policyport.deploy.layout_neon import NeonKernel
from policyport.deploy.layout_neon_ring import reading_of
from policyport.deploy.layout_rows import is_pointwise, rows_layout
from policyport.deploy.overlay import overlaps
from policyport.deploy.planner import plan_program
from policyport.deploy.program import Program
from policyport.deploy.random_graph import RandomGraph
from policyport.deploy.variant import VARIANTS, Variant
from policyport.deploy.vectors import random_inputs

Event = tuple[Integers, Integers]
"""Elements of the input that are read, then elements of the output that are written."""

NOTHING = np.zeros(0, np.int64)


def window_pixels(layer: Any, y: int, x: int) -> Integers:
    """Numbers of the input's pixels that the output at a place sees, tap by tap as the kernels find them."""
    height, width, _ = layer.input.shape
    window: Window = layer.window
    found = []
    for ky in range(window.kernel[0]):
        for kx in range(window.kernel[1]):
            taps = (ky * window.dilation[0], kx * window.dilation[1])
            at = []
            for place, tap, stride, pad in zip((y, x), taps, window.stride, window.pads[:2], strict=True):
                if isinstance(layer, TransposedConv2d):
                    spread = place + pad - tap
                    at.append(spread // stride if spread % stride == 0 else -1)
                else:
                    at.append(place * stride + tap - pad)
            if 0 <= at[0] < height and 0 <= at[1] < width:
                found.append(at[0] * width + at[1])
    return np.array(found, np.int64)


def places(layer: Layer) -> list[tuple[int, int]]:
    rows, columns, _ = layer.output.shape
    return [(y, x) for y in range(rows) for x in range(columns)]


def all_channels(pixels: Integers, channels: int) -> Integers:
    return (pixels[:, None] * channels + np.arange(channels)).reshape(-1)


def whole_windows(layer: Any, batches: list[list[tuple[int, int]]]) -> Iterator[Event]:
    """The windows of some places, then their outputs."""
    channels, outputs, columns = layer.input.shape[2], layer.output.shape[2], layer.output.shape[1]
    for batch in batches:
        read = np.concatenate([window_pixels(layer, y, x) for y, x in batch])
        yield all_channels(read, channels), all_channels(np.array([y * columns + x for y, x in batch]), outputs)


def by_channel(layer: Any, step: int = 1) -> Iterator[Event]:
    """Some channels of a window, then the same channels of the output."""
    channels = layer.input.shape[2]
    for pixel, (y, x) in enumerate(places(layer)):
        seen = window_pixels(layer, y, x)
        for first in range(0, channels, step):
            some = np.arange(first, min(first + step, channels))
            yield (seen[:, None] * channels + some).reshape(-1), pixel * channels + some


def plain(layer: Any) -> Iterator[Event]:
    """The window's channels of a group for each output channel."""
    channels, outputs = layer.input.shape[2], layer.output.shape[2]
    depth, share = channels // layer.groups, outputs // layer.groups
    for pixel, (y, x) in enumerate(places(layer)):
        seen = window_pixels(layer, y, x)
        for o in range(outputs):
            some = o // share * depth + np.arange(depth)
            yield (seen[:, None] * channels + some).reshape(-1), np.array([pixel * outputs + o])


def in_fours(layer: Any) -> Iterator[Event]:
    """A pixel for every four output channels."""
    channels, outputs = layer.input.shape[2], layer.output.shape[2]
    for pixel, (y, x) in enumerate(places(layer)):
        read = all_channels(window_pixels(layer, y, x), channels)
        for first in range(0, outputs, 4):
            yield read, pixel * outputs + np.arange(first, min(first + 4, outputs))


def in_blocks(layer: Any, kernel: NeonKernel) -> Iterator[Event]:
    """Some pixels for each block of rows, then that block's outputs."""
    channels, outputs = layer.input.shape[2], layer.output.shape[2]
    pixels = np.arange(layer.output.size // outputs)
    for i in range(0, len(pixels), kernel.how.windows):
        batch = pixels[i : i + kernel.how.windows]
        for block in kernel.how.blocks(outputs):
            written = (batch[:, None] * outputs + np.arange(block.start, block.stop)).reshape(-1)
            yield all_channels(batch, channels), written


def by_rows(layer: Any) -> Iterator[Event]:
    """The image's rows that the windows of a row see, each once, then a row of the output."""
    (height, width, channels), (rows, columns, outputs) = layer.input.shape, layer.output.shape
    copied = 0
    for y in range(rows):
        last = y * layer.window.stride[0] - layer.window.pads[0] + layer.window.extent[0]
        seen = np.arange(copied * width, max(copied, min(height, last)) * width)
        yield all_channels(seen, channels), np.arange(y * columns * outputs, (y + 1) * columns * outputs)
        copied = max(copied, min(height, last))


def by_group(layer: Any) -> Iterator[Event]:
    """The window's channels of a group, then the group's outputs."""
    channels, outputs = layer.input.shape[2], layer.output.shape[2]
    depth, share = channels // layer.groups, outputs // layer.groups
    for pixel, (y, x) in enumerate(places(layer)):
        seen = window_pixels(layer, y, x)
        for group in range(layer.groups):
            read = (seen[:, None] * channels + group * depth + np.arange(depth)).reshape(-1)
            yield read, pixel * outputs + group * share + np.arange(share)


def by_fours(layer: Any) -> Iterator[Event]:
    """Four channels of a window, then an output of each; the last four whole."""
    channels, outputs = layer.input.shape[2], layer.output.shape[2]
    share = outputs // channels
    for pixel, (y, x) in enumerate(places(layer)):
        seen = window_pixels(layer, y, x)
        for one in range(share):
            for first in range(0, channels, 4):
                some = min(first, channels - 4) + np.arange(4)
                yield (seen[:, None] * channels + some).reshape(-1), pixel * outputs + some * share + one


def depthwise(layer: Any, turned: bool) -> Iterator[Event]:
    """Four channels of the whole image: rows into the ring, then an output row."""
    (height, width, channels), (rows, columns, _) = layer.input.shape, layer.output.shape
    axis = 1 if turned else 0
    for first in range(0, channels, 4):
        some = np.arange(min(first, channels - 4), min(first, channels - 4) + 4)
        gathered = -layer.window.pads[axis]
        for line in range((rows, columns)[axis]):
            until = line * layer.window.stride[axis] + 3 - layer.window.pads[axis]
            for row in range(max(gathered, 0), min(until, (height, width)[axis])):
                pixels = np.arange(height) * width + row if turned else row * width + np.arange(width)
                yield (pixels[:, None] * channels + some).reshape(-1), NOTHING
            gathered = until
            pixels = np.arange(rows) * columns + line if turned else line * columns + np.arange(columns)
            yield NOTHING, (pixels[:, None] * channels + some).reshape(-1)


def events(layer: Any, variant: Variant, optimize: str) -> Iterator[Event]:
    """What the kernel of a layer reads and writes, in its order, as its C does."""
    if isinstance(layer, Pool):
        return by_channel(layer)
    if isinstance(layer, Resize):
        (height, width, channels), (rows, columns, _) = layer.input.shape, layer.output.shape
        source = [y * height // rows * width + x * width // columns for y, x in places(layer)]
        pairs = (np.array(source)[:, None] * channels + np.arange(channels)).reshape(-1)
        return ((np.array([read]), np.array([write])) for write, read in enumerate(pairs))
    if isinstance(layer, Pad):
        inside = np.zeros(layer.output.shape, bool)
        top, left, _, _ = layer.pads
        inside[top : top + layer.input.shape[0], left : left + layer.input.shape[1]] = True
        order = np.where(inside.reshape(-1), np.cumsum(inside.reshape(-1)) - 1, -1)
        return ((np.array([read]) if read >= 0 else NOTHING, np.array([i])) for i, read in enumerate(order))
    if isinstance(layer, Add):
        return ((np.array([i]), np.array([i])) for i in range(layer.output.size))
    return convolution_events(layer, variant, optimize)


def convolution_events(layer: Conv2d, variant: Variant, optimize: str) -> Iterator[Event]:
    at = places(layer)
    if variant == "neon" or variant == "neon_dot":
        found = neon_choice(layer, variant, optimize)
        if found is None:
            return plain(layer)
        return in_blocks(layer, found) if reading_of(layer, found) == "pixels" else by_rows(layer)
    if variant in ("mve", "thumb"):
        layout = rows_layout(layer, variant, optimize)  # type: ignore[arg-type]
        if layout == "depthwise":
            return by_channel(layer)
        if layout is not None:
            gathered = variant == "thumb" or not is_pointwise(layer)
            return whole_windows(layer, [[place] for place in at]) if gathered else in_fours(layer)
    choice = variant_choice(layer, variant, optimize)
    if choice is None:
        return plain(layer)
    if choice.kernel == "channels":
        return by_fours(layer)
    if choice.kernel == "taps":
        return by_group(layer)
    if choice.kernel == "depthwise":
        return depthwise(layer, choice.turned)
    if choice.kernel == "winograd":
        rows, columns, _ = layer.output.shape
        tiles = [(y, x) for y in range(0, rows, 2) for x in range(0, columns, 2)]
        seen = [[(y + i, x + j) for i in (0, 1) for j in (0, 1) if y + i < rows and x + j < columns] for y, x in tiles]
        batches = [[place for tile in seen[i : i + 4] for place in tile] for i in range(0, len(seen), 4)]
        return whole_windows(layer, batches)
    return whole_windows(layer, [at[i : i + 2] for i in range(0, len(at), 2)])


def is_kept(layer: Layer, operand: Tensor, distance: int, variant: Variant, optimize: str) -> bool:
    """Whether every byte that is read is still the operand's, the output starting so far below it."""
    before = max(0, distance)
    size = max(operand.size * operand.bits // 8 + before, layer.output.size * layer.output.bits // 8)
    ours = np.ones(size + 16, bool)
    wide_in, wide_out = operand.bits // 8, layer.output.bits // 8
    for read, written in events(layer, variant, optimize):
        if len(read) and not all(ours[before + read * wide_in + i].all() for i in range(wide_in)):
            return False
        for i in range(wide_out):
            ours[written * wide_out + i] = False
    return True


@st.composite
def single_layers(draw: st.DrawFn) -> Program:
    """One layer over an image, of every kind that may lie over its input."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    channels = draw(st.sampled_from([1, 2, 3, 4, 5, 8]))
    bits = draw(st.sampled_from([8, 8, 8, 16]))
    graph = RandomGraph(rng, (draw(st.integers(3, 7)), draw(st.integers(3, 7)), channels), bits)
    weight_bits = draw(st.sampled_from([8, 4] if bits == 8 else [4]))
    kind = draw(st.sampled_from([*["conv"] * 3, "same", *["depthwise"] * 2, "point", "pool", "transposed"]))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    pads = tuple(draw(st.integers(0, kernel[i % 2] - 1)) for i in range(4))
    stride = draw(st.sampled_from([(1, 1), (2, 2), (1, 2), (2, 1)]))
    window = Window(kernel, stride, (1, 1), pads)  # type: ignore[arg-type]
    outputs = draw(st.sampled_from([1, 2, 3, 4, 6, 8]))
    if kind == "same":
        window, outputs = Window((3, 3), pads=(1, 1, 1, 1)), 2 * outputs
    if kind == "point":
        window = Window((1, 1))
    if kind == "depthwise":
        pads, stride = tuple(draw(st.integers(0, 2)) for _ in range(4)), draw(st.sampled_from([(1, 1), (2, 2)]))
        window = Window((3, 3), stride, pads=pads)  # type: ignore[arg-type]
        outputs, target = channels * draw(st.sampled_from([1, 1, 1, 2])), draw(st.sampled_from([8, 8, 16]))
        return graph.finish(graph.convolution(graph.input, outputs, window, channels, weight_bits, target))
    if kind == "pool":
        return graph.finish(graph.max_pool(graph.input, window))
    if kind == "transposed":
        window = Window((3, 3), stride, pads=(1, 1, 1, 1))
        return graph.finish(graph.convolution(graph.input, outputs, window, 1, weight_bits, output_padding=(0, 0)))
    groups = draw(st.sampled_from([1, 1, 2 if channels % 2 == 0 else 1]))
    view = graph.convolution(graph.input, groups * outputs, window, groups, weight_bits, draw(st.sampled_from([8, 16])))
    return graph.finish(view)


@settings(max_examples=150, deadline=None)
@given(program=single_layers(), variant=st.sampled_from(VARIANTS), optimize=st.sampled_from(["size", "speed"]))
def test_nothing_is_written_that_is_still_to_be_read(program: Program, variant: Variant, optimize: str) -> None:
    layer = program.layers[0]
    for name, overlap in overlaps(layer, variant, optimize).items():
        assert name == layer.input.name
        assert is_kept(layer, layer.input, overlap.distance_bytes, variant, optimize)
        if not overlap.exact:
            assert is_kept(layer, layer.input, overlap.distance_bytes + 8, variant, optimize)


def image_layer(name: str) -> Program:
    graph = RandomGraph(np.random.default_rng(1), (6, 7, 4))
    x, same = graph.input, Window((3, 3), pads=(1, 1, 1, 1))
    layers = {
        "conv": lambda: graph.convolution(x, 4, same),
        "wider": lambda: graph.convolution(x, 7, same),
        "to_s16": lambda: graph.convolution(x, 4, same, bits=16),
        "strided": lambda: graph.convolution(x, 8, Window((3, 3), (2, 2), pads=(1, 1, 0, 1))),
        "point": lambda: graph.convolution(x, 6, Window((1, 1))),
        "pool": lambda: graph.max_pool(x, Window((3, 3), pads=(1, 1, 1, 1))),
        "transposed": lambda: graph.convolution(x, 3, Window((3, 3), (2, 2), pads=(1, 1, 1, 1)), output_padding=(0, 0)),
        "pad": lambda: graph.pad(x, (1, 2, 0, 1), 3),
        "resize": lambda: graph.resize(x, 9, 10),
        "rescale": lambda: graph.rescale(x, 16),
    }
    return graph.finish(layers[name]())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "name", ["conv", "wider", "to_s16", "strided", "point", "pool", "transposed", "pad", "resize", "rescale"]
)
def test_one_byte_nearer_would_lose_some(name: str, variant: Variant) -> None:
    layer = image_layer(name).layers[0]
    found = overlaps(layer, variant, "size")
    if name == "transposed" and variant in ("neon", "neon_dot"):
        assert not found
        return
    distance = found[layer.input.name].distance_bytes
    assert is_kept(layer, layer.input, distance, variant, "size")
    if distance and not (variant == "mve" and name == "point"):
        assert not is_kept(layer, layer.input, distance - 1, variant, "size")


def test_winograd_takes_more_room_than_pairs() -> None:
    graph = RandomGraph(np.random.default_rng(1), (9, 11, 8))
    layer = graph.finish(graph.convolution(graph.input, 8, Window((3, 3), pads=(1, 1, 1, 1)))).layers[0]
    distances = [overlaps(layer, "dsp", optimize)[layer.input.name].distance_bytes for optimize in ("size", "speed")]
    assert isinstance(layer, Conv2d) and choose_convolution(layer, "speed").kernel == "winograd"  # type: ignore[union-attr]
    assert distances[0] < distances[1]
    assert is_kept(layer, layer.input, distances[1], "dsp", "speed")
    assert not is_kept(layer, layer.input, distances[1] - 1, "dsp", "speed")
    assert not is_kept(layer, layer.input, distances[0], "dsp", "speed")


def test_depthwise_is_in_place_or_apart() -> None:
    """Channels that are no multiple of four are computed twice, from what would have been overwritten."""
    for channels, stride, fits in ((8, 1, True), (8, 2, True), (6, 1, False)):
        graph = RandomGraph(np.random.default_rng(1), (6, 6, channels))
        window = Window((3, 3), (stride, stride), pads=(1, 1, 1, 1))
        layer = graph.finish(graph.convolution(graph.input, channels, window, channels)).layers[0]
        found = overlaps(layer, "dsp", "size")
        assert bool(found) == fits
        assert is_kept(layer, layer.input, 0, "dsp", "size") == fits
        assert all(overlap.exact for overlap in found.values())


def chain(rng: np.random.Generator) -> Program:
    """Layers of every kind behind one another, none larger than its neighbours together."""
    graph = RandomGraph(rng, (12, 10, 8))
    same = Window((3, 3), pads=(1, 1, 1, 1))
    x = graph.convolution(graph.input, 8, same, clamp=(0.0, np.inf))
    x = graph.convolution(x, 8, same, groups=8)
    x = graph.convolution(x, 12, Window((1, 1)), clamp=(0.0, 1.0))
    x = graph.convolution(x, 12, Window((3, 3), (2, 2), pads=(1, 1, 0, 0)), groups=12)
    x = graph.max_pool(graph.rescale(x), Window((2, 2), pads=(1, 0, 0, 1)))
    x = graph.convolution(x, 6, same, bits=16)
    x = graph.convolution(x, 6, Window((2, 3), pads=(1, 1, 0, 1)), weight_bits=4)
    x = graph.convolution(x, 5, Window((3, 3), (2, 2), pads=(1, 1, 1, 1)), output_padding=(1, 0))
    return graph.finish(graph.average_pool(graph.resize(graph.pad(x, (1, 0, 0, 1), 2), 8, 9), Window((2, 2), (2, 2))))


@pytest.mark.parametrize(
    ("variant", "optimize"), [(variant, "speed" if variant == "dsp" else "size") for variant in VARIANTS]
)
def test_the_c_computes_the_same_over_its_operands(tmp_path: Path, variant: Variant, optimize: Any) -> None:
    rng = np.random.default_rng(7)
    program = chain(rng)
    inputs = random_inputs(program, 4, rng)
    write_sources(program, variant, tmp_path, optimize)
    with HostLibrary(tmp_path) as library:
        np.testing.assert_array_equal(library.infer(inputs), reference.run(program, inputs)[-1].reshape(4, -1))
    apart = plan_program(program, storages_of(program, variant), scratch_bytes(program, variant, optimize))
    assert plan_memory(program, variant, optimize).plan.arena_bytes < apart.arena_bytes


@pytest.mark.parametrize(("core", "optimize"), [("m4", "size"), ("m4", "speed")])
def test_emulated_cores_compute_the_same_over_their_operands(policies: Any, core: str, optimize: str) -> None:
    rng = np.random.default_rng(8)
    program = chain(rng)
    inputs = random_inputs(program, 2, rng)
    policy = policies(core, program, optimize)
    for q, expected in zip(inputs, reference.run(program, inputs)[-1], strict=True):
        np.testing.assert_array_equal(policy.infer(q), expected.reshape(-1))


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=single_layers(), variant=st.sampled_from(VARIANTS))
def test_a_layer_of_any_shape_in_c(tmp_path: Path, program: Program, variant: Variant) -> None:
    inputs = random_inputs(program, 2, np.random.default_rng(3))
    write_sources(program, variant, tmp_path, "speed")
    with HostLibrary(tmp_path) as library:
        np.testing.assert_array_equal(library.infer(inputs), reference.run(program, inputs)[-1].reshape(2, -1))
