"""``policyport study au --bits``: what few bits of the weights cost a network that sees action units.

Finished networks are rounded, and trained on as integers; every one of them and the float network look at the same
rendered faces of persons whom no training has. A cell is a width and method of a network, measured once and kept; an
interrupted study goes on with those that it lacks.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from policyport.core.artifact import Artifact, code_version, open_artifact
from policyport.core.errors import ConfigError
from policyport.core.page import Figure
from policyport.hil.robust import Interval
from policyport.pipeline import study_files
from policyport.pipeline.au_bootstrap import Counts, f1_difference
from policyport.pipeline.cells import cell as kept_cell
from policyport.pipeline.run import Say, run_stage
from policyport.pipeline.stages import TRAINERS
from policyport.quantize.config import WEIGHT_BITS, QuantizeConfig

if TYPE_CHECKING:
    from policyport.quantize.network import QuantizedNetwork
    from policyport.quantize.source import Source
    from policyport.train.au.data import LabelledFaces

Method = Literal["float", "lattice", "thresholds", "qat"]

METHODS: dict[Method, str] = {
    "lattice": "integer least squares",
    "thresholds": "these, thresholds tuned anew",
    "qat": "these, trained on, thresholds tuned anew",
}
FLOAT: Method = "float"
"""The float network with thresholds tuned as those of the integers."""

FLOAT_BITS = 32
TRAINED = (Path("runs/au/train"), Path("runs/au-depthwise/train"))
"""What the recipes leave."""

FIRST_PERSON = 500_000
"""Number of the first person of the test, far from those of trainings and of other studies."""

TEST_PERSONS, IMAGES_PER_PERSON = 192, 32
BATCH = 256
COMPARED = 32
"""Pictures on which the integers are held against the integer reference."""


@dataclass(frozen=True)
class BitsRow:
    """One network at one width of its weights, beside itself in float32."""

    network: str
    bits: int
    method: Method
    weight_bytes: int
    """Of weights and biases."""

    pictures: int
    persons: int
    float_f1: float
    float_auc: float
    f1: float
    auc: float
    difference: Interval
    """Of the mean F1 to float32's."""

    @property
    def percent(self) -> float:
        """The difference, in percent of float32's mean F1."""
        return 100 * self.difference.value / self.float_f1


@dataclass(frozen=True)
class BitsRequest:
    """What is asked for."""

    out: Path
    trained: tuple[Path, ...] = TRAINED
    bits: tuple[int, ...] = WEIGHT_BITS
    methods: tuple[str, ...] = tuple(METHODS)
    steps: int | None = None
    """Batches of each training; None for the default."""

    persons: int = TEST_PERSONS
    measured_only: bool = False
    """Whether to sum up the cells that are there, whatever code measured them, and measure none."""


def run_au_bits(request: BitsRequest, say: Say, said: Callable[[BitsRow], None]) -> list[BitsRow]:
    """Every network at every width by every method.

    :param say: is told of the trainings
    :param said: is told of each row
    :raises ConfigError: no such method or width, or a network whose faces were not rendered
    :raises ArtifactError: no finished network there
    """
    _require("method", request.methods, tuple(METHODS))
    _require("width", request.bits, WEIGHT_BITS)
    asked: list[Method] = [method for method in METHODS if method in request.methods]
    rows = []
    for path in request.trained:
        judge = Judge(open_artifact(path, "train"), request.persons)
        cells: list[tuple[int, Method]] = [(bits, method) for bits in request.bits for method in asked]
        for bits, method in [(FLOAT_BITS, FLOAT), *cells]:
            row = _row(judge, bits, method, request, say)
            if row is not None:
                rows.append(row)
                said(row)
    if not rows:
        raise ConfigError("no cell of these networks", where=request.out / "cells", cure="leave out --measured-only")
    return rows


def _require(what: str, given: Sequence[Any], known: Sequence[Any]) -> None:
    unknown = [one for one in given if one not in known]
    if unknown:
        raise ConfigError(
            f"no such {what}", where="study au --bits", expected=", ".join(map(str, known)), got=unknown[0]
        )


