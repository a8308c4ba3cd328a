"""Progress on standard error: a bar on a terminal, now and then a line of the log elsewhere."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from typing import Protocol

log = logging.getLogger("policyport.progress")

LINE_EVERY_S = 10.0
"""Seconds between two lines; work that is over before has none."""


class Advance(Protocol):
    """What a stage calls as its work goes on."""

    def __call__(self, done: float, note: str = "") -> None:
        """Say how much of the total is done, and optionally a few words on how it stands."""


@contextlib.contextmanager
def progress(label: str, total: float) -> Iterator[Advance]:
    """Tell of work labelled ``label`` that is over at ``total``.

    A bar where standard error is a terminal, else lines of the log, of level INFO; neither where the log of
    ``policyport`` is told only of errors.
    """
    if sys.stderr.isatty() and log.isEnabledFor(logging.WARNING):
        with _bar(label, total) as advance:
            yield advance
    else:
        yield _Lines(label, total)


@contextlib.contextmanager
def _bar(label: str, total: float) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, note="")

        def advance(done: float, note: str = "") -> None:
            bar.update(task, completed=done, note=note)

        yield advance


class _Lines:
    """Advances by a line every :data:`LINE_EVERY_S`."""

    def __init__(self, label: str, total: float) -> None:
        self._label = label
        self._total = total
        self._told_s = time.monotonic()

    def __call__(self, done: float, note: str = "") -> None:
        now_s = time.monotonic()
        if now_s - self._told_s >= LINE_EVERY_S:
            self._told_s = now_s
            share = min(1.0, done / self._total) if self._total else 1.0
            log.info("%s: %.0f %%%s", self._label, 100 * share, f", {note}" if note else "")
