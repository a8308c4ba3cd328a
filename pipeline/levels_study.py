"""``policyport study levels``: networks of few levels, by the width of weights and activations, and of the input.

Kresse and Lampert, "Learning Quantized Continuous Controllers for Integer Hardware" (arXiv 2511.07046), train policies
whose weights and internal activations have 3 or 2 bits, where the precision of the input is chosen with care. Here
weights and hidden activations have the same few bits, the input each of several widths, and outputs 16 bits. Policies
play the same seeds, and networks on scikit-learn's digits are judged on the same images, by what a board would compute.
A cell is one file, so that an interrupted study goes on.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from policyport.core.errors import ConfigError
from policyport.core.page import Figure
from policyport.hil.statistics import Equivalence, equivalence
from policyport.pipeline import study_files
from policyport.pipeline.levels_digits import NETWORKS, right_images
from policyport.pipeline.qat_study import FIRST_SEED, margin_of
from policyport.pipeline.quarl_agents import StudyAgent, find_agents, following, following_place, trained_agents
from policyport.pipeline.quarl_cell import Cell, measured, recall
from policyport.pipeline.quarl_methods import FLOAT, OWN_STATES
from policyport.pipeline.run import Say
from policyport.quantize.config import ACTIVATION_BITS, WEIGHT_BITS

POINTS = 1.0
"""Margin of the equivalence test of networks, in points of accuracy."""

NAMES = {
    "lattice": "integer least squares",
    "qat": "trained by integers (LSQ)",
    OWN_STATES: "follows float32 on its own states",
}
"""Method to what a table calls it."""


@dataclass(frozen=True)
class LevelsRequest:
    """What to study."""

    out: Path
    networks: tuple[str, ...] = ()
    """On the digits; with some of them, policies only where something is said of these."""

    agents: Path | None = None
    """Folder of zips; none trains small agents."""

    environments: tuple[str, ...] = ()
    algorithms: tuple[str, ...] = ()
    bits: tuple[int, ...] = (4, 3, 2)
    """Of weights and of hidden activations."""

    input_bits: tuple[int, ...] = (16, 8, 4, 2)
    methods: tuple[str, ...] = ("lattice", "qat")
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the trainings of small agents and networks."""

    episodes: int = 50
    """Of each agent in each cell."""

    follow_steps: int = 20_000
    """Of the environment that integers play while they follow an agent."""

    measured_only: bool = False
    """Sum up what is there of every training, and measure nothing."""


@dataclass(frozen=True)
class LevelsRow:
    """A group that differs by its training alone, as integers of some widths, or as float32."""

    group: str
    method: str
    bits: int
    input_bits: int
    runs: int
    mean: float
    """Return of all episodes of all runs, or percent of the test images that they are right on."""

    error: float
    """Standard error of the mean over the runs, of one run over its episodes or images."""

    against: Equivalence
    """float32."""


Said = Callable[[LevelsRow], None]


def study_levels(request: LevelsRequest, say: Say, said: Said) -> list[LevelsRow]:
    """Quantize, play or judge, and sum up, row by row.

    :param say: is told of the agents
    :param said: is told of each row
    :raises ConfigError: no such network, width or method, or too few episodes
    """
    _check(request)
    rows = []
    for group in (*_networks(request), *_policies(request, say)):
        exact: Figures | None = None
        plan = [(FLOAT, 32, 16)]
        methods = [method for method in request.methods if method in group.methods]
        plan += [(method, bits, taken) for method in methods for bits in request.bits for taken in request.input_bits]
        for method, bits, taken in plan:
            found = [each for each in group.measure(method, bits, taken) if each is not None]
            if len(found) < group.runs:
                continue
            exact = np.concatenate(found) if method == FLOAT else exact
            if exact is None:
                break
            whole, means = np.concatenate(found), np.array([each.mean() for each in found])
            spread = means if len(means) > 1 else whole
            error = float(spread.std(ddof=1)) / len(spread) ** 0.5
            against = equivalence(whole, exact, group.margin)
            rows.append(LevelsRow(group.name, method, bits, taken, len(found), float(whole.mean()), error, against))
            said(rows[-1])
    return rows


Figures = np.ndarray[tuple[int], np.dtype[np.float64]]
"""Returns of episodes, or percent of test images."""


@dataclass(frozen=True)
class _Group:
    """What differs by its training alone."""

    name: str
    margin: float
    runs: int
    methods: tuple[str, ...]
    measure: Callable[[str, int, int], list[Figures | None]]
    """Of each training, from the method, the width of weights and activations, and that of the input."""


def _networks(request: LevelsRequest) -> Iterator[_Group]:
    methods = tuple(name for name in NAMES if name != OWN_STATES)
    for network in request.networks:

        def measure(method: str, bits: int, taken: int, network: str = network) -> list[Figures | None]:
            folder, only, widths = request.out / "cells", request.measured_only, (bits, taken)
            return [right_images(folder, network, seed, method, *widths, measured_only=only) for seed in request.seeds]

        yield _Group(f"digits {network}, accuracy in %", POINTS, len(request.seeds), methods, measure)


