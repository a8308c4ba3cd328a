"""``layers.html``: one page with every operator's ranges, histograms and noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from policyport.core import page
from policyport.core.page import Figure, Tile
from policyport.quantize.activation import Activation
from policyport.quantize.calibrate import Statistics
from policyport.quantize.integer_nodes import QuantizedLayer, QuantizedNode
from policyport.quantize.layer_plots import activation_plot, front_plot, weights_plot
from policyport.quantize.layers import Row
from policyport.quantize.network import QuantizedNetwork
from policyport.quantize.widths import Chosen

TEMPLATE = Path(__file__).with_name("layers.html.j2")


FRONT = "What each budget would buy: the choices of least expected noise for their cost; the ring is the one taken."


@dataclass(frozen=True)
class Operator:
    """What the page shows of one operator."""

    place: int
    row: Row
    shape: str
    outside: float
    """Share of the observed values that the range cuts off."""

    figures: tuple[Figure, ...]


def write_page(
    path: Path,
    network: QuantizedNetwork,
    rows: Sequence[Row],
    statistics: Mapping[str, Statistics],
    figures: Mapping[str, Any],
    chosen: Chosen | None = None,
) -> None:
    """Write the page.

    :param rows: of :func:`policyport.quantize.layers.layer_rows`
    :param statistics: of every tensor of the float network, on held-out observations
    :param figures: of the artifact's manifest
    :param chosen: how widths were chosen within a budget
    """
    operators = [
        _operator(place, node, row, statistics)
        for place, (node, row) in enumerate(zip(network.nodes, rows, strict=True), start=1)
    ]
    values = {
        "title": f"{network.name}, layer by layer",
        "observations": figures["held_out"],
        "tiles": _tiles(network, figures),
        "operators": operators,
        "fronts": [] if chosen is None else [Figure(front_plot(chosen), FRONT)],
    }
    path.write_text(page.render(TEMPLATE, values, {"number": "{:,}".format}), encoding="utf-8")


def _tiles(network: QuantizedNetwork, figures: Mapping[str, Any]) -> list[Tile]:
    widths = sorted({layer.weight_bits for layer in network.layers})
    activations = sorted({activation.bits for activation in network.activations.values()})
    shrunk = figures["float_bytes"] / figures["weight_bytes"]
    tiles = [
        Tile(_bits(widths), "Weights", f"{figures['weight_bytes']:,} B, {shrunk:.1f} times smaller than float32"),
        Tile(_bits(activations), "Activations", f"{len(network.nodes)} operators, {len(network.layers)} with weights"),
        Tile(f"{figures['sqnr_db']:.1f} dB", "SQNR of the output", "against the float32 network"),
    ]
    if figures["action_agreement"] is not None:
        tiles.append(Tile(f"{100 * figures['action_agreement']:.2f} %", "Actions as float32", "share of equal actions"))
    if figures["action_error"] is not None:
        error = f"{100 * figures['action_error']:.2f} %"
        tiles.append(Tile(error, "Action error", "mean, as a share of the action range"))
    return tiles


def _bits(widths: Sequence[int]) -> str:
    return " and ".join(f"int{bits}" for bits in widths)


def _operator(place: int, node: QuantizedNode, row: Row, statistics: Mapping[str, Statistics]) -> Operator:
    from markupsafe import Markup

    shown = node.before if isinstance(node, QuantizedLayer) else node.output
    sample = statistics[shown.name].sample
    figures = [Figure(Markup(activation_plot(place, shown, sample)), _caption(node, shown))]
    if isinstance(node, QuantizedLayer):
        channels = "one scale" if len(np.unique(node.weight_scale)) == 1 else "a scale for each output channel"
        caption = f"Weights before rounding, int{node.weight_bits}, {channels}"
        figures.insert(0, Figure(Markup(weights_plot(place, node)), caption))
    (low, high), step, seen = node.output.range, node.output.scale / 2, statistics[node.name].sample
    outside = float(np.mean((seen < low - step) | (seen > high + step)))
    return Operator(place, row, " x ".join(map(str, node.output.shape)), outside, tuple(figures))


def _caption(node: QuantizedNode, shown: Activation) -> str:
    where = "before the function's table" if shown.name != node.name else "of the output"
    return f"Values {where}, int{shown.bits}, scale {shown.scale:.4g}, zero point {shown.zero_point}"
