"""The navigation task: its geometry against rays walked step by step, its rewards, its determinism."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st
from policyport.core import navigation
from policyport.core.environment import current_id, open_environment
from policyport.core.task import Environment

WALK_M = 0.002


def flown(heading_of: object, seed: int) -> tuple[float, int, bool]:
    """Return, steps and success of an episode."""
    environment = open_environment(Environment("Navigation-v0"))
    observation, _ = environment.reset(seed=seed)
    total, steps, over, information = 0.0, 0, False, {}
    while not over:
        observation, reward, terminated, truncated, information = environment.step(heading_of(observation))  # type: ignore[operator]
        total, steps, over = total + reward, steps + 1, terminated or truncated
    return total, steps, information["is_success"]


def to_goal(observation: np.ndarray) -> int:
    """The heading that points at the goal."""
    angle = np.arctan2(observation[28], observation[27])
    return round(angle / (2 * np.pi) * navigation.HEADINGS) % navigation.HEADINGS


def test_is_registered_and_as_gymnasium_wants_it() -> None:
    assert current_id("Navigation-v0") == "Navigation-v0"
    environment = gymnasium.make("Navigation-v0").unwrapped
    check_env(environment, skip_render_check=True)
    assert environment.action_space.n == 25 and environment.observation_space.shape == (31,)


def test_the_same_seed_gives_the_same_episode() -> None:
    assert flown(to_goal, 3) == flown(to_goal, 3) != flown(to_goal, 4)


def test_flying_at_the_goal_reaches_it_more_often_than_not_and_not_always() -> None:
    successes = [flown(to_goal, seed)[2] for seed in range(60)]
    assert 30 < sum(successes) < 60


def test_the_return_is_the_way_gained_the_bonus_and_the_steps() -> None:
    seed = next(seed for seed in range(20) if flown(to_goal, seed)[2])
    environment: navigation.Navigation = gymnasium.make("Navigation-v0").unwrapped
    observation, _ = environment.reset(seed=seed)
    way = np.hypot(*observation[27:29]) * 2 * navigation.HALF_SIDE_M
    total, steps, _ = flown(to_goal, seed)
    gained = total - navigation.BONUS + steps * navigation.STEP_COST
    assert way - navigation.GOAL_RADIUS_M < gained <= way + 1e-5


def test_a_collision_ends_the_episode_and_costs() -> None:
    total, _, success = flown(lambda _: 0, 0)
    assert not success and total < 0


@given(
    st.tuples(st.floats(-4.5, 4.5), st.floats(-4.5, 4.5)),
    st.lists(st.tuples(st.floats(0, 2 * np.pi), st.floats(0.01, 5), st.floats(0.4, 0.8)), max_size=4),
    st.floats(0, 2 * np.pi),
)
def test_sight_is_where_a_walk_along_the_ray_first_has_no_clearance(
    place: tuple[float, float], pillars: list[tuple[float, float, float]], angle: float
) -> None:
    """Pillars are drawn as bearing, gap and radius: the vehicle never stands in one."""
    at = np.array(place)
    bearing, gap, radii = np.array(pillars, float).reshape(-1, 3).T
    centres = at + np.stack([np.cos(bearing), np.sin(bearing)], axis=1) * (gap + radii)[:, None]
    direction = np.array([np.cos(angle), np.sin(angle)])
    seen = navigation.sight_m(at, direction[None], centres, radii)[0]
    steps = np.arange(0.0, seen - WALK_M, WALK_M)
    assert all(navigation.clearance_m(at + t * direction, centres, radii) > -1e-6 for t in steps)
    if seen < navigation.SIGHT_M:
        assert abs(navigation.clearance_m(at + seen * direction, centres, radii)) < 1e-3


@pytest.mark.parametrize("action", range(0, 25, 6))
def test_a_heading_moves_that_way(action: int) -> None:
    environment: navigation.Navigation = gymnasium.make("Navigation-v0").unwrapped
    environment.reset(seed=1)
    angle = 2 * np.pi * action / 25
    observation, *_ = environment.step(action)
    np.testing.assert_allclose(observation[29:], [np.cos(angle) / 2, np.sin(angle) / 2], atol=1e-6)