@dataclass(frozen=True)
class Judge:
    """A finished network, and the faces that it and its integers look at."""

    artifact: Artifact
    persons: int

    @property
    def name(self) -> str:
        """Of its backbone and side."""
        return self.source.task.name

    @cached_property
    def source(self) -> Source:
        """The float network, and its calibration pictures."""
        from policyport.quantize.source import open_source

        return open_source(self.artifact.path)

    @cached_property
    def faces(self) -> LabelledFaces:
        """Rendered as those that it was trained on, of other persons.

        :raises ConfigError: it was trained on other pictures
        """
        from policyport.train.au.data import rendered
        from policyport.train.faces.dataset import FaceSpec, faces

        config = self.artifact.manifest.config
        if config["format"] != "rendered":
            raise ConfigError(
                "a network that was trained on photographs",
                where=self.artifact.path,
                expected="rendered faces, of which there are more",
                got=config["format"],
            )
        spec = FaceSpec(self.persons, IMAGES_PER_PERSON, config["side"], config["seed"], FIRST_PERSON)
        return rendered(faces(spec), tuple(config["units"]), colour=config["colour"])

    @cached_property
    def float_outputs(self) -> NDArray[np.float32]:
        """What the float network says, [n, units]."""
        from policyport.train.rollouts import onnx_outputs

        return onnx_outputs(self.source.model)(self.faces.observations)

    def outputs(self, network: QuantizedNetwork) -> NDArray[np.float32]:
        """What integers say, [n, units]: as torch computes them, held against the reference on some pictures."""
        import torch
        from policyport.quantize.fake import FakeQuantized

        module = FakeQuantized(network)
        module.settled(self.faces.observations[:COMPARED])
        with torch.no_grad():
            batches = torch.from_numpy(self.faces.images).split(BATCH)
            return np.concatenate([module(batch.flatten(1).float()).numpy() for batch in batches])

    @cached_property
    def validation(self) -> LabelledFaces:
        """The persons that its thresholds were tuned on."""
        from policyport.train.au.config import AuConfig
        from policyport.train.au.finished import finished
        from policyport.train.au.stage import pictures_of

        _, config = finished(AuConfig(network=self.artifact.path, qat_weights=8))
        return pictures_of(config)[1]

    def float_with_thresholds(self) -> NDArray[np.float32]:
        """What the float network says above thresholds that are tuned as those of integers."""
        from policyport.core.recognition import averaged_thresholds
        from policyport.train.rollouts import onnx_outputs

        scores = onnx_outputs(self.source.model)(self.validation.observations)
        limits = averaged_thresholds(scores, self.validation.labels, self.validation.subjects)
        return self.float_outputs - limits.astype(np.float32)

    def measured(self, outputs: NDArray[np.float32], weight_bytes: int) -> dict[str, Any]:
        """The figures of a row.

        :param outputs: [n, units], above zero where a unit is called present
        """
        from policyport.core.recognition import recognition

        labels, both = self.faces.labels, (self.float_outputs, outputs)
        real, integer = (recognition(given, labels, 0.0) for given in both)
        counts = [Counts.of(given > 0, labels, self.faces.subjects) for given in both]
        return {
            "weight_bytes": weight_bytes,
            "pictures": len(labels),
            "persons": self.persons,
            "float_f1": real.mean_f1,
            "float_auc": real.mean_auc,
            "f1": integer.mean_f1,
            "auc": integer.mean_auc,
            "difference": dataclasses.asdict(f1_difference(counts[1], counts[0])),
        }


def _row(judge: Judge, bits: int, method: Method, request: BitsRequest, say: Say) -> BitsRow | None:
    """A row out of its cell; None where that is not there, and nothing is to be measured."""
    name = f"{judge.name}-{method}-{bits}"
    if request.measured_only:
        path = request.out / "cells" / f"{name}.json"
        found = json.loads(path.read_text())["result"] if path.is_file() else None
    else:
        found = _measured(judge, bits, method, name, request, say)
    if found is None:
        return None
    figures: dict[str, Any] = {**found, "difference": Interval(**found["difference"])}
    return BitsRow(judge.name, bits, method, **figures)


def _measured(judge: Judge, bits: int, method: Method, name: str, request: BitsRequest, say: Say) -> dict[str, Any]:
    from policyport.quantize.choose import quantized
    from policyport.quantize.trained import INTEGERS, read_trained

    trained = None
    if method in ("thresholds", "qat"):
        steps = 0 if method == "thresholds" else request.steps
        trained = _trained(judge, bits, steps, request.out / name, say)

    def measure() -> dict[str, Any]:
        if method == FLOAT:
            return judge.measured(judge.float_with_thresholds(), 4 * judge.source.graph.parameters)
        if trained is None:
            network = quantized(judge.source, QuantizeConfig(weight_bits=bits), 8)
        else:
            network = read_trained(judge.source.graph, trained.file(INTEGERS))
        return judge.measured(judge.outputs(network), network.weight_bytes)

    root = Path(__file__).parents[1]
    sources = Path(__file__), root / "core/recognition.py", root / "train/faces"
    given = {
        "artifact": (trained or judge.artifact).key,
        "method": method,
        "bits": bits,
        "persons": request.persons,
        "code": code_version(*sources, *([root / "quantize"] if method == "lattice" else [])),
    }
    return kept_cell(request.out / "cells", name, given, measure)


