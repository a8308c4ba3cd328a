"""The task: observations that are refused, outputs that become actions, and its file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.core.errors import ArtifactError, ObservationError
from policyport.core.task import Environment, Task

DISCRETE = Task("policy", "cart", Environment("CartPole-v1"), 4, (-1.0,) * 4, (1.0,) * 4, 2, "argmax", algorithm="PPO")
SCALED = Task(
    "policy", "arm", Environment("Arm-v0"), 3, (-1.0,) * 3, (1.0,) * 3, 2, "scale", (-2.0, 0.0), (2.0, 10.0), (2,)
)
CLIPPED = dataclasses.replace(SCALED, action_rule="clip")


@pytest.mark.parametrize("shape", [(4,), (1, 4), (7, 4), (2, 2), (7, 2, 2)])
def test_one_observation_or_a_batch_is_taken(shape: tuple[int, ...]) -> None:
    checked = DISCRETE.check_observation(np.zeros(shape))
    assert checked.dtype == np.float32 and checked.shape == (shape[0] if shape[0] in (1, 7) else 1, 4)


@pytest.mark.parametrize("shape", [(), (3,), (5,), (8,), (0,), (0, 4), (2, 3), (4, 3)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ObservationError, match="wrong shape") as error:
        DISCRETE.check_observation(np.zeros(shape))
    assert error.value.got == shape and error.value.where == "CartPole-v1"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_what_is_not_finite_is_refused_by_its_place(value: float) -> None:
    batch = np.zeros((3, 4))
    batch[1, 2] = value
    with np.errstate(over="ignore"), pytest.raises(ObservationError, match="observation 1, element 2"):
        DISCRETE.check_observation(batch)


def test_argmax_gives_the_first_of_equal_outputs() -> None:
    actions = DISCRETE.action(np.array([[0.0, 1.0], [1.0, 1.0]], np.float32))
    assert actions.tolist() == [1, 0] and actions.dtype == np.int64


def test_each_group_has_its_own_argmax() -> None:
    task = dataclasses.replace(DISCRETE, output_size=5, action_rule="argmax_each", action_sizes=(2, 3))
    actions = task.action(np.array([[0.0, 1.0, 5.0, 9.0, 9.0], [1.0, 1.0, 0.0, -1.0, 2.0]], np.float32))
    assert actions.tolist() == [[1, 1], [0, 2]] and actions.dtype == np.int64 and task.discrete


def test_a_threshold_is_above_zero() -> None:
    task = dataclasses.replace(DISCRETE, output_size=3, action_rule="threshold", action_shape=(3,))
    assert task.action(np.array([[-1.0, 0.0, 1e-9]], np.float32)).tolist() == [[0, 0, 1]] and task.discrete


def test_scale_stretches_to_the_bounds() -> None:
    actions = SCALED.action(np.array([[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0]], np.float32))
    assert actions.tolist() == [[-2.0, 0.0], [0.0, 5.0], [2.0, 10.0]] and actions.dtype == np.float32


def test_clip_keeps_the_units() -> None:
    assert CLIPPED.action(np.array([[-9.0, 3.0], [1.0, 11.0]], np.float32)).tolist() == [[-2.0, 3.0], [1.0, 10.0]]


@given(output=st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=2), rule=st.sampled_from([SCALED, CLIPPED]))
def test_an_action_is_inside_its_bounds(output: list[float], rule: Task) -> None:
    action = rule.action(np.array([output], np.float32))[0]
    assert np.all(np.array(rule.action_low) <= action) and np.all(action <= np.array(rule.action_high))


def test_an_action_has_the_environments_shape() -> None:
    square = dataclasses.replace(CLIPPED, action_shape=(2, 1))
    assert square.action(np.zeros((5, 2), np.float32)).shape == (5, 2, 1)


@pytest.mark.parametrize("task", [DISCRETE, SCALED, CLIPPED])
def test_a_task_survives_its_file(tmp_path: Path, task: Task) -> None:
    task.write(tmp_path / "task.json")
    assert Task.read(tmp_path / "task.json") == task


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"schema": 2}, "schema version"), ({"outputs": 3}, "does not read"), ({"environment": 3}, "does not read")],
)
def test_a_file_that_is_no_task_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    DISCRETE.write(tmp_path / "task.json")
    table = json.loads((tmp_path / "task.json").read_text())
    (tmp_path / "task.json").write_text(json.dumps({**table, **changes}))
    with pytest.raises(ArtifactError, match=message):
        Task.read(tmp_path / "task.json")
