"""One cell of the study: an agent, a method, a width; its returns on seeds that all cells of the agent share."""

from __future__ import annotations

import dataclasses
import json
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.artifact import code_version, read_manifest, sha256_json
from policyport.core.environment import open_environment
from policyport.core.task import Task
from policyport.hil.loop import make_environment, success_of
from policyport.pipeline.quarl_methods import RANDOM, Outputs, outputs_of
from policyport.quantize.source import Source, open_source

_ROOT = Path(__file__).resolve().parent
CODE = (_ROOT.parent / "quantize", _ROOT.parent / "core")

AT_ONCE = 256
"""Episodes that are played side by side; as one ends, the next begins."""

Act = Callable[[NDArray[np.float32]], NDArray[Any]]
"""Observations [n, observation size] to an action for each, as the environment takes them."""

CLOSE = 0.01
"""Continuous actions agree when they differ by at most this share of the range, in every dimension."""


@dataclass(frozen=True)
class Cell:
    """What is to be measured; the same cell gives the same result anywhere."""

    agent: str
    artifact: str
    """Folder of the agent's train artifact."""

    method: str
    bits: int
    activation_bits: int
    episodes: int
    seed: int
    """Episode i is reset with this seed plus i."""

    input_bits: int | None = None
    """Of observations; None for 16 of vectors and 8 of images."""

    @property
    def name(self) -> str:
        """Of its file."""
        taken = "" if self.input_bits is None else f".input{self.input_bits}"
        return f"{self.agent}.{self.method}.{self.bits}{taken}"


@dataclass(frozen=True)
class CellResult:
    """What was measured."""

    agent: str
    method: str
    bits: int
    returns: tuple[float, ...]
    agreement: float
    """Share of the held-out observations on which the action is float32's."""

    success_rate: float | None = None
    """Share of the episodes that were a success; None where the environment does not say."""


def success_rate(played: Sequence[Episode]) -> float | None:
    """Share of the episodes that were a success; None where the environment does not say."""
    known = [episode.success for episode in played if episode.success is not None]
    return sum(known) / len(known) if known else None


def measure(cell: Cell) -> CellResult:
    """Quantize, and play."""
    source = open_source(Path(cell.artifact))
    act = _act(source, cell)
    played = _played(act, source.task, cell.seed, cell.episodes)
    returns = tuple(episode.total for episode in played)
    agreement = _agreement(source, act)
    return CellResult(cell.agent, cell.method, cell.bits, returns, agreement, success_rate(played))


def _act(source: Source, cell: Cell) -> Act:
    if cell.method == RANDOM:
        with make_environment(source.task.environment) as environment:
            space = environment.action_space
        space.seed(cell.seed)
        return lambda observations: np.stack([space.sample() for _ in observations])
    widths = cell.bits, cell.activation_bits, cell.input_bits
    return _acting(outputs_of(source, cell.method, *widths), source.task)


def _acting(outputs: Outputs, task: Task) -> Act:
    return lambda observations: task.action(outputs(observations))


def measured(cell: Cell, folder: Path) -> CellResult:
    """The result out of its file, or measured and written there, whole or not at all."""
    found = recall(cell, folder)
    if found is not None:
        return found
    result = measure(cell)
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f".{cell.name}.{os.getpid()}"
    fresh.write_text(json.dumps({"key": key_of(cell), **dataclasses.asdict(result)}, indent=1) + "\n")
    fresh.rename(folder / f"{cell.name}.json")
    return result


def recall(cell: Cell, folder: Path) -> CellResult | None:
    """The result that lies in a folder of earlier results, where it is of the same agent, settings and code."""
    path = folder / f"{cell.name}.json"
    if not path.is_file():
        return None
    table = json.loads(path.read_text())
    if table.pop("key") != key_of(cell):
        return None
    return CellResult(**{**table, "returns": tuple(table["returns"])})


def key_of(cell: Cell) -> str:
    """Hash of everything that the result depends on."""
    settings = {key: value for key, value in dataclasses.asdict(cell).items() if key not in ("artifact", "agent")}
    own = [Path(__file__), Path(__file__).with_name("quarl_methods.py")]
    code = [code_version(*CODE), *(path.read_text() for path in own)]
    return sha256_json({"agent": read_manifest(Path(cell.artifact)).key, **settings, "code": code})


def play_together(outputs: Outputs, task: Task, seed: int, episodes: int) -> list[float]:
    """Return of each episode; see :func:`play_episodes`."""
    return [episode.total for episode in play_episodes(outputs, task, seed, episodes)]


@dataclass(frozen=True)
class Episode:
    """What came of an episode."""

    total: float
    """Its return."""

    success: bool | None
    """What the environment said of it at its end; None where it does not say."""


def play_episodes(outputs: Outputs, task: Task, seed: int, episodes: int) -> list[Episode]:
    """Seeded episodes, :data:`AT_ONCE` side by side, so that the network is asked for many actions at once."""
    return _played(_acting(outputs, task), task, seed, episodes)


def _played(act: Act, task: Task, seed: int, episodes: int) -> list[Episode]:
    waiting = deque(range(episodes))
    playing: dict[int, Any] = {}
    seen: dict[int, NDArray[Any]] = {}
    totals, ended = [0.0] * episodes, dict[int, Episode]()
    while waiting or playing:
        while waiting and len(playing) < AT_ONCE:
            number = waiting.popleft()
            playing[number] = open_environment(task.environment)
            seen[number] = playing[number].reset(seed=seed + number)[0]
        numbers = list(playing)
        observations = task.check_observation(np.stack([np.ravel(seen[number]) for number in numbers]))
        for number, action in zip(numbers, act(observations), strict=True):
            seen[number], reward, terminated, truncated, information = playing[number].step(action)
            totals[number] += float(reward)
            if terminated or truncated:
                ended[number] = Episode(totals[number], success_of(information))
                playing.pop(number).close()
    return [ended[number] for number in range(episodes)]


def _agreement(source: Source, act: Act) -> float:
    observations = source.held_out
    exact = _acting(source.graph.evaluate, source.task)(observations)
    return float(np.mean(_same(source.task, act(observations), exact)))


def _same(task: Task, ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[np.bool_]:
    """[n]: whether two actions are the same."""
    count = len(ours)
    if task.discrete:
        return np.asarray((ours == theirs).reshape(count, -1).all(axis=1))
    span = np.subtract(task.action_high, task.action_low)
    return np.asarray((np.abs(ours - theirs).reshape(count, -1) <= CLOSE * span).all(axis=1))
