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
    path, key = folder / f"{name}.json", sha256_json(dict(given))
    table = _read(path)
    if table.get("key") != key:
        table = {"key": key, "given": dict(given), "result": measure()}
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / f".{name}.{os.getpid()}"
        fresh.write_text(json.dumps(table, indent=1) + "\n")
        fresh.replace(path)
    result: Table = table["result"]
    return result


def _read(path: Path) -> Table:
    try:
        table: Table = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}  # not there, or torn by a disk that was full
    return table
