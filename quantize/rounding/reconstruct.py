"""Block reconstruction: the second stage of rounding, over blocks of layers instead of single ones.

BRECQ (Li et al. 2021, 2102.05426): all weights of a block learn together whether to round up or down, so that what
leaves the block is what the float network's leaves, AdaRound's rectified sigmoid and regularizer settling them.
QDrop (Wei et al. 2022, 2203.05740): while they learn, each element of an activation is rounded or not by chance, and
the block reads the float network's values among the quantized network's. Here they start from integers that a solver
found, biases learn too, and a block keeps its start where observations held out are not better served.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ObservationError, ToolError, UnsupportedModelError
from policyport.core.install import pip_install
from policyport.core.progress import Advance, progress
from policyport.quantize.graph import FloatGraph, evaluate
from policyport.quantize.kept_arrays import read_arrays, write_arrays
from policyport.quantize.nodes import Floats
from policyport.quantize.rounding.block_sides import Grids, Side
from policyport.quantize.rounding.blocks import LEAST_LAYERS, Block, blocks

HELD_OUT_EVERY = 5
"""Observations of which one is not learned from, and judges."""

REPORT_EVERY = 100
"""Iterations between two words on progress."""

DIRECTIONS = 8
"""Directions of the output that the Fisher information is estimated by."""


@dataclass(frozen=True)
class BlockSettings:
    """BRECQ's and QDrop's hyper-parameters."""

    iterations: int = 3_000
    """Of each block."""

    batch: int = 32
    """Observations per iteration."""

    learning_rate: float = 1e-2
    """Of Adam, for the roundings."""

    bias_rate: float = 1e-3
    """Of Adam, for the biases, as a share of the spread of a layer's sums."""

    regularization: float = 0.01
    """lambda, for an error in shares of the block's mean square."""

    beta_start: float = 20.0
    beta_end: float = 2.0
    warm_start: float = 0.2
    """Share of the iterations without the regularizer."""

    drop: float = 0.5
    """Probability that an element of a block's activations is not rounded."""

    input_drop: float = 0.0
    """Probability that an element of what enters a block is the float network's; QDrop's is 0.5."""

    fisher: bool = False
    """Weigh errors by how far the network's outputs move with them (BRECQ, equation 10)."""

    least_layers: int = LEAST_LAYERS
    """Layers with weights of a block, at least."""

    seed: int = 0


@dataclass(frozen=True)
class BlockResult:
    """What became of a block."""

    target: str
    """The tensor that leaves it."""

    layers: tuple[str, ...]
    taken: bool
    error_before: float
    """Mean squared error of what leaves it on observations held out, as a share of its mean square."""

    error_after: float


@dataclass(frozen=True)
class Reconstructed:
    """The layers in the end, and how they came about."""

    grids: Grids
    blocks: tuple[BlockResult, ...]


def reconstruct(
    side: Side, observations: Floats, settings: BlockSettings | None = None, state: Path | None = None
) -> Reconstructed:
    """Learn the roundings of a network's weights block by block; same arguments, same integers.

    Once a block has changed, the layers behind it are solved anew for what they read now, before they learn.

    :param observations: [n, inputs] or [n, *shape], float32, as the environment gives them
    :param state: a folder that keeps each finished block; one of equal arguments is taken from there
    :raises ObservationError: fewer than 5 observations
    :raises ToolError: torch is not installed
    """
    settings = settings or BlockSettings()
    if len(observations) < HELD_OUT_EVERY:
        expected = f"{HELD_OUT_EVERY} or more"
        raise ObservationError("too few observations to reconstruct by", expected=expected, got=len(observations))
    try:
        import torch  # noqa: F401 -- only to see that it is there
    except ImportError as error:
        raise ToolError("block reconstruction needs torch", got=error, cure=pip_install("[train]")) from error
    graph, grids = side.graph, dict(side.grids)
    results: list[BlockResult] = []
    exact, value = graph.enter(observations), side.enter(observations)
    for block in blocks(graph, settings.least_layers):
        task = _Task.of(graph, block, exact, side.real(block.source, value), settings)
        if block.layers:
            if any(result.taken for result in results):
                grids.update(side.solve(block, exact, value))
            learned = _learned(task, side, {node.name: grids[node.name] for node in block.layers}, state)
            result, chosen = _judged(task, side, grids, learned, value)
            grids.update(chosen)
            results.append(result)
        exact, value = task.wanted, side.run(block, grids, value)
    return Reconstructed(grids, tuple(results))


@dataclass(frozen=True)
class _Task:
    """A block with what enters it, and what is to leave it."""

    block: Block
    exact: Floats
    """[n, *shape], what enters it in the float network."""

    read: Floats
    """[n, *shape], what enters it behind the quantized blocks."""

    wanted: Floats
    """[n, *shape], what leaves it in the float network."""

    weight: Floats
    """How much an error of each element counts, a mean of 1 over that of all errors: [n, *shape], or [1] for equal."""

    units: dict[str, float]
    """The spread of each layer's sums."""

    settings: BlockSettings

    @classmethod
    def of(cls, graph: FloatGraph, block: Block, exact: Floats, read: Floats, settings: BlockSettings) -> _Task:
        values, units = {block.source: exact}, {}
        for node in block.nodes:
            values.update(evaluate(node, *(values[name] for name in node.inputs)))
        for layer in block.layers:
            units[layer.name] = float(values[layer.linear_name].std()) or 1.0
        wanted = values[block.target]
        weight = _fisher(graph, block, wanted, settings) if settings.fisher else np.ones(1, np.float32)
        return cls(block, exact, read, wanted, weight, units, settings)

    @property
    def power(self) -> float:
        """Mean square of what is to leave, as errors are weighed."""
        return float(np.mean(np.square(self.wanted) * self.weight, dtype=np.float64)) or 1.0

    @property
    def held_out(self) -> NDArray[np.bool_]:
        """Which observations judge."""
        held: NDArray[np.bool_] = np.arange(len(self.exact)) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
        return held

    def error(self, left: Floats) -> float:
        """What is left wrong on the observations that judge, as a share of their mean square."""
        held = self.held_out
        weight = self.weight[held] if len(self.weight) > 1 else self.weight
        wrong = np.square(left[held] - self.wanted[held], dtype=np.float64) * weight
        return float(np.mean(wrong)) / self.power


