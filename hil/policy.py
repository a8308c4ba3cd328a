"""One policy, five ways to compute it, all behind Stable-Baselines3's ``PolicyPredictor``.

``predict(observation, state, episode_start, deterministic)`` is all that SB3's ``evaluate_policy`` asks for,
so the same evaluator runs the float32 network, the integer reference, the generated C on the host and the
firmware on a board.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import UnsupportedModelError
from policyport.core.semantics import Integers
from policyport.core.task import Task
from policyport.deploy import reference
from policyport.deploy.program import Program, dequantize_output, quantize_input

if TYPE_CHECKING:
    from policyport.deploy.host import HostLibrary
    from policyport.firmware_bridge.client import Bridge

Observations = NDArray[np.float32]
Outputs = NDArray[np.float32]
State = tuple[NDArray[Any], ...] | None


class Policy(Protocol):
    """Stable-Baselines3's ``PolicyPredictor``."""

    def predict(
        self,
        observation: NDArray[Any],
        state: State = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], State]:
        """The action for one observation, or for each of a batch.

        :param observation: the environment's shape, or that with a batch axis in front; float
        :param state: what the step before returned, [n, state] of a recurrent policy; None at the start of an
            episode; returned as it is where the policy has none
        :param episode_start: [n], where an episode starts, so that what is remembered is forgotten
        :param deterministic: not used: the deployed network has no randomness
        :returns: actions as the environment takes them, with a batch axis where the observation had one; the state
        :raises ObservationError: another shape, NaN or infinity
        """
        ...


