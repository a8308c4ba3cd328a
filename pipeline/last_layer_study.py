"""``policyport study last-layer``: how often solving the last layer anew raises what a quantized network is judged by.

The layers before it are quantized by one of the methods; then the last layer is solved on the features that their
integers yield (Moreau and Audiffren 2016, 1611.04499) and rounded like the others. Test images, which neither
calibration nor the solution saw, judge.
"""

from __future__ import annotations

import csv
import dataclasses
import io
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
from policyport.pipeline.adaround_study import BITS, NETWORKS, TEMPLATE, network_of
from policyport.pipeline.cells import cell, kept

if TYPE_CHECKING:
    from policyport.quantize.graph import FloatGraph
    from policyport.quantize.layer_data import LayerData, RoundedLayer, Rounding
    from policyport.quantize.network import QuantizedNetwork
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
    """Whether calibration's own held-out observations were better served, so that the product takes it."""

    accuracy_before: float
    """Percent of the test images."""

    accuracy_after: float
    """The same with the last layer solved anew, taken or not."""

    sqnr_db_before: float
    """Of the logits on the test images."""

    sqnr_db_after: float

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
    from policyport.quantize.new_head import post_trained
    from policyport.quantize.ptq import quantize_graph
    from policyport.quantize.rounding.methods import rounding
    from policyport.quantize.rounding.study import CALIBRATION
    from policyport.quantize.simulate import predict

    observations, config = data.train_images[:CALIBRATION], QuantizeConfig(weight_bits=bits)
    round_layer = _remembering(rounding(method, refit_bias=True))
    made: list[QuantizedNetwork] = []

    def quantized(of: FloatGraph) -> QuantizedNetwork:
        made.append(quantize_graph(of, observations, config, 8, round_layer))
        return made[-1]

    _, choice = post_trained(graph, quantized(graph), observations, quantized)
    exact = graph.evaluate(data.test_images)
    outputs = [predict(network, data.test_images) for network in made]
    accuracy = [100 * float(np.mean(got.argmax(axis=1) == data.test_labels)) for got in outputs]
    noise = [sqnr_db(exact, got) for got in outputs]
    return {
        "taken": choice.taken,
        "accuracy_before": accuracy[0],
        "accuracy_after": accuracy[1],
        "sqnr_db_before": noise[0],
        "sqnr_db_after": noise[1],
    }


def _remembering(round_layer: Rounding) -> Rounding:
    """The rounding, not asked twice for a layer that has not changed: all but the last."""
    known: dict[str, tuple[LayerData, RoundedLayer]] = {}

    def rounded(data: LayerData) -> RoundedLayer:
        before = known.get(data.node.name)
        if before is None or not _same(before[0], data):
            known[data.node.name] = data, round_layer(data)
        return known[data.node.name][1]

    return rounded


def _same(a: LayerData, b: LayerData) -> bool:
    pairs = ((a.node.weights, b.node.weights), (a.node.bias, b.node.bias), (a.q_input, b.q_input))
    return (a.source, a.before) == (b.source, b.before) and all(np.array_equal(x, y) for x, y in pairs)


HEADER = ("network", "layers before by", "weights", "trainings", "accuracy raised, same, lowered", "accuracy gained",
          "SQNR raised", "dB gained", "taken", "lowered where taken")  # fmt: skip


def table(rows: Sequence[LastLayerRow]) -> list[list[str]]:
    """A line for each network, method and width; then all of them."""
    groups: dict[tuple[str, str, int], list[LastLayerRow]] = {}
    for row in rows:
        groups.setdefault((row.network, row.method, row.bits), []).append(row)
    lines = [[network, method, f"w{bits}", *_words(group)] for (network, method, bits), group in groups.items()]
    return [list(HEADER), *lines, ["all", "", "", *_words(rows)]]


def _words(rows: Sequence[LastLayerRow]) -> list[str]:
    accuracy, noise = np.array([row.accuracy_gain for row in rows]), np.array([row.sqnr_db_gain for row in rows])
    taken = np.array([row.taken for row in rows])
    return [
        str(len(rows)),
        f"{np.sum(accuracy > 0)}, {np.sum(accuracy == 0)}, {np.sum(accuracy < 0)}",
        _range(accuracy),
        f"{np.sum(noise > 0)}",
        _range(noise),
        f"{np.sum(taken)}",
        f"{np.sum(accuracy[taken] < 0)}",
    ]


def _range(gains: np.ndarray[Any, np.dtype[np.float64]]) -> str:
    return f"{gains.mean():+.2f} ({gains.min():+.2f} to {gains.max():+.2f})"


def to_json(rows: Sequence[LastLayerRow]) -> str:
    """Every figure."""
    return json.dumps({"schema": 1, "rows": [dataclasses.asdict(row) for row in rows]}, indent=1) + "\n"


def to_csv(rows: Sequence[LastLayerRow]) -> str:
    """A line for each cell."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(dataclasses.asdict(rows[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(row) for row in rows)
    return stream.getvalue()


def to_markdown(rows: Sequence[LastLayerRow]) -> str:
    """The table of the documentation."""
    head, *body = table(rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, ["---"] * len(head), *body)) + f"\n{NOTE}\n"


NOTE = (
    "Gains are those of solving the last layer anew, taken or not: mean, least and most over trainings. Taken: where "
    "a fifth of the calibration images, held out, were better served. Int8 activations; test images judge."
)


def render_page(rows: Sequence[LastLayerRow]) -> str:
    """The table and, for each network, what was gained over what was there."""
    figures = [Figure(_gains(rows, name), name) for name in dict.fromkeys(row.network for row in rows)]
    title = "The last layer, solved anew on quantized features"
    given = {"title": title, "note": NOTE, "tables": [("By network, method and width", table(rows))]}
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
