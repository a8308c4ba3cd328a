"""MCUCoder's encoder beside ours: both trained and measured, and what there is to tell of it as Markdown."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from policyport.core.artifact import open_artifact
from policyport.pipeline.codec_mcucoder import DECODERS, McuCell, McuResult, Said, run_mcucoder
from policyport.pipeline.codec_mcucoder_cost import (
    PUBLISHED_RAM_BYTES,
    SIZES,
    EncoderCost,
    cost_of_mcucoder,
    cost_of_ours,
)
from policyport.pipeline.codec_mcucoder_ours import OurResult, run_ours
from policyport.pipeline.codec_page import bd_words
from policyport.pipeline.codec_rates import METRICS, BdRate, Point, at_rate, bd_rate
from policyport.pipeline.codec_study import CodecCell
from policyport.pipeline.run import Say
from policyport.train.codec.photographs import test_photographs

if TYPE_CHECKING:
    from policyport.train.codec.mcucoder import DecoderName
    from policyport.train.codec.mcucoder_learner import McuConfig

Measure = Callable[[Point], float]

RATES = (0.1, 0.25, 0.4)
"""Bits per pixel at which MS-SSIM is told."""


@dataclass(frozen=True)
class Comparison:
    """What there is to tell."""

    config: McuConfig
    """Of one of the trainings of MCUCoder."""

    test_photographs: Sequence[str]
    training_pictures: int
    results: Sequence[McuResult]
    ours: OurResult
    our_decoder_parameters: int
    cost: EncoderCost
    our_cost: EncoderCost


def compare(
    folder: Path, decoders: Sequence[DecoderName], steps: int, seed: int, images: Path | None, say: Say, said: Said
) -> Comparison:
    """Train and measure MCUCoder's encoder with some decoders, and ours; what is done already is taken from its files.

    :param folder: of the comparison
    :param steps: batches of each training
    :param images: folder of photographs; None takes the listed packages
    :param say: is told of the stages
    :param said: is told of each result
    :raises ToolError: a package, a compiler or an emulator is not installed
    """
    cells = [McuCell(decoder, steps, seed, images) for decoder in decoders]
    results = []
    for cell in cells:
        results.append(run_mcucoder(cell, folder))
        said(cell.name, results[-1].points)
    own = CodecCell("linear", "mse+ms-ssim", "rate", seed, steps, images)
    ours = run_ours(own, folder, say)
    said(own.name, ours.by_quality)
    place = folder / "cells" / own.name
    trained = open_artifact(place / "train", "train")
    return Comparison(
        cells[0].config,
        list(test_photographs()),
        int(trained.manifest.figures["training_pictures"]),
        results,
        ours,
        parameters_of(trained.file("decoder.onnx")),
        cost_of_mcucoder(folder / "mcucoder", say),
        cost_of_ours(place, say),
    )


def parameters_of(model: Path) -> int:
    """Numbers that an ONNX file holds in arrays of more than one."""
    import onnx

    sizes = [int(np.prod(array.dims)) for array in onnx.load(str(model)).graph.initializer]
    return sum(size for size in sizes if size > 1)


def front(points: Iterable[Point], measure: Measure) -> list[Point]:
    """The points that better every one of fewer bits."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (point.bits_per_pixel, -measure(point))):
        if not kept or measure(point) > measure(kept[-1]):
            kept.append(point)
    return kept


def common_bd_rate(ours: Sequence[Point], theirs: Sequence[Point], measure: Measure) -> BdRate | None:
    """BD-rate over all the quality that both curves span; None where they span none together."""
    spans = [sorted(map(measure, points)) for points in (ours, theirs)]
    low, high = max(span[0] for span in spans), min(span[-1] for span in spans)
    return bd_rate(ours, theirs, measure, (low, high)) if low < high else None


def markdown(found: Comparison) -> str:
    """The block of the documentation."""
    return "\n\n".join([_note(found), _rates(found), _points(found), _costs(found)]) + "\n"


def to_json(found: Comparison) -> str:
    """The points and costs."""
    table = dataclasses.asdict(found)
    for name in ("cost", "our_cost"):
        for what in ("ram_bytes", "least_ram_bytes"):
            by_size = table[name][what]
            table[name][what] = {f"{columns}x{rows}": size for (rows, columns), size in by_size.items()}
    return json.dumps(table, indent=1) + "\n"


