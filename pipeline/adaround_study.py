"""``policyport study adaround``: the variants of AdaRound's paper on small networks, as tables.

Nagel et al. 2020 (2004.10568) compare roundings without data (table 1), relaxations (tables 3 and 5), what the
reconstruction looks at (table 4) and grids (table 6). Here the same is measured on scikit-learn's digits.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from policyport.core import page
from policyport.core.artifact import code_version
from policyport.core.drawing import BOARD, MUTED, drawing
from policyport.core.errors import ConfigError, ToolError
from policyport.core.install import pip_install
from policyport.core.page import Figure
from policyport.pipeline.cells import cell, kept
from policyport.quantize import rounding

if TYPE_CHECKING:
    from policyport.quantize.graph import FloatGraph
    from policyport.quantize.rounding.digits import Digits

NETWORKS = ("mlp", "resnet", "depthwise")
BITS = (4, 3, 2)

BY_CHANCE = "stochastic"
"""The variant that is drawn many times."""

TABLES: dict[str, dict[str, str]] = {
    "Rounding": {
        "to nearest": "nearest",
        "down": "floor",
        "up": "ceil",
        "by chance": BY_CHANCE,
        "straight-through": "straight-through",
        "AdaRound": "AdaRound, converged",
    },
    "Relaxation": {
        "sigmoid, its temperature annealed": "sigmoid with temperature",
        "sigmoid and regularizer": "sigmoid",
        "rectified sigmoid and regularizer": "AdaRound, converged",
    },
    "Reconstruction": {
        "layer-wise": "AdaRound, layer-wise",
        "asymmetric": "AdaRound, no activation",
        "asymmetric and activation function": "AdaRound, converged",
    },
    "Grid": {
        "nearest, min-max": "nearest, min-max grid",
        "nearest, least error of weights": "nearest",
        "nearest, least error of outputs": "nearest, output grid",
        "AdaRound, min-max": "AdaRound, min-max grid",
        "AdaRound, least error of weights": "AdaRound, converged",
        "AdaRound, least error of outputs": "AdaRound, output grid",
    },
}
"""For each of the paper's questions the answers, and how the benchmark's variants are called."""

TEMPLATE = Path(__file__).with_name("tables.html.j2")
CODE = Path(rounding.__path__[0])


@dataclass(frozen=True)
class AdaRoundRequest:
    """What to study."""

    out: Path
    networks: tuple[str, ...] = ("mlp",)
    bits: tuple[int, ...] = BITS
    seeds: tuple[int, ...] = (0,)
    samples: int = 100
    """Of rounding by chance, for each network."""

    iterations: int = 10_000
    """Of a layer, where rounding is learned."""

    epochs: int = 60
    """Of the networks' trainings."""

    measured_only: bool = False
    """Sum up those trainings whose every cell is there, and measure none."""


@dataclass(frozen=True)
class AdaRoundRow:
    """A variant on one network: one measurement, or as many as chance was asked for."""

    network: str
    bits: int
    seed: int
    variant: str
    sqnr_db: tuple[float, ...]
    """Of the logits on the test images."""

    accuracy: tuple[float, ...]
    """Percent of the test images."""


Said = Callable[[AdaRoundRow], None]


def study_adaround(request: AdaRoundRequest, said: Said) -> list[AdaRoundRow]:
    """Measure, cell by cell.

    :param said: is told of each row
    :raises ConfigError: no such network or width, no samples, or nothing measured that could be summed up
    :raises ToolError: torch or scikit-learn is missing
    """
    for what, given, known in (("network", request.networks, NETWORKS), ("width", request.bits, BITS)):
        wrong = [item for item in given if item not in known]
        if wrong:
            raise ConfigError(f"no such {what}", where="study", expected=", ".join(map(str, known)), got=wrong[0])
    if request.samples < 1:
        raise ConfigError("rounding by chance needs a sample", where="samples", expected="1 or more")
    rows: list[AdaRoundRow] = []
    for at in itertools.product(request.networks, request.bits, request.seeds):
        if request.measured_only and not all(kept(*_cell(request, *at, variant)) for variant in variants()):
            continue
        for variant in variants():
            rows.append(_row(request, *at, variant))
            said(rows[-1])
    if not rows:
        raise ConfigError("nothing is measured that could be summed up", where=request.out / "cells")
    return rows


