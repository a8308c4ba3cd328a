"""Methods against widths as one self-contained page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from policyport.core import page
from policyport.core.drawing import MUTED, drawing
from policyport.core.page import Figure, Tile
from policyport.pipeline.compare import HEADER, Compared, words
from policyport.pipeline.compare_cell import ComparedCell
from policyport.pipeline.study_files import STYLES

TEMPLATE = Path(__file__).with_name("compare.html.j2")


def render_page(found: Compared) -> str:
    """The page as text."""
    figures = [_over_bits(found, "sqnr", "SQNR of the outputs, dB", lambda cell: cell.sqnr_db)]
    if any(cell.metric is not None for cell in found.cells):
        figures.insert(0, _over_bits(found, "metric", found.metric_name, lambda cell: cell.metric))
    figures += [
        _layers(found, bits) for bits in sorted({cell.bits for cell in found.cells if cell.layers}, reverse=True)
    ]
    header = tuple(found.metric_name if name == "metric" else name for name in HEADER)
    exact = "not measured" if found.float_metric is None else f"{found.float_metric:.3f}"
    values = {
        "title": f"{found.model}: rounding methods against widths",
        "tiles": [Tile(exact, f"{found.metric_name}, float32", f"{len(found.cells)} cells")],
        "figures": figures,
        "header": header,
        "rows": [words(cell) for cell in found.cells],
    }
    return page.render(TEMPLATE, values)


def _styles(found: Compared) -> dict[str, tuple[str, str]]:
    """Colour and line of each method, the same in every figure."""
    return dict(zip(dict.fromkeys(cell.method for cell in found.cells), STYLES, strict=False))


def _over_bits(found: Compared, name: str, label: str, value: Callable[[ComparedCell], float | None]) -> Figure:
    def draw(axes: Any) -> None:
        for method, (colour, style) in _styles(found).items():
            cells = [cell for cell in found.cells if cell.method == method and value(cell) is not None]
            axes.plot([cell.bits for cell in cells], [value(cell) for cell in cells], style, color=colour, label=method)
        if name == "metric" and found.float_metric is not None:
            axes.axhline(found.float_metric, color=MUTED, linewidth=1)
        axes.set_xticks(sorted({cell.bits for cell in found.cells}))
        axes.invert_xaxis()
        axes.set_xlabel("bits of a weight")
        axes.set_ylabel(label)
        axes.grid(axis="y")
        axes.legend(fontsize=8)

    note = "; the line is float32" if name == "metric" else ""
    return Figure(drawing(f"compare-{name}", draw), f"{label} over the width of the weights{note}.")


def _layers(found: Compared, bits: int) -> Figure:
    cells = [cell for cell in found.cells if cell.bits == bits]
    names = list(cells[0].layers)

    def draw(axes: Any) -> None:
        for cell in cells:
            colour, style = _styles(found)[cell.method]
            axes.plot(range(len(names)), [cell.layers[name] for name in names], style, color=colour, label=cell.method)
        axes.set_xticks(range(len(names)), [name[-14:] for name in names], rotation=30, ha="right", fontsize=7)
        axes.set_ylabel("SQNR, dB")
        axes.grid(axis="y")
        axes.legend(fontsize=8)

    return Figure(drawing(f"compare-layers-{bits}", draw), f"SQNR of each operator's output at {bits} bits.")
