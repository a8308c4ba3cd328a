"""``policyport study au``: what each loss of MLCR is worth, over seeds, numbers of pictures and regimes.

Faces are rendered; persons of training, validation and test differ. Each cell is one training and one file under
``cells/``; an interrupted study goes on with the cells that it lacks.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from policyport.core.artifact import code_version, sha256_json
from policyport.core.errors import ConfigError

if TYPE_CHECKING:
    from policyport.train.au.data import LabelledFaces
    from policyport.train.au.learner import Recipe

VARIANTS: dict[str, str] = {
    "labels": "the label loss alone, on both views",
    "+mv": "and the multi-view loss",
    "+cr": "and the co-regularization loss",
    "+gcn": "and the relation network",
    "all": "all of them",
}
"""What is added to the label loss; unlabelled pictures matter where the co-regularization loss does."""

WITH_VIEWS, WITH_AGREEMENT, WITH_RELATIONS = ("+mv", "all"), ("+cr", "all"), ("+gcn", "all")
"""The variants that have each."""

REGIMES: dict[str, str] = {
    "same": "labelled, unlabelled and test faces are drawn alike",
    "gap": "labelled faces look at the camera in clean pictures; unlabelled and test faces do not",
    "noise": "as same, but three in ten labels of the training persons are wrong, drawn at random",
}
VALIDATION, TEST = 40, 60
"""Persons of the two sets, the same for every cell of a seed."""

WRONG = 0.3
"""Share of wrong training labels in the regime ``noise``; labels made by machines or in haste are such."""

FRONTAL = {"yaw": 0.03, "pitch": 0.03, "roll": 0.02, "degradation": 0.0}
FIRST_TEST, FIRST_VALIDATION, FIRST_UNLABELLED = 100_000, 200_000, 300_000
"""Numbers of their first persons, far from each other's."""


@dataclass(frozen=True)
class AuCell:
    """One training."""

    variant: str
    regime: str
    labelled: int
    """Persons with labels."""

    unlabelled: int
    """Persons without."""

    seed: int
    steps: int
    relation_steps: int
    images_per_person: int = 32
    view_weight: float = 400.0
    agreement_weight: float = 50.0
    learning_rate: float = 2e-3
    shared_augmentation: bool = False
    """Whether both views see the same variant of a picture."""

    selective: bool = False
    """Whether the label loss balances rare units by selective learning."""

    @property
    def name(self) -> str:
        """Its file."""
        losses = self.losses.replace("+", "").replace(" ", "-")
        return f"{self.regime}-{losses}-{self.labelled}-{self.unlabelled}-{self.steps}-{self.seed}"

    @property
    def losses(self) -> str:
        """The variant with the weights of its losses, and what else of the training is not the default."""
        words = [self.variant]
        if self.variant in WITH_VIEWS:
            words.append(f"{self.view_weight:g}")
        if self.variant in WITH_AGREEMENT:
            words.append(f"{self.agreement_weight:g}")
        words += ["shared"] * self.shared_augmentation + ["selective"] * self.selective
        return " ".join(words)

    @property
    def batches(self) -> str:
        """Of both stages of the training."""
        return f"{self.steps} + {self.relation_steps}" if self.relation_steps else str(self.steps)


UNIT_FIGURES = ("f1_at_half", "f1", "auc")
"""Of each unit: F1 at a threshold of one half, F1 at its tuned threshold, area under the curve."""


@dataclass(frozen=True)
class AuResult:
    """Figures on the test persons, of the mean of both views and of the first alone."""

    f1: float
    """Mean over the units, each at its threshold tuned on the validation persons."""

    auc: float
    first_f1: float
    first_auc: float
    related: bool
    """Whether the relation network stayed: it does where the validation persons are recognized better with it."""

    units: dict[str, dict[str, float]]
    """Name of a unit to its UNIT_FIGURES, of the mean of both views."""


def run_au_study(
    cells: Sequence[AuCell], folder: Path, processes: int, done: Callable[[AuCell, AuResult], None]
) -> list[tuple[AuCell, AuResult]]:
    """Every cell's result, from its file where that is of the same settings and code.

    :raises ConfigError: no such variant or regime
    """
    for cell in cells:
        for what, name, known in (("variant", cell.variant, VARIANTS), ("regime", cell.regime, REGIMES)):
            if name not in known:
                raise ConfigError(f"no such {what}", where=f"{what}s", expected=", ".join(known), got=name)
    found = []
    for cell in cells:
        path = folder / f"{cell.name}.json"
        result = _recall(cell, path) or _measured(cell, path, processes)
        found.append((cell, result))
        done(cell, result)
    return found