def variants() -> tuple[str, ...]:
    """Every variant once."""
    return tuple(dict.fromkeys(variant for answers in TABLES.values() for variant in answers.values()))


def _row(request: AdaRoundRequest, network: str, bits: int, seed: int, variant: str) -> AdaRoundRow:
    folder, name, given = _cell(request, network, bits, seed, variant)
    result = cell(folder, name, given, lambda: _measure(given))
    return AdaRoundRow(network, bits, seed, variant, tuple(result["sqnr_db"]), tuple(result["accuracy"]))


def _cell(
    request: AdaRoundRequest, network: str, bits: int, seed: int, variant: str
) -> tuple[Path, str, dict[str, Any]]:
    """Folder and name of a cell's file, and what it depends on."""
    draws = request.samples if variant == BY_CHANCE else 1
    settings = {"iterations": request.iterations, "epochs": request.epochs, "draws": draws, "code": code_version(CODE)}
    given = {"network": network, "bits": bits, "seed": seed, "variant": variant, **settings}
    name = f"{network}-w{bits}-seed{seed}-{variant.replace(', ', '-').replace(' ', '-').lower()}"
    return request.out / "cells", name, given


def _measure(given: dict[str, Any]) -> dict[str, Any]:
    from policyport.quantize.rounding.study import measure

    network, seed = given["network"], given["seed"]
    graph, data = network_of(network, seed, given["epochs"])
    found = [
        measure(graph, data, network, given["variant"], given["bits"], seed + draw, given["iterations"])
        for draw in range(given["draws"])
    ]
    return {"sqnr_db": [row.sqnr_db for row in found], "accuracy": [row.accuracy for row in found]}


@functools.lru_cache(maxsize=1)
def network_of(network: str, seed: int, epochs: int) -> tuple[FloatGraph, Digits]:
    """A trained network as a float graph, and the data.

    :raises ToolError: torch or scikit-learn is missing
    """
    require_torch()
    from policyport.quantize.rounding.digits import graph_of, load_digits, trained

    data = load_digits()
    return graph_of(trained(network, data, seed, epochs)), data


def require_torch() -> None:
    """See that torch, for one thread, and scikit-learn are there.

    :raises ToolError: one is missing
    """
    try:
        import sklearn  # noqa: F401 -- only to see that it is there
        import torch
    except ImportError as error:
        raise ToolError("the study needs torch and scikit-learn", got=error, cure=pip_install("[bench]")) from error
    torch.set_num_threads(1)


def to_json(rows: Sequence[AdaRoundRow]) -> str:
    """Every figure."""
    return json.dumps({"schema": 1, "rows": [dataclasses.asdict(row) for row in rows]}, indent=1) + "\n"


def to_csv(rows: Sequence[AdaRoundRow]) -> str:
    """A line for each measurement."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("network", "bits", "seed", "variant", "draw", "sqnr_db", "accuracy"))
    for row in rows:
        for draw, (noise, accuracy) in enumerate(zip(row.sqnr_db, row.accuracy, strict=True)):
            writer.writerow((row.network, row.bits, row.seed, row.variant, draw, noise, accuracy))
    return stream.getvalue()


def tables(rows: Sequence[AdaRoundRow]) -> list[tuple[str, list[list[str]]]]:
    """The paper's tables: a line for each answer, a column for each network and width, dB and percent."""
    columns = list(dict.fromkeys((row.network, row.bits) for row in rows))
    found = []
    for question, answers in TABLES.items():
        lines = [[question, *(f"{network} w{bits}: dB, %" for network, bits in columns)]]
        for answer, variant in answers.items():
            mine = [_of(rows, at, variant) for at in columns]
            lines.append([answer, *map(_mean, mine)])
            if variant == BY_CHANCE:
                lines.append([f"best of {len(mine[0][0].sqnr_db)} by chance", *map(_best, mine)])
                nearest = [_of(rows, at, "nearest") for at in columns]
                lines.append(["of these better than nearest", *map(_share, mine, nearest)])
        found.append((question, lines))
    return found


