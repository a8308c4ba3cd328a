"""Progress on standard error: a bar on a terminal, nothing where nobody watches."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Protocol


class Advance(Protocol):
    """What a stage calls as its work goes on."""

    def __call__(self, done: float, note: str = "") -> None:
        """Say how much of the total is done, and optionally a few words on how it stands."""


@contextlib.contextmanager
def progress(label: str, total: float) -> Iterator[Advance]:
    """A bar labelled ``label`` that is full at ``total``; silent where standard error is not a terminal."""
    if not sys.stderr.isatty():
        yield _silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, note="")

        def advance(done: float, note: str = "") -> None:
            bar.update(task, completed=done, note=note)

        yield advance


def _silent(done: float, note: str = "") -> None:
    """Advance when nobody watches."""
