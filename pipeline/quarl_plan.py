"""What a study states before it begins: the margin of each group of agents, and the episodes that its test needs.

A pilot on seeds of its own measures them: random actions and float32, nothing quantized. So neither depends on what is
compared later, nor the margin on how many episodes there are.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from policyport.hil.margin import FRESH_SEEDS, Margin, differences_spread, of_span
from policyport.hil.statistics import POWER, Returns, deviation, planned_episodes
from policyport.pipeline.quarl_agents import StudyAgent
from policyport.pipeline.quarl_cell import Cell, CellResult
from policyport.pipeline.quarl_methods import FLOAT, RANDOM

PILOT_EPISODES = 100

LEAST_EPISODES = 50
"""Of a group: what was never seen in a pilot may come."""


@dataclass(frozen=True)
class Plan:
    """Of one group of agents."""

    group: str
    by_chance: float
    """Mean return of random actions in the pilot."""

    float32: float
    """Likewise of float32."""

    deviation: float
    """Of float32's returns in the pilot."""

    margin: Margin
    needed: int
    """Episodes of the whole group that find equivalent what is the same, :data:`POWER` of the times."""

    episodes: int
    """Of each agent that are played: those, within the limits."""


@dataclass(frozen=True)
class Bounds:
    """What plans are made within."""

    margin_share: float = 5.0
    """Of the span from random actions to float32, in %."""

    most_episodes: int = 1000
    """Of a group."""

    fixed_episodes: int = 0
    """Of each agent, whatever is needed; 0 for as many as are."""


def pilot_cells(agent: StudyAgent, first_seed: int) -> list[Cell]:
    """Random actions, and float32, on seeds far from the study's."""
    seed = first_seed + FRESH_SEEDS
    place = agent.name, str(agent.artifact.resolve())
    return [Cell(*place, method, 32, 8, PILOT_EPISODES, seed) for method in (RANDOM, FLOAT)]


def plans_of(
    agents: Sequence[StudyAgent], pilots: Mapping[tuple[str, str], CellResult], bounds: Bounds
) -> dict[str, Plan]:
    """By group, of those whose pilot is whole.

    :param pilots: by name of the agent and method
    """
    groups: dict[str, list[str]] = {}
    for agent in agents:
        groups.setdefault(agent.group, []).append(agent.name)
    found = {}
    for group, names in groups.items():
        if not all((name, method) in pilots for name in names for method in (RANDOM, FLOAT)):
            continue
        by_chance, float32 = (_pooled([pilots[name, method] for name in names]) for method in (RANDOM, FLOAT))
        found[group] = _plan(group, len(names), by_chance, float32, bounds)
    return found


def to_json(plans: Mapping[str, Plan], bounds: Bounds) -> str:
    """What was stated, as a file."""
    table = {
        "schema": 1,
        **dataclasses.asdict(bounds),
        "power": POWER,
        "plans": [dataclasses.asdict(plan) for plan in plans.values()],
    }
    return json.dumps(table, indent=1) + "\n"


def _plan(group: str, agents: int, by_chance: Returns, float32: Returns, bounds: Bounds) -> Plan:
    margin = of_span(bounds.margin_share, by_chance, float32, "a pilot")
    spread = differences_spread(float32)
    needed = planned_episodes(spread, margin.value) if margin.value > 0 else bounds.most_episodes
    played = min(max(needed, LEAST_EPISODES), bounds.most_episodes)
    episodes = bounds.fixed_episodes or -(-played // agents)
    means = float(by_chance.mean()), float(float32.mean())
    return Plan(group, *means, deviation(float32), margin, needed, episodes)


def _pooled(results: Sequence[CellResult]) -> Returns:
    return np.concatenate([np.array(result.returns, np.float64) for result in results])
