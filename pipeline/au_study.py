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

    @property
    def name(self) -> str:
        """Its file."""
        variant = self.variant.replace("+", "")
        return f"{self.regime}-{variant}-{self.labelled}-{self.unlabelled}-{self.seed}"


@dataclass(frozen=True)
class AuResult:
    """Figures on the test persons, of the mean of both views and of the first alone."""

    f1: float
    """Mean over the units, each at its threshold tuned on the validation persons."""

    auc: float
    first_f1: float
    first_auc: float


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
) -> list[AuCell]:
    """The cells of a study; where unlabelled pictures change nothing, their number is 0."""
    cells = []
    for regime in regimes:
        for persons in labelled:
            for variant in variants:
                for more in sorted({count if variant in ("+cr", "all") else 0 for count in unlabelled}):
                    second = relation_steps if variant in ("+gcn", "all") else 0
                    cells += [
                        AuCell(variant, regime, persons, more, seed, steps, second, agreement_weight=agreement_weight)
                        for seed in seeds
                    ]
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
    figures = []
    for views in (slice(None), slice(1)):
        limits = tuned_thresholds(tuned[views].mean(axis=0), validation.labels)
        found = recognition(seen[views].mean(axis=0), test.labels, limits)
        figures += [found.mean_f1, found.mean_auc]
    return AuResult(*figures)


def _recipe(cell: AuCell) -> Recipe:
    from policyport.train.au.learner import Recipe

    with_views = cell.variant in ("+mv", "all")
    with_agreement = cell.variant in ("+cr", "all")
    return Recipe(
        view_weight=cell.view_weight if with_views else 0.0,
        agreement_weight=cell.agreement_weight if with_agreement else 0.0,
        relation_steps=cell.relation_steps,
        steps=cell.steps,
        unlabelled_batch=96 if cell.unlabelled else 0,
        learning_rate=cell.learning_rate,
        selective=False,
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

    regime: str
    labelled: int
    unlabelled: int
    variant: str
    f1: tuple[float, ...]
    auc: tuple[float, ...]
    first_f1: tuple[float, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """The row as cells of a table."""
        pictures = f"{self.labelled} / {self.unlabelled}"
        return (self.regime, pictures, self.variant, _spread(self.f1), _spread(self.auc), _spread(self.first_f1))


HEADER = ("regime", "persons labelled / unlabelled", "losses", "mean F1, both views", "mean AUC", "mean F1, first view")


def rows_of(found: Iterable[tuple[AuCell, AuResult]]) -> list[AuRow]:
    """Settings in the order in which they came, seeds side by side."""
    grouped: dict[tuple[str, int, int, str], list[AuResult]] = {}
    for cell, result in found:
        grouped.setdefault((cell.regime, cell.labelled, cell.unlabelled, cell.variant), []).append(result)
    return [
        AuRow(*setting, *(tuple(getattr(result, name) for result in results) for name in ("f1", "auc", "first_f1")))
        for setting, results in grouped.items()
    ]


def gain(row: AuRow, rows: Sequence[AuRow]) -> tuple[float, float] | None:
    """Mean and standard deviation over the seeds of the F1 gained over the label loss alone with as many labels."""
    same = (row.regime, row.labelled)
    base = next((other for other in rows if (other.regime, other.labelled) == same and other.variant == "labels"), None)
    if base is None or base is row or len(base.f1) != len(row.f1):
        return None
    gained = np.subtract(row.f1, base.f1)
    return float(gained.mean()), float(gained.std(ddof=1)) if len(gained) > 1 else 0.0


def markdown(rows: Sequence[AuRow]) -> str:
    """The table of the page and of the documentation."""
    lines = [f"| {' | '.join((*HEADER, 'F1 gained'))} |", f"|{'---|' * (len(HEADER) + 1)}"]
    for row in rows:
        won = gain(row, rows)
        words = "" if won is None else f"{won[0]:+.3f} ± {won[1]:.3f}"
        lines.append(f"| {' | '.join((*row.words, words))} |")
    return "\n".join(lines)


def to_csv(found: Iterable[tuple[AuCell, AuResult]]) -> str:
    """A row per cell."""
    tables = [dataclasses.asdict(cell) | dataclasses.asdict(result) for cell, result in found]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(tables[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(tables)
    return stream.getvalue()


def _spread(values: Sequence[float]) -> str:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return f"{np.mean(values):.3f} ± {spread:.3f}"
