"""Which artifact of a run a command takes its model from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from policyport.core.artifact import Artifact, open_artifact
from policyport.core.errors import ArtifactError


def find_model(model: Path, kinds: Sequence[str], what: str, cure: str) -> Artifact:
    """The artifact of a run that a command needs, or the folder itself.

    :param model: folder of a run, or of an artifact
    :param kinds: of artifact that will do, the best first
    :raises ArtifactError: there is none
    """
    for folder in (model, *(model / kind for kind in kinds)):
        if (folder / "manifest.json").is_file():
            artifact = open_artifact(folder)
            if artifact.manifest.kind in kinds:
                return artifact
    raise ArtifactError(what, where=model, expected=f"a run's folder, or a {' or '.join(kinds)} artifact", cure=cure)
