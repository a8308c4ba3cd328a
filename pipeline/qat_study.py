"""``policyport study qat``: policies trained by integers, against those made integers afterwards.

Each recipe's policy is trained in float32, then anew for every width and quantization delay with the integers in the
loop, as in QuaRL's sweep of the delay (Krishnan et al., arXiv 1910.01055). All play the same seeds, by what a board
would compute. A training and a measured cell are one folder and one file each, so that an interrupted study goes on.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from policyport.core import page
from policyport.core.drawing import BOARD, FLOAT, INK, MUTED, drawing
from policyport.core.errors import ConfigError
from policyport.core.page import Figure
from policyport.core.task import Task
from policyport.hil.margin import FRESH_SEEDS, RANDOM_EPISODES, of_span, random_returns, recorded_returns
from policyport.hil.statistics import Equivalence, equivalence
from policyport.pipeline.quarl_cell import Cell, measured
from policyport.pipeline.quarl_methods import FLOAT as EXACT
from policyport.pipeline.quarl_methods import TRAINED
from policyport.pipeline.recipe import read_recipe
from policyport.pipeline.run import Say, run_stage
from policyport.pipeline.stages import stage_named
from policyport.quantize.config import WEIGHT_BITS

RECIPES = (Path("recipes/cartpole.toml"), Path("recipes/pendulum.toml"))
FIRST_SEED = 10_000
"""Episode i is reset with this seed plus i."""

MARGIN_SHARE = 5.0
"""Equivalence margin, in % of the span from random actions' mean return to float32's."""

AFTERWARDS = ("lattice", "qat")
"""Methods of the quarl study that make the float policy's integers: integer least squares, then distillation too."""

NAMES = {EXACT: "float32", "lattice": "integer least squares", "qat": "distilled", TRAINED: "in the loop"}

TEMPLATE = Path(__file__).with_name("qat_study.html.j2")


@dataclass(frozen=True)
class QatRequest:
    """What to study."""

    out: Path
    recipes: tuple[Path, ...] = RECIPES
    bits: tuple[int, ...] = WEIGHT_BITS
    delays: tuple[float, ...] = (0.5,)
    """Shares of the training that are float32."""

    activation_bits: int = 8
    """Of hidden layers; observations and outputs have 8 where these have fewer, and as many where not."""

    input_bits: int | None = None
    """Of observations, where they have another width."""

    episodes: int = 50
    seed: int = 0
    """Of the trainings."""


@dataclass(frozen=True)
class QatRow:
    """One policy as integers, or as float32."""

    policy: str
    method: str
    bits: int
    delay: float | None
    """In the loop alone."""

    steps: int
    """Environment steps of its training."""

    mean: float
    error: float
    """Standard error of the mean."""

    against: Equivalence
    """float32."""


Said = Callable[[QatRow], None]


def study_qat(request: QatRequest, say: Say, said: Said) -> list[QatRow]:
    """Train and measure, row by row.

    :param say: is told of the trainings
    :param said: is told of each row
    :raises ConfigError: no such width or delay, or too few episodes
    """
    _check(request)
    rows = []
    for recipe in request.recipes:
        float_folder = _trained(recipe, request, say)
        exact = _returns(float_folder, EXACT, 32, request)
        margin = margin_of(float_folder)
        plan: list[tuple[str, int, float | None]] = [(EXACT, 32, None)]
        plan += [(method, bits, None) for method in AFTERWARDS for bits in request.bits]
        plan += [(TRAINED, bits, delay) for bits in request.bits for delay in request.delays]
        for method, bits, delay in plan:
            folder = float_folder if delay is None else _trained(recipe, request, say, bits, delay)
            returns = _returns(folder, method, bits, request)
            steps = int(json.loads((folder / "manifest.json").read_text())["figures"]["steps"])
            error = float(returns.std(ddof=1)) / len(returns) ** 0.5
            against = equivalence(returns, exact, margin)
            rows.append(QatRow(recipe.stem, method, bits, delay, steps, float(returns.mean()), error, against))
            said(rows[-1])
    return rows


def _check(request: QatRequest) -> None:
    for bits in request.bits:
        if bits not in WEIGHT_BITS:
            raise ConfigError("no such width of weights", where="bits", expected="8, 4, 3 or 2", got=bits)
    for delay in request.delays:
        if not 0.0 <= delay <= 1.0:
            raise ConfigError("no such quantization delay", where="delays", expected="0 to 1", got=delay)
    if request.episodes < 2:
        raise ConfigError("too few episodes for a statistic", where="episodes", expected="2 or more")


