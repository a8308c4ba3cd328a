"""A result beside a baseline: what got better, what got worse, and what got worse than it may."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from policyport.core.errors import ArtifactError, GateError, UsageError
from policyport.hil import junit
from policyport.hil.coding_figures import CodingFigures
from policyport.hil.report.comparison import flash_bytes, ram_bytes
from policyport.hil.report.text import number
from policyport.hil.result import Result

SLACK = 1e-9
"""Share of a figure that rounding of floating point may add to a tolerance."""


@dataclass(frozen=True)
class Tolerances:
    """How much worse each kind of figure may be than its baseline, in % of the baseline's magnitude."""

    latency: float = 2.0
    """Instructions or cycles."""

    memory: float = 2.0
    """Flash and RAM."""

    stack: float = 0.0
    """Deepest use of the stack."""

    returns: float = 1.0
    """Mean return, and the share of episodes that succeed."""

    f1: float = 1.0
    """Mean F1 of a classifier."""

    rate: float = 1.0
    """Bits per pixel and PSNR of an image encoder's pictures."""


@dataclass(frozen=True)
class Compared:
    """One figure, then and now."""

    name: str
    baseline: float
    now: float
    allowed: float
    """How much worse it may be, in its own unit."""

    tolerance: str
    """The same in words."""

    rising_is_worse: bool = True

    @property
    def worse(self) -> float:
        """How much worse it is; below 0 where it is better."""
        return self.now - self.baseline if self.rising_is_worse else self.baseline - self.now

    @property
    def held(self) -> bool:
        """Whether it is no worse than it may be."""
        return self.worse <= self.allowed + SLACK * abs(self.baseline)

    @property
    def verdict(self) -> Literal["same", "better", "worse", "too much worse"]:
        """What became of it."""
        if not self.held:
            return "too much worse"
        return "same" if self.worse == 0 else "better" if self.worse < 0 else "worse"


def read_result(path: Path) -> Result:
    """The result at a path.

    :param path: a ``result.json`` under any name, or a folder that holds one
    :raises ArtifactError: none is there, or one of another schema
    """
    file = path / "result.json" if path.is_dir() else path
    if not file.is_file():
        raise ArtifactError(
            "no result here",
            where=file,
            expected="a folder of policyport hil, or a result.json",
            cure="measure with policyport hil; a first baseline is written with policyport hil compare --accept",
        )
    return Result.read(file)


def compare(baseline: Result, now: Result, tolerances: Tolerances) -> tuple[Compared, ...]:
    """Every figure that both results have.

    :raises UsageError: they are of other boards, emulators, tasks or episodes
    """
    _require_alike(baseline, now)
    return (
        *_latency(baseline, now, tolerances),
        *_memory(baseline, now, tolerances),
        Compared("integers unlike the reference", _unequal(baseline), _unequal(now), 0.0, "none more"),
        *_task(baseline, now, tolerances),
    )


def require_held(compared: tuple[Compared, ...], where: object) -> None:
    """Raise for the figures that got worse than they may, a line for each.

    :param where: the result that was compared
    :raises GateError: names each of them with its baseline, its value now and its tolerance
    """
    violated = [one for one in compared if not one.held]
    if violated:
        raise GateError(
            f"{len(violated)} of {len(compared)} figures got worse than they may",
            where=where,
            got="\n            ".join(describe(one) for one in violated),
            cure="if that is meant to be so: policyport hil compare --accept",
        )


def describe(one: Compared) -> str:
    """A figure in one line."""
    return f"{one.name}: baseline {number(one.baseline)}, now {number(one.now)}, tolerance {one.tolerance}"


def write_junit(compared: tuple[Compared, ...], now: Result, path: Path) -> None:
    """Write the comparison for a CI server: a case for each figure, then and now as properties."""
    cases = [(one.name, "" if one.held else describe(one)) for one in compared]
    properties = {f"{one.name}, {when}": getattr(one, when) for one in compared for when in ("baseline", "now")}
    name = f"{now.model} on {now.board.name} against its baseline"
    junit.write_suite(path, name, f"policyport.hil.compare.{now.board.name}", cases, properties)


