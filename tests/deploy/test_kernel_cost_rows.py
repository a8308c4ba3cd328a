"""What the formulas say of the kernels of rows, beside what they take on emulated cores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from policyport.core.operators import Window
from policyport.deploy.candidates import candidates
from policyport.deploy.codegen import generate
from policyport.deploy.footprint_page import footprint_map
from policyport.deploy.layers import Affine
from policyport.deploy.program import Program
from policyport.deploy.random_graph import RandomGraph
from policyport.deploy.variant import Variant
from policyport.deploy.vectors import random_inputs


def dense(inputs: int, rows: int, bits: int) -> Program:
    graph = RandomGraph(np.random.default_rng(inputs), (inputs,))
    return graph.finish(graph.dense(graph.input, rows, weight_bits=bits))


def image(channels: int, kernel: int, outputs: int, bits: int = 8, groups: int = 1) -> Program:
    graph = RandomGraph(np.random.default_rng(channels), (9, 9, channels))
    window = Window((kernel, kernel), pads=(kernel // 2,) * 4)  # type: ignore[arg-type]
    return graph.finish(graph.convolution(graph.input, outputs, window, groups, weight_bits=bits))


CASES = {
    "pairs": ("dsp", dense(96, 40, 8)),
    "nibbles": ("dsp", dense(120, 32, 4)),
    "octals": ("dsp", dense(80, 35, 3)),
    "crumbs": ("dsp", dense(128, 40, 2)),
    "rows of bytes": ("thumb", dense(96, 44, 8)),
    "rows of nibbles": ("thumb", dense(120, 40, 4)),
    "rows of crumbs": ("thumb", dense(128, 40, 2)),
    "windows of bytes": ("thumb", image(12, 3, 12)),
    "windows of nibbles": ("thumb", image(12, 3, 12, 4)),
    "windows of crumbs": ("thumb", image(12, 3, 12, 2)),
    "pixels of bytes": ("thumb", image(24, 1, 20)),
    "depthwise": ("thumb", image(24, 3, 24, groups=24)),
    "depthwise 5x5": ("thumb", image(8, 5, 8, groups=8)),
}


@pytest.mark.parametrize("name", CASES)
def test_estimates_are_near_what_is_executed(policies: Callable[..., Any], name: str) -> None:
    given, program = CASES[name]
    variant: Variant = "dsp" if given == "dsp" else "thumb"
    (layer,) = program.layers
    assert isinstance(layer, Affine)
    chosen = next(each for each in candidates(layer, "size", variant) if each.chosen)
    policy = policies("m4" if variant == "dsp" else "m3", program, "size", variant)
    policy.infer(random_inputs(program, 1, np.random.default_rng(0))[0])
    assert chosen.instructions == pytest.approx(policy.instructions, rel=0.1)


@pytest.mark.parametrize("variant", ["dsp", "thumb", "mve"])
def test_the_page_has_an_estimate_for_each_layer_with_weights(variant: Variant) -> None:
    graph = RandomGraph(np.random.default_rng(1), (8, 8, 8))
    x = graph.convolution(graph.input, 8, Window((3, 3), pads=(1, 1, 1, 1)))
    program = graph.finish(graph.dense(graph.dense(x, 20, weight_bits=4), 5))
    found = footprint_map(program, variant, "size", generate(program, variant), "a core without a table").layers
    assert all(row.instructions_estimated and row.cycles_estimated is None for row in found)
    assert sum(row.share_estimated or 0 for row in found) == pytest.approx(1)
