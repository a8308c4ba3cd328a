"""Integer least squares on what a whole network puts out, row by row, from rounded layers on.

Rounding layer by layer holds each layer's sums; what an error there does to the outputs differs from row to row, and
errors of one row can undo those of others. Here a row's integers, scale and bias are solved anew for the outputs: to
first order (Gauss-Newton) an output moves with the row's sum by a slope that each observation has of its own, so the
row's problem is integer least squares again, its observations weighed by their slopes. A row is taken where the loss
of the integers themselves falls, so every step betters the network on the observations given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import UnsupportedModelError
from policyport.core.semantics import Reals
from policyport.core.task import Task
from policyport.quantize.network import QuantizedNetwork
from policyport.quantize.nodes import Floats, Linear
from policyport.quantize.quantizers import bias_limit
from policyport.quantize.rounding.chain import Chain
from policyport.quantize.rounding.coordinate import descend, descend_pairs
from policyport.quantize.rounding.grids import as_float32
from policyport.quantize.rounding.problem import LayerProblem
from policyport.quantize.simulate import predict

FACTORS = (0.94, 0.98, 1.0, 1.02, 1.06)
"""Scales of a row that are tried, as factors on the one it has."""

RIDGE = 1e-3
"""How much a row is held to what it is, as a share of the mean curvature; observations without slope say so little."""

REFRESH = 16
"""Rows that are solved by the same slopes."""

LEAST_GAIN = 1e-6
"""Share of the loss that a row must gain to be taken."""

WORK = 4e10
"""Multiplications that a sweep may take, within the bounds of :func:`observations_for`."""

FEWEST, MOST = 4_096, 32_768
"""Observations that rows are solved on."""


@dataclass(frozen=True)
class Aim:
    """What outputs are to be, and how far they are from it."""

    targets: Reals
    """[n, outputs]"""

    low: Reals
    """[outputs]: below it all values are the same, as an action that is clipped; ``-inf`` where none are."""

    high: Reals
    spread: float
    """What misses are divided by: the targets' own deviation, so that losses of different networks compare."""

    @classmethod
    def of(cls, task: Task, targets: Floats) -> Aim:
        """A float policy's own outputs."""
        clipped = task.action_rule == "clip"
        low, high = (
            np.array(bound if clipped else [fill] * targets.shape[1], np.float64)
            for bound, fill in ((task.action_low, -np.inf), (task.action_high, np.inf))
        )
        seen = np.clip(targets.astype(np.float64), low, high)
        return cls(targets.astype(np.float64), low, high, float(np.sqrt(seen.var(axis=0).mean())) or 1.0)

    def toward(self, targets: Floats) -> Aim:
        """The same for other targets, the spread as it is."""
        return replace(self, targets=targets.astype(np.float64))

    def part(self, rows: NDArray[np.intp]) -> Aim:
        """The same for some of the observations."""
        return replace(self, targets=self.targets[rows])

    def miss(self, outputs: NDArray[Any]) -> Reals:
        """[n, outputs]: what outputs are beyond the targets."""
        missed: Reals = np.clip(outputs, self.low, self.high) - np.clip(self.targets, self.low, self.high)
        return missed

    def loss(self, outputs: NDArray[Any]) -> float:
        """Mean squared miss, as a share of the targets' variance."""
        return float(np.mean(np.square(self.miss(outputs)))) / self.spread**2

    def felt(self, outputs: Reals) -> NDArray[np.bool_]:
        """[n, outputs]: where a small move of an output counts: not where it and its target are beyond one bound."""
        above = (outputs >= self.high) & (self.targets >= self.high)
        below = (outputs <= self.low) & (self.targets <= self.low)
        felt: NDArray[np.bool_] = ~(above | below)
        return felt


def check_chain(network: QuantizedNetwork) -> None:
    """Refuse what is no chain of fully connected layers.

    :raises UnsupportedModelError: another operator, which is named
    """
    source = network.input_name
    for node in network.nodes:
        if not isinstance(node.node, Linear) or node.node.inputs != (source,):
            raise UnsupportedModelError(
                "rows are solved for the outputs in a chain of fully connected layers",
                where=f"{network.name}, {node.name}",
                expected="Gemm behind Gemm, each with a function",
                got=type(node.node).__name__,
                cure="quantize without: --method lattice, blocks or qat",
            )
        source = node.name


def observations_for(network: QuantizedNetwork) -> int:
    """How many observations rows are solved on, so that a sweep takes its time and no more."""
    each = sum(layer.weights.size * layer.weights.shape[1] for layer in network.layers)
    return int(np.clip(WORK / each, FEWEST, MOST))