def grid(
    variants: Iterable[str],
    regimes: Iterable[str],
    labelled: Iterable[int],
    unlabelled: Iterable[int],
    seeds: Sequence[int],
    steps: int,
    relation_steps: int,
    agreement_weight: float = AuCell.agreement_weight,
    view_weight: float = AuCell.view_weight,
) -> list[AuCell]:
    """The cells of a study; where unlabelled pictures change nothing, their number is 0."""
    cells = []
    for regime in regimes:
        for persons in labelled:
            for variant in variants:
                for more in sorted({count if variant in WITH_AGREEMENT else 0 for count in unlabelled}):
                    second = relation_steps if variant in WITH_RELATIONS else 0
                    cell = AuCell(variant, regime, persons, more, 0, steps, second)
                    cell = dataclasses.replace(cell, agreement_weight=agreement_weight, view_weight=view_weight)
                    cells += [dataclasses.replace(cell, seed=seed) for seed in seeds]
    return cells


def _key(cell: AuCell) -> str:
    from policyport.train.au.stage import CODE

    return sha256_json({**dataclasses.asdict(cell), "code": [code_version(*CODE), Path(__file__).read_text()]})


def _recall(cell: AuCell, path: Path) -> AuResult | None:
    table = json.loads(path.read_text()) if path.is_file() else {}
    return AuResult(**table["result"]) if table.get("key") == _key(cell) else None


def recorded(folder: Path) -> list[tuple[AuCell, AuResult]]:
    """Every cell that lies in a folder, whatever code measured it: by regime, persons, losses, seed."""
    tables = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    found = [(AuCell(**table["cell"]), AuResult(**table["result"])) for table in tables]

    def place(pair: tuple[AuCell, AuResult]) -> tuple[int, int, int, int, int]:
        cell = pair[0]
        regime, variant = list(REGIMES).index(cell.regime), list(VARIANTS).index(cell.variant)
        return regime, cell.labelled, variant, cell.unlabelled, cell.seed

    return sorted(found, key=place)


def _measured(cell: AuCell, path: Path, processes: int) -> AuResult:
    result = measure(cell, path.parent.parent / "checkpoints" / f"{cell.name}-{_key(cell)[:8]}.pt", processes)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}.partial")
    table = {"key": _key(cell), "cell": dataclasses.asdict(cell), "result": dataclasses.asdict(result)}
    fresh.write_text(json.dumps(table, indent=1) + "\n")
    fresh.replace(path)
    return result


def measure(cell: AuCell, checkpoint: Path, processes: int) -> AuResult:
    """Train, and look at the test persons."""
    from policyport.core.recognition import recognition, tuned_thresholds
    from policyport.train.au.learner import learn, logits, sigmoid

    labelled, unlabelled, validation, test = _faces(cell, processes)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    trained = learn(_recipe(cell), labelled, unlabelled, validation, checkpoint)
    checkpoint.unlink(missing_ok=True)
    tuned, seen = (sigmoid(logits(trained.model, part.images)) for part in (validation, test))
    both, first = (
        recognition(
            seen[views].mean(axis=0),
            test.labels,
            tuned_thresholds(tuned[views].mean(axis=0), validation.labels),
        )
        for views in (slice(None), slice(1))
    )
    half = recognition(seen.mean(axis=0), test.labels)
    units: dict[str, dict[str, float]] = {
        f"AU{unit}": dict(zip(UNIT_FIGURES, map(float, figures), strict=True))
        for unit, *figures in zip(test.units, half.f1, both.f1, both.auc, strict=True)
    }
    related = trained.related
    return AuResult(both.mean_f1, both.mean_auc, first.mean_f1, first.mean_auc, related, units)