def accept(result: Path, baseline: Path) -> None:
    """Make a result the baseline, atomically: who reads it meanwhile gets the old one or the new one.

    :param result: as :func:`read_result` takes it
    :param baseline: the file to write
    :raises UsageError: the baseline is a folder: an artifact is not overwritten
    """
    if baseline.is_dir():
        raise UsageError("a folder is no baseline to write", where=baseline, cure="name a file, such as baseline.json")
    baseline.parent.mkdir(parents=True, exist_ok=True)
    building = baseline.with_name(f".{baseline.name}.building-{os.getpid()}")
    read_result(result).write(building)
    building.replace(baseline)


def _require_alike(baseline: Result, now: Result) -> None:
    for what, identify in ALIKE.items():
        before, after = identify(baseline), identify(now)
        if before != after:
            raise UsageError(
                f"results of another {what} cannot be compared",
                where=what,
                expected=f"{before}, as the baseline",
                got=after,
                cure="measure the same on the same, or begin anew: policyport hil compare --accept",
            )


def _emulator(result: Result) -> str:
    return result.board.emulator.split()[0] if result.board.emulator else "none, a real board"


def _episodes(result: Result) -> str:
    """Returns are compared on the same seeds alone; what was not played is not compared."""
    loop = result.loop
    return "none" if loop is None else f"{loop.episodes} episodes of {loop.environment} from seed {loop.first_seed}"


def _coded(result: Result) -> str:
    """Rates are compared on as many pictures of the same source alone, coded by the board alike."""
    coding = result.coding
    if coding is None:
        return "none"
    files = ", ".join(f"{file.picture} at {file.quality}" for file in coding.files)
    return f"{coding.pictures} {coding.source}, on the board {files}"


ALIKE: dict[str, Callable[[Result], Any]] = {
    "board": lambda result: result.board.name,
    "emulator": _emulator,
    "unit": lambda result: result.board.unit,
    "task": lambda result: result.model,
    "closed loop": _episodes,
    "coded pictures": _coded,
}
"""What two results must have in common: its name, and how it is found."""


def _percent(name: str, before: float, after: float, percent: float, rising_is_worse: bool = True) -> Compared:
    return Compared(name, before, after, abs(before) * percent / 100, f"{percent:g} %", rising_is_worse)


def _latency(baseline: Result, now: Result, tolerances: Tolerances) -> Iterator[Compared]:
    for name in ("p50", "max"):
        before, after = (getattr(result.latency.inference, name) for result in (baseline, now))
        yield _percent(f"{now.board.unit} {name}", before, after, tolerances.latency)


def _memory(baseline: Result, now: Result, tolerances: Tolerances) -> Iterator[Compared]:
    for name, size in {"flash, B": flash_bytes, "RAM, B": ram_bytes}.items():
        if size(baseline) and size(now):  # 0 is what was not recorded
            yield _percent(name, size(baseline), size(now), tolerances.memory)
    used = baseline.memory.stack_used_bytes, now.memory.stack_used_bytes
    yield _percent("stack used, B", *used, tolerances.stack)


def _unequal(result: Result) -> float:
    return float(sum(layer.compared - layer.equal for layer in result.parity.layers))


def _task(baseline: Result, now: Result, tolerances: Tolerances) -> Iterator[Compared]:
    if baseline.loop is not None and now.loop is not None:
        means = baseline.loop.board.mean, now.loop.board.mean
        yield _percent("mean return", *means, tolerances.returns, rising_is_worse=False)
        rates = baseline.loop.board_success, now.loop.board_success
        if rates[0] is not None and rates[1] is not None:
            yield _percent("success", rates[0], rates[1], tolerances.returns, rising_is_worse=False)
    if baseline.recognition is not None and now.recognition is not None:
        scores = baseline.recognition.board_f1, now.recognition.board_f1
        yield _percent("mean F1", *scores, tolerances.f1, rising_is_worse=False)
    if baseline.coding is not None and now.coding is not None:
        yield from _coding(baseline.coding, now.coding, now.board.unit, tolerances)


def _coding(baseline: CodingFigures, now: CodingFigures, unit: str, tolerances: Tolerances) -> Iterator[Compared]:
    yield _percent(f"{unit} per pixel", baseline.per_pixel, now.per_pixel, tolerances.latency)
    before = {row.quality: row.board for row in baseline.qualities}
    for row in now.qualities:
        if row.quality in before:
            old, name = before[row.quality], f"quality {row.quality}"
            bits = old.bits_per_pixel, row.board.bits_per_pixel
            yield _percent(f"bits per pixel, {name}", *bits, tolerances.rate)
            yield _percent(f"PSNR, {name}", old.psnr_db, row.board.psnr_db, tolerances.rate, rising_is_worse=False)
