"""Drawings for a page as inline SVG: their colours are the page's CSS variables, their text is text.

matplotlib draws with stand-in colours that are then replaced by ``var(--...)``, so that one drawing serves
light, dark and print, and each drawing is the same bytes for the same figures.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

INK, MUTED, LINE, BOARD, FLOAT = "#010203", "#020304", "#030405", "#040506", "#050607"
"""Stand-in colours: text, secondary text, grid, the board's figures, float32's."""

_VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", BOARD: "--board", FLOAT: "--float"}

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10.0,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": False,
    "axes.formatter.useoffset": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "figure.facecolor": "none",
    "legend.frameon": False,
}

WIDTH_IN, HEIGHT_IN = 5.4, 2.7


def drawing(name: str, draw: Callable[[Any], None], height_in: float = HEIGHT_IN, width_in: float = WIDTH_IN) -> str:
    """Draw on fresh axes; the SVG element alone, for putting into a page."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        draw(figure.add_subplot())
        stream = io.StringIO()
        FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None, "Creator": None})
    return _for_a_page(stream.getvalue(), name)


def _for_a_page(svg: str, name: str) -> str:
    """Without XML prolog and metadata; ids made unique by ``name``; colours as CSS variables; scalable."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', svg, count=1)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-")
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return re.sub(r"'?DejaVu Sans'?[^;\"]*?sans-serif|sans-serif", "inherit", svg).strip()