def _recipe(cell: AuCell) -> Recipe:
    from policyport.train.au.learner import Recipe

    return Recipe(
        view_weight=cell.view_weight if cell.variant in WITH_VIEWS else 0.0,
        agreement_weight=cell.agreement_weight if cell.variant in WITH_AGREEMENT else 0.0,
        relation_steps=cell.relation_steps,
        steps=cell.steps,
        unlabelled_batch=96 if cell.unlabelled else 0,
        learning_rate=cell.learning_rate,
        selective=cell.selective,
        separate_augmentation=not cell.shared_augmentation,
        evaluate_every=max(1, cell.steps // 4),
        patience=100,
        seed=cell.seed,
    )


def _faces(cell: AuCell, processes: int) -> tuple[LabelledFaces, LabelledFaces | None, LabelledFaces, LabelledFaces]:
    from policyport.train.au.data import rendered
    from policyport.train.faces.dataset import FaceSpec, faces
    from policyport.train.faces.scene import Conditions
    from policyport.train.faces.units import EMOTIONET

    def persons(first: int, count: int, conditions: Conditions) -> LabelledFaces:
        spec = FaceSpec(count, cell.images_per_person, 64, cell.seed, first, conditions)
        return rendered(faces(spec, processes), EMOTIONET)

    wide = Conditions()
    narrow = Conditions(**FRONTAL) if cell.regime == "gap" else wide
    more = persons(FIRST_UNLABELLED, cell.unlabelled, wide).unlabelled() if cell.unlabelled else None
    labelled = persons(0, cell.labelled, narrow)
    if cell.regime == "noise":
        wrong = np.random.default_rng(cell.seed).random(labelled.labels.shape) < WRONG
        labelled = dataclasses.replace(labelled, labels=np.where(wrong, 1 - labelled.labels, labelled.labels))
    return (
        labelled,
        more,
        persons(FIRST_VALIDATION, VALIDATION, narrow),
        persons(FIRST_TEST, TEST, wide),
    )


@dataclass(frozen=True)
class AuRow:
    """The seeds of one setting together."""

    setting: AuCell
    """Its first seed's cell."""

    results: tuple[AuResult, ...]

    @property
    def f1(self) -> tuple[float, ...]:
        """Mean F1 of each seed, of both views together."""
        return tuple(result.f1 for result in self.results)

    @property
    def words(self) -> tuple[str, ...]:
        """The row as cells of a table, without the gain."""
        at, second = self.setting, self.setting.relation_steps
        spreads = (_spread([getattr(result, name) for result in self.results]) for name in ("f1", "auc", "first_f1"))
        kept = f"{sum(result.related for result in self.results)} of {len(self.results)}" if second else ""
        return (at.regime, f"{at.labelled} / {at.unlabelled}", at.losses, at.batches, *spreads, kept)


HEADER = (
    "regime",
    "persons labelled / unlabelled",
    "losses, weights",
    "batches",
    "mean F1, both views",
    "mean AUC",
    "mean F1, first view",
    "relations kept",
)


def rows_of(found: Iterable[tuple[AuCell, AuResult]]) -> list[AuRow]:
    """Settings in the order in which they came, seeds side by side."""
    grouped: dict[AuCell, list[tuple[AuCell, AuResult]]] = {}
    for cell, result in found:
        grouped.setdefault(dataclasses.replace(cell, seed=0), []).append((cell, result))
    return [AuRow(pairs[0][0], tuple(result for _, result in pairs)) for pairs in grouped.values()]


def gain(row: AuRow, rows: Sequence[AuRow]) -> tuple[float, float] | None:
    """Mean and standard deviation over the seeds of the F1 gained over the label loss alone, other things equal.

    Those are the regime, the persons with labels, the batches of the first stage, augmentation and selective learning;
    None where that was not measured.
    """
    base = next((other for other in rows if _base(other) == _base(row) and other.setting.variant == "labels"), None)
    if base is None or base is row or len(base.f1) != len(row.f1):
        return None
    gained = np.subtract(row.f1, base.f1)
    return float(gained.mean()), float(gained.std(ddof=1)) if len(gained) > 1 else 0.0


def _base(row: AuRow) -> tuple[str, int, int, bool, bool]:
    at = row.setting
    return at.regime, at.labelled, at.steps, at.shared_augmentation, at.selective


def markdown(rows: Sequence[AuRow]) -> str:
    """The table of the page and of the documentation."""
    lines = [f"| {' | '.join((*HEADER, 'F1 gained'))} |", f"|{'---|' * (len(HEADER) + 1)}"]
    for row in rows:
        won = gain(row, rows)
        words = "" if won is None else f"{won[0]:+.3f} ± {won[1]:.3f}"
        lines.append(f"| {' | '.join((*row.words, words))} |")
    return "\n".join(lines)


def units_markdown(row: AuRow) -> str:
    """What one setting recognizes of each unit, mean and standard deviation over the seeds, and the mean of them."""
    at = row.setting
    lines = [
        f"{at.regime}, {at.labelled} persons labelled, {at.unlabelled} not, losses {at.losses}, {at.batches} batches:",
        "",
        "| unit | F1 at 0.5 | F1 at its tuned threshold | AUC |",
        "|---|---|---|---|",
    ]
    units = [result.units for result in row.results]
    for name in units[0]:
        words = (_spread([seed[name][figure] for seed in units]) for figure in UNIT_FIGURES)
        lines.append(f"| {name} | {' | '.join(words)} |")
    means = (
        _spread([float(np.nanmean([unit[figure] for unit in seed.values()])) for seed in units])
        for figure in UNIT_FIGURES
    )
    return "\n".join([*lines, f"| mean | {' | '.join(means)} |"])


def to_csv(found: Iterable[tuple[AuCell, AuResult]]) -> str:
    """A row per cell, a column per unit and figure."""
    tables = []
    for cell, result in found:
        table = dataclasses.asdict(cell) | dataclasses.asdict(result)
        units = table.pop("units")
        tables.append(table | {f"{name}_{figure}": units[name][figure] for name in units for figure in units[name]})
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(tables[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(tables)
    return stream.getvalue()


def _spread(values: Sequence[float]) -> str:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return f"{np.mean(values):.3f} ± {spread:.3f}"
