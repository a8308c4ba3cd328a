"""Arrays kept in a file between runs: read whole or not at all."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def read_arrays(path: Path) -> dict[str, NDArray[Any]] | None:
    """The arrays of a file by name; None where there is none, or one that is torn."""
    try:
        with path.open("rb") as stream, np.load(stream) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None  # what it held is found again


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a file that is there whole or not at all, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{os.getpid()}.npz")
    np.savez(fresh, **arrays)
    fresh.replace(path)
