"""The study of MLCR's losses as one self-contained page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from policyport.core import page
from policyport.core.drawing import BOARD, FLOAT, INK, MUTED, drawing
from policyport.core.page import Figure, Tile
from policyport.pipeline.au_study import HEADER, REGIMES, VARIANTS, AuRow, gain

TEMPLATE = Path(__file__).with_name("au_study.html.j2")
COLOURS = (INK, MUTED, BOARD, FLOAT)


def render_page(rows: Sequence[AuRow]) -> str:
    """The page as text."""
    regimes = [name for name in REGIMES if any(row.setting.regime == name for row in rows)]
    figures = [_gains(rows, regime) for regime in regimes]
    figures += [_curve(rows, "labelled", "persons with labels"), _curve(rows, "unlabelled", "persons without labels")]
    best = max(rows, key=lambda row: float(np.mean(row.f1)))
    variants = {row.setting.variant for row in rows}
    words = [(*row.words, _gain_words(row, rows)) for row in rows]
    values = {
        "title": "What each loss of multi-label co-regularization is worth",
        "seeds": max(len(row.f1) for row in rows),
        "tiles": [
            Tile(
                f"{np.mean(best.f1):.3f}",
                "highest mean F1",
                f"{best.setting.losses}, {best.setting.labelled} persons labelled",
            )
        ],
        "variants": [(name, text) for name, text in VARIANTS.items() if name in variants],
        "regimes": [(name, REGIMES[name]) for name in regimes],
        "figures": [figure for figure in figures if figure is not None],
        "header": (*HEADER, "F1 gained"),
        "rows": words,
    }
    return page.render(TEMPLATE, values)


def _gain_words(row: AuRow, rows: Sequence[AuRow]) -> str:
    won = gain(row, rows)
    return "" if won is None else f"{won[0]:+.3f} ± {won[1]:.3f}"


def _gains(rows: Sequence[AuRow], regime: str) -> Figure | None:
    """F1 gained by each variant, a dot with its standard deviation."""
    shown = [(row, won) for row in rows if row.setting.regime == regime and (won := gain(row, rows)) is not None]
    if not shown:
        return None

    def draw(axes: Any) -> None:
        places = range(len(shown))
        axes.axvline(0, color=MUTED, linewidth=1)
        means, spreads = ([won[index] for _, won in shown] for index in (0, 1))
        axes.errorbar(means, places, xerr=spreads, fmt="o", color=BOARD, capsize=3)
        axes.set_yticks(places, [", ".join(row.words[2:0:-1]) for row, _ in shown])
        axes.invert_yaxis()
        axes.set_xlabel("F1 gained over labels alone")
        axes.grid(axis="x")

    height = 0.9 + 0.28 * len(shown)
    return Figure(drawing(f"gains-{regime}", draw, height_in=height), f"{regime}: {REGIMES[regime]}.")


def _curve(rows: Sequence[AuRow], axis: str, label: str) -> Figure | None:
    """F1 over a number of persons, a line per regime and variant that has several."""
    lines: dict[tuple[str, str, int], list[AuRow]] = {}
    other = "unlabelled" if axis == "labelled" else "labelled"
    for row in rows:
        at = row.setting
        lines.setdefault((at.regime, at.losses, getattr(at, other)), []).append(row)
    several = {
        key: sorted(found, key=lambda row: getattr(row.setting, axis)) for key, found in lines.items() if len(found) > 1
    }
    if not several:
        return None

    def draw(axes: Any) -> None:
        for index, ((regime, losses, count), found) in enumerate(several.items()):
            at, means = [getattr(row.setting, axis) for row in found], [float(np.mean(row.f1)) for row in found]
            spreads = [float(np.std(row.f1)) for row in found]
            style = {"color": COLOURS[index % len(COLOURS)], "marker": "os^dx"[index % 5], "capsize": 2}
            axes.errorbar(at, means, yerr=spreads, label=f"{regime}, {losses}, {count} {other}", **style)
        axes.set_xscale("symlog" if axis == "unlabelled" else "log")
        axes.set_xlabel(label)
        axes.set_ylabel("mean F1")
        axes.grid(axis="y")
        axes.legend(fontsize=7)

    return Figure(drawing(f"curve-{axis}", draw, height_in=3.2), f"Mean F1 over the number of {label}.")