def _trained(recipe: Path, request: QatRequest, say: Say, bits: int | None = None, delay: float = 0.5) -> Path:
    """The train artifact, made where it is not there yet."""
    width, end = request.activation_bits, max(8, request.activation_bits)
    widths = {"qat_activations": width, "qat_input": request.input_bits or end, "qat_output": end}
    qat = {} if bits is None else {"qat_weights": bits, **widths}
    config = dataclasses.replace(read_recipe(recipe).configs["train"], seed=request.seed, qat_delay=delay, **qat)
    few = "" if width >= 8 and request.input_bits is None else f"-{width}-{widths['qat_input']}"
    kind = "float32" if bits is None else f"{bits}-bits{few}-{delay:g}"
    name = f"{recipe.stem}-{kind}-seed{request.seed}"
    return run_stage(stage_named("train"), {}, {}, config, request.out / "agents" / name, say).path


def margin_of(folder: Path) -> float:
    """Of the equivalence test: a share of the span from random actions to the float policy's own evaluation.

    :param folder: the policy's train artifact
    """
    environment = Task.read(folder / "task.json").environment
    by_chance = random_returns(environment, FIRST_SEED + FRESH_SEEDS, RANDOM_EPISODES)
    return of_span(MARGIN_SHARE, by_chance, recorded_returns(folder / "returns.json"), "its own evaluation").value


def _returns(folder: Path, method: str, bits: int, request: QatRequest) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    widths = bits, request.activation_bits
    cell = Cell(folder.name, str(folder), method, *widths, request.episodes, FIRST_SEED, request.input_bits)
    return np.array(measured(cell, request.out / "cells").returns, np.float64)


def to_json(rows: Sequence[QatRow]) -> str:
    """Every figure."""
    return json.dumps({"schema": 1, "rows": [dataclasses.asdict(row) for row in rows]}, indent=1) + "\n"


def to_markdown(rows: Sequence[QatRow]) -> str:
    """Mean returns by policy and method, a column for each width."""
    head, *body = table(rows)
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def table(rows: Sequence[QatRow]) -> list[list[str]]:
    """The same as lines of cells; a star marks what is equivalent to float32."""
    widths = sorted({row.bits for row in rows if row.method != EXACT}, reverse=True)
    lines = [["policy", "method", "float32", *(f"{bits} bits" for bits in widths)]]
    exact = {row.policy: row for row in rows if row.method == EXACT}
    for key in dict.fromkeys((row.policy, row.method, row.delay) for row in rows if row.method != EXACT):
        found = {row.bits: row for row in rows if (row.policy, row.method, row.delay) == key}
        name = NAMES[key[1]] + ("" if key[2] is None else f", delay {key[2]:g}")
        cells = [shown(found[bits], marked=True) if bits in found else "" for bits in widths]
        lines.append([key[0], name, shown(exact[key[0]]), *cells])
    return lines


def shown(row: QatRow, *, marked: bool = False) -> str:
    """Mean and standard error."""
    return f"{row.mean:.1f} ± {row.error:.1f}" + ("*" if marked and row.against.equivalent else "")


def render_page(rows: Sequence[QatRow]) -> str:
    """The table and, for each policy, the return over the quantization delay."""
    policies = dict.fromkeys(row.policy for row in rows)
    figures = [Figure(_delay_plot(rows, policy), policy) for policy in policies]
    return page.render(TEMPLATE, {"title": "Policies trained by integers", "lines": table(rows), "figures": figures})


def _delay_plot(rows: Sequence[QatRow], policy: str) -> str:
    mine = [row for row in rows if row.policy == policy]

    def draw(plot: Any) -> None:
        plot.axhline(next(row.mean for row in mine if row.method == EXACT), color=MUTED, linewidth=1)
        styles = ((BOARD, "-o"), (FLOAT, "-s"), (INK, "--^"), (MUTED, ":d"))
        for (colour, line), bits in zip(
            styles, dict.fromkeys(r.bits for r in mine if r.method == TRAINED), strict=False
        ):
            loop = sorted((r for r in mine if r.method == TRAINED and r.bits == bits), key=lambda r: r.delay or 0.0)
            given = [r.delay for r in loop], [r.mean for r in loop], [r.error for r in loop]
            plot.errorbar(*given, fmt=line, color=colour, markersize=4, linewidth=1.2, label=f"{bits} bits")
        plot.set_xlabel("quantization delay, share of the training")
        plot.set_ylabel("return")
        plot.grid(axis="y")
        plot.legend(fontsize=8)

    return drawing(f"delay-{policy}", draw)
