"""Plots of the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from policyport.core.drawing import BOARD, FLOAT, MUTED, drawing


def returns_plot(first_seed: int, board: Sequence[float], float32: Sequence[float]) -> str:
    """Return of each seed, float32 as a ring and the board as a dot; a line joins the two of a seed."""

    def draw(axes: Any) -> None:
        seeds = range(first_seed, first_seed + len(board))
        axes.vlines(seeds, board, float32, color=MUTED, linewidth=1)
        axes.plot(
            seeds, float32, "o", markersize=8, color=FLOAT, fillstyle="none", markeredgewidth=1.4, label="float32"
        )
        axes.plot(seeds, board, "o", markersize=4, color=BOARD, markeredgewidth=0, label="board")
        low, high = min(*board, *float32), max(*board, *float32)
        margin = 0.12 * (high - low) or max(1.0, 0.05 * abs(high))
        axes.set_ylim(low - margin, high + margin)
        axes.set_xlabel("seed of the episode")
        axes.set_ylabel("return")
        _whole_numbers(axes.xaxis, pattern="{:.0f}")
        axes.grid(axis="y")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0, handletextpad=0.3)

    return drawing("returns", draw)


def delays_plot(steps: Sequence[int], means: Sequence[float], lows: Sequence[float], highs: Sequence[float]) -> str:
    """Mean return over how many steps late the actions come, with its interval."""

    def draw(axes: Any) -> None:
        axes.fill_between(steps, lows, highs, color=BOARD, alpha=0.18, linewidth=0)
        axes.plot(steps, means, "-o", color=BOARD, markersize=4, linewidth=1.4)
        axes.set_xlabel("steps that actions come late")
        axes.set_ylabel("mean return")
        _whole_numbers(axes.xaxis)
        axes.grid(axis="y")

    return drawing("delays", draw)


def recognition_plot(names: Sequence[str], board: Sequence[float | None], float32: Sequence[float | None]) -> str:
    """F1 of each label, float32 as a ring and the board as a dot."""

    def draw(axes: Any) -> None:
        places = range(len(names))
        shown = {"float32": (float32, FLOAT, "none", 8), "board": (board, BOARD, "full", 4)}
        for label, (values, colour, fill, size) in shown.items():
            known = [math.nan if value is None else value for value in values]
            axes.plot(
                known, places, "o", markersize=size, color=colour, fillstyle=fill, markeredgewidth=1.4, label=label
            )
        axes.set_yticks(places, names)
        axes.set_xlim(0, 1)
        axes.invert_yaxis()
        axes.set_xlabel("F1")
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="both")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0, handletextpad=0.3)

    return drawing("recognition", draw, height_in=0.85 + 0.24 * len(names))


def rates_plot(board: Sequence[tuple[float, float]], float32: Sequence[tuple[float, float]]) -> str:
    """Bits per pixel and PSNR by quality, float32 as rings and the board as dots."""

    def draw(axes: Any) -> None:
        axes.plot(*zip(*float32, strict=True), "o", markersize=8, color=FLOAT, fillstyle="none", label="float32")
        axes.plot(*zip(*board, strict=True), "-o", markersize=4, color=BOARD, linewidth=1, label="board")
        axes.set_xlim(left=0)
        axes.set_xlabel("bits per pixel")
        axes.set_ylabel("PSNR, dB")
        axes.grid()
        axes.legend(loc="lower right", handletextpad=0.3)

    return drawing("rates", draw)


def histogram_plot(counts: Sequence[int], unit: str) -> str:
    """How often an inference took so many instructions or cycles."""

    def draw(axes: Any) -> None:
        low, high = min(counts), max(counts)
        step = max(1, -(-(high - low + 1) // 32))
        edges = [low - 0.5 + step * i for i in range((high - low) // step + 2)]
        axes.hist(counts, bins=edges, color=BOARD, rwidth=0.9)
        if high - low < 8:
            axes.set_xlim(low - 6, high + 6)
        axes.set_xlabel(f"{unit} per inference")
        axes.set_ylabel("observations")
        _whole_numbers(axes.xaxis, 6)
        _whole_numbers(axes.yaxis)
        axes.grid(axis="y")

    return drawing("histogram", draw)


def share_plot(names: Sequence[str], counts: Sequence[int], unit: str) -> str:
    """Instructions or cycles of each layer, as bars from the first layer down."""
    total = sum(counts) or 1
    labels = [f"{count:,} ({round(count / total, 3) + 0.0:.1%})" for count in counts]
    return _bars("shares", names, counts, labels, unit)


def sqnr_plot(names: Sequence[str], sqnr_db: Sequence[float], widths: Sequence[str]) -> str:
    """Signal to quantization noise of each layer's output, with its widths."""
    labels = [f"{value:.1f} dB  {width}" for value, width in zip(sqnr_db, widths, strict=True)]
    return _bars("sqnr", names, sqnr_db, labels, "SQNR of the output, dB")


def curve_plot(steps: Sequence[float], values: Sequence[float], steps_label: str, values_label: str) -> str:
    """The evaluations during training."""

    def draw(axes: Any) -> None:
        axes.plot(steps, values, "-o", color=FLOAT, markersize=4, linewidth=1.4)
        axes.set_xlim(left=0)
        axes.set_xlabel(steps_label)
        axes.set_ylabel(values_label)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.locator_params(axis="x", nbins=6)
        axes.grid(axis="y")

    return drawing("curve", draw)


def _bars(name: str, names: Sequence[str], values: Sequence[float], labels: Sequence[str], xlabel: str) -> str:
    def draw(axes: Any) -> None:
        places = range(len(names))
        axes.barh(places, values, height=0.62, color=BOARD)
        reach = max(max(values), 1)
        for place, value, label in zip(places, values, labels, strict=True):
            axes.text(max(value, 0) + 0.015 * reach, place, label, va="center", ha="left", fontsize=9)
        axes.set_yticks(places, names)
        axes.set_xlim(min(0, *values), 1.5 * reach)
        axes.invert_yaxis()
        axes.set_xlabel(xlabel)
        axes.locator_params(axis="x", nbins=5)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")

    return drawing(name, draw, height_in=0.85 + 0.32 * len(names))


def _whole_numbers(axis: Any, bins: int = 7, pattern: str = "{:,.0f}") -> None:
    """Ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=bins, integer=True))
    axis.set_major_formatter(lambda value, _: pattern.format(value))
