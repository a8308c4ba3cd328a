"""Networks over images by the DSP kernels: the reference's integers, here and on emulated cores, and their cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from policyport.core.operators import Window
from policyport.deploy import reference
from policyport.deploy.choice import choose_convolution
from policyport.deploy.codegen import write_sources
from policyport.deploy.host import HostLibrary
from policyport.deploy.layers import Conv2d, Lookup
from policyport.deploy.lower_builder import OPEN
from policyport.deploy.program import Program
from policyport.deploy.random_graph import RandomGraph
from policyport.deploy.vectors import random_inputs

SAME = (1, 1, 1, 1)


def every_kernel(rng: np.random.Generator) -> Program:
    """A network in which each kernel has its layer, clamped and not."""
    graph = RandomGraph(rng, (17, 18, 3))
    x = graph.convolution(graph.input, 8, Window((3, 3), (2, 2), pads=(0, 1, 1, 0)))
    x = graph.convolution(x, 16, Window((3, 3), pads=SAME), clamp=(0.0, np.inf))
    x = graph.convolution(x, 16, Window((3, 3), pads=SAME), groups=16, clamp=(0.0, 1.0))
    x = graph.max_pool(graph.add(x, x, clamp=(-1.0, 4.0)), Window((3, 3), (1, 2), pads=(1, 1, 0, 2)))
    x = graph.max_pool(x, Window((2, 2)))
    x = graph.convolution(x, 6, Window((1, 1)), weight_bits=4)
    x = graph.convolution(x, 16, Window((2, 3), pads=(1, 0, 0, 2)))
    x = graph.convolution(x, 16, Window((3, 3), (2, 2), pads=SAME), groups=16)
    x = graph.average_pool(x, Window((2, 2), pads=(1, 0, 0, 1)), count_padding=False)
    x = graph.dense(x, 12, weight_bits=3)
    x = graph.dense(x, 9, weight_bits=2)
    return graph.finish(graph.dense(x, 5, weight_bits=4))


def kernels_of(program: Program, optimize: str) -> list[str]:
    choices = [choose_convolution(layer, optimize) for layer in program.layers if isinstance(layer, Conv2d)]
    return [choice.kernel if choice else "plain" for choice in choices]


def test_every_kernel_is_chosen() -> None:
    program = every_kernel(np.random.default_rng(1))
    assert kernels_of(program, "size") == ["pairs", "pairs", "depthwise", "nibbles", "pairs", "depthwise"]
    assert kernels_of(program, "speed")[1] == "winograd"


def test_a_table_follows_a_convolution(policies: Callable[..., Any]) -> None:
    rng = np.random.default_rng(4)
    graph = RandomGraph(rng, (5, 6, 4))
    x = graph.convolution(graph.input, 8, Window((3, 3), pads=SAME), clamp=(-1.0, 1.0))
    unfused = graph.finish(graph.lookup(x, "Tanh"))
    layer, lookup = unfused.layers
    assert isinstance(layer, Conv2d) and isinstance(lookup, Lookup)
    fused = replace(layer, output=lookup.output, table=lookup.table, function="Tanh")
    inputs = random_inputs(unfused, 2, rng)
    policy = policies("m4", replace(unfused, layers=(fused,)), "size")
    for q, expected in zip(inputs, reference.run(unfused, inputs)[-1], strict=True):
        np.testing.assert_array_equal(policy.infer(q), expected.reshape(-1))


def test_what_no_special_kernel_holds_goes_to_a_general_one() -> None:
    graph = RandomGraph(np.random.default_rng(5), (8, 8, 6))
    x = graph.convolution(graph.input, 6, Window((3, 3), dilation=(2, 1), pads=SAME))
    x = graph.convolution(x, 6, Window((5, 3), pads=(2, 1, 2, 1)), groups=6)
    x = graph.convolution(x, 6, Window((3, 3), pads=SAME), groups=3)
    x = graph.convolution(x, 4, Window((1, 1)), bits=16)
    x = graph.convolution(x, 4, Window((3, 3), pads=SAME), groups=4, weight_bits=4, bits=16)
    x = graph.convolution(x, 2, Window((2, 2)), weight_bits=4)
    x = graph.convolution(x, 2, Window((2, 2)), groups=2)
    program = graph.finish(x)
    assert kernels_of(program, "speed") == ["taps", "channels", "taps", "taps", "channels", "taps", "plain"]


@pytest.mark.parametrize(
    ("core", "optimize"),
    [("m4", "size"), ("m4", "speed"), ("m7", "speed"), ("m33", "size"), ("m3", "speed"), ("m0", "size")],
)
def test_every_kernel_on_emulated_cores(policies: Callable[..., Any], core: str, optimize: str) -> None:
    rng = np.random.default_rng(2)
    program = every_kernel(rng)
    inputs = random_inputs(program, 3, rng)
    policy = policies(core, program, optimize)
    for q, expected in zip(inputs, reference.run(program, inputs)[-1], strict=True):
        np.testing.assert_array_equal(policy.infer(q), expected.reshape(-1))


@st.composite
def convolutions(draw: st.DrawFn) -> Program:
    """One or two convolutions of any kind, then a fully connected layer."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    channels = draw(st.integers(1, 9))
    graph = RandomGraph(rng, (draw(st.integers(4, 8)), draw(st.integers(4, 8)), channels))
    x = graph.input
    for _ in range(draw(st.integers(1, 2))):
        kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
        pads = tuple(draw(st.integers(0, kernel[i % 2] - 1)) for i in range(4))
        stride = draw(st.sampled_from([(1, 1), (2, 2), (1, 2)]))
        dilation = draw(st.sampled_from([(1, 1), (1, 1), (1, 2)]))
        window = Window(kernel, stride, dilation, pads)  # type: ignore[arg-type]
        if min(window.output_size(*x.shape[1:])) < 1:
            break
        depthwise = draw(st.booleans())
        outputs = x.shape[0] if depthwise else draw(st.integers(1, 9))
        bits, clamp = draw(st.sampled_from([8, 4, 2])), draw(st.sampled_from([OPEN, (0.0, 1.0)]))
        x = graph.convolution(x, outputs, window, outputs if depthwise else 1, bits, clamp=clamp)
    return graph.finish(graph.dense(x, 3))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=convolutions(), optimize=st.sampled_from(["size", "speed"]))
