"""``task.json``: what the numbers of a model mean, and what the host does around it.

The device runs the integer program and nothing else. Whatever turns an observation into the model's
input, and the model's output into an action, is written here and done by the host.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ArtifactError, ObservationError

TASK_SCHEMA = 1

LABELS_FILE = "labels.npz"
"""Beside observations.npz where outputs have labels: ``held_out`` int8 [n, outputs] of 1, 0, -1 unknown."""

ActionRule = Literal["argmax", "argmax_each", "threshold", "scale", "clip"]
"""How an output becomes an action.

``argmax``:      index of the largest value, the first on a tie (discrete actions; Q values or logits).
``argmax_each``: the same in each of several groups of values, of sizes ``action_sizes`` (MultiDiscrete).
``threshold``:   1 where a value is above zero, else 0 (MultiBinary; logits).
``scale``:       output in [-1, 1], stretched to the Box bounds: ``low + (y + 1) / 2 * (high - low)``.
``clip``:        output in the action's own units, clipped to the Box bounds.
"""


@dataclass(frozen=True)
class Environment:
    """Where observations come from and actions go."""

    id: str
    """Gymnasium id, e.g. ``CartPole-v1``."""

    kwargs: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of ``gymnasium.make``."""

    versions: dict[str, str] = field(default_factory=dict)
    """Package versions that the policy was trained with."""

    atari: bool = False
    """Images prepared as Stable-Baselines3 does for Atari: no-op starts, every fourth frame, grey, 84x84."""

    frame_stack: int = 1
    """The last so many observations side by side along the last axis, the oldest first, zeros before the first."""

    flatten: bool = False
    """Observations that are no Box, flattened to one vector: discrete ones one-hot, dictionaries in their order."""


@dataclass(frozen=True)
class StateVector:
    """What a recurrent network remembers from one step to the next: an output that is an input of the next step."""

    input: str
    """Name of the float network's input."""

    output: str
    """Name of the output that it is given the step after; at the start of an episode it is given zeros."""

    size: int
    """Number of values."""


