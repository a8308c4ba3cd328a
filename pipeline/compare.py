"""``policyport quantize MODEL --compare``: methods of rounding against widths of weights, for one model.

Each cell is a whole quantize artifact in a folder of its own, so that an interrupted comparison goes on with what it
lacks and any cell can be deployed; what the task says of it lies beside it.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from policyport.core.artifact import Artifact, input_key
from policyport.core.errors import ConfigError
from policyport.core.task import Task
from policyport.pipeline.compare_cell import ComparedCell, float_key, kept
from policyport.pipeline.compare_half import half_cell
from policyport.pipeline.compare_metric import Judged, judged, metric_name
from policyport.pipeline.run import run_stage
from policyport.pipeline.stages import stage_named
from policyport.quantize.config import WEIGHT_BITS, QuantizeConfig

METHODS = ("lattice", "gptq", "nearest")
"""Those that take seconds; ``blocks``, ``adaround`` and ``qat`` take minutes."""

EVERY_METHOD = ("lattice", "blocks", "adaround", "gptq", "nearest", "qat")


@dataclass(frozen=True)
class Compared:
    """All cells, and float32's own metric."""

    model: str
    metric_name: str
    float_metric: float | None
    float_bits_per_pixel: float | None
    cells: tuple[ComparedCell, ...]


def compare(
    model: Path,
    config: QuantizeConfig,
    out: Path,
    methods: Sequence[str],
    bits: Sequence[int],
    episodes: int,
    done: Callable[[ComparedCell], None],
) -> Compared:
    """Quantize by every method at every width and measure.

    :param config: everything but method and width
    :param episodes: seeded episodes of a policy; 0 plays none
    :raises ConfigError: no such method or width
    :raises ArtifactError: as the quantize stage
    """
    for what, given, known in (("method", methods, EVERY_METHOD), ("width", bits, WEIGHT_BITS)):
        wrong = [item for item in given if item not in known]
        if wrong:
            raise ConfigError(f"no such {what}", where="--compare", expected=", ".join(map(str, known)), got=wrong[0])
    cells, artifacts = [], []
    for method, width in itertools.product(methods, sorted(bits, reverse=True)):
        chosen = dataclasses.replace(config, method=cast(Any, method), weight_bits=width)
        artifact, seconds = _quantized(model, chosen, out / f"{method}-{width}")
        artifacts.append(artifact)
        cells.append(_cell(method, width, artifact, seconds, out, episodes))
        done(cells[-1])
    half = half_cell(artifacts[0], out, episodes)
    if half is not None:
        cells.insert(0, half)
        done(half)
    task = Task.read(artifacts[0].file("task.json"))
    exact = _float_judged(artifacts[0], task, out, episodes)
    return Compared(task.name, metric_name(task), exact.metric, exact.bits_per_pixel, tuple(cells))


def _quantized(model: Path, config: QuantizeConfig, out: Path) -> tuple[Artifact, float | None]:
    seconds: list[float] = []

    def said(event: Any) -> None:
        if event.what == "done":
            seconds.append(event.seconds)

    artifact = run_stage(stage_named("quantize"), {"model": model}, {"train": input_key(model)}, config, out, said)
    kept = out.with_name(f"{out.name}.seconds.json")
    if seconds:
        kept.write_text(json.dumps({"key": artifact.key, "seconds": seconds[0]}) + "\n")
    table = json.loads(kept.read_text()) if kept.is_file() else {}
    return artifact, table.get("seconds") if table.get("key") == artifact.key else None


def _cell(method: str, bits: int, artifact: Artifact, seconds: float | None, out: Path, episodes: int) -> ComparedCell:
    figures = artifact.manifest.figures
    rows = json.loads(artifact.file("layers.json").read_text())["layers"]
    found = kept(out / f"{method}-{bits}.metric.json", artifact.key, episodes, lambda: _judged(artifact, episodes))
    return ComparedCell(
        method=method,
        bits=bits,
        metric=found.metric,
        bits_per_pixel=found.bits_per_pixel,
        agreement=figures["action_agreement"],
        action_error=figures["action_error"],
        sqnr_db=figures["sqnr_db"],
        seconds=seconds,
        weight_bytes=figures["weight_bytes"],
        layers={row["name"]: row["sqnr_db"] for row in rows},
    )


def _float_judged(artifact: Artifact, task: Task, out: Path, episodes: int) -> Judged:
    from policyport.hil.policy import FloatPolicy

    policy = FloatPolicy(artifact.file("float.onnx"), task)
    path = out / "float32.metric.json"
    return kept(path, float_key(artifact), episodes, lambda: judged(artifact, task, policy.outputs, episodes))


def _judged(artifact: Artifact, episodes: int) -> Judged:
    from policyport.deploy.lower import lower
    from policyport.hil.policy import ReferencePolicy

    task = Task.read(artifact.file("task.json"))
    return judged(artifact, task, ReferencePolicy(lower(artifact.file("model.onnx")), task).outputs, episodes)


HEADER = (
    "method",
    "bits",
    "metric",
    "bits per pixel",
    "agreement",
    "action error",
    "SQNR dB",
    "seconds",
    "weights, bytes",
)


def words(cell: ComparedCell) -> tuple[str, ...]:
    """A cell as a row of text."""

    def shown(value: float | None, pattern: str) -> str:
        return "" if value is None else pattern.format(value)

    return (
        cell.method,
        str(cell.bits),
        shown(cell.metric, "{:.3f}"),
        shown(cell.bits_per_pixel, "{:.3f}"),
        shown(cell.agreement, "{:.2%}"),
        shown(cell.action_error, "{:.2%}"),
        f"{cell.sqnr_db:.1f}",
        shown(cell.seconds, "{:.1f}"),
        f"{cell.weight_bytes:,}",
    )


def to_csv(cells: Iterable[ComparedCell]) -> str:
    """A row per cell, each layer's SQNR a column."""
    tables = []
    for cell in cells:
        table = dataclasses.asdict(cell)
        layers = table.pop("layers")
        tables.append(table | {f"sqnr_db {name}": value for name, value in layers.items()})
    columns = list(dict.fromkeys(name for table in tables for name in table))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(tables)
    return stream.getvalue()


def to_json(found: Compared) -> str:
    """Everything."""
    return json.dumps(dataclasses.asdict(found), indent=2) + "\n"
