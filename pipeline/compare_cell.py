"""A cell of a comparison, and its metric, which is kept beside its artifact."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from policyport.core.artifact import Artifact, code_version, sha256_json
from policyport.pipeline.compare_metric import Judged

JUDGE = Path(__file__).with_name("compare_metric.py")
"""What a kept metric was measured by."""


@dataclass(frozen=True)
class ComparedCell:
    """What one method did at one width."""

    method: str
    bits: int
    metric: float | None
    """Mean return of a policy, mean F1 or accuracy of a classifier, PSNR in dB of the pictures that an image encoder's
    code is decoded to; None where none can be measured."""

    bits_per_pixel: float | None
    """Of the files of these pictures."""

    agreement: float | None
    """Share of actions or label sets that equal float32's, where they are choices."""

    action_error: float | None
    """Mean error of continuous actions, as a share of their range."""

    sqnr_db: float
    """Of the outputs, on held-out observations."""

    seconds: float | None
    """That quantizing took; None where it had been done before."""

    weight_bytes: int
    layers: dict[str, float]
    """SQNR in dB of each layer's output, errors of earlier layers included."""


def float_key(artifact: Artifact) -> str:
    """What a metric of the float network is known by: the network, and what it came with."""
    return sha256_json([artifact.manifest.files["float.onnx"], artifact.manifest.inputs])


def kept(path: Path, key: str, episodes: int, measure: Callable[[], Judged]) -> Judged:
    """The metric out of its file where that is of the same artifact, else measured and written there."""
    wanted = sha256_json({"key": key, "episodes": episodes, "judge": code_version(JUDGE)})
    table = json.loads(path.read_text()) if path.is_file() else {}
    if table.get("key") != wanted:
        table = {"key": wanted, **dataclasses.asdict(measure())}
        path.write_text(json.dumps(table) + "\n")
    return Judged(table["metric"], table["bits_per_pixel"])
