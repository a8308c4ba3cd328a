"""Histograms of a layer's weights and activations with the ranges chosen for them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.drawing import BOARD, FLOAT, LINE, drawing
from policyport.core.semantics import weight_range
from policyport.quantize.activation import Activation
from policyport.quantize.integer_nodes import QuantizedLayer
from policyport.quantize.widths import Chosen
from policyport.quantize.widths_file import UNITS

BINS = 80

HEIGHT_IN = 1.9


def weights_plot(place: int, layer: QuantizedLayer) -> str:
    """The weights before rounding; the ends that the narrowest and the widest output channel can hold.

    :param place: number of the operator, which makes the drawing's ids its own on a page
    """
    low, high = (bound * layer.weight_scale.astype(np.float64) for bound in weight_range(layer.weight_bits))
    ends = sorted({float(low.min()), float(low.max()), float(high.min()), float(high.max())})
    return _histogram(f"weights{place}", layer.node.weights, ends, "weight")


def activation_plot(place: int, activation: Activation, sample: NDArray[np.floating[Any]]) -> str:
    """What was observed of a tensor, float32, and the ends of what its integers can hold."""
    return _histogram(f"activation{place}", sample, list(activation.range), "value")


def front_plot(chosen: Chosen) -> str:
    """Expected noise over what is spent, and where the choice lies."""

    def draw(axes: Any) -> None:
        spent = [getattr(point.cost, chosen.resource) for point in chosen.front]
        axes.plot(spent, [chosen.predicted_db(point) for point in chosen.front], "-o", color=FLOAT, markersize=4)
        here = getattr(chosen.allocation.cost, chosen.resource), chosen.predicted_db(chosen.allocation)
        axes.plot(*here, "o", color=BOARD, markersize=9, fillstyle="none", markeredgewidth=1.6)
        axes.set_xlabel(UNITS[chosen.resource])
        axes.set_ylabel("expected SQNR, dB")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.locator_params(axis="x", nbins=5)
        axes.grid(axis="y")

    return drawing("front", draw)


def _histogram(name: str, values: NDArray[Any], ends: list[float], label: str) -> str:
    def draw(axes: Any) -> None:
        low, high = min(float(values.min()), *ends), max(float(values.max()), *ends)
        if high <= low:
            low, high = low - 1.0, high + 1.0
        counts, edges = np.histogram(values, BINS, (low, high))
        axes.stairs(counts, edges, fill=True, color=BOARD)
        axes.vlines(ends, 0, 1, transform=axes.get_xaxis_transform(), color=FLOAT, linewidth=1.2)
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylim(bottom=0)
        axes.set_xlim(low - 0.03 * (high - low), high + 0.03 * (high - low))
        axes.set_xlabel(label)
        axes.set_ylabel("count")
        axes.locator_params(axis="x", nbins=6)
        axes.yaxis.get_major_locator().set_params(numticks=4)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.grid(axis="y", color=LINE)

    return drawing(name, draw, height_in=HEIGHT_IN)
