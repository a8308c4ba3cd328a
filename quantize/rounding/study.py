"""Every rounding method on the same layers, and how far the rounded network is from the float one.

The first methods are those of the product and of the paper; the variants are those of the tables of
Nagel et al. 2020: roundings without data, grids, relaxations, and what the reconstruction looks at.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from policyport.core.semantics import Reals
from policyport.quantize.graph import FloatGraph
from policyport.quantize.metrics import sqnr_db
from policyport.quantize.nodes import Floats, Weighted
from policyport.quantize.rounding import live_peers
from policyport.quantize.rounding.adaround import AIMET_LONGER, CONVERGED_RATE, AdaRoundSettings, LearnedLayer, adaround
from policyport.quantize.rounding.beam import beam
from policyport.quantize.rounding.block_sides import Grid as LayerGrid
from policyport.quantize.rounding.block_sides import RealSide, on_grid, solved
from policyport.quantize.rounding.coordinate import descend
from policyport.quantize.rounding.digits import Digits
from policyport.quantize.rounding.gptq import gptq
from policyport.quantize.rounding.grids import GRIDS, Grid
from policyport.quantize.rounding.lattice import lattice
from policyport.quantize.rounding.layer import layer_problem
from policyport.quantize.rounding.nearest import ceil, floor, nearest, stochastic
from policyport.quantize.rounding.problem import LayerProblem, Solution, solution
from policyport.quantize.rounding.reconstruct import BlockSettings, reconstruct
from policyport.quantize.rounding.sequential import Rounder, rounded_graph

CALIBRATION = 1024
"""Images that layers are rounded by."""

Method = Callable[[int, int, int], Rounder]
"""A method that rounds layer by layer, for a width in bits, a seed, and the iterations of what is learned."""


@dataclass(frozen=True)
class Row:
    """One method on one network."""

    network: str
    bits: int
    method: str
    seed: int
    accuracy: float
    """Percent of the test images that are classified right."""

    agreement: float
    """Percent of the test images that are classified as the float network does."""

    sqnr_db: float
    """Of the logits, against the float network's, on the test images."""

    seconds: float
    """Of the processor."""


def measure(graph: FloatGraph, data: Digits, network: str, method: str, bits: int, seed: int, iterations: int) -> Row:
    """Round a network's weights by :data:`BLOCKS`, or one of :data:`METHODS` or :data:`VARIANTS`, and nothing else."""
    start = time.process_time()
    rounded = _rounded(graph, data.train_images[:CALIBRATION], method, bits, seed, iterations)
    seconds = time.process_time() - start
    exact, got = graph.evaluate(data.test_images), rounded.evaluate(data.test_images)
    return Row(network, bits, method, seed, *_judged(exact, got, data), seconds)


def measure_live(float_network: Any, data: Digits, network: str, method: str, bits: int, seed: int, its: int) -> Row:
    """Let another tool round a torch network's weights, by one of :data:`live_peers.LIVE_PEERS`.

    :raises ToolError: its package is not installed
    """
    live_peers.load(method)
    start = time.process_time()
    rounded = live_peers.rounded(method, float_network, data.train_images[:CALIBRATION], bits, seed, its)
    seconds = time.process_time() - start
    exact, got = (live_peers.logits(each, data.test_images) for each in (float_network, rounded))
    return Row(network, bits, method, seed, *_judged(exact, got, data), seconds)


def _judged(exact: Floats, got: Floats, data: Digits) -> tuple[float, float, float]:
    """Accuracy and agreement in percent and SQNR in dB of logits on the test images."""
    choice = got.argmax(axis=1)
    accuracy, agreement = np.mean(choice == data.test_labels), np.mean(choice == exact.argmax(axis=1))
    return 100 * float(accuracy), 100 * float(agreement), sqnr_db(exact, got)


def _rounded(graph: FloatGraph, observations: Floats, method: str, bits: int, seed: int, iterations: int) -> FloatGraph:
    if method == BLOCKS:
        return _by_blocks(
            graph, observations, bits, BlockSettings(min(iterations, BlockSettings.iterations), seed=seed)
        )
    return rounded_graph(graph, observations, {**METHODS, **VARIANTS}[method](bits, seed, iterations))