def _of(rows: Sequence[AdaRoundRow], at: tuple[str, int], variant: str) -> list[AdaRoundRow]:
    return [row for row in rows if (row.network, row.bits, row.variant) == (*at, variant)]


def _mean(rows: Sequence[AdaRoundRow]) -> str:
    """Means over seeds and draws, and the deviation where there are several."""
    noise = np.concatenate([row.sqnr_db for row in rows])
    accuracy = np.concatenate([row.accuracy for row in rows])
    if len(noise) == 1:
        return f"{noise[0]:.1f}, {accuracy[0]:.1f}"
    return f"{noise.mean():.1f} ± {noise.std(ddof=1):.1f}, {accuracy.mean():.1f} ± {accuracy.std(ddof=1):.1f}"


def _best(rows: Sequence[AdaRoundRow]) -> str:
    """The best draw of each seed, their mean."""
    noise, accuracy = (np.mean([max(getattr(row, name)) for row in rows]) for name in ("sqnr_db", "accuracy"))
    return f"{noise:.1f}, {accuracy:.1f}"


def _share(rows: Sequence[AdaRoundRow], nearest: Sequence[AdaRoundRow]) -> str:
    pairs = list(zip(rows, nearest, strict=True))
    noise = np.mean(np.concatenate([np.greater(row.sqnr_db, other.sqnr_db[0]) for row, other in pairs]))
    accuracy = np.mean(np.concatenate([np.greater(row.accuracy, other.accuracy[0]) for row, other in pairs]))
    return f"{noise:.0%}, {accuracy:.0%}"


def to_markdown(rows: Sequence[AdaRoundRow]) -> str:
    """The tables of the documentation."""
    parts = []
    for _, (head, *body) in tables(rows):
        lines = [head, ["---"] * len(head), *body]
        parts.append("".join(f"| {' | '.join(line)} |\n" for line in lines))
    return "\n".join(parts) + f"\n{_note(rows)}\n"


def _note(rows: Sequence[AdaRoundRow]) -> str:
    seeds: dict[tuple[str, int], set[int]] = {}
    for row in rows:
        seeds.setdefault((row.network, row.bits), set()).add(row.seed)
    counts = {at: len(found) for at, found in seeds.items()}
    if len(set(counts.values())) == 1:
        count = next(iter(counts.values()))
        return f"Weights alone are rounded; {count} {'training' if count == 1 else 'trainings'} of each network."
    each = ", ".join(f"{network} w{bits} {count}" for (network, bits), count in counts.items())
    return f"Weights alone are rounded; trainings: {each}."


def render_page(rows: Sequence[AdaRoundRow]) -> str:
    """The tables and, for each network and width, every draw of chance beside nearest and AdaRound."""
    columns = dict.fromkeys((row.network, row.bits) for row in rows)
    figures = [Figure(_draws(rows, *at), f"{at[0]}, {at[1]} bits") for at in columns]
    title = "Up or down: the variants of AdaRound's paper"
    return page.render(TEMPLATE, {"title": title, "note": _note(rows), "tables": tables(rows), "figures": figures})


def _draws(rows: Sequence[AdaRoundRow], network: str, bits: int) -> str:
    mine = [row for row in rows if (row.network, row.bits) == (network, bits)]

    def draw(axes: Any) -> None:
        for row in mine:
            if row.variant == BY_CHANCE:
                axes.hist(row.sqnr_db, bins=20, color=MUTED, alpha=0.6)
        for variant, style in (("nearest", ":"), ("AdaRound, converged", "-")):
            noise = [row.sqnr_db[0] for row in mine if row.variant == variant]
            axes.axvline(float(np.mean(noise)), color=BOARD, linestyle=style, label=variant.split(",")[0])
        axes.set_xlabel("SQNR of the logits, dB; grey: rounded by chance")
        axes.set_ylabel("draws")
        axes.legend(fontsize=8)

    return drawing(f"draws-{network}-{bits}", draw)
