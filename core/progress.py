"""Progress on standard error: a bar on a terminal, now and then a line of the log elsewhere."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

log = logging.getLogger("policyport.progress")

Item = TypeVar("Item")

BAR_AFTER_S = 2.0
"""Seconds that work takes before it has a bar."""

LINE_EVERY_S = 10.0
"""Seconds between two lines; work that is over before has none."""


class Advance(Protocol):
    """What a stage calls as its work goes on."""

    def __call__(self, done: float, note: str = "") -> None:
        """Say how much of the total is done, and optionally a few words on how it stands."""


@contextlib.contextmanager
def progress(label: str, total: float) -> Iterator[Advance]:
    """Tell of work labelled ``label`` that is over at ``total``.

    A bar where standard error is a terminal, once the work has taken a while; else lines of the log, of level
    INFO; neither where the log of ``policyport`` is told only of errors. Work inside of work that has a bar has none.
    """
    if not sys.stderr.isatty() or not log.isEnabledFor(logging.WARNING):
        yield _Lines(label, total)
        return
    bar = _Bar(label, total)
    try:
        yield bar
    finally:
        bar.close()


def each(label: str, items: Sequence[Item]) -> Iterator[Item]:
    """The items one by one, with progress over their number."""
    with progress(label, len(items)) as advance:
        for done, item in enumerate(items, start=1):
            yield item
            advance(done)


class _Bar:
    """Advances a bar on the terminal, which appears after :data:`BAR_AFTER_S`."""

    _shown: ClassVar[_Bar | None] = None
    """The one on the terminal now: there is place for one."""

    def __init__(self, label: str, total: float) -> None:
        self._label = label
        self._total = total
        self._began_s = time.monotonic()
        self._bar: Any = None

    def __call__(self, done: float, note: str = "") -> None:
        if self._bar is None and _Bar._shown is None and time.monotonic() - self._began_s >= BAR_AFTER_S:
            self._open()
        if self._bar is not None:
            self._bar.update(0, completed=done, note=note)

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._bar = Progress(*columns, console=Console(stderr=True))
        self._bar.add_task(self._label, total=self._total, note="")
        self._bar.start()
        _Bar._shown = self

    def close(self) -> None:
        """Leave the bar as it stands, and the terminal to the next."""
        if self._bar is not None:
            self._bar.stop()
            _Bar._shown = None


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