@dataclass(frozen=True)
class Task:
    """A policy's contract with its environment.

    Observations are float32 vectors of ``observation_size`` values, un-normalised, as the environment
    gives them; the exported network holds its own normalisation.
    """

    kind: Literal["policy", "classifier", "codec"]
    """``policy``: outputs choose actions; ``classifier``: each output says whether its label is there; ``codec``: an
    observation is a block of 8x8 pixels, the outputs are what is coded of it (:mod:`policyport.core.codec_model`)."""

    name: str
    environment: Environment
    observation_size: int
    observation_low: tuple[float, ...]
    observation_high: tuple[float, ...]
    output_size: int
    action_rule: ActionRule
    action_low: tuple[float, ...] = ()
    """Box bounds, empty for discrete actions."""

    action_high: tuple[float, ...] = ()
    action_shape: tuple[int, ...] = ()
    action_sizes: tuple[int, ...] = ()
    """Number of choices of each group, for ``argmax_each``."""

    algorithm: str = ""
    """Stable-Baselines3 class name, e.g. ``PPO``; empty where the network came from elsewhere."""

    labels: tuple[str, ...] = ()
    """Of a classifier: the name of each output."""

    thresholds: tuple[float, ...] = ()
    """Of a classifier: the probability from which on each label is called present. An output is the logit of the
    probability less the logit of this, so that it is above zero there."""

    state: tuple[StateVector, ...] = ()
    """Of a recurrent policy. The integer program has them behind the observation and behind the output, in this order;
    the float network has an input and an output for each."""

    @property
    def state_size(self) -> int:
        """Values of all state vectors."""
        return sum(vector.size for vector in self.state)

    @property
    def input_size(self) -> int:
        """Values that the integer program is given: observation and state."""
        return self.observation_size + self.state_size

    @property
    def plays(self) -> bool:
        """Whether there is an environment to play in: none belongs to a model that came as a bare file."""
        return self.kind == "policy" and bool(self.environment.id)

    @property
    def discrete(self) -> bool:
        """Whether actions are choices: they agree or differ, and have no distance."""
        return self.action_rule in ("argmax", "argmax_each", "threshold")

    def check_observation(self, observation: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """One observation or a batch, as float32 [n, observation_size].

        :raises ObservationError: on another size, NaN or infinity; the index of the first is named
        """
        given = np.asarray(observation)
        return self._checked(given, self.observation_size)

    def check_input(self, inputs: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """What a network is given at a step, observations with the state behind them, as float32 [n, input_size].

        :raises ObservationError: as :meth:`check_observation`
        """
        return self._checked(np.asarray(inputs), self.input_size)

    def _checked(self, given: NDArray[Any], size: int) -> NDArray[np.float32]:
        flat = given.astype(np.float32)
        if flat.ndim == 0 or flat.size % size or flat.size == 0 or not _fits(flat.shape, size):
            raise ObservationError(
                "observation of a wrong shape",
                where=self.environment.id,
                expected=f"({size},) or (n, {size})",
                got=given.shape,
                cure="give observations as the environment does: observation_size values each, see task.json",
            )
        flat = flat.reshape(-1, size)
        bad = np.argwhere(~np.isfinite(flat))
        if len(bad):
            row, column = (int(i) for i in bad[0])
            raise ObservationError(
                "observation is not a finite number",
                where=f"{self.environment.id}, observation {row}, element {column}",
                expected="finite values",
                got=flat[row, column],
                cure="check the sensor or the environment; no action is computed from such a value",
            )
        return flat

    def action(self, output: NDArray[np.float32]) -> NDArray[Any]:
        """Model outputs to actions as the environment takes them.

        :param output: [n, output_size], float32, dequantized; a state behind it is not looked at
        :returns: int64 where actions are choices, [n] or [n, groups]; else [n, *action_shape] float32
        """
        output = output[..., : self.output_size]
        if self.action_rule == "argmax":
            return np.argmax(output, axis=-1).astype(np.int64)
        if self.action_rule == "argmax_each":
            groups = np.split(output, np.cumsum(self.action_sizes)[:-1], axis=-1)
            return np.stack([np.argmax(group, axis=-1) for group in groups], axis=-1).astype(np.int64)
        if self.action_rule == "threshold":
            return (output > 0).astype(np.int64).reshape(-1, *self.action_shape)
        low, high = np.array(self.action_low, np.float32), np.array(self.action_high, np.float32)
        if self.action_rule == "scale":
            action = low + np.float32(0.5) * (output + np.float32(1.0)) * (high - low)
        else:
            action = output
        return np.clip(action, low, high).astype(np.float32).reshape(-1, *self.action_shape)

    def probabilities(self, output: NDArray[np.float32]) -> NDArray[np.float64]:
        """A classifier's outputs [n, output_size] as probabilities of the labels, present above ``thresholds``."""
        limit = np.array(self.thresholds, np.float64)
        return 1 / (1 + np.exp(-np.asarray(output, np.float64)) * (1 - limit) / limit)

    def write(self, path: Path) -> None:
        """Write ``task.json``."""
        path.write_text(json.dumps({"schema": TASK_SCHEMA, **dataclasses.asdict(self)}, indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> Task:
        """Read ``task.json``.

        :raises ArtifactError: on another schema version or a missing field
        """
        table = json.loads(path.read_text())
        if table.pop("schema", None) != TASK_SCHEMA:
            raise ArtifactError("task of another schema version", where=path, expected=TASK_SCHEMA)
        try:
            table["environment"] = Environment(**table["environment"])
            table["state"] = [StateVector(**vector) for vector in table.get("state", [])]
            for key, value in table.items():
                if isinstance(value, list):
                    table[key] = tuple(value)
            return cls(**table)
        except (KeyError, TypeError) as error:
            raise ArtifactError("task that does not read as one", where=path, got=error) from error


def _fits(shape: tuple[int, ...], size: int) -> bool:
    return any(int(np.prod(shape[i:])) == size for i in (0, 1))
