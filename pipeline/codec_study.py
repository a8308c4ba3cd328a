"""``policyport study codec``: what the losses of an image codec are worth, as Aytekin et al. (arXiv 1905.10371) ask.

Each cell trains a codec, makes its encoder integers as a board has them, and codes the test photographs. A cell is a
folder of stages and one file, so that an interrupted study goes on.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from policyport.core.artifact import sha256_json
from policyport.core.errors import ConfigError
from policyport.pipeline.codec_rates import METRICS, Pictures, Point, at_rate, bd_rate, measure
from policyport.pipeline.run import Say, run_stage
from policyport.pipeline.stages import TRAINERS, stage_named

if TYPE_CHECKING:
    from policyport.core.artifact import Artifact
    from policyport.hil.codec import PictureDecoder, PictureEncoder

LOSSES: dict[str, str] = {
    "mse": "a: squared error",
    "mse+ms-ssim": "b: and MS-SSIM",
    "mse+ms-ssim+cycle": "c: and the cycle loss",
}
OBJECTIVES: dict[str, str] = {
    "none": "no objective on the code",
    "compression": "the paper's compression objective",
    "rate": "estimated bits",
}
ENCODERS = ("autoencoder", "hybrid", "linear")

QUALITIES = (0, 2, 4, 6, 8, 10, 12)
"""At which test photographs are coded."""

RATES = (0.25, 0.5)
"""Bits per pixel at which codecs are compared, unless others are asked for."""

AGAINST = "JPEG, optimised"

Metric = Literal["PSNR", "MS-SSIM", "SSIMULACRA 2"]


@dataclass(frozen=True)
class CodecCell:
    """One training."""

    encoder: str
    loss: str
    objective: str
    seed: int
    steps: int
    images: Path | None = None
    """Folder of photographs; None takes the listed packages."""

    test_images: Path | None = None
    """Folder of photographs to judge on; None takes those of packages."""

    @property
    def setting(self) -> tuple[str, str, str]:
        """All but what seeds share."""
        return self.encoder, self.objective, self.loss

    @property
    def name(self) -> str:
        """Its folder and file."""
        return f"{self.encoder}-{self.loss.replace('+', '-')}-{self.objective}-{self.seed}"


Said = Callable[[CodecCell, Sequence[Point]], None]


def grid(
    encoders: Iterable[str],
    losses: Iterable[str],
    objectives: Iterable[str],
    seeds: Sequence[int],
    steps: int,
    images: Path | None = None,
) -> list[CodecCell]:
    """The cells of a study, every setting once before a second seed.

    :raises ConfigError: no such encoder, loss or objective
    """
    given = {"encoder": list(encoders), "loss": list(losses), "objective": list(objectives)}
    known = {"encoder": ENCODERS, "loss": tuple(LOSSES), "objective": tuple(OBJECTIVES)}
    for what, names in given.items():
        for name in names:
            if name not in known[what]:
                raise ConfigError(f"no such {what}", where=what, expected=", ".join(known[what]), got=name)
    return [
        CodecCell(encoder, loss, objective, seed, steps, images)
        for seed in seeds
        for encoder in given["encoder"]
        for objective in given["objective"]
        for loss in given["loss"]
    ]


def run_codec_study(
    cells: Sequence[CodecCell], folder: Path, say: Say, said: Said
) -> list[tuple[CodecCell, list[Point]]]:
    """Every cell's curve over the test photographs, from its file where that is of the same integers.

    :param say: is told of the trainings
    :param said: is told of each cell
    """
    found = []
    for cell in cells:
        points = _points(cell, folder, say)
        found.append((cell, points))
        said(cell, points)
    return found


def opened(cell: CodecCell, folder: Path) -> tuple[PictureEncoder, PictureDecoder]:
    """A trained cell's integers and its decoder."""
    return coders_in(folder / "cells" / cell.name / "quantize")


def coders_in(quantized: Path) -> tuple[PictureEncoder, PictureDecoder]:
    """The integers of a quantize artifact's folder, and the decoder there."""
    from policyport.core.artifact import open_artifact
    from policyport.core.codec_model import CODES_FILE, CoderModel
    from policyport.deploy.lower import lower
    from policyport.hil.codec import PictureDecoder, PictureEncoder

    artifact = open_artifact(quantized, "quantize")
    encoder = PictureEncoder(lower(artifact.file("model.onnx")), CoderModel.read(artifact.file(CODES_FILE)))
    return encoder, PictureDecoder(artifact.path)


def _points(cell: CodecCell, folder: Path, say: Say) -> list[Point]:
    from policyport.pipeline.codec_judged import judged_label

    key, path = trained(cell, folder / "cells" / cell.name, say), folder / "cells" / f"{cell.name}.json"
    pictures = judged_by([cell], folder)
    label = judged_label(cell.test_images, pictures)
    key = sha256_json(
        [key, QUALITIES, Path(__file__).with_name("codec_rates.py").read_text(), *([label] if label else [])]
    )
    table = json.loads(path.read_text()) if path.is_file() else {}
    if table.get("key") == key:
        return [Point(**point) for point in table["points"]]
    points = measure(*opened(cell, folder), pictures, QUALITIES, cell.name)
    table = {"key": key, "cell": dataclasses.asdict(cell), "points": [dataclasses.asdict(point) for point in points]}
    fresh = path.with_suffix(".partial")
    fresh.write_text(json.dumps(table, indent=1, default=str) + "\n")
    fresh.replace(path)
    return points