def _policies(request: LevelsRequest, say: Say) -> Iterator[_Group]:
    if request.networks and not (request.agents or request.environments or request.algorithms):
        return
    groups: dict[str, list[StudyAgent]] = {}
    for agent in _agents(request, say):
        groups.setdefault(agent.group, []).append(agent)
    for name, agents in groups.items():

        def measure(method: str, bits: int, taken: int, agents: Sequence[StudyAgent] = agents) -> list[Figures | None]:
            return [_returns(agent, method, bits, taken, request, say) for agent in agents]

        margin = float(np.mean([margin_of(agent.artifact) for agent in agents]))
        yield _Group(name, margin, len(agents), tuple(NAMES), measure)


def _check(request: LevelsRequest) -> None:
    asked = (
        ("network", "networks", request.networks, NETWORKS),
        ("method", "methods", request.methods, tuple(NAMES)),
        ("width of weights and activations", "bits", request.bits, WEIGHT_BITS),
        ("width of observations", "input_bits", request.input_bits, ACTIVATION_BITS),
    )
    for what, where, given, known in asked:
        for value in given:
            if value not in known:
                raise ConfigError(f"no such {what}", where=where, expected=", ".join(map(str, known)), got=value)
    if request.episodes < 2:
        raise ConfigError("too few episodes for a statistic", where="episodes", expected="2 or more")


def _agents(request: LevelsRequest, say: Say) -> list[StudyAgent]:
    place = request.out / "agents"
    if request.agents is not None:
        return find_agents(request.agents, place, request.environments, request.algorithms, say)
    return trained_agents(place, request.environments, request.algorithms, request.seeds, say)


def _returns(agent: StudyAgent, method: str, bits: int, taken: int, request: LevelsRequest, say: Say) -> Figures | None:
    """The returns of a cell; None where it is not there, and nothing is to be measured."""
    artifact, folder = agent.artifact, request.out / "cells"
    if method == OWN_STATES:
        artifact = following_place(agent, bits, bits, request.out / "agents", taken)
        if not request.measured_only:
            following(agent, bits, bits, request.follow_steps, artifact, say, taken)
        elif not artifact.is_dir():
            return None
    cell = Cell(agent.name, str(artifact.resolve()), method, bits, bits, request.episodes, FIRST_SEED, taken)
    result = recall(cell, folder) if request.measured_only else measured(cell, folder)
    return None if result is None else np.array(result.returns, np.float64)


def to_json(rows: Sequence[LevelsRow]) -> str:
    """Every figure."""
    return json.dumps({"schema": 1, "rows": [dataclasses.asdict(row) for row in rows]}, indent=1) + "\n"


def to_markdown(rows: Sequence[LevelsRow]) -> str:
    """Means by group, method and width, a column for each width of the input."""
    head, *body = table(rows)
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def table(rows: Sequence[LevelsRow]) -> list[list[str]]:
    """The same as lines of cells; a star marks what is equivalent to float32, a plus what is no worse."""
    taken = sorted({row.input_bits for row in rows if row.method != FLOAT}, reverse=True)
    lines = [["trainings", "weights / activations", "method", "float32", *(f"input {bits}" for bits in taken)]]
    exact = {row.group: row for row in rows if row.method == FLOAT}
    keys = dict.fromkeys((row.group, row.bits, row.method) for row in rows if row.method != FLOAT)
    for key in sorted(keys, key=lambda key: (list(exact).index(key[0]), -key[1])):
        found = {row.input_bits: row for row in rows if (row.group, row.bits, row.method) == key}
        cells = [shown(found[bits], marked=True) if bits in found else "" for bits in taken]
        agents = f"{exact[key[0]].runs} x {key[0]}"
        lines.append([agents, f"{key[1]} / {key[1]}", NAMES[key[2]], shown(exact[key[0]]), *cells])
    return lines


def shown(row: LevelsRow, *, marked: bool = False) -> str:
    """Mean and standard error."""
    mark = "*" if row.against.equivalent else "+" if row.against.no_worse else ""
    return f"{row.mean:.1f} ± {row.error:.1f}" + (mark if marked else "")


def to_csv(rows: Sequence[LevelsRow]) -> str:
    """A line for each row, with the difference from float32 and its interval."""
    records = []
    for row in rows:
        record = dataclasses.asdict(row)
        against = record.pop("against")
        records.append(record | {name: against[name] for name in ("difference", "low", "high", "equivalent")})
    return study_files.to_csv(records)


def render_page(rows: Sequence[LevelsRow]) -> str:
    """The table and, for each group, what is left over the width of the input."""
    groups = dict.fromkeys(row.group for row in rows)
    title = "Few levels, by the width of the input"
    figures = [Figure(_over_inputs(rows, group), group) for group in groups]
    return study_files.render(title, NOTE, [("By trainings, widths and method", table(rows))], figures)


NOTE = "A star: equivalent to float32; a plus: no worse. ± is the standard error over the trainings."


def _over_inputs(rows: Sequence[LevelsRow], group: str) -> str:
    mine = [row for row in rows if row.group == group and row.method != FLOAT]
    lines = []
    for bits, method in dict.fromkeys((row.bits, row.method) for row in mine):
        chosen = [row for row in mine if (row.bits, row.method) == (bits, method)]
        places, means = [row.input_bits for row in chosen], [row.mean for row in chosen]
        lines.append(study_files.Curve(f"{bits} / {bits}, {NAMES[method]}", places, means))
    return study_files.curves(f"levels-{group}", lines, ("bits of the input", "mean"), falling=True)
