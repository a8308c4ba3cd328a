"""What the report shows, gathered from a hil artifact and from the artifacts that led to it.

The hil artifact names its inputs by key. Artifacts that lie beside it are taken for its ancestors only
where their keys are those, so the configuration and the tools on the page are the ones that made the result.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policyport.core.artifact import MANIFEST, Artifact, open_artifact, read_manifest, sha256_file
from policyport.core.errors import ArtifactError
from policyport.hil.result import Result

STAGE_ORDER = ("train", "quantize", "deploy", "flash", "hil")


@dataclass(frozen=True)
class Evidence:
    """A result and all that is known of where it comes from."""

    result: Result
    lineage: tuple[Artifact, ...]
    """The artifacts that led here, train first, the hil artifact last; those not found are left out."""

    def table(self, name: str) -> Any:
        """A JSON file of the nearest artifact that has it; None where none has."""
        path = self.find(name)
        return None if path is None else json.loads(path.read_text())

    def columns(self, name: str) -> dict[str, list[float]]:
        """The columns of a CSV file of numbers; empty where no artifact has it."""
        path = self.find(name)
        if path is None:
            return {}
        with path.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        return {key: [float(row[key]) for row in rows] for key in (rows[0] if rows else ())}

    def find(self, name: str) -> Path | None:
        """The file in the nearest artifact that has it whole."""
        for artifact in reversed(self.lineage):
            expected = artifact.manifest.files.get(name)
            path = artifact.path / name
            if expected is not None and path.is_file() and sha256_file(path) == expected:
                return path
        return None

    def figures(self, stage: str) -> dict[str, Any]:
        """The figures of an ancestor's manifest; empty where it was not found."""
        return next((artifact.manifest.figures for artifact in self.lineage if artifact.manifest.kind == stage), {})


def gather(results: Path) -> Evidence:
    """Open a hil artifact and find its ancestors.

    :raises ArtifactError: no hil artifact, or a torn one
    """
    measured = open_artifact(results, "hil")
    return Evidence(Result.read(measured.file("result.json")), _lineage(measured))


def _lineage(measured: Artifact) -> tuple[Artifact, ...]:
    by_key = {artifact.key: artifact for artifact in _beside(measured.path.resolve())}
    found = {measured.key: measured}
    wanted = list(measured.manifest.inputs.values())
    while wanted:
        artifact = by_key.get(wanted.pop())
        if artifact is not None and artifact.key not in found:
            found[artifact.key] = artifact
            wanted += artifact.manifest.inputs.values()
    known = [artifact for artifact in found.values() if artifact.manifest.kind in STAGE_ORDER]
    return tuple(sorted(known, key=lambda artifact: STAGE_ORDER.index(artifact.manifest.kind)))


def _beside(path: Path) -> list[Artifact]:
    """Whatever artifacts lie in the same folder or, for a variant of a run, in the one around it.

    Their files are checked when they are read.
    """
    artifacts = []
    for manifest in (*sorted(path.parent.glob(f"*/{MANIFEST}")), *sorted(path.parent.parent.glob(f"*/{MANIFEST}"))):
        try:
            artifacts.append(Artifact(manifest.parent, read_manifest(manifest.parent)))
        except ArtifactError:
            continue
    return artifacts