def judged_by(cells: Sequence[CodecCell], folder: Path) -> Pictures:
    """The photographs that trained cells are judged on, none of which any was trained on.

    :raises ConfigError: one of them was, does not read, or is too small
    """
    from policyport.pipeline.codec_judged import judged_photographs

    places = [folder / "cells" / cell.name / "quantize" for cell in cells]
    return judged_photographs(cells[0].test_images, places)


def trained(cell: CodecCell, folder: Path, say: Say) -> str:
    """The cell's stages, run in a folder where they are not done; the key of its integers."""
    return integers_of(train_cell(cell, folder / "train", say), folder / "quantize", say).key


def train_cell(cell: CodecCell, out: Path, say: Say, weight_bits: int = 0) -> Artifact:
    """The cell's training.

    :param weight_bits: that its encoder is trained with, 0 for float32
    """
    from policyport.train.codec.config import CodecConfig

    settings = {name: getattr(cell, name) for name in ("encoder", "loss", "objective", "seed", "steps", "images")}
    config = CodecConfig(**settings, patience=cell.steps, weight_bits=weight_bits)
    return run_stage(TRAINERS["codec"], {}, {}, config, out, say)


def integers_of(trained: Artifact, out: Path, say: Say, **options: Any) -> Artifact:
    """What a board computes of a training.

    :param options: of the quantize stage, beside activations of 8 bits
    """
    from policyport.quantize.config import QuantizeConfig

    config = QuantizeConfig(activations="int8", **options)
    return run_stage(stage_named("quantize"), {"model": trained.path}, {"train": trained.key}, config, out, say)


def recorded(folder: Path) -> list[tuple[CodecCell, list[Point]]]:
    """Every cell that lies in a study's folder, whatever code measured it."""
    tables = [json.loads(path.read_text()) for path in sorted((folder / "cells").glob("*.json"))]
    return [(CodecCell(**table["cell"]), [Point(**point) for point in table["points"]]) for table in tables]


@dataclass(frozen=True)
class CodecRow:
    """The seeds of one setting together."""

    encoder: str
    objective: str
    loss: str
    curves: tuple[tuple[Point, ...], ...]
    """Of each seed."""

    def at(self, bits_per_pixel: float, metric: str) -> list[float]:
        """Quality of each seed at a rate, of those that reach it."""
        found = (at_rate(curve, bits_per_pixel, METRICS[metric][0]) for curve in self.curves)
        return [value for value in found if value is not None]

    def bd(self, peer: Sequence[Point], metric: str) -> list[float]:
        """BD-rate of each seed against a peer's curve, percent, of those near enough to it."""
        found = (bd_rate(curve, peer, *METRICS[metric]) for curve in self.curves)
        return [value.percent for value in found if value is not None]


def rows_of(found: Iterable[tuple[CodecCell, Sequence[Point]]]) -> list[CodecRow]:
    """Settings by objective and loss, seeds side by side."""
    grouped: dict[tuple[str, str, str], list[tuple[Point, ...]]] = {}
    for cell, points in found:
        grouped.setdefault(cell.setting, []).append(tuple(points))
    order = [(e, o, name) for e in ENCODERS for o in OBJECTIVES for name in LOSSES]
    return [CodecRow(*setting, tuple(grouped[setting])) for setting in order if setting in grouped]


def header(rates: Sequence[float] = RATES) -> list[str]:
    """Of :func:`words`."""
    reached = [f"{metric} at {rate:g} bpp" for rate in rates for metric in get_args(Metric)]
    return [
        "encoder",
        "objective",
        "loss",
        "seeds",
        *reached,
        f"bits against {AGAINST}, by PSNR, MS-SSIM, SSIMULACRA 2",
    ]


def words(row: CodecRow, peer: Sequence[Point], rates: Sequence[float] = RATES) -> list[str]:
    """A row of the table; empty where a codec does not reach a rate or a window."""
    reached = [
        _spread(row.at(rate, metric), 1 if metric == "SSIMULACRA 2" else 2)
        for rate in rates
        for metric in get_args(Metric)
    ]
    gained = ", ".join(_percent(row.bd(peer, metric)) for metric in get_args(Metric))
    return [row.encoder, row.objective, LOSSES[row.loss], str(len(row.curves)), *reached, gained]


def markdown(rows: Sequence[CodecRow], peer: Sequence[Point], rates: Sequence[float] = RATES) -> str:
    """The table of the page and of the documentation; MS-SSIM in decibels, ± the standard deviation over seeds."""
    head = header(rates)
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(words(row, peer, rates))} |" for row in rows)])


def to_csv(found: Iterable[tuple[CodecCell, Sequence[Point]]]) -> str:
    """A line per cell and quality."""
    stream = io.StringIO()
    names = [f.name for f in dataclasses.fields(CodecCell)] + [f.name for f in dataclasses.fields(Point)]
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    for cell, points in found:
        writer.writerows(dataclasses.asdict(cell) | dataclasses.asdict(point) for point in points)
    return stream.getvalue()


def _spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return ""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return f"{np.mean(values):.{digits}f} ± {spread:.{digits}f}"


def _percent(values: Sequence[float]) -> str:
    return f"{np.mean(values):+.1f} %" if values else "too far apart"
