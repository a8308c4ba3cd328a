"""A policy that can be exported, wherever it comes from: trained here, or out of a zip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policyport.core.task import Environment
from policyport.train.normalization import Normalization

if TYPE_CHECKING:
    from policyport.quantize.network import QuantizedNetwork
    from stable_baselines3.common.policies import BasePolicy


@dataclass(frozen=True)
class Agent:
    """A policy of Stable-Baselines3 and what it acts in."""

    policy: BasePolicy
    algorithm: str
    """Class name of the algorithm, e.g. ``PPO``."""

    environment: Environment
    """As the policy sees it, but for ``flatten``."""

    observation_space: Any
    """Of that environment."""

    normalization: Normalization | None
    save: Callable[[Path], object]
    """Writes the zip."""

    steps: int = 0
    """Environment steps of its training; 0 where they are not known."""

    curve: tuple[tuple[int, float], ...] = ()
    """(environment steps, mean return) of each evaluation."""

    integers: QuantizedNetwork | None = None
    """What quantization-aware training trained; the policy's weights are the values that they stand for."""