def test_random_convolutions_on_this_machine(tmp_path: Path, program: Program, optimize: Any) -> None:
    inputs = random_inputs(program, 2, np.random.default_rng(3))
    write_sources(program, "dsp", tmp_path, optimize)
    with HostLibrary(tmp_path) as library:
        np.testing.assert_array_equal(library.infer(inputs), reference.run(program, inputs)[-1].reshape(2, -1))


RELU = (0.0, np.inf)
POINT = Window((1, 1))


def same(view: Any, kernel: tuple[int, int], stride: int = 1) -> Window:
    """The window of TensorFlow's padding SAME."""
    totals = [max(0, (-(-n // stride) - 1) * stride + k - n) for n, k in zip(view.shape[1:], kernel, strict=True)]
    before = [total // 2 for total in totals]
    pads = (before[0], before[1], totals[0] - before[0], totals[1] - before[1])
    return Window(kernel, (stride, stride), pads=pads)


def keyword_spotting(graph: RandomGraph) -> Program:
    """The shapes of MLPerf Tiny's DS-CNN."""
    x = graph.convolution(graph.input, 64, same(graph.input, (10, 4), 2), clamp=RELU)
    for _ in range(4):
        x = graph.convolution(x, 64, same(x, (3, 3)), groups=64, clamp=RELU)
        x = graph.convolution(x, 64, POINT, clamp=RELU)
    return graph.finish(graph.dense(graph.average_pool(x, Window((25, 5))), 12))


def image_classification(graph: RandomGraph) -> Program:
    """The shapes of MLPerf Tiny's ResNet-8."""
    x = graph.convolution(graph.input, 16, same(graph.input, (3, 3)), clamp=RELU)
    for outputs, stride in ((16, 1), (32, 2), (64, 2)):
        y = graph.convolution(x, outputs, same(x, (3, 3), stride), clamp=RELU)
        y = graph.convolution(y, outputs, same(y, (3, 3)))
        x = x if stride == 1 else graph.convolution(x, outputs, same(x, (1, 1), stride))
        x = graph.add(x, y, clamp=RELU)
    return graph.finish(graph.dense(graph.average_pool(x, Window((8, 8))), 10))


def action_units(graph: RandomGraph) -> Program:
    """Three convolutions, each with a pool, and two fully connected layers, over a face of 48 x 48 pixels."""
    x = graph.input
    for outputs in (16, 32, 64):
        x = graph.convolution(x, outputs, same(x, (3, 3)), clamp=RELU)
        x = graph.max_pool(x, Window((2, 2), (2, 2)))
    return graph.finish(graph.dense(graph.dense(x, 64, clamp=RELU), 12))


@pytest.mark.parametrize(
    ("network", "shape", "optimize", "instructions", "code_bytes"),
    [
        (keyword_spotting, (49, 10, 1), "size", 2_970_000, 5_200),
        (image_classification, (32, 32, 3), "size", 11_710_000, 4_100),
        (image_classification, (32, 32, 3), "speed", 8_410_000, 5_530),
        (action_units, (48, 48, 1), "size", 5_760_000, 4_230),
        (action_units, (48, 48, 1), "speed", 3_840_000, 4_930),
    ],
)
def test_networks_cost_no_more_than_they_did(
    policies: Callable[..., Any],
    network: Callable[[RandomGraph], Program],
    shape: tuple[int, int, int],
    optimize: str,
    instructions: int,
    code_bytes: int,
) -> None:
    """Measured with room of about 1 %, random weights. TensorFlow Lite Micro with CMSIS-NN takes 7.70, 29.9 and 15.0
    million."""
    rng = np.random.default_rng(1)
    program = network(RandomGraph(rng, shape))
    inputs = random_inputs(program, 1, rng)
    policy = policies("m4", program, optimize)
    np.testing.assert_array_equal(policy.infer(inputs[0]), reference.run(program, inputs)[-1].reshape(-1))
    assert policy.instructions <= instructions
    assert policy.function_bytes <= code_bytes