def _by_blocks(graph: FloatGraph, observations: Floats, bits: int, settings: BlockSettings) -> FloatGraph:
    """Blocks learned from the lattice's integers on."""
    rounder = METHODS["lattice"](bits, 0, 0)
    grids: dict[str, LayerGrid] = {}

    def noted(node: Weighted, exact: Floats, rounded: Floats) -> Solution:
        found = rounder(node, exact, rounded)
        grids[node.name] = solved(node, found, bits)
        return found

    rounded_graph(graph, observations, noted)
    learned = reconstruct(RealSide(graph, grids, rounder), observations, settings)
    return graph.replaced(*(on_grid(node, learned.grids[node.name]) for node in graph.weighted))


def _solved(solve: Callable[[LayerProblem, int], Solution], *, refit_bias: bool = True) -> Method:
    """A method that solves the layer's problem."""

    def method(bits: int, seed: int, iterations: int) -> Rounder:
        def rounder(node: Weighted, exact: Floats, rounded: Floats) -> Solution:
            return solve(layer_problem(node, [(exact, rounded)], bits, refit_bias=refit_bias), seed)

        return rounder

    return method


def _on_grid(solve: Callable[[LayerProblem, Reals], Reals], grid: Grid = "weights", **options: bool) -> Method:
    """A method that rounds at scales of a grid."""

    def solved(problem: LayerProblem, seed: int) -> Solution:
        scales = GRIDS[grid](problem)
        return solution(problem, solve(problem, scales), scales)

    return _solved(solved, **options)


def _without_data(rounding: Callable[[Reals, Reals, int], Reals], grid: Grid = "weights") -> Method:
    return _on_grid(lambda problem, scales: rounding(problem.weights, scales, problem.bits), grid, refit_bias=False)


def _by_chance(problem: LayerProblem, seed: int) -> Solution:
    scales = GRIDS["weights"](problem)
    drawn = stochastic(problem.weights, scales, problem.bits, np.random.default_rng(seed))
    return solution(problem, drawn, scales)


def _learned(longer: float = 1.0, grid: Grid = "weights", **options: object) -> Method:
    """AdaRound with some settings changed."""

    def method(bits: int, seed: int, iterations: int) -> Rounder:
        settings = AdaRoundSettings(iterations=round(longer * iterations), seed=seed, **options)  # type: ignore[arg-type]

        def rounder(node: Weighted, exact: Floats, rounded: Floats) -> Solution:
            problem = layer_problem(node, [(exact, rounded)], bits, refit_bias=False)
            scales = GRIDS[grid](problem)
            learned = adaround(LearnedLayer(node, exact, rounded), scales, bits, settings)
            return solution(problem, learned.integers, scales)

        return rounder

    return method


def _best(problem: LayerProblem, seed: int) -> Solution:
    return lattice(problem)


BLOCKS = "lattice, then blocks"

METHODS: dict[str, Method] = {
    "nearest": _without_data(nearest),
    "GPTQ": _on_grid(gptq),
    "coordinate descent": _on_grid(lambda p, scales: descend(p, scales, nearest(p.weights, scales, p.bits))),
    "K-best": _on_grid(beam),
    "lattice": _solved(_best),
    "AdaRound, paper": _learned(),
    "AdaRound, half as long again": _learned(AIMET_LONGER),
    "AdaRound, converged": _learned(learning_rate=CONVERGED_RATE),
}
"""What is offered, and what it is made of."""

VARIANTS: dict[str, Method] = {
    "floor": _without_data(floor),
    "ceil": _without_data(ceil),
    "stochastic": _solved(_by_chance, refit_bias=False),
    "nearest, min-max grid": _without_data(nearest, "minmax"),
    "nearest, output grid": _without_data(nearest, "outputs"),
    "straight-through": _learned(relaxation="straight_through"),
    "sigmoid with temperature": _learned(relaxation="temperature", learning_rate=CONVERGED_RATE),
    "sigmoid": _learned(relaxation="sigmoid", learning_rate=CONVERGED_RATE),
    "AdaRound, min-max grid": _learned(grid="minmax", learning_rate=CONVERGED_RATE),
    "AdaRound, output grid": _learned(grid="outputs", learning_rate=CONVERGED_RATE),
    "AdaRound, symmetric": _learned(asymmetric=False, learning_rate=CONVERGED_RATE),
    "AdaRound, layer-wise": _learned(asymmetric=False, activation=False, learning_rate=CONVERGED_RATE),
    "AdaRound, no activation": _learned(activation=False, learning_rate=CONVERGED_RATE),
}
"""The variants of the paper's tables."""
