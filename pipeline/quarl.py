"""``policyport study quarl``: what quantization does to policies, environment by algorithm by method by width.

Krishnan et al., "QuaRL: Quantization for Fast and Environmentally Sustainable Reinforcement Learning" (arXiv
1910.01055). A pilot comes first, ``plan.json`` says what it led to, and then the study begins. Each cell is one file
under ``cells/``, those of the pilot under ``pilot/``; an interrupted study goes on with the cells that it lacks, on one
machine or on many.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from policyport.core.errors import ConfigError, ToolError
from policyport.core.install import pip_install
from policyport.core.progress import progress
from policyport.pipeline.quarl_agents import (
    StudyAgent,
    find_agents,
    following,
    following_place,
    recipe_agents,
    trained_agents,
)
from policyport.pipeline.quarl_cell import Cell, CellResult, measured, recall
from policyport.pipeline.quarl_methods import DESCRIPTIONS, FLOAT, OWN_STATES, widths
from policyport.pipeline.quarl_plan import LEAST_EPISODES, Bounds, Plan, pilot_cells, plans_of, to_json
from policyport.pipeline.quarl_rows import ACTIVATIONS, Study, study_of
from policyport.pipeline.run import Say
from policyport.quantize.config import ACTIVATION_BITS

METHODS = ("weights", "fp16", "integer", "lattice", "last-layer")
"""Those that take seconds a cell; ``adaround`` and ``qat`` take minutes."""

BITS = (32, 16, 8, 7, 6, 5, 4, 3, 2)

CELLS = {bits: "cells" if bits == 8 else f"cells-{bits}" for bits in ACTIVATION_BITS}
"""Folder of the results, by width of activations."""

UNQUANTIZED = (FLOAT, "fp16", "weights")
"""Methods whose activations are no integers."""

Done = Callable[[CellResult], None]


@dataclass(frozen=True)
class StudyRequest:
    """What to study."""

    out: Path
    agents: Path | None = None
    """Folder of zips; none trains small agents, or those of recipes."""

    environments: tuple[str, ...] = ()
    algorithms: tuple[str, ...] = ()
    bits: tuple[int, ...] = BITS
    methods: tuple[str, ...] = METHODS
    activation_bits: tuple[int, ...] = (8,)
    """Of hidden layers, for the methods that quantize them: one or several of 16 and 8 to 2."""

    seeds: tuple[int, ...] = (0,)
    """Of the trainings."""

    episodes: int = 0
    """Of a cell; 0 for as many as the test needs, see :mod:`policyport.pipeline.quarl_plan`."""

    most_episodes: int = 1000
    """Of a group of agents, where the test's need decides."""

    margin_share: float = 5.0
    """Equivalence margin, in % of the span from random actions' mean return to float32's."""

    measured_only: bool = False
    """Sum up the cells that are there, and measure none."""

    follow_steps: int = 100_000
    """Of the environment that integers play while they follow an agent, for the method ``own-states``."""

    first_seed: int = 10_000
    """Episode i is reset with this seed plus i."""

    workers: int = 1
    ray: str = ""
    """Address of a Ray cluster, ``local`` for one on this machine; empty for a pool of processes."""

    recipes: tuple[Path, ...] = ()
    """Whose policies, where no folder is given."""


def run_study(request: StudyRequest, say: Say, done: Done) -> Study:
    """Measure every cell and sum up.

    :param say: is told of the agents as they are trained or imported
    :param done: is told of each cell
    :raises ConfigError: no such method, width, margin or number of episodes, or no agents
    :raises ToolError: Ray is asked for and not installed
    """
    _check(request)
    agents = _agents(request, say)
    plans = _plan(agents, request)
    agents = [agent for agent in agents if agent.group in plans]
    results: list[CellResult] = []
    for width in dict.fromkeys((8, *request.activation_bits)):
        cells = [cell for agent in agents for cell in _cells(agent, request, width, plans[agent.group].episodes, say)]
        found = _results(cells, CELLS[width], request, done)
        results += [_named(found[cell], width) for cell in cells if cell in found]
    study = study_of(agents, results, plans)
    if not study.rows:
        raise ConfigError("nothing is measured that could be summed up", where=request.out / "cells")
    return study


def _plan(agents: Sequence[StudyAgent], request: StudyRequest) -> dict[str, Plan]:
    """Play the pilot, and write down what it leads to before anything else is played."""
    pilots = [cell for agent in agents for cell in pilot_cells(agent, request.first_seed)]
    found = _results(pilots, "pilot", request, lambda _: None)
    bounds = Bounds(request.margin_share, request.most_episodes, request.episodes)
    plans = plans_of(agents, {(cell.agent, cell.method): result for cell, result in found.items()}, bounds)
    if request.measured_only:
        return plans
    (request.out / "plan.json").write_text(to_json(plans, bounds))
    return plans


