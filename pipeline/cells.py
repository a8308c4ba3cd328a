"""Cells of a study: each a file of its own, so that an interrupted study goes on with those that it lacks."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from policyport.core.artifact import sha256_json

Table = dict[str, Any]


def cell(folder: Path, name: str, given: Mapping[str, Any], measure: Callable[[], Table]) -> Table:
    """What a cell measured: out of its file where that is of the same cell, else measured and written there.

    :param name: of the file
    :param given: everything that the measurement depends on, as JSON
    """
    result = kept(folder, name, given)
    if result is None:
        result = measure()
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / f".{name}.{os.getpid()}"
        table = {"key": sha256_json(dict(given)), "given": dict(given), "result": result}
        fresh.write_text(json.dumps(table, indent=1) + "\n")
        fresh.replace(folder / f"{name}.json")
    return result


def kept(folder: Path, name: str, given: Mapping[str, Any]) -> Table | None:
    """What a cell measured, out of its file; None where there is none, or it is of another cell."""
    table = _read(folder / f"{name}.json")
    result: Table | None = table["result"] if table.get("key") == sha256_json(dict(given)) else None
    return result


def _read(path: Path) -> Table:
    try:
        table: Table = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}  # not there, or torn by a disk that was full
    return table
