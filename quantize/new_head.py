"""Last-layer post-training of a quantized network: its last layer solved anew on the features that its integers yield.

Moreau and Audiffren 2016; the targets are the float network's own outputs on the calibration observations. The layer is
rounded by integer least squares, whatever rounded the others, and taken only where observations that it was not solved
on say so: the outputs' noise is less beyond chance, and the actions are not worse beyond chance.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import UnsupportedModelError
from policyport.core.paired import ALPHA, p_as_large, p_as_many
from policyport.core.task import Task
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.graph import FloatGraph
from policyport.quantize.integer_nodes import Compact, QuantizedLayer
from policyport.quantize.last_layer import Head, post_train
from policyport.quantize.layer_data import LayerData
from policyport.quantize.metrics import action_errors, sqnr_db
from policyport.quantize.network import QuantizedNetwork
from policyport.quantize.nodes import Floats, Weighted
from policyport.quantize.ptq import corrected
from policyport.quantize.rounding.layer import in_place
from policyport.quantize.rounding.methods import rounding
from policyport.quantize.simulate import predict, simulate

log = logging.getLogger(__name__)

FOLDS = 5
"""Parts of the observations, each of which judges a layer solved on the others."""

BATCH = 128
"""Observations whose every tensor is held at once."""

LARGEST_ROWS = 2**24
"""Elements of the features that a layer is solved on; of more observations evenly spaced ones are taken."""


@dataclass(frozen=True)
class HeadChoice:
    """What became of a network's last layer, judged on calibration observations that each solution did not see."""

    taken: bool
    """Both p values say so: :data:`policyport.core.paired.ALPHA`."""

    sqnr_db_before: float
    """Of the outputs."""

    sqnr_db_after: float
    p_quieter: float
    """How likely chance alone lessens the noise as much."""

    action_error_before: float
    """Share of the actions that differ from the float network's, or mean error of continuous ones as a share of the
    range."""

    action_error_after: float
    p_worse: float
    """How likely chance alone makes the actions as much worse."""


UNJUDGED = HeadChoice(False, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0)
"""Where too few observations are there to hold any out, the last layer's channels are in groups, or sums of the new one
could overflow."""


def with_new_head(
    graph: FloatGraph, network: QuantizedNetwork, observations: NDArray[np.float32], config: QuantizeConfig
) -> QuantizedNetwork:
    """The network whose last layer makes the best of the quantized features, better or not.

    :param graph: the float network
    :param observations: [n, inputs], on which the penalty is chosen by validation too
    :param config: how ``network`` was made
    """
    return _Head.of(graph, network, observations, config).solved(np.ones(len(observations), np.bool_))


def post_trained(
    graph: FloatGraph, network: QuantizedNetwork, observations: NDArray[np.float32], task: Task, config: QuantizeConfig
) -> tuple[QuantizedNetwork, HeadChoice]:
    """The network with a new last layer where that is better, else as it was, and what was decided by.

    Neighbours, steps of one episode, are held out together.

    :param graph: the float network
    :param observations: [n, inputs], of calibration; too few to hold any out keep the layer
    :param task: what the outputs decide
    :param config: how ``network`` was made
    """
    n = len(observations)
    if n < 2 * FOLDS or network.layers[-1].node.group_count > 1:
        return network, UNJUDGED
    try:
        head = _Head.of(graph, network, observations, config)
        fold = np.arange(n) * FOLDS // n
        judged = [predict(head.solved(fold != part), observations[fold == part]) for part in range(FOLDS)]
        choice = _choice(task, graph.evaluate(observations), predict(network, observations), np.concatenate(judged))
        made = head.solved(np.ones(n, np.bool_))
        made.layers[-1].requantize  # noqa: B018 -- proves that no accumulator overflows
    except UnsupportedModelError as error:
        log.info("the last layer stays: solved anew, %s", error)
        return network, UNJUDGED
    taken = "is solved anew" if choice.taken else "stays"
    log.info("the last layer %s: %.1f dB, anew %.1f dB", taken, choice.sqnr_db_before, choice.sqnr_db_after)
    return (made if choice.taken else network), choice


def _choice(task: Task, exact: Floats, before: Floats, after: Floats) -> HeadChoice:
    """By outputs [n, outputs]: the float network's, the network's, and those of layers that did not see each."""
    errors_before, errors_after = (action_errors(task, exact, outputs) for outputs in (before, after))
    quieter = p_as_large(np.sum((before - exact) ** 2 - (after - exact) ** 2, axis=1, dtype=np.float64).reshape(-1))
    if task.discrete:
        lost, gained = (int(np.sum(part)) for part in (errors_after > errors_before, errors_after < errors_before))
        worse = p_as_many(lost, gained)
    else:
        worse = p_as_large(errors_after - errors_before)
    return HeadChoice(
        quieter < ALPHA and worse >= ALPHA,
        sqnr_db(exact, before),
        sqnr_db(exact, after),
        quieter,
        float(errors_before.mean()),
        float(errors_after.mean()),
        worse,
    )


@dataclass(frozen=True)
class _Head:
    """A network's last layer, what it reads on the observations, and what it is to yield."""

    network: QuantizedNetwork
    config: QuantizeConfig
    layer: QuantizedLayer
    q_input: Compact
    """[n, *shape]"""

    targets: Floats
    """[n, *shape], the float layer's sums."""

    @classmethod
    def of(cls, graph: FloatGraph, network: QuantizedNetwork, observations: Floats, config: QuantizeConfig) -> _Head:
        """Of a network."""
        layer = network.layers[-1]
        batches = [observations[start : start + BATCH] for start in range(0, len(observations), BATCH)]
        q = [simulate(network, part).tensors[layer.input.name] for part in batches]
        targets = [graph.trace(part)[layer.node.linear_name] for part in batches]
        return cls(network, config, layer, np.concatenate(q), np.concatenate(targets))

    def solved(self, chosen: NDArray[np.bool_]) -> QuantizedNetwork:
        """The network with its last layer solved anew, and rounded, on some observations [n]."""
        layer, q = self.layer, self.q_input[chosen]
        real = layer.input.dequantize(q)
        node = self._node(real, self.targets[chosen])
        bits = self.config.layer_bits(tuple(each.name for each in self.network.layers))[layer.name]
        per_channel = self.config.per_channel and node.takes_channel_scales
        refit = self.config.bias_correction
        found = rounding("lattice", refit_bias=refit)(
            LayerData(node, layer.input, layer.before, bits, per_channel, real, q)
        )
        made = replace(layer, node=node, weights=found.weights, weight_scale=found.scale, bias=found.bias)
        made = corrected(made, q, node.linear(real)) if refit else made
        nodes = (made if each.name == layer.name else each for each in self.network.nodes)
        return replace(self.network, nodes=tuple(nodes))

    def _node(self, real: Floats, targets: Floats) -> Weighted:
        """The float layer that comes nearest to the targets from what the integers yield."""
        node = self.layer.node
        every = -(-len(real) * node.work(real.shape[1:]) // LARGEST_ROWS)
        features = node.rows(real[::every])[0].astype(np.float64)
        outputs = np.moveaxis(targets[::every], 1, -1).reshape(len(features), -1)
        start = Head(node.matrix[0].astype(np.float64), node.bias.astype(np.float64))
        head = post_train(start, features, outputs, "outputs").head
        weights = in_place(node, head.weights[None]).astype(np.float32)
        return replace(node, weights=weights, bias=head.bias.astype(np.float32))