class TaskPolicy(ABC):
    """What all policies share: the check of observations, the rule that makes an action of an output."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.ticks: list[int] = []
        """Raw ticks of every inference so far; empty where nothing counts them."""

    @abstractmethod
    def outputs(self, observations: Observations) -> Outputs:
        """The network's outputs, dequantized, of a policy without state.

        :param observations: [n, observation_size], checked
        :returns: [n, output_size]
        """

    def remember(self, observations: Observations, before: NDArray[Any]) -> tuple[Outputs, NDArray[Any]]:
        """The network's outputs, dequantized, of a recurrent policy, and the state after.

        :param observations: [n, observation_size], checked
        :param before: [n, state], as this method returns it, or zeros
        :returns: [n, output_size], and [n, state]
        :raises UnsupportedModelError: this kind of policy remembers nothing
        """
        raise UnsupportedModelError(
            "a recurrent network in a policy that remembers nothing",
            where=f"{type(self).__name__} of {self.task.name}",
            expected="a task without state, or a policy with a method remember",
            got=", ".join(vector.input for vector in self.task.state),
        )

    def step(
        self, observations: Observations, state: State = None, episode_start: NDArray[np.bool_] | None = None
    ) -> tuple[Outputs, State]:
        """Outputs of a policy with or without state; arguments as :meth:`Policy.predict` takes them."""
        if not self.task.state:
            return self.outputs(observations), state
        zeros = np.zeros((len(observations), self.task.state_size), np.int64)
        before = zeros if state is None else np.asarray(state[0])
        if episode_start is not None:
            before = np.where(np.asarray(episode_start, np.bool_).reshape(-1, 1), zeros, before)
        outputs, after = self.remember(observations, before)
        return outputs, (after,)

    def predict(
        self,
        observation: NDArray[Any],
        state: State = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], State]:
        """See :class:`Policy`."""
        given = np.asarray(observation)
        checked = self.task.check_observation(given)
        outputs, after = self.step(checked, state, episode_start)
        actions = self.task.action(outputs)
        batched = given.ndim > 1 and int(np.prod(given.shape[1:])) == self.task.observation_size
        return (actions if batched else actions[0]), after


class FloatPolicy(TaskPolicy):
    """The float32 network, by onnxruntime on one thread.

    :param model: ONNX with an input ``observation`` [N, observation_size]; of a recurrent policy also with the inputs
        and outputs that the task names
    """

    def __init__(self, model: Path, task: Task) -> None:
        import onnxruntime

        super().__init__(task)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        states = {vector.input for vector in task.state}
        self._ranks = {value.name: len(value.shape) for value in self._session.get_inputs()}
        self._input = next(name for name in self._ranks if name not in states)
        carried = [vector.output for vector in task.state]
        actions = next(value.name for value in self._session.get_outputs() if value.name not in carried)
        self._outputs = [actions, *carried]

    def outputs(self, observations: Observations) -> Outputs:
        """See :class:`TaskPolicy`."""
        return np.asarray(self._session.run(None, {self._input: observations})[0])

    def remember(self, observations: Observations, before: NDArray[Any]) -> tuple[Outputs, NDArray[Any]]:
        """See :class:`TaskPolicy`. One row at a time, whichever axis the file has batches along."""
        ends = np.cumsum([vector.size for vector in self.task.state])[:-1]
        rows = []
        for observation, state in zip(observations, before.astype(np.float32), strict=True):
            given = dict(zip((v.input for v in self.task.state), np.split(state, ends), strict=True))
            given[self._input] = observation
            shaped = {name: x.reshape(*[1] * (self._ranks[name] - 1), -1) for name, x in given.items()}
            rows.append([x.reshape(-1) for x in self._session.run(self._outputs, shaped)])
        return np.stack([row[0] for row in rows]), np.stack([np.concatenate(row[1:]) for row in rows])


class IntegerPolicy(TaskPolicy):
    """A policy whose network runs in integers somewhere; the host quantizes before it and dequantizes after."""

    def __init__(self, program: Program, task: Task) -> None:
        super().__init__(task)
        self.program = program

    @abstractmethod
    def integers(self, q: Integers) -> Integers:
        """The network.

        :param q: [n, inputs]
        :returns: [n, outputs]
        """

    def outputs(self, observations: Observations) -> Outputs:
        """See :class:`TaskPolicy`."""
        return dequantize_output(self.program, self.integers(quantize_input(self.program, observations)))

    def remember(self, observations: Observations, before: NDArray[Any]) -> tuple[Outputs, NDArray[Any]]:
        """See :class:`TaskPolicy`. The state stays integers, as it left the network."""
        size = self.task.state_size
        whole = np.hstack([observations, np.zeros((len(observations), size), np.float32)])
        q = quantize_input(self.program, whole)
        q[:, -size:] = before
        after = self.integers(q)
        return dequantize_output(self.program, after)[:, :-size], after[:, -size:]


class ReferencePolicy(IntegerPolicy):
    """The integer reference in numpy."""

    def integers(self, q: Integers) -> Integers:
        """See :class:`IntegerPolicy`."""
        return reference.run(self.program, q)[-1]


class HostPolicy(IntegerPolicy):
    """The generated C, compiled for this computer."""

    def __init__(self, library: HostLibrary, program: Program, task: Task) -> None:
        super().__init__(program, task)
        self._library = library

    def integers(self, q: Integers) -> Integers:
        """See :class:`IntegerPolicy`."""
        return self._library.infer(q)


class BoardPolicy(IntegerPolicy):
    """The firmware on a board: every output was computed there."""

    def __init__(self, bridge: Bridge, program: Program, task: Task) -> None:
        super().__init__(program, task)
        self._bridge = bridge
        self.round_trips_s: list[float] = []
        """Seconds from each request of one inference to its reply, as the host saw them."""

    def integers(self, q: Integers) -> Integers:
        """See :class:`IntegerPolicy`."""
        if len(q) == 1:
            began_s = time.perf_counter()
            one = self._bridge.infer(q[0])
            self.round_trips_s.append(time.perf_counter() - began_s)
            self.ticks.append(one.ticks)
            return one.output[None, :]
        outputs, ticks = self._bridge.run_many(q)
        self.ticks.extend(int(t) for t in ticks)
        return outputs
