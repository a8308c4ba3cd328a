"""The study of an image codec's losses as one self-contained page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from policyport.pipeline.codec_page import crop_places, crops_of, plane_figure, render_page
from policyport.pipeline.codec_rates import Pictures, Point, coder_of, measure_peers, of_codec, write_points
from policyport.pipeline.codec_study import AGAINST, RATES, CodecCell, CodecRow, header, opened, rows_of, words


def peer_points(folder: Path, pictures: Pictures, label: str) -> list[Point]:
    """The curves of Pillow's codecs, from ``peers.json`` of the study where they are measured.

    :param label: of the pictures, behind the file's name
    """
    path = folder / f"peers{label}.json"
    if not path.is_file():
        write_points(measure_peers(pictures), path)
    return [Point(**point) for point in json.loads(path.read_text())]


def render(
    found: Sequence[tuple[CodecCell, Sequence[Point]]],
    others: Sequence[Point],
    folder: Path,
    pictures: Pictures,
    rates: Sequence[float] = RATES,
) -> str:
    """The page as text.

    :param folder: of the study, whose trained codecs code the crops
    :param pictures: that the codecs were judged on
    :param rates: bits per pixel of the table; the plane of perceived quality and distortion is drawn at the last
    """
    rows = rows_of(found)
    cells = {cell.setting: cell for cell, _ in reversed(found)}
    named = {_name(row, len({row.encoder for row in rows}) > 1): row for row in rows}
    coders = {}
    for name, row in named.items():
        coder = opened(cells[row.encoder, row.objective, row.loss], folder)
        coders[name] = {picture: coder_of(*coder, pictures[picture]) for picture in crop_places(pictures)}
    rate = rates[-1]
    pairs = {name: zip(row.at(rate, "PSNR"), row.at(rate, "SSIMULACRA 2"), strict=True) for name, row in named.items()}
    plane = {name: reached for name, seeds in pairs.items() if (reached := list(seeds))}
    peer = of_codec(others, AGAINST)
    table = "By setting; MS-SSIM in decibels; ± is the standard deviation over seeds.", header(rates)
    return render_page(
        "What the losses of an image codec are worth",
        {name: row.curves for name, row in named.items()},
        others,
        crops_of(pictures, coders),
        [(*table, [words(row, peer, rates) for row in rows])],
        plane_figure(plane, rate) if plane else None,
    )


def _name(row: CodecRow, several: bool) -> str:
    return f"{row.encoder}, {row.loss}, {row.objective}" if several else f"{row.loss}, {row.objective}"
