"""What a recurrent network is given at each step: the observation, and the state that the steps before it left."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from policyport.quantize.graph import FloatGraph
from policyport.quantize.nodes import Floats


def with_states(graph: FloatGraph, observations: Floats, starts: NDArray[np.bool_]) -> Floats:
    """Observations with the float network's own states behind them, zeros at the start of an episode.

    All episodes are run side by side.

    :param graph: of a recurrent network
    :param observations: [n, observation], float32, one episode behind the other
    :param starts: [n], whether an episode starts there; one does at the first
    :returns: [n, inputs] float32, in the same order
    """
    firsts = np.flatnonzero(starts | (np.arange(len(starts)) == 0))
    lengths = np.diff([*firsts, len(observations)])
    states = np.zeros((len(observations), graph.state_size), np.float32)
    for step in range(1, int(lengths.max())):
        now = firsts[lengths > step] + step
        before = np.concatenate([observations[now - 1], states[now - 1]], axis=1)
        states[now] = graph.evaluate(before)[:, -graph.state_size :]
    return np.concatenate([observations, states], axis=1)
