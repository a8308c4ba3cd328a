"""``policyport study last-layer --during``: what solving the last layer anew is worth at points of a training.

Moreau and Audiffren 2016 (1611.04499) post-train networks that have been trained for shorter and longer. Here those of
scikit-learn's digits are trained on four fifths of the training images; at shares of the training the last layer of a
copy is solved anew on these, its penalty chosen on the other fifth, and test images judge.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from policyport import quantize, train
from policyport.core.artifact import code_version
from policyport.core.errors import ConfigError
from policyport.core.page import Figure
from policyport.core.paired import ALPHA, holm, mcnemar
from policyport.pipeline import study_files
from policyport.pipeline.adaround_study import NETWORKS, require_torch
from policyport.pipeline.cells import cell, kept
from policyport.pipeline.last_layer_study import gains_in_words

if TYPE_CHECKING:
    from policyport.quantize.rounding.digits import Digits

SHARES = (0.1, 0.25, 0.5, 1.0)
HELD_OUT_EVERY = 5
CODE = (Path(quantize.__path__[0]), Path(train.__path__[0]) / "last_layer.py")


@dataclass(frozen=True)
class DuringRequest:
    """What to study."""

    out: Path
    networks: tuple[str, ...] = NETWORKS
    seeds: tuple[int, ...] = (0,)
    epochs: int = 60
    """Of a whole training."""

    shares: tuple[float, ...] = SHARES
    """Of the training, above 0 and at most 1, behind which the step is tried."""

    measured_only: bool = False
    """Sum up the trainings that are there, and measure none."""


@dataclass(frozen=True)
class DuringRow:
    """One point of one training; where validation did not gain, what is after is what was before."""

    network: str
    seed: int
    share: float
    epoch: int
    taken: bool
    accuracy_before: float
    """Percent of the test images."""

    accuracy_after: float
    loss_before: float
    """Mean cross-entropy on the test images."""

    loss_after: float
    gained: int
    """Test images that are classified right behind the step alone."""

    lost: int


Said = Callable[[DuringRow], None]


def study_during(request: DuringRequest, said: Said) -> list[DuringRow]:
    """Measure, training by training.

    :param said: is told of each row
    :raises ConfigError: no such network or share, or nothing measured that could be summed up
    :raises ToolError: torch or scikit-learn is missing
    """
    wrong: list[Any] = [name for name in request.networks if name not in NETWORKS]
    if wrong:
        raise ConfigError("no such network", where="study", expected=", ".join(NETWORKS), got=wrong[0])
    wrong = [share for share in request.shares if not 0 < share <= 1]
    if wrong:
        raise ConfigError("no share of a training", where="during", expected="above 0, 1 at the most", got=wrong[0])
    rows: list[DuringRow] = []
    for network, seed in itertools.product(request.networks, request.seeds):
        for row in _training(request, network, seed):
            rows.append(row)
            said(row)
    if not rows:
        raise ConfigError("nothing is measured that could be summed up", where=request.out / "cells")
    return rows


def _training(request: DuringRequest, network: str, seed: int) -> list[DuringRow]:
    """A row for each share; none where they are not there and none are to be measured."""
    points = {max(1, round(share * request.epochs)): share for share in sorted(request.shares)}
    given = {"network": network, "seed": seed, "epochs": request.epochs, "code": code_version(*CODE)}
    given |= {"at": list(points)}
    folder, name = request.out / "cells", f"{network}-seed{seed}"

    def measure() -> dict[str, Any]:
        return {"points": _measured(network, seed, request.epochs, set(points))}

    result = kept(folder, name, given) if request.measured_only else cell(folder, name, given, measure)
    found = [] if result is None else result["points"]
    return [DuringRow(network, seed, points[point["epoch"]], **point) for point in found]


def _measured(network: str, seed: int, epochs: int, at: set[int]) -> list[dict[str, Any]]:
    require_torch()
    from policyport.quantize.rounding.digits import load_digits, training

    data = load_digits()
    apart = np.arange(len(data.train_images)) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
    rest = dataclasses.replace(data, train_images=data.train_images[~apart], train_labels=data.train_labels[~apart])
    held_out = dataclasses.replace(data, train_images=data.train_images[apart], train_labels=data.train_labels[apart])
    passes = enumerate(training(network, rest, seed, epochs))
    return [{"epoch": epoch, **_step(net, rest, held_out)} for epoch, net in passes if epoch in at]


def _step(network: Any, data: Digits, held_out: Digits) -> dict[str, Any]:
    """The step on a copy of a network, judged by the test images."""
    import torch
    from policyport.train.last_layer import post_train

    def given(part: Digits) -> tuple[Any, Any]:
        return torch.from_numpy(part.train_images), torch.from_numpy(part.train_labels)

    def judged(net: Any) -> tuple[Any, float]:
        with torch.no_grad():
            logits = net(torch.from_numpy(data.test_images))
        labels = torch.from_numpy(data.test_labels)
        return (logits.argmax(dim=1) == labels).numpy(), float(torch.nn.functional.cross_entropy(logits, labels))

    net = copy.deepcopy(network).eval()
    right, loss = judged(net)
    step = post_train(net, net.last, *given(data), "classes", given(held_out))
    right_after, loss_after = judged(net)
    return {
        "taken": step.taken,
        "accuracy_before": 100 * float(np.mean(right)),
        "accuracy_after": 100 * float(np.mean(right_after)),
        "loss_before": loss,
        "loss_after": loss_after,
        "gained": int(np.sum(right_after & ~right)),
        "lost": int(np.sum(right & ~right_after)),
    }


HEADER = ("network", "of the training", "trainings", "taken", "accuracy before, %", "points gained", "loss before",
          "loss after", "beyond noise: raised, lowered")  # fmt: skip


def table(rows: Sequence[DuringRow]) -> list[list[str]]:
    """A line for each network and share."""
    taken = [index for index, row in enumerate(rows) if row.taken]
    p_values = holm([mcnemar(rows[index].gained, rows[index].lost) for index in taken])
    beyond = {index for index, p in zip(taken, p_values, strict=True) if p < ALPHA}
    groups: dict[tuple[str, float], list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault((row.network, row.share), []).append(index)
    return [list(HEADER), *(_line(rows, chosen, beyond) for chosen in groups.values())]


def _line(rows: Sequence[DuringRow], chosen: Sequence[int], beyond: set[int]) -> list[str]:
    mine = [rows[index] for index in chosen]
    gains = [row.accuracy_after - row.accuracy_before for row in mine]
    sure = [rows[index].gained - rows[index].lost for index in chosen if index in beyond]
    return [
        mine[0].network,
        f"{mine[0].share:.0%}",
        str(len(mine)),
        str(sum(row.taken for row in mine)),
        f"{np.mean([row.accuracy_before for row in mine]):.1f}",
        gains_in_words(gains),
        f"{np.mean([row.loss_before for row in mine]):.3f}",
        f"{np.mean([row.loss_after for row in mine]):.3f}",
        f"{sum(gain > 0 for gain in sure)}, {sum(gain < 0 for gain in sure)}",
    ]


NOTE = (
    "Means over trainings, in brackets least and most; test images judge. Where validation does not gain, the layer "
    "stays. Beyond noise: exact McNemar test at 5 %, corrected for all that are taken by Holm's procedure."
)


def to_json(rows: Sequence[DuringRow]) -> str:
    """Every figure."""
    return json.dumps({"schema": 1, "rows": [dataclasses.asdict(row) for row in rows]}, indent=1) + "\n"


def to_markdown(rows: Sequence[DuringRow]) -> str:
    """The table of the documentation."""
    head, *body = table(rows)
    lines = "".join(f"| {' | '.join(line)} |\n" for line in (head, ["---"] * len(head), *body))
    return f"{lines}\n{NOTE}\n"


def to_csv(rows: Sequence[DuringRow]) -> str:
    """A line for each point of each training."""
    return study_files.to_csv([dataclasses.asdict(row) for row in rows])


def render_page(rows: Sequence[DuringRow]) -> str:
    """The table and, for each network, the accuracy with the step and without over the training."""
    figures = [Figure(_over_training(rows, name), name) for name in dict.fromkeys(row.network for row in rows)]
    title = "The last layer, solved in the middle of a training"
    return study_files.render(title, NOTE, [("By network and share of the training", table(rows))], figures)


def _over_training(rows: Sequence[DuringRow], network: str) -> str:
    mine = [row for row in rows if row.network == network]
    shares = sorted({row.share for row in mine})
    means = {share: [row for row in mine if row.share == share] for share in shares}
    before = [float(np.mean([row.accuracy_before for row in means[share]])) for share in shares]
    after = [float(np.mean([row.accuracy_after for row in means[share]])) for share in shares]
    percents = [100 * share for share in shares]
    lines = [study_files.Curve("as trained", percents, before), study_files.Curve("with the step", percents, after)]
    return study_files.curves(f"during-{network}", lines, ("% of the training", "accuracy, %"))
