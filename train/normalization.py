"""The statistics by which observations were normalised, on the flat observation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ArtifactError, ConfigError, UnsupportedModelError
from policyport.train.inert import Inert, read_pickle

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecNormalize

EPSILON, CLIP = 1e-8, 10.0
"""VecNormalize's own defaults, for statistics that come without them."""


@dataclass(frozen=True)
class Normalization:
    """VecNormalize on observations: ``clip((x - mean) / deviation, -limit, limit)``."""

    mean: NDArray[np.float64]
    """[observation size]"""

    deviation: NDArray[np.float64]
    limit: float

    def apply(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        """Observations [n, size] normalised, in the arithmetic of VecNormalize."""
        return np.clip((observations - self.mean) / self.deviation, -self.limit, self.limit).astype(np.float32)


def of_trained(vecnormalize: VecNormalize | None, space: Any) -> Normalization | None:
    """The statistics of a VecNormalize that is at hand.

    :param space: of the environment's observations
    """
    if vecnormalize is None:
        return None
    return _normalization(vars(vecnormalize), space, "VecNormalize")


def read_statistics(path: Path, space: Any, *, pickle: bool) -> Normalization | None:
    """Statistics from a file; None where they are of rewards alone.

    :param path: what ``VecNormalize.save`` wrote, or an ``.npz`` with ``mean`` and ``var``, optionally ``epsilon`` and
        ``clip_obs``
    :param space: of the environment's observations
    :param pickle: whether a pickle may be read
    :raises ConfigError: a pickle where none may be read
    :raises ArtifactError: the file is missing or torn
    :raises UnsupportedModelError: statistics of another observation
    """
    if not path.is_file():
        raise ConfigError("no such file", where="vecnormalize", got=path)
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            values = dict(arrays)
        if not {"mean", "var"} <= set(values):
            raise ArtifactError(
                "no statistics in this file", where=path, expected="mean and var", got=", ".join(values)
            )
        return _normalization({**values, "obs_rms": values}, space, path)
    if not pickle:
        raise ConfigError(
            "these statistics are a pickle, and none is to be read",
            where=path,
            cure="give --vecnormalize an .npz with mean, var, epsilon and clip_obs, or leave --no-pickle out",
        )
    saved = read_pickle(path.read_bytes(), path)
    if not isinstance(saved, Inert) or "obs_rms" not in saved.attributes:
        raise ArtifactError("this is no saved VecNormalize", where=path, got=type(saved).__name__)
    return _normalization(saved.attributes, space, path)


def _normalization(values: Mapping[str, Any], space: Any, where: object) -> Normalization | None:
    if not values.get("norm_obs", True):
        return None
    epsilon, limit = float(values.get("epsilon", EPSILON)), float(values.get("clip_obs", CLIP))
    moments = [_moments(values, key, part, where) for key, part in _parts(space)]
    mean, variance = (np.concatenate(both) for both in zip(*moments, strict=True))
    return Normalization(mean, np.sqrt(variance + epsilon), limit)


def _parts(space: Any) -> list[tuple[str | None, Any]]:
    from gymnasium.spaces import Dict

    return list(space.spaces.items()) if isinstance(space, Dict) else [(None, space)]


def _moments(
    values: Mapping[str, Any], key: str | None, space: Any, where: object
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and variance of one part of the observation, flat."""
    statistics = values["obs_rms"] if key is None else values["obs_rms"].get(key)
    if statistics is None:
        raise UnsupportedModelError(
            "some parts of the observation are normalised and others are not",
            where=where,
            got=f"no statistics of {key}",
        )
    table = (
        statistics if isinstance(statistics, Mapping) else getattr(statistics, "attributes", None) or vars(statistics)
    )
    mean, variance = np.asarray(table["mean"], np.float64), np.asarray(table["var"], np.float64)
    if mean.shape != space.shape:
        raise UnsupportedModelError(
            "statistics of another observation",
            where=where,
            expected=f"shape {space.shape}, as the environment's observations",
            got=f"shape {mean.shape}",
        )
    return mean.ravel(), variance.ravel()