def solve_outputs(
    network: QuantizedNetwork,
    observations: Floats,
    aim: Aim,
    sweeps: int,
    seed: int,
    told: Callable[[int, float], object] | None = None,
) -> QuantizedNetwork:
    """Better a network's integers for its outputs.

    :param observations: [n, inputs], float32, as the environment gives them
    :param aim: of these observations
    :param sweeps: passes over all rows at the most; one that gains less than a hundredth is the last
    :param seed: of the order of the rows
    :param told: is given the number of sweeps done and the loss after each
    :returns: the network with the least loss by its integers, the start where nothing bettered it
    :raises UnsupportedModelError: no chain of fully connected layers
    """
    check_chain(network)
    chain, random = Chain(network, observations), np.random.default_rng(seed)
    loss = aim.loss(chain.outputs)
    for sweep in range(sweeps):
        before, loss = loss, _swept(chain, aim, random)
        if told is not None:
            told(sweep + 1, loss)
        if loss > 0.99 * before:
            break
    made = chain.network()
    return made if aim.loss(predict(made, observations)) < aim.loss(predict(network, observations)) else network


def _swept(chain: Chain, aim: Aim, random: np.random.Generator) -> float:
    """Every row once, in an order drawn layer by layer; the loss after."""
    loss = aim.loss(chain.outputs)
    for layer in range(len(chain.weights)):
        order = random.permutation(len(chain.weights[layer]))
        for start in range(0, len(order), REFRESH):
            slopes = chain.slopes(layer) * aim.felt(chain.outputs)[:, :, None]
            for row in order[start : start + REFRESH]:
                loss = _solved(chain, aim, layer, int(row), slopes[:, :, row], loss)
    return loss


def _solved(chain: Chain, aim: Aim, layer: int, row: int, slopes: Reals, loss: float) -> float:
    """One row set to the best of what its problem proposes, where that betters the loss; the loss after.

    :param slopes: [n, outputs], of the outputs along the row's sum
    """
    features, scale = chain.features[layer], chain.scales[layer][row]
    weigh = np.square(slopes).sum(axis=1)
    if not weigh.any():
        return loss
    weigh += RIDGE * weigh.mean()
    wanted = chain.sums[layer][:, row] - np.sum(slopes * aim.miss(chain.outputs), axis=1) / weigh
    share = weigh / weigh.sum()
    middle, wanted_middle = share @ features, float(share @ wanted)
    problem = _problem(chain, layer, row, features - middle, wanted - wanted_middle, share)
    factors = FACTORS if chain.free_scales[layer] else (1.0,)
    scales = as_float32(scale * np.array(factors))[None]
    start = np.broadcast_to(chain.weights[layer][row], problem.target.shape)
    several = problem.tiled(len(factors))
    found = descend_pairs(several, scales, descend(several, scales, np.tile(start, (1, len(factors), 1))))
    for index in np.argsort(several.objective(found, scales)[0], kind="stable")[:2]:
        weights, step = found[0, index], float(scales[0, index])
        bias = wanted_middle - float(middle @ weights) * step
        if not _fits(chain, layer, weights, step, bias):
            continue
        sums = features @ (weights * step) + bias
        now = aim.loss(chain.tried(layer, row, sums))
        if now < loss * (1 - LEAST_GAIN):
            chain.put(layer, row, weights, step, bias)
            return now
    return loss


def _problem(chain: Chain, layer: int, row: int, features: Reals, wanted: Reals, share: Reals) -> LayerProblem:
    """The row's integer least squares.

    :param features: [n, inputs], and ``wanted`` [n]: sums of the row, both less their weighed mean
    :param share: [n], of each observation in the whole
    """
    weighed = features * share[:, None]
    hessian, along = weighed.T @ features, weighed.T @ wanted
    pull = RIDGE * (np.trace(hessian) / len(hessian) or 1.0)
    hessian[np.diag_indices(len(hessian))] += pull
    current = chain.weights[layer][row] * chain.scales[layer][row]
    target = np.linalg.solve(hessian, along + pull * current)
    bits = chain.layers[layer].weight_bits
    name = chain.layers[layer].name
    return LayerProblem(
        name, bits, current[None, None], np.zeros((1, 1)), hessian[None], target[None, None], None, None
    )


def _fits(chain: Chain, layer: int, weights: Reals, step: float, bias: float) -> bool:
    """Whether the row's bias has room in its accumulator."""
    of = chain.layers[layer]
    unit, largest = float(of.input.scale) * step, float(chain.scales[layer].max())
    folded = round(bias / unit) - of.input.zero_point * int(weights.sum())
    return abs(folded) <= bias_limit(2 * largest * float(of.input.scale) / float(of.before.scale))
