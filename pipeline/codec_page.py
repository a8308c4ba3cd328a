"""Rates, distortion and looks of image codecs as one self-contained page."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core import page
from policyport.core.drawing import BOARD, FLOAT, INK, MUTED, drawing
from policyport.core.page import Figure
from policyport.pipeline.codec_rates import (
    METRICS,
    BdRate,
    Coded,
    Pictures,
    Point,
    bd_rates,
    of_codec,
    peer_of,
    peers,
    perceived,
)

TEMPLATE = Path(__file__).with_name("codec.html.j2")

CROP = 160
"""Pixels along a side of a crop."""

CROPPED = {"astronaut": (60, 170), "motorcycle_left": (210, 330), "china": (150, 330), "coffee": (120, 180)}
"""Test photographs of packages that are shown, and where: row and column of the crop."""

CROP_RATE = 0.35
"""Bits per pixel that shown files come nearest to from below, or the fewest that a codec takes."""

BD_CAPTION = "Bits more (+) or less (-) than another codec's at equal quality over {}, or what of it both curves span."

PEER_STYLES = {"JPEG": ":", "JPEG, optimised": "--", "WebP": "-.", "AVIF": (0, (1, 3))}


@dataclass(frozen=True)
class Crop:
    """A part of a picture as a codec leaves it."""

    codec: str
    detail: str
    source: str
    """A data URL."""


def render_page(
    title: str,
    curves: Mapping[str, Sequence[Sequence[Point]]],
    others: Sequence[Point],
    crops: Sequence[tuple[str, Sequence[Crop]]],
    tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]] = (),
    plane: Figure | None = None,
) -> str:
    """The page as text.

    :param curves: name of a codec of ours to its curves, one of each seed
    :param others: points of Pillow's codecs
    :param crops: name of a picture to what each codec makes of a part of it
    :param tables: further ones: caption, header, rows
    :param plane: a drawing of perceived quality over distortion
    """
    figures = [_curve_figure(name, curves, others) for name in METRICS]
    values = {
        "title": title,
        "figures": [*figures, *([plane] if plane else [])],
        "tables": [(BD_CAPTION.format(window_words()), *_bd_table(curves, others)), *tables],
        "crops": crops,
        "crop_rate": CROP_RATE,
    }
    return page.render(TEMPLATE, values)


def _curve_figure(metric: str, curves: Mapping[str, Sequence[Sequence[Point]]], others: Sequence[Point]) -> Figure:
    measure_of, window = METRICS[metric]

    def draw(axes: Any) -> None:
        for peer in dict.fromkeys(point.codec for point in others):
            line = sorted(of_codec(others, peer), key=lambda point: point.bits_per_pixel)
            values = [p.bits_per_pixel for p in line], [measure_of(p) for p in line]
            axes.plot(*values, color=MUTED, linestyle=PEER_STYLES.get(peer, ":"), label=peer)
        for index, (name, seeds) in enumerate(curves.items()):
            style = {"color": (BOARD, FLOAT, INK)[index % 3], "linestyle": ("-", "--", ":")[index // 3 % 3]}
            for number, seed in enumerate(seeds):
                at = [p.bits_per_pixel for p in seed], [measure_of(p) for p in seed]
                axes.plot(*at, **style, marker="o", markersize=2.5, linewidth=1, label=None if number else name)
        axes.axhspan(*window, color=MUTED, alpha=0.08, linewidth=0)
        axes.set_xlim(0, 1.25)
        axes.set_ylim(window[0] - 0.35 * (window[1] - window[0]), window[1] + 0.35 * (window[1] - window[0]))
        axes.set_xlabel("bits per pixel")
        axes.set_ylabel(f"{metric}, dB" if metric != "SSIMULACRA 2" else metric)
        axes.grid()
        axes.legend(fontsize=7)

    caption = f"{metric} over the bits of whole files, means over the test photographs; BD-rates are taken in the band."
    return Figure(drawing(f"rates-{metric.lower().replace(' ', '-')}", draw, height_in=3.4), caption)


def plane_figure(curves: Mapping[str, Sequence[tuple[float, float]]], rate: float) -> Figure:
    """Perceived quality over distortion at one rate, a point of each seed.

    :param curves: name to PSNR and SSIMULACRA 2 of each seed
    """

    def draw(axes: Any) -> None:
        for index, (name, seeds) in enumerate(curves.items()):
            colour, marker = (BOARD, FLOAT, INK)[index % 3], "os^"[index // 3 % 3]
            axes.plot(*zip(*seeds, strict=True), marker, color=colour, markersize=5, label=name)
        axes.set_xlabel("PSNR, dB")
        axes.set_ylabel("SSIMULACRA 2")
        axes.grid()
        axes.legend(fontsize=7)

    caption = f"Perceived quality over distortion at {rate:g} bits per pixel, a point of each seed."
    return Figure(drawing("plane", draw, height_in=3.4), caption)


def window_words() -> str:
    """Between which qualities BD-rates are taken."""
    return (
        ", ".join(f"{name} {low:.2f} to {high:.2f}" for name, (_, (low, high)) in METRICS.items()) + " (MS-SSIM in dB)"
    )


def bd_words(found: BdRate | None) -> str:
    """A BD-rate, with where it was taken if that is not the whole window of its metric."""
    if found is None:
        return "too far apart"
    whole = any((found.low, found.high) == window for _, window in METRICS.values())
    return f"{found.percent:+.1f} %" + ("" if whole else f" ({found.low:.1f} to {found.high:.1f})")


def _bd_table(
    curves: Mapping[str, Sequence[Sequence[Point]]], others: Sequence[Point]
) -> tuple[list[str], list[list[str]]]:
    """Of the first seed of each curve."""
    names = list(dict.fromkeys(point.codec for point in others))
    rows = []
    for name, seeds in curves.items():
        found = bd_rates(seeds[0], others)
        rows += [[name, metric, *(bd_words(found[peer][metric]) for peer in names)] for metric in METRICS]
    return ["codec", "at equal", *names], rows


def crop_places(pictures: Pictures) -> dict[str, tuple[int, int]]:
    """Photographs that are shown, and where: of others than the packages' the middles of as many."""
    if CROPPED.keys() <= pictures.keys():
        return CROPPED
    first = itertools.islice(pictures.items(), len(CROPPED))
    return {name: ((p.shape[0] - CROP) // 2, (p.shape[1] - CROP) // 2) for name, p in first}


def crops_of(pictures: Pictures, coders: Mapping[str, Mapping[str, Coded]]) -> list[tuple[str, list[Crop]]]:
    """Parts of test photographs as each codec leaves them, at about :data:`CROP_RATE`.

    :param coders: name of a codec of ours to each picture's coder
    """
    shown = []
    for name, (row, column) in crop_places(pictures).items():
        picture = pictures[name]
        part = np.s_[row : row + CROP, column : column + CROP]
        crops = [Crop("original", "24 bits per pixel", data_url(picture[part]))]
        ours = {codec: (each[name], range(16)) for codec, each in coders.items()}
        theirs = {codec: (peer_of(options, picture), range(1, 96)) for codec, options in peers().items()}
        for codec, (coder, qualities) in {**ours, **theirs}.items():
            bits, got = _nearest(coder, qualities, picture)
            judged = f"{bits:.2f} bits per pixel, SSIMULACRA 2 {perceived(got, picture):.0f}"
            crops.append(Crop(codec, judged, data_url(got[part])))
        shown.append((name, crops))
    return shown


def _nearest(coder: Coded, qualities: Sequence[int], picture: NDArray[np.uint8]) -> tuple[float, NDArray[np.uint8]]:
    """The finest quality of at most :data:`CROP_RATE`: its bits per pixel and picture; else the coarsest."""
    low, high = 0, len(qualities) - 1
    pixels = picture.shape[0] * picture.shape[1]
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (low, middle - 1) if 8 * coder(qualities[middle])[0] / pixels > CROP_RATE else (middle, high)
    size, got = coder(qualities[low])
    return 8 * size / pixels, got


def data_url(picture: NDArray[np.uint8]) -> str:
    """A picture as a PNG inside a page."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