def _results(cells: Sequence[Cell], label: str, request: StudyRequest, done: Done) -> dict[Cell, CellResult]:
    """Of every cell, measured where it does not lie in the folder of that label already."""
    folder = request.out / label
    found = {cell: result for cell in cells if (result := recall(cell, folder)) is not None}
    pending = [] if request.measured_only else [cell for cell in cells if cell not in found]
    with progress(label, len(cells)) as advance:
        for cell, result in _measure(pending, folder, request):
            found[cell] = result
            advance(len(found), cell.name)
            done(result)
    return found


def _check(request: StudyRequest) -> None:
    for method in request.methods:
        if method not in DESCRIPTIONS:
            raise ConfigError("no such method", where="methods", expected=", ".join(DESCRIPTIONS), got=method)
    for width in request.activation_bits:
        if width not in CELLS:
            raise ConfigError(
                "no such width of activations",
                where="activation_bits",
                expected=", ".join(map(str, ACTIVATION_BITS)),
                got=width,
            )
    for bits in request.bits:
        if not 2 <= bits <= 32:
            raise ConfigError("no such width of weights", where="bits", expected="2 to 32", got=bits)
    if request.episodes == 1 or request.episodes < 0:
        raise ConfigError(
            "too few episodes for a statistic",
            where="episodes",
            expected="2 or more, or 0 for as many as the test needs",
            got=request.episodes,
        )
    if request.most_episodes < LEAST_EPISODES:
        raise ConfigError(
            "too few episodes for a test",
            where="most_episodes",
            expected=f"{LEAST_EPISODES} or more",
            got=request.most_episodes,
        )
    if request.margin_share <= 0:
        raise ConfigError(
            "no margin for the equivalence test", where="margin_share", expected="above 0", got=request.margin_share
        )


def _agents(request: StudyRequest, say: Say) -> list[StudyAgent]:
    place = request.out / "agents"
    if request.agents is not None:
        return find_agents(request.agents, place, request.environments, request.algorithms, say)
    if request.recipes:
        return recipe_agents(request.recipes, place, say)
    return trained_agents(place, request.environments, request.algorithms, request.seeds, say)


def _cells(agent: StudyAgent, request: StudyRequest, width: int, episodes: int, say: Say) -> list[Cell]:
    """Those of one width of activations; those without quantized activations belong to 8 bits.

    Integers that follow an agent are trained here, where they are not there yet.
    """
    methods = [method for method in request.methods if method not in UNQUANTIZED and width in request.activation_bits]
    if width == 8:
        methods = [FLOAT, *(method for method in request.methods if method in UNQUANTIZED[1:]), *methods]
    more = width, episodes, request.first_seed
    found = []
    for method in methods:
        for bits in widths(method, request.bits):
            artifact = agent.artifact if method != OWN_STATES else _followed(agent, request, bits, width, say)
            if artifact is not None:
                found.append(Cell(agent.name, str(artifact.resolve()), method, bits, *more))
    return found


def _followed(agent: StudyAgent, request: StudyRequest, bits: int, width: int, say: Say) -> Path | None:
    """Integers that follow an agent; None where they are not there, and nothing is to be measured."""
    place = following_place(agent, bits, width, request.out / "agents")
    if request.measured_only:
        return place if place.is_dir() else None
    return following(agent, bits, width, request.follow_steps, place, say)


def _named(result: CellResult, width: int) -> CellResult:
    """The result under the name that its method has in tables."""
    return result if width == 8 else dataclasses.replace(result, method=f"{result.method}{ACTIVATIONS}{width}")


def _measure(cells: list[Cell], folder: Path, request: StudyRequest) -> Iterator[tuple[Cell, CellResult]]:
    """Each cell and its result, in the order in which they end."""
    if request.ray and cells:
        yield from _on_ray(cells, folder, request.ray)
    elif request.workers == 1 or len(cells) < 2:
        yield from ((cell, measured(cell, folder)) for cell in cells)
    else:
        # Spawned, for a process that has used torch or BLAS threads does not fork safely.
        with ProcessPoolExecutor(request.workers, mp_context=get_context("spawn")) as pool:
            running = {pool.submit(measured, cell, folder): cell for cell in cells}
            for future in as_completed(running):
                yield running[future], future.result()


def _on_ray(cells: list[Cell], folder: Path, address: str) -> Iterator[tuple[Cell, CellResult]]:
    """The cells on a Ray cluster, which must see the same folders."""
    try:
        import ray
    except ImportError as error:
        raise ToolError("Ray is not installed", got=error, cure=pip_install("[ray]")) from error
    ray.init(address=address, include_dashboard=False, log_to_driver=False)
    try:
        remote: Any = ray.remote(measured)
        running = {remote.remote(cell, folder.resolve()): cell for cell in cells}
        while running:
            ended, _ = ray.wait(list(running), num_returns=1)
            for reference in ended:
                yield running.pop(reference), ray.get(reference)
    finally:
        ray.shutdown()
