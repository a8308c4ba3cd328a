"""Integers that follow a trained policy on the states that they come to themselves.

A policy of few bits errs, and so meets states that the float policy never does; integers that were fitted to the float
policy's states do not know what to do there. As in DAgger (Ross, Gordon and Bagnell, 1011.0686): the integers play,
the float policy says what it would have done in every state that they met, and the integers are solved anew on all
states met so far. What is solved are the rows of the network, for its outputs
(:mod:`policyport.quantize.rounding.end_to_end`): no gradient, no learning rate.
"""

from __future__ import annotations

import csv
import logging
import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from policyport.core.environment import open_environment
from policyport.core.progress import progress
from policyport.core.task import Task
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.graph import FloatGraph
from policyport.quantize.network import QuantizedNetwork
from policyport.quantize.nodes import Floats
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.rounding.end_to_end import Aim, check_chain, observations_for, solve_outputs
from policyport.quantize.rounding.methods import rounding
from policyport.quantize.simulate import predict
from policyport.quantize.source import Source
from policyport.quantize.transforms import centre_outputs
from policyport.train.config import TrainConfig

log = logging.getLogger(__name__)

STATE = "own_states.pkl"
"""In the folder of a training that was interrupted."""

SIDE_BY_SIDE = 4
"""Episodes that the integers play at once; few, so that those which the end of a round cuts are few."""

SWEEPS = 2
"""Passes over all rows after each round."""


@dataclass(frozen=True)
class Round:
    """What the integers did in one round, before they were solved anew on its states."""

    steps: int
    """Environment steps that integers have played so far."""

    loss: float
    """Mean squared miss of the outputs on this round's states, as a share of the float policy's variance."""

    episodes: int
    """That ended in it."""

    mean_return: float
    """Of those; NaN without any."""


@dataclass
class Followed:
    """Integers on their way, and the best that they were."""

    network: QuantizedNetwork
    met: list[Floats]
    """States [n, inputs]: of the float policy, then of each round."""

    rounds: list[Round] = field(default_factory=list)
    best: QuantizedNetwork | None = None
    """Of the least loss so far on the states of its own round."""

    @property
    def steps(self) -> int:
        """Environment steps that integers have played."""
        return self.rounds[-1].steps if self.rounds else 0


@dataclass(frozen=True)
class Outcome:
    """What came of a training."""

    network: QuantizedNetwork
    loss: float
    """On the states of the last round, on which no network was solved."""

    rounds: tuple[Round, ...]


def follow(source: Source, config: TrainConfig, state: Path, key: str) -> Outcome:
    """Integers that follow a float policy.

    They play ``total_steps``, and are solved anew after every ``eval_every_steps`` of them but the last. The last ones
    are taken, or those that did best on the states of their own round, whichever do better on the last round's.

    :param source: the float policy, and observations that it met
    :param state: a file from which an interrupted training goes on, and which it leaves
    :param key: what the training is known by; the file of another is not gone on from
    :raises UnsupportedModelError: a network of anything but fully connected layers
    """
    graph = centre_outputs(source.graph) if source.task.action_rule == "argmax" else source.graph
    aim = Aim.of(source.task, graph.evaluate(source.observations))
    found = _recalled(state, key) or Followed(_start(graph, source.observations, config), [source.observations])
    with progress(f"follow {source.task.name}", config.total_steps) as advance:
        while found.steps < config.total_steps:
            _round(found, graph, aim, source.task, config)
            last = found.rounds[-1]
            log.info("%d steps: loss on own states %.5f, mean return %.1f", last.steps, last.loss, last.mean_return)
            advance(last.steps, f"loss {last.loss:.4f}")
            _keep(found, state, key)
    assert found.best is not None  # total_steps is at least 1
    unseen = found.met[-1]
    judged = aim.toward(graph.evaluate(unseen))
    losses = [judged.loss(predict(network, unseen)) for network in (found.network, found.best)]
    chosen = found.best if losses[1] < losses[0] else found.network
    return Outcome(chosen, min(losses), tuple(found.rounds))


