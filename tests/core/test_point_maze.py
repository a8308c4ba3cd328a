"""PointMaze by headings, where gymnasium-robotics is installed; else what the error says."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from policyport.core.environment import open_environment
from policyport.core.errors import ToolError
from policyport.core.point_maze import HEADINGS
from policyport.core.task import Environment

INSTALLED = importlib.util.find_spec("gymnasium_robotics") is not None


@pytest.mark.skipif(INSTALLED, reason="gymnasium-robotics is installed")
def test_without_the_package_its_extra_is_named() -> None:
    with pytest.raises(ToolError, match="gymnasium-robotics") as error:
        open_environment(Environment("PointMazeHeadings-v0"))
    assert "mazes" in str(error.value.cure)


@pytest.mark.skipif(not INSTALLED, reason="gymnasium-robotics is not installed: pip install 'policyport[mazes]'")
@pytest.mark.filterwarnings("ignore")
def test_a_push_moves_the_ball_along_its_heading() -> None:
    environment = open_environment(Environment("PointMazeHeadings-v0"))
    for heading in (0, 6):
        before, information = environment.reset(seed=4)
        after, reward, _, _, _ = environment.step(heading)
        angle = 2 * np.pi * heading / HEADINGS
        assert after[2:4] @ [np.cos(angle), np.sin(angle)] > 0.1 and not information["is_success"]
        np.testing.assert_allclose(after[6:], after[4:6] - after[:2], atol=1e-6)
        closer = np.linalg.norm(before[6:]) - np.linalg.norm(after[6:])
        assert reward == pytest.approx(closer - 0.02, abs=1e-5)
    same = [environment.reset(seed=9)[0] for _ in range(2)]
    np.testing.assert_array_equal(*same)
    environment.close()