def _trained(judge: Judge, bits: int, steps: int | None, folder: Path, say: Say) -> Artifact:
    from policyport.train.au.config import AuConfig

    config = AuConfig(network=judge.artifact.path, qat_weights=bits)
    config = config if steps is None else dataclasses.replace(config, qat_steps=steps)
    return run_stage(TRAINERS["au"], {}, {}, config, folder / "train", say)


HEADER = ("network", "weights", "how", "bytes", "mean F1", "difference to float32", "in % of it", "mean AUC")


def table(rows: Sequence[BitsRow]) -> list[list[str]]:
    """Lines of cells, the head first; float32 before each network's own."""
    lines: list[list[str]] = [list(HEADER)]
    seen: set[str] = set()
    for row in rows:
        if row.network not in seen:
            seen.add(row.network)
            lines.append([row.network, "float32", "", "", f"{row.float_f1:.4f}", "", "", f"{row.float_auc:.4f}"])
        words = (
            _width(row),
            _how(row),
            f"{row.weight_bytes:,}",
            f"{row.f1:.4f}",
            f"{row.difference.value:+.4f} ({row.difference.low:+.4f} to {row.difference.high:+.4f})",
            f"{row.percent:+.1f}",
            f"{row.auc:.4f}",
        )
        lines.append([row.network, *words])
    return lines


def _note(rows: Sequence[BitsRow]) -> str:
    first = rows[0]
    return (
        f"{first.pictures:,} rendered faces of {first.persons} persons on whom nothing was trained or tuned; the "
        "difference with its 95 % interval over them, paired (bootstrap of persons). Activations have 8 bits."
    )


def to_markdown(rows: Sequence[BitsRow]) -> str:
    """The block of the documentation."""
    head, *body = table(rows)
    lines = [_note(rows), "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(line)} |" for line in body)]) + "\n"


def to_csv(rows: Sequence[BitsRow]) -> str:
    """A line for each row, the difference's ends in columns of their own."""
    records = []
    for row in rows:
        record = dataclasses.asdict(row)
        ends = record.pop("difference")
        records.append(record | {f"difference_{name}": end for name, end in ends.items()})
    return study_files.to_csv(records)


def render_page(rows: Sequence[BitsRow]) -> str:
    """The table and, for each network, the difference from float32 over the width of the weights."""
    figures = [Figure(_over_bits(rows, name), name) for name in dict.fromkeys(row.network for row in rows)]
    title = "What few bits cost networks that see action units"
    return study_files.render(title, _note(rows), [("By network and width", table(rows))], figures)


def _over_bits(rows: Sequence[BitsRow], network: str) -> str:
    lines = []
    for method, words in METHODS.items():
        chosen = [row for row in rows if (row.network, row.method) == (network, method)]
        parts = ([getattr(row.difference, name) for row in chosen] for name in ("value", "low", "high"))
        lines += [study_files.Curve(words, [row.bits for row in chosen], *parts)] if chosen else []
    labels = ("bits of a weight", "mean F1 less float32's")
    return study_files.curves(f"bits-{network}", lines, labels, falling=True)


def _width(row: BitsRow) -> str:
    return "float32" if row.method == FLOAT else f"{row.bits} bits"


def _how(row: BitsRow) -> str:
    return "thresholds tuned anew" if row.method == FLOAT else METHODS[row.method]


def to_json(rows: Sequence[BitsRow]) -> str:
    """Every row."""
    return json.dumps([dataclasses.asdict(row) for row in rows], indent=1) + "\n"


def line_of(row: BitsRow) -> str:
    """One line on a row."""
    return (
        f"{row.network:<16} {_width(row):<7}  {_how(row):<40} mean F1 {row.f1:.4f} of {row.float_f1:.4f}, "
        f"AUC {row.auc:.4f} of {row.float_auc:.4f}"
    )