def start_integers(graph: FloatGraph, observations: Floats, config: TrainConfig) -> QuantizedNetwork:
    """The integers that training begins with: integer least squares, layer by layer.

    :raises UnsupportedModelError: a layer too wide for 32-bit accumulators
    """
    assert config.qat_weights is not None
    hidden, stored = (8, 16) if config.qat_activations == 16 else (config.qat_activations, 8)
    chosen = QuantizeConfig(
        activation_bits=hidden,
        input_bits=config.qat_input,
        output_bits=config.qat_output,
        weight_bits=config.qat_weights,
    )
    return quantize_graph(graph, observations, chosen, stored, rounding("lattice", refit_bias=True))


def write_rounds(rounds: Sequence[Round], path: Path) -> None:
    """One line for each round, as CSV."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("steps", "loss", "episodes", "mean_return"))
        writer.writerows((found.steps, found.loss, found.episodes, found.mean_return) for found in rounds)


def _start(graph: FloatGraph, observations: Floats, config: TrainConfig) -> QuantizedNetwork:
    network = start_integers(graph, observations, config)
    check_chain(network)
    return network


def _round(found: Followed, graph: FloatGraph, aim: Aim, task: Task, config: TrainConfig) -> None:
    """Play, judge what played, and solve it anew unless it was the last."""
    steps = min(config.eval_every_steps, config.total_steps - found.steps)
    number = len(found.rounds)
    states, returns = play(found.network, task, steps, [config.seed, number])
    loss = aim.toward(graph.evaluate(states)).loss(predict(found.network, states))
    if not found.rounds or loss < min(earlier.loss for earlier in found.rounds):
        found.best = found.network
    mean = float(np.mean(returns)) if returns else float("nan")
    found.rounds.append(Round(found.steps + len(states), loss, len(returns), mean))
    found.met.append(states)
    if found.steps < config.total_steps:
        given = _drawn(np.concatenate(found.met), observations_for(found.network), [config.seed, number])
        aimed = aim.toward(graph.evaluate(given))
        found.network = solve_outputs(found.network, given, aimed, SWEEPS, config.seed + number)


def _drawn(states: Floats, count: int, seed: list[int]) -> Floats:
    """At most ``count`` of the states, each as likely."""
    if len(states) <= count:
        return states
    return states[np.sort(np.random.default_rng(seed).permutation(len(states))[:count])]


def play(network: QuantizedNetwork, task: Task, steps: int, seed: list[int]) -> tuple[Floats, list[float]]:
    """Let integers play.

    :returns: the states met [steps or a few more, inputs], and the returns of the episodes that ended
    """
    random = np.random.default_rng(seed)
    places = [_Place(open_environment(task.environment), random) for _ in range(SIDE_BY_SIDE)]
    rows: list[Floats] = []
    while len(rows) * SIDE_BY_SIDE < steps:
        seen = task.check_observation(np.stack([np.ravel(place.observation) for place in places]))
        rows.append(seen)
        for place, action in zip(places, task.action(predict(network, seen)), strict=True):
            place.step(action)
    for place in places:
        place.environment.close()
    return np.concatenate(rows), [total for place in places for total in place.returns]


class _Place:
    """An environment, its episodes one after the other."""

    def __init__(self, environment: Any, random: np.random.Generator) -> None:
        self.environment, self._random = environment, random
        self.returns: list[float] = []
        self._begin()

    def step(self, action: Any) -> None:
        """One step; where the episode ends, the next begins."""
        self.observation, reward, terminated, truncated, _ = self.environment.step(action)
        self._total += float(reward)
        if terminated or truncated:
            self.returns.append(self._total)
            self._begin()

    def _begin(self) -> None:
        self.observation, _ = self.environment.reset(seed=int(self._random.integers(2**31)))
        self._total = 0.0


def _keep(found: Followed, state: Path, key: str) -> None:
    """Write everything that going on needs, whole or not at all."""
    state.parent.mkdir(parents=True, exist_ok=True)
    fresh = state.with_name(f".{state.name}.{os.getpid()}")
    fresh.write_bytes(pickle.dumps({"key": key, "found": found}))
    fresh.replace(state)


def _recalled(state: Path, key: str) -> Followed | None:
    if not state.is_file():
        return None
    kept = pickle.loads(state.read_bytes())
    if kept["key"] != key:
        return None
    found: Followed = kept["found"]
    log.info("resuming at %d steps", found.steps)
    return found