def _judged(task: _Task, side: Side, grids: Grids, learned: Grids, value: Any) -> tuple[BlockResult, Grids]:
    """The better of the start and what was learned, by the quantized network itself."""
    target = task.block.target
    before = task.error(side.real(target, side.run(task.block, grids, value)))
    try:
        after = task.error(side.real(target, side.run(task.block, {**grids, **learned}, value)))
    except UnsupportedModelError:  # an accumulator could overflow: no better start
        after = math.inf
    taken = after < before
    names = tuple(node.name for node in task.block.layers)
    return BlockResult(target, names, taken, before, after), learned if taken else {}


def _learned(task: _Task, side: Side, grids: Grids, state: Path | None) -> Grids:
    """The block's grids after learning, out of the state's folder where that has them."""
    path = state and state / f"{_key(task, side, grids)}.npz"
    held = read_arrays(path) if path else None
    if held is not None:
        return {
            name: replace(grid, integers=held[f"{name}/integers"], bias=held[f"{name}/bias"])
            for name, grid in grids.items()
        }
    with progress(f"reconstruct {task.block.target}", task.settings.iterations) as advance:
        found = _learn(task, side, grids, advance)
    if path:
        whole = {f"{name}/integers": grid.integers for name, grid in found.items()}
        write_arrays(path, whole | {f"{name}/bias": grid.bias for name, grid in found.items()})
    return found


def _learn(task: _Task, side: Side, grids: Grids, advance: Advance) -> Grids:
    """Gradient descent on the observations that do not judge."""
    import torch
    from policyport.quantize.rounding.block_module import SoftBlock

    settings = task.settings
    chance = torch.Generator().manual_seed(settings.seed)
    module = SoftBlock(task.block, grids, side.activations, task.units)
    layers: Any = module.layers
    optimizer = torch.optim.Adam(
        [
            {"params": [layer.up for layer in layers], "lr": settings.learning_rate},
            {"params": [layer.shift for layer in layers], "lr": settings.bias_rate},
        ]
    )
    exact, read, wanted, weight = (torch.from_numpy(x) for x in (task.exact, task.read, task.wanted, task.weight))
    training = torch.from_numpy(np.flatnonzero(~task.held_out))
    share = task.wanted.shape[1] / task.power
    for i in range(settings.iterations):
        chosen = training[torch.randint(len(training), (settings.batch,), generator=chance)]
        source = read[chosen]
        if settings.input_drop:
            source = torch.where(
                torch.rand(source.shape, generator=chance) < settings.input_drop, exact[chosen], source
            )
        left = module(source, settings.drop, chance)
        loss = share * ((left - wanted[chosen]).square() * (weight[chosen] if len(weight) > 1 else weight)).mean()
        done = i / settings.iterations
        if done >= settings.warm_start:
            beta = _beta(done, settings)
            loss = loss + settings.regularization * sum(layer.unsettled(beta) for layer in layers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (i + 1) % REPORT_EVERY == 0:
            advance(i + 1, f"loss {loss.item():.3g}")
    return module.rounded(grids)


def _beta(done: float, settings: BlockSettings) -> float:
    """beta by half a cosine from start to end, over what follows the warm start."""
    along = (done - settings.warm_start) / (1 - settings.warm_start)
    return settings.beta_end + (settings.beta_start - settings.beta_end) * (1 + math.cos(math.pi * along)) / 2


def _fisher(graph: FloatGraph, block: Block, wanted: Floats, settings: BlockSettings) -> Floats:
    """How far the squared output moves with each element of a block's target, a mean of 1: [n, *shape].

    The diagonal of the Gauss-Newton matrix, estimated by slopes of the output in directions of chance.
    """
    import torch
    from policyport.quantize.rounding.block_module import output_slopes

    names = [node.name for node in graph.nodes]
    later = graph.nodes[names.index(block.target) + 1 :]
    chance = torch.Generator().manual_seed(settings.seed)
    total, values = torch.zeros(wanted.shape), torch.from_numpy(wanted)
    for _ in range(DIRECTIONS):
        signs = torch.randint(2, (len(wanted), *graph.shapes[graph.output_name]), generator=chance) * 2.0 - 1
        total += output_slopes(later, block.target, graph.output_name, values, signs).square()
    weight: Floats = (total / (total.mean() or 1.0)).numpy()
    return weight


def _key(task: _Task, side: Side, grids: Grids) -> str:
    """What a learned block is known by."""
    activations = [(a.name, a.parameters, a.low, a.high) for a in side.activations.values()]
    bare = [replace(node, weights=np.zeros(0), bias=np.zeros(0)) for node in task.block.layers]
    digest = hashlib.sha256(repr((asdict(task.settings), activations, bare)).encode())
    arrays: list[NDArray[Any]] = [task.exact, task.read, task.wanted, task.weight]
    for node in task.block.layers:
        grid = grids[node.name]
        arrays += [node.weights, node.bias, grid.integers, grid.scale, grid.bias, np.array(grid.bits)]
    for array in arrays:
        digest.update(repr((array.shape, array.dtype.str)).encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
