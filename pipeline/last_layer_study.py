"""``policyport study last-layer``: how often solving the last layer anew raises what a quantized network is judged by.

A network is quantized by one of the methods; then its last layer is solved on the features that the integers before it
yield (Moreau and Audiffren 2016, 1611.04499), and rounded. Test images, which neither calibration nor the solution saw,
judge: by the exact McNemar test on those that only one of both networks classifies right.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from policyport import quantize
from policyport.core import page
from policyport.core.artifact import code_version
from policyport.core.drawing import BOARD, MUTED, drawing
from policyport.core.errors import ConfigError
from policyport.core.page import Figure
from policyport.core.paired import ALPHA, holm, mcnemar
from policyport.core.task import Environment, Task
from policyport.pipeline import study_files
from policyport.pipeline.adaround_study import BITS, NETWORKS, TEMPLATE, network_of
from policyport.pipeline.cells import cell, kept

if TYPE_CHECKING:
    from policyport.quantize.graph import FloatGraph
    from policyport.quantize.rounding.digits import Digits
    from policyport.quantize.rounding.methods import Method

METHODS = ("nearest", "gptq", "lattice")
CODE = Path(quantize.__path__[0])


@dataclass(frozen=True)
class LastLayerRequest:
    """What to study."""

    out: Path
    networks: tuple[str, ...] = NETWORKS
    methods: tuple[str, ...] = METHODS
    bits: tuple[int, ...] = BITS
    seeds: tuple[int, ...] = (0,)
    epochs: int = 60
    """Of the networks' trainings."""

    measured_only: bool = False
    """Sum up the cells that are there, and measure none."""


@dataclass(frozen=True)
class LastLayerRow:
    """One network by one method, before and behind the solution."""

    network: str
    method: str
    bits: int
    seed: int
    taken: bool
    """Whether the product takes it, by calibration's observations alone."""

    accuracy_before: float
    """Percent of the test images."""

    accuracy_after: float
    """The same with the last layer solved anew, taken or not."""

    sqnr_db_before: float
    """Of the logits on the test images."""

    sqnr_db_after: float
    gained: int
    """Test images that are classified right with the layer solved anew alone."""

    lost: int
    """Those that were classified right before, and are not with it."""

    @property
    def p_value(self) -> float:
        """How likely chance alone is as uneven: the exact McNemar test."""
        return mcnemar(self.gained, self.lost)

    @property
    def accuracy_gain(self) -> float:
        """Points of accuracy, taken or not."""
        return self.accuracy_after - self.accuracy_before

    @property
    def sqnr_db_gain(self) -> float:
        """dB, taken or not."""
        return self.sqnr_db_after - self.sqnr_db_before


Said = Callable[[LastLayerRow], None]


def study_last_layer(request: LastLayerRequest, said: Said) -> list[LastLayerRow]:
    """Measure, cell by cell.

    :param said: is told of each row
    :raises ConfigError: no such network, method or width, or nothing measured that could be summed up
    :raises ToolError: torch or scikit-learn is missing
    """
    asked = (
        ("network", request.networks, NETWORKS),
        ("method", request.methods, METHODS),
        ("width", request.bits, BITS),
    )
    for what, given, known in asked:
        wrong = [item for item in given if item not in known]
        if wrong:
            raise ConfigError(f"no such {what}", where="study", expected=", ".join(map(str, known)), got=wrong[0])
    rows: list[LastLayerRow] = []
    for network, seed, method, bits in itertools.product(
        request.networks, request.seeds, request.methods, request.bits
    ):
        found = _row(request, network, method, bits, seed)
        if found is not None:
            rows.append(found)
            said(found)
    if not rows:
        raise ConfigError("nothing is measured that could be summed up", where=request.out / "cells")
    return rows


def _row(request: LastLayerRequest, network: str, method: str, bits: int, seed: int) -> LastLayerRow | None:
    """One cell; None where it is not there and none is to be measured."""
    of = {"network": network, "method": method, "bits": bits, "seed": seed}
    given = {**of, "epochs": request.epochs, "code": code_version(CODE)}
    folder, name = request.out / "cells", f"{network}-{method}-w{bits}-seed{seed}"

    def measure() -> dict[str, Any]:
        return _measured(*network_of(network, seed, request.epochs), cast(Any, method), bits)

    result = kept(folder, name, given) if request.measured_only else cell(folder, name, given, measure)
    return None if result is None else LastLayerRow(network, method, bits, seed, **result)


def _measured(graph: FloatGraph, data: Digits, method: Method, bits: int) -> dict[str, Any]:
    """A network of int8 activations by a method, then with its last layer solved anew."""
    from policyport.quantize.config import QuantizeConfig
    from policyport.quantize.metrics import sqnr_db
    from policyport.quantize.new_head import post_trained, with_new_head
    from policyport.quantize.ptq import quantize_graph
    from policyport.quantize.rounding.methods import rounding
    from policyport.quantize.rounding.study import CALIBRATION
    from policyport.quantize.simulate import predict

    observations, config = data.train_images[:CALIBRATION], QuantizeConfig(weight_bits=bits)
    network = quantize_graph(graph, observations, config, 8, rounding(method, refit_bias=True))
    made, choice = post_trained(graph, network, observations, _task(graph), config)
    anew = made if choice.taken else with_new_head(graph, network, observations, config)
    exact = graph.evaluate(data.test_images)
    outputs = [predict(each, data.test_images) for each in (network, anew)]
    before, after = (got.argmax(axis=1) == data.test_labels for got in outputs)
    noise = [sqnr_db(exact, got) for got in outputs]
    return {
        "taken": choice.taken,
        "accuracy_before": 100 * float(np.mean(before)),
        "accuracy_after": 100 * float(np.mean(after)),
        "sqnr_db_before": noise[0],
        "sqnr_db_after": noise[1],
        "gained": int(np.sum(after & ~before)),
        "lost": int(np.sum(before & ~after)),
    }


