"""What an agent was trained behind, seen by the spaces in its zip: frame stacks, Atari preprocessing, turned images."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
from policyport.core.environment import open_environment
from policyport.core.errors import ConfigError
from policyport.core.task import Environment

log = logging.getLogger(__name__)

ATARI_SCREEN, ATARI_PREPARED = (210, 160, 3), (84, 84)


def as_trained(described: Environment, observation_space: Any, action_space: Any) -> tuple[Environment, Any]:
    """The environment with the wrappers that make its observations the policy's, and its observation space.

    :param observation_space: of the policy; images have channels first there
    :raises ConfigError: no wrapper known here makes them so, or the actions differ
    """
    bare = open_environment(described)
    bare.close()
    _check_actions(described, bare.action_space, action_space)
    for candidate in _candidates(described, bare.observation_space, observation_space):
        environment = open_environment(candidate)
        environment.close()
        if _same_observations(environment.observation_space, observation_space):
            _announce(candidate)
            return candidate, environment.observation_space
    raise ConfigError(
        "the agent was trained on other observations",
        where=described.id,
        expected=observation_space,
        got=bare.observation_space,
        cure="name the environment that it was trained in, as module:id where a package registers it",
    )


def _announce(described: Environment) -> None:
    said = ["Atari preprocessing"] if described.atari else []
    said += [f"a stack of {described.frame_stack} frames"] if described.frame_stack > 1 else []
    if said:
        log.warning("the agent was trained behind %s", " and ".join(said))


def _candidates(described: Environment, bare: Any, wanted: Any) -> list[Environment]:
    """The environment as it is, and as the policy's shape suggests."""
    found = [described]
    shape, target = getattr(bare, "shape", None), getattr(wanted, "shape", None)
    if not shape or not target or len(shape) != len(target):
        return found
    if shape == ATARI_SCREEN and set(ATARI_PREPARED) <= set(target):
        found += [replace(described, atari=True, frame_stack=count) for count in sorted({target[0], target[-1]})]
    found += [replace(described, frame_stack=size // shape[-1]) for size in (target[-1], target[0])]
    return [candidate for candidate in found if candidate.frame_stack >= 1]


def _same_observations(outside: Any, inside: Any) -> bool:
    from gymnasium.spaces import Box, Dict
    from stable_baselines3.common.preprocessing import is_image_space

    if type(outside) is not type(inside):
        return False
    if isinstance(outside, Dict):
        same_keys = set(outside.spaces) == set(inside.spaces)
        return same_keys and all(_same_observations(outside.spaces[key], inside.spaces[key]) for key in inside.spaces)
    if not isinstance(outside, Box):
        return bool(outside == inside)
    turned = is_image_space(outside) and (outside.shape[2], *outside.shape[:2]) == inside.shape
    return turned or outside.shape == inside.shape


def _check_actions(described: Environment, outside: Any, inside: Any) -> None:
    from gymnasium.spaces import Box

    same = type(outside) is type(inside) and outside.shape == inside.shape
    if isinstance(outside, Box) and same:
        same = np.allclose(outside.low, inside.low) and np.allclose(outside.high, inside.high)
    elif same:
        same = outside == inside
    if not same:
        raise ConfigError("the agent acts in another space", where=described.id, expected=inside, got=outside)
