"""Gymnasium spaces: from what a zip says of them, and between a flat vector and what a policy is given."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ConfigError, UnsupportedModelError
from policyport.train.inert import Inert

OBSERVATIONS = "Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of them"
ACTIONS = "Discrete, Box, MultiDiscrete or MultiBinary"


def check_spaces(observation_space: Any, action_space: Any) -> None:
    """Refuse an environment whose observations or actions no policy here can take.

    :raises UnsupportedModelError: another kind of space; it is named
    """
    from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

    plain = (Box, Discrete, MultiDiscrete, MultiBinary)
    parts = observation_space.spaces.values() if isinstance(observation_space, Dict) else (observation_space,)
    if not all(isinstance(part, plain) and _counts_from_zero(part) for part in parts):
        raise UnsupportedModelError(
            "observations of this kind are not supported", expected=OBSERVATIONS, got=observation_space
        )
    if not isinstance(action_space, plain) or not _counts_from_zero(action_space):
        raise UnsupportedModelError("actions of this kind are not supported", expected=ACTIONS, got=action_space)
    if isinstance(action_space, MultiDiscrete) and action_space.nvec.ndim != 1:
        raise UnsupportedModelError("MultiDiscrete actions of more than one axis", expected="one", got=action_space)


def _counts_from_zero(space: Any) -> bool:
    """Whether choices are numbered from 0, as Stable-Baselines3 does."""
    return not np.any(getattr(space, "start", 0))


def space_of(saved: Any, where: object) -> Any:
    """A space of a zip as a Gymnasium one.

    :param saved: an :class:`Inert` object out of its pickle, or the table of texts that stand beside the pickle
    :raises UnsupportedModelError: a space of another kind
    :raises ConfigError: texts that were cut, as those of long bounds are
    """
    from gymnasium import spaces

    kind, values = _read(saved)
    if kind == "Box":
        element = np.dtype(str(values.get("dtype", "float32")))
        low, high = (_as(element, _array(values[end], where)) for end in ("low", "high"))
        return spaces.Box(low, high, dtype=element.type)
    if kind == "Discrete":
        return spaces.Discrete(int(values["n"]), start=int(values.get("start", 0)))
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(_array(values["nvec"], where).astype(np.int64))
    if kind == "MultiBinary":
        n = values["n"]
        return spaces.MultiBinary(int(n) if np.ndim(n) == 0 else [int(size) for size in n])
    if kind == "Dict" and isinstance(values.get("spaces"), Mapping):
        return spaces.Dict([(key, space_of(part, where)) for key, part in values["spaces"].items()])
    raise UnsupportedModelError("a space of this kind is not supported", where=where, expected=OBSERVATIONS, got=kind)


def _read(saved: Any) -> tuple[str, Mapping[str, Any]]:
    """Class name and attributes."""
    if isinstance(saved, Inert):
        return type(saved).name.rpartition(".")[2], saved.attributes
    return re.sub(r".*\.(\w+)'>$", r"\1", str(saved.get(":type:", ""))), saved


def _array(value: Any, where: object) -> NDArray[Any]:
    """An array, or the text that numpy makes of one."""
    if isinstance(value, np.ndarray):
        return value
    text = re.sub(r"\s+", ",", str(value).replace("inf", "1e999").strip("[] \n"))
    try:
        return np.array(ast.literal_eval(f"[{text}]"))
    except (ValueError, SyntaxError) as error:
        raise ConfigError(
            "bounds that are too long to stand in the zip as text",
            where=where,
            got=text[:60],
            cure="import without --no-pickle: the pickled parts are read as inert data",
        ) from error


def _as(kind: np.dtype[Any], bounds: NDArray[Any]) -> NDArray[Any]:
    """Bounds in a type; text may round its largest number up to beyond it."""
    if not np.issubdtype(kind, np.floating) or bounds.dtype == kind:
        return bounds.astype(kind)
    limit = float(np.finfo(kind).max)
    return np.where(np.isfinite(bounds), np.clip(bounds, -limit, limit), bounds).astype(kind)


def flat_bounds(space: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper bound of each element of a flattened observation."""
    from gymnasium.spaces import flatten_space

    flat: Any = flatten_space(space)
    return flat.low.astype(np.float64).ravel(), flat.high.astype(np.float64).ravel()


def as_given(space: Any, flat: NDArray[Any]) -> Any:
    """Flat observations as a policy's ``predict`` takes a batch of them.

    :param space: of the environment
    :param flat: [n, flat size]
    :returns: an array of n observations; of a Dict space, a dictionary of such arrays
    """
    from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, flatdim

    if isinstance(space, Dict):
        ends = np.cumsum([flatdim(part) for part in space.spaces.values()])
        pieces = np.split(flat, ends[:-1], axis=1)
        return {key: as_given(part, piece) for (key, part), piece in zip(space.spaces.items(), pieces, strict=True)}
    if isinstance(space, Discrete):
        return flat.argmax(axis=1)
    if isinstance(space, MultiDiscrete):
        pieces = np.split(flat, np.cumsum(space.nvec)[:-1], axis=1)
        return np.stack([piece.argmax(axis=1) for piece in pieces], axis=1)
    shaped = flat.reshape(-1, *space.shape)
    return shaped.astype(space.dtype) if isinstance(space, Box) else shaped.astype(np.int8)
