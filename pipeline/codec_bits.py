"""``policyport study codec --bits``: what few bits of an encoder's weights cost, against the same encoder in float32.

Weights that are rounded after training keep the decoder and the coder's tables of the float32 encoder; those that are
trained as integers have a decoder and tables of their own training, as long and of the same photographs. A cell is a
folder of stages and a file for each width and method, so that an interrupted study goes on.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from policyport.core.artifact import Artifact, code_version
from policyport.core.errors import ConfigError
from policyport.pipeline.cells import cell as kept_cell
from policyport.pipeline.codec_float import coder_of_float
from policyport.pipeline.codec_judged import Pictures, judged_label, judged_photographs
from policyport.pipeline.codec_page import bd_words, window_words
from policyport.pipeline.codec_rates import METRICS, BdRate, Point, bd_rate, curve_of, measure
from policyport.pipeline.codec_study import CodecCell, coders_in, integers_of, train_cell
from policyport.pipeline.run import Say

BitsMethod = Literal["nearest", "gptq", "adaround", "lattice", "qat"]

METHODS: dict[BitsMethod, str] = {
    "nearest": "each to the nearest",
    "gptq": "one after the other (GPTQ)",
    "adaround": "learned up or down (AdaRound)",
    "lattice": "integer least squares",
    "qat": "trained as integers",
}
DEFAULT_METHODS: tuple[BitsMethod, ...] = ("nearest", "lattice", "qat")
BITS = (8, 4, 3)
TRAINED_BITS = (4, 3)
"""Widths at which weights are trained: at 8 bits there is nothing to win back."""

QUALITIES = (0, 3, 6, 9, 12)
"""At which test photographs are coded."""

LOSS, OBJECTIVE = "mse+ms-ssim", "rate"
"""What every encoder is trained for: the default."""

_RATES = Path(__file__).with_name("codec_rates.py")
MEASURING = (_RATES, _RATES.with_name("codec_float.py"))
"""What a measurement depends on."""


@dataclass(frozen=True)
class BitsResult:
    """An encoder at one width of its weights, over the test photographs."""

    cell: CodecCell
    bits: int
    method: BitsMethod
    weight_bytes: int
    points: tuple[Point, ...]
    exact: tuple[Point, ...]
    """Of the same encoder in float32."""

    def bd(self, metric: str) -> BdRate | None:
        """Bits more than in float32 at equal quality."""
        return bd_rate(self.points, self.exact, *METRICS[metric])


Said = Callable[[str, Sequence[Point]], None]
"""Is told the name of what is measured, and its curve."""


def bits_grid(
    encoders: Iterable[str],
    seeds: Iterable[int],
    steps: int,
    images: Path | None = None,
    test_images: Path | None = None,
) -> list[CodecCell]:
    """The float32 encoders of a study.

    :param images: photographs to train on; None takes those of packages
    :param test_images: photographs to judge on; None takes those of packages
    """
    return [
        CodecCell(encoder, LOSS, OBJECTIVE, seed, steps, images, test_images) for seed in seeds for encoder in encoders
    ]


def run_bits_study(
    cells: Sequence[CodecCell], bits: Sequence[int], methods: Sequence[str], folder: Path, say: Say, said: Said
) -> list[BitsResult]:
    """Every encoder at every width by every method.

    :param say: is told of the stages
    :param said: is told of each curve
    :raises ConfigError: no such method
    """
    unknown = [method for method in methods if method not in METHODS]
    if unknown:
        raise ConfigError("no such method", where="--methods", expected=", ".join(METHODS), got=unknown[0])
    chosen: list[BitsMethod] = [method for method in METHODS if any(method == asked for asked in methods)]
    found = []
    for cell in cells:
        place = folder / "cells" / cell.name
        trained = train_cell(cell, place / "train", say)
        judged = _Judged.of(cell, trained)
        exact = judged.measured(trained, place, "float32", _float_points)
        said(f"{cell.name} float32", exact)
        for width in bits:
            for method in chosen:
                if method == "qat" and width not in TRAINED_BITS:
                    continue
                integers = _integers(cell, trained, width, method, place, say)
                name = f"{method}-{width}"
                points = judged.measured(integers, place, name, _integer_points)
                said(f"{cell.name} {name}", points)
                size = int(integers.manifest.figures["weight_bytes"])
                found.append(BitsResult(cell, width, method, size, points, exact))
    return found


def _integers(cell: CodecCell, trained: Artifact, bits: int, method: BitsMethod, place: Path, say: Say) -> Artifact:
    out = place / f"{method}-{bits}"
    if method == "qat":
        return integers_of(train_cell(cell, out / "train", say, bits), out / "quantize", say)
    return integers_of(trained, out / "quantize", say, weight_bits=bits, method=method)


@dataclass(frozen=True)
class _Judged:
    """The photographs that an encoder is judged on."""

    pictures: Pictures
    label: str

    @classmethod
    def of(cls, cell: CodecCell, trained: Artifact) -> _Judged:
        pictures = judged_photographs(cell.test_images, [trained.path])
        return cls(pictures, judged_label(cell.test_images, pictures))

    def measured(
        self, artifact: Artifact, folder: Path, name: str, curve: Callable[[Artifact, Pictures], list[Point]]
    ) -> tuple[Point, ...]:
        def cell() -> dict[str, Any]:
            return {"points": [dataclasses.asdict(point) for point in curve(artifact, self.pictures)]}

        given = {"artifact": artifact.key, "qualities": QUALITIES, "code": code_version(*MEASURING)}
        kept = kept_cell(folder / "points", f"{name}{self.label}", given, cell)
        return tuple(Point(**point) for point in kept["points"])


def _integer_points(artifact: Artifact, pictures: Pictures) -> list[Point]:
    return measure(*coders_in(artifact.path), pictures, QUALITIES)


def _float_points(artifact: Artifact, pictures: Pictures) -> list[Point]:
    coder_of = coder_of_float(artifact)
    return curve_of("float32", QUALITIES, [(picture, coder_of(picture)) for picture in pictures.values()])


def markdown(found: Sequence[BitsResult]) -> str:
    """The block of the documentation."""
    first = found[0].cell
    seeds = sorted({result.cell.seed for result in found})
    note = (
        f"Bits more (+) or less (-) than with the same encoder in float32 at equal quality, over {window_words()}, or "
        f"what of it both curves span, then named; {first.steps:,} batches, seed{'s' if len(seeds) > 1 else ''} "
        f"{', '.join(map(str, seeds))}{', means over them' if len(seeds) > 1 else ''}; the test photographs' whole "
        "files. Rounded weights have the float32 encoder's decoder and tables, trained ones have those of their own."
    )
    lines = [
        f"| encoder | weights | how | bytes of weights and biases | {' | '.join(METRICS)} |",
        f"|---|---:|---|---:|{'---:|' * len(METRICS)}",
    ]
    rows: dict[tuple[str, int, BitsMethod], list[BitsResult]] = {}
    for result in found:
        rows.setdefault((result.cell.encoder, result.bits, result.method), []).append(result)
    for (encoder, bits, method), same in rows.items():
        told = (_mean_words([result.bd(metric) for result in same]) for metric in METRICS)
        size = f"{same[0].weight_bytes:,}"
        lines.append(f"| {encoder} | {bits} bits | {METHODS[method]} | {size} | {' | '.join(told)} |")
    return "\n".join([note, "", *lines]) + "\n"


def _mean_words(values: Sequence[BdRate | None]) -> str:
    rates = [value for value in values if value is not None]
    if len(rates) < len(values):
        return "too far apart"
    low, high = max(rate.low for rate in rates), min(rate.high for rate in rates)
    return bd_words(BdRate(float(np.mean([rate.percent for rate in rates])), low, high))


def to_csv(found: Iterable[BitsResult]) -> str:
    """A line for each width, method and quality, float32 with method empty."""
    stream = io.StringIO()
    names = ["encoder", "seed", "steps", "bits", "method", *(f.name for f in dataclasses.fields(Point))]
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    seen: set[CodecCell] = set()
    for result in found:
        cell = result.cell
        who = {"encoder": cell.encoder, "seed": cell.seed, "steps": cell.steps}
        if cell not in seen:
            seen.add(cell)
            writer.writerows(who | {"bits": 32, "method": ""} | dataclasses.asdict(point) for point in result.exact)
        own = who | {"bits": result.bits, "method": result.method}
        writer.writerows(own | dataclasses.asdict(point) for point in result.points)
    return stream.getvalue()