def _note(found: Comparison) -> str:
    config = found.config
    crops = f"{config.steps:,} batches of {config.batch} crops of {config.crop}x{config.crop}"
    return (
        f"Seed {config.seed}; {crops} train each of them, of the same {found.training_pictures} pictures; "
        f"tested with {', '.join(found.test_photographs)}. MCUCoder's encoder is trained to MS-SSIM alone, in float32, "
        "with its last channels missing at random; ours, with a decoder of "
        f"{found.our_decoder_parameters:,} parameters, to squared error, MS-SSIM and bits, and measured by its "
        "integers of 8 bits. Its published training is 1,000,000 batches of 16. Bits are those of whole files by the "
        "same coder, tables from training pictures. Ours against its at equal quality (below 0: fewer bits), over all "
        "the quality that both span, in brackets:"
    )


def _rates(found: Comparison) -> str:
    reached = [f"MS-SSIM at {rate:g} bpp, its and ours, dB" for rate in RATES]
    head = ["MCUCoder with", "its decoder's parameters", "CPU minutes", *METRICS, *reached]
    lines = [f"| {' | '.join(head)} |", f"|---|---:|---:|{'---:|' * (len(METRICS) + len(reached))}"]
    return "\n".join([*lines, *(_rates_row(found.ours.points, result) for result in found.results)])


def _rates_row(ours: Sequence[Point], result: McuResult) -> str:
    """Ours against a result, of each the points that are the best for a metric."""
    told = [DECODERS[result.decoder][0], f"{result.decoder_parameters:,}", f"{result.cpu_seconds / 60:.1f}"]
    theirs = result.points
    gained = [common_bd_rate(front(ours, measure), front(theirs, measure), measure) for measure, _ in METRICS.values()]
    measure = METRICS["MS-SSIM"][0]
    reached = [[at_rate(front(points, measure), rate, measure) for points in (theirs, ours)] for rate in RATES]
    return f"| {' | '.join([*told, *map(bd_words, gained), *map(_pair, reached)])} |"


def _pair(values: Iterable[float | None]) -> str:
    return ", ".join("not reached" if value is None else f"{value:.2f}" for value in values)


def _points(found: Comparison) -> str:
    lines = [
        "| codec | channels, quality or parts | bits per pixel | PSNR, dB | MS-SSIM | SSIMULACRA 2 |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for point in (*(point for result in found.results for point in result.points), *found.ours.points):
        measured = f"{point.bits_per_pixel:.3f} | {point.psnr_db:.2f} | {point.ms_ssim:.4f} | {point.ssimulacra2:.1f}"
        lines.append(f"| {point.codec} | {point.quality} | {measured} |")
    return "\n".join(lines)


def _costs(found: Comparison) -> str:
    sizes = [f"RAM, B, {columns}x{rows}" for rows, columns in SIZES]
    head = ["encoder", "parameters", "MACs per pixel", "instructions per pixel", *sizes]
    cost, ours = found.cost, found.our_cost
    rows = [
        ["MCUCoder's, as published", f"{cost.parameters:,}", "", "", "", f"{PUBLISHED_RAM_BYTES:,}"],
        ["MCUCoder's, by this compiler: activations alone", *_figures(cost), *_by_size(cost.ram_bytes)],
        ["likewise, layers together by rows (`--ram`)", *_figures(cost)[:2], "", *_by_size(cost.least_ram_bytes)],
        [
            "ours, linear: firmware with coder, pixels, bridge and stack",
            *_figures(ours),
            *_by_size(ours.ram_bytes),
        ],
    ]
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _figures(cost: EncoderCost) -> list[str]:
    computed = f"{cost.instructions_per_pixel:.0f}" + ("" if cost.exact else ", other than the reference")
    return [f"{cost.parameters:,}", f"{cost.macs_per_pixel:.0f}", computed]


def _by_size(ram_bytes: Mapping[tuple[int, int], int]) -> list[str]:
    return [f"{ram_bytes[size]:,}" for size in SIZES]
