"""What holds on any board, real or emulated: pytest -m board --deploy FOLDER --port URL --require-board."""

from __future__ import annotations

import numpy as np
import pytest
from policyport.deploy import reference
from policyport.deploy.program import quantize_input
from policyport.hil import OpenBoard

pytestmark = pytest.mark.board


def held_out(board: OpenBoard, count: int) -> np.ndarray:
    """[count, inputs]: observations that calibration has not seen, as the network gets them."""
    with np.load(board.image.file("observations.npz")) as arrays:
        return quantize_input(board.program, board.task.check_observation(arrays["held_out"][:count]))


def test_bytes_of_every_length_come_back(board: OpenBoard) -> None:
    room = board.identity.max_payload
    for length in (0, 1, 2, 253, 254, 255, 256, room - 1, room):
        data = bytes(index * 7 & 0xFF for index in range(length))
        assert board.bridge.echo(data) == data


def test_every_layer_equals_the_reference(board: OpenBoard) -> None:
    q = held_out(board, 8)
    expected = reference.run(board.program, q)
    for number, row in enumerate(q):
        for wanted, got in zip(expected, board.bridge.trace(row), strict=True):
            assert np.array_equal(wanted[number], got.values)


def test_one_by_one_is_many_at_once(board: OpenBoard) -> None:
    q = held_out(board, 8)
    assert np.array_equal(np.concatenate([board.policy.integers(row[None]) for row in q]), board.policy.integers(q))


def test_it_comes_back_from_a_reset(board: OpenBoard) -> None:
    board.bridge.reset()
    assert board.bridge.hello().reset_cause == "request"


def test_the_stack_was_never_full(board: OpenBoard) -> None:
    board.policy.integers(held_out(board, 2))
    memory = board.bridge.memory()
    assert 0 < memory.stack_used_bytes < memory.stack_bytes
