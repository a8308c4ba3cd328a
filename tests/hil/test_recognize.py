"""A classifier's figures: board against float32, labels that do not fit, the gate on F1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from policyport.core.errors import ArtifactError
from policyport.core.recognition import f1
from policyport.core.task import Environment, Task
from policyport.hil.config import HilConfig
from policyport.hil.gates import judge
from policyport.hil.recognize import compare, read_labels, recognize

TASK = Task(
    kind="classifier",
    name="AU",
    environment=Environment("rendered"),
    observation_size=2,
    observation_low=(0.0, 0.0),
    observation_high=(255.0, 255.0),
    output_size=2,
    action_rule="threshold",
    action_shape=(2,),
    labels=("AU1", "AU2"),
    thresholds=(0.5, 0.2),
)


class Scaled:
    """Outputs that are the observations, some of them altered."""

    def __init__(self, error: float) -> None:
        self.task, self.error = TASK, error

    def outputs(self, observations: np.ndarray) -> np.ndarray:
        return (observations - 128 + self.error) / 64


def pictures() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (40, 2)).astype(np.float32)
    return x, np.where(generator.random((40, 2)) < 0.1, -1, x > 110).astype(np.int8)


def test_figures_are_those_of_the_calls() -> None:
    x, labels = pictures()
    done: list[float] = []
    board, exact = Scaled(20), Scaled(0)
    found = recognize(board, exact, x, labels, lambda at, note="": done.append(at))  # type: ignore[arg-type]
    assert done == [16, 32, 40] and found.pictures == 40
    assert found.board_f1 == pytest.approx(np.mean([f1(x[:, j] > 108, labels[:, j]) for j in (0, 1)]))
    assert found.float_f1 < found.board_f1
    assert found.agreement == pytest.approx(np.mean((x > 108) == (x > 128)))
    assert found.probability_error > 0 and found.labels[1].positives == (labels[:, 1] == 1).sum()


def test_a_probability_is_above_its_threshold_where_the_output_is_above_zero() -> None:
    outputs = np.array([[0.0, 0.0], [1e-3, -1e-3], [-5, 5]], np.float32)
    assert TASK.probabilities(outputs)[0] == pytest.approx([0.5, 0.2])
    assert ((TASK.probabilities(outputs) > [0.5, 0.2]) == (outputs > 0))[1:].all()


def test_a_label_that_no_picture_has_counts_for_nothing() -> None:
    x, labels = pictures()
    labels[:, 1] = -1
    found = compare(TASK, Scaled(0).outputs(x), Scaled(0).outputs(x), labels)
    assert found.labels[1].board_f1 is None and found.board_f1 == found.labels[0].board_f1


@pytest.mark.parametrize("labels", [np.zeros((3, 1), np.int8), np.full((3, 2), 7, np.int8), np.zeros(2, np.int8)])
def test_labels_that_do_not_fit_are_refused(labels: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "labels.npz"
    np.savez(path, held_out=labels)
    with pytest.raises(ArtifactError, match="do not fit the task"):
        read_labels(path, TASK)


def test_the_gate_on_f1() -> None:
    x, labels = pictures()
    found = compare(TASK, Scaled(-60).outputs(x), Scaled(0).outputs(x), labels)
    loss = found.float_f1 - found.board_f1
    for allowed, passed in ((loss + 1e-6, True), (loss - 1e-6, False)):
        (gate,) = judge(HilConfig(max_f1_loss=allowed), None, found)
        assert gate.name == "max_f1_loss" and gate.passed == passed
    (gate,) = judge(HilConfig(min_agreement=0.99), None, found)
    assert not gate.passed