def _task(graph: FloatGraph) -> Task:
    """The largest of the outputs is the class."""
    n = graph.input_size
    return Task("classifier", graph.name, Environment(""), n, (0.0,) * n, (1.0,) * n, graph.output_size, "argmax")


HEADER = ("network", "layers before by", "weights", "trainings", "accuracy, % before", "points gained", "dB before",
          "dB gained", "taken", "of these accuracy raised, same, lowered", "beyond noise: raised, lowered")  # fmt: skip


def table(rows: Sequence[LastLayerRow]) -> list[list[str]]:
    """A line for each network, method and width; then all of them."""
    beyond = verdicts(rows)
    groups: dict[tuple[str, str, int], list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault((row.network, row.method, row.bits), []).append(index)
    lines = [
        [network, method, f"w{bits}", *_words([rows[i] for i in chosen], [beyond[i] for i in chosen])]
        for (network, method, bits), chosen in groups.items()
    ]
    return [list(HEADER), *lines, ["all", "", "", *_words(rows, beyond)]]


def verdicts(rows: Sequence[LastLayerRow]) -> list[str]:
    """Of each row ``raised`` or ``lowered`` where taking it changed the accuracy beyond noise, else empty.

    At 5 % by the exact McNemar test, the p values of all that are taken corrected by Holm's procedure.
    """
    taken = [index for index, row in enumerate(rows) if row.taken]
    found = [""] * len(rows)
    for index, p in zip(taken, holm([rows[index].p_value for index in taken]), strict=True):
        if p < ALPHA:
            found[index] = "raised" if rows[index].gained > rows[index].lost else "lowered"
    return found


def _words(rows: Sequence[LastLayerRow], beyond: Sequence[str]) -> list[str]:
    taken = [row.gained - row.lost for row in rows if row.taken]
    return [
        str(len(rows)),
        f"{np.mean([row.accuracy_before for row in rows]):.1f}",
        gains_in_words([row.accuracy_gain for row in rows]),
        f"{np.mean([row.sqnr_db_before for row in rows]):.1f}",
        gains_in_words([row.sqnr_db_gain for row in rows]),
        str(len(taken)),
        ", ".join(str(sum(np.sign(gain) == sign for gain in taken)) for sign in (1, 0, -1)),
        f"{beyond.count('raised')}, {beyond.count('lowered')}",
    ]


def gains_in_words(gains: Sequence[float]) -> str:
    """Mean, least and most, to a tenth."""
    mean, least, most = (round(float(value), 1) + 0.0 for value in (np.mean(gains), min(gains), max(gains)))
    return f"{mean:+.1f} ({least:+.1f} to {most:+.1f})"


def to_json(rows: Sequence[LastLayerRow]) -> str:
    """Every figure."""
    return json.dumps({"schema": 2, "rows": _records(rows)}, indent=1) + "\n"


def to_csv(rows: Sequence[LastLayerRow]) -> str:
    """A line for each cell."""
    return study_files.to_csv(_records(rows))


def _records(rows: Sequence[LastLayerRow]) -> list[dict[str, Any]]:
    found = zip(rows, verdicts(rows), strict=True)
    return [{**dataclasses.asdict(row), "p_value": row.p_value, "beyond_noise": verdict} for row, verdict in found]


def to_markdown(rows: Sequence[LastLayerRow]) -> str:
    """The table of the documentation."""
    head, *body = table(rows)
    lines = "".join(f"| {' | '.join(line)} |\n" for line in (head, ["---"] * len(head), *body))
    return f"{lines}\n{note(rows)}\n"


def note(rows: Sequence[LastLayerRow]) -> str:
    """What the table's columns are, and what the tests found without the correction."""
    taken = [row for row in rows if row.taken]
    alone = [row for row in taken if row.p_value < ALPHA]
    raised = sum(row.gained > row.lost for row in alone)
    return (
        "Gains are those of solving the last layer anew, taken or not: mean, least and most over trainings. Int8 "
        "activations; test images judge. Beyond noise: exact McNemar test at 5 %, corrected for the "
        f"{len(taken)} that are taken by Holm's procedure. Each test for itself, of which {ALPHA / 2 * len(taken):.1f} "
        f"would say lowered by chance, says raised of {raised} and lowered of {len(alone) - raised}."
    )


def render_page(rows: Sequence[LastLayerRow]) -> str:
    """The table and, for each network, what was gained over what was there."""
    figures = [Figure(_gains(rows, name), name) for name in dict.fromkeys(row.network for row in rows)]
    title = "The last layer, solved anew on quantized features"
    given = {"title": title, "note": note(rows), "tables": [("By network, method and width", table(rows))]}
    return page.render(TEMPLATE, {**given, "figures": figures})


def _gains(rows: Sequence[LastLayerRow], network: str) -> str:
    mine = [row for row in rows if row.network == network]

    def draw(axes: Any) -> None:
        axes.axhline(0, color=MUTED, linewidth=1)
        for taken, colour in ((True, BOARD), (False, MUTED)):
            chosen = [row for row in mine if row.taken == taken]
            places = [row.sqnr_db_before for row in chosen], [row.sqnr_db_gain for row in chosen]
            axes.scatter(*places, color=colour, s=14, label="taken" if taken else "not taken")
        axes.set_xlabel("SQNR before, dB")
        axes.set_ylabel("dB gained")
        axes.grid(axis="y")
        axes.legend(fontsize=8)

    return drawing(f"gains-{network}", draw)
