"""The folder that an interrupted stage goes on from."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Partial:
    """Unfinished work, tagged with the key of the stage that does it."""

    path: Path

    def remove(self) -> None:
        """Delete it: the work is done."""
        shutil.rmtree(self.path, ignore_errors=True)


def open_partial(out: Path, key: str) -> Partial:
    """``<out>.partial``: as it was left by a run with the same key, else empty."""
    path = out.with_name(out.name + ".partial")
    tag = path / "key"
    if not (tag.is_file() and tag.read_text() == key):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        tag.write_text(key)
    return Partial(path)
