"""What ``policyport hil compare BASELINE [RESULT]`` takes and prints."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from policyport.core.errors import UsageError

if TYPE_CHECKING:
    from policyport.hil.rack.baseline import Compared
    from policyport.hil.result import Result

SUMMARY = "hold a result against a baseline: exit code 1 where a figure got worse than it may"

COLOUR = {"same": "dim", "better": "green", "worse": "yellow", "too much worse": "red"}
"""Verdict to its colour."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    add = parser.add_argument
    add("baseline", type=Path, metavar="BASELINE", help="a result.json under any name, or a folder that holds one")
    add(
        "result",
        nargs="?",
        type=Path,
        metavar="RESULT",
        help="folder of a hil artifact, or a result.json [default: hil beside the baseline]",
    )
    add("--latency", type=percent, default=2.0, metavar="PERCENT", help="instructions or cycles may rise [default: 2]")
    add("--memory", type=percent, default=2.0, metavar="PERCENT", help="flash and RAM may rise [default: 2]")
    add("--stack", type=percent, default=0.0, metavar="PERCENT", help="the stack used may rise [default: 0]")
    add("--return", type=percent, default=1.0, metavar="PERCENT", help="the mean return may fall [default: 1]")
    add("--f1", type=percent, default=1.0, metavar="PERCENT", help="a classifier's mean F1 may fall [default: 1]")
    add(
        "--rate",
        type=percent,
        default=1.0,
        metavar="PERCENT",
        help="coded pictures' bits may rise, their PSNR fall [default: 1]",
    )
    add("--accept", action="store_true", help="make the result the baseline, whatever it compares to [default: no]")
    add("--junit", type=Path, metavar="FILE", help="write the comparison for a CI server [default: none]")
    add("--json", action="store_true", help="print the comparison as JSON, nothing else [default: no]")


def percent(text: str) -> float:
    """A number from 0 on, with or without a ``%`` behind it.

    :raises ArgumentTypeError: anything else
    """
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage from 0 on")
    return value


def execute(arguments: argparse.Namespace) -> int:
    """Compare, print the table, write what is asked for.

    :raises UsageError: results that cannot be compared
    :raises GateError: a figure got worse than it may, and that was not accepted
    """
    from policyport.hil.rack import baseline as base

    now: Path = arguments.result or arguments.baseline.parent / "hil"
    result = base.read_result(now)
    compared = _compare(arguments, result)
    if arguments.junit is not None:
        base.write_junit(compared, result, arguments.junit)
    if arguments.json:
        print(json.dumps([_as_row(one) for one in compared], indent=2))
    elif compared and arguments.quiet <= arguments.verbose:
        _print(f"{result.model} on {result.board.name}: {now} against {arguments.baseline}", compared)
    if arguments.accept:
        base.accept(now, arguments.baseline)
        if arguments.quiet <= arguments.verbose:
            print(f"{arguments.baseline}: {result.model} on {result.board.name} is the baseline", file=sys.stderr)
    else:
        base.require_held(compared, now)
    return 0


def _compare(arguments: argparse.Namespace, result: Result) -> tuple[Compared, ...]:
    """Every figure; none where a result is accepted that has nothing to be compared with."""
    from policyport.hil.rack.baseline import Tolerances, compare, read_result

    given = {name: getattr(arguments, name) for name in ("latency", "memory", "stack", "f1", "rate")}
    tolerances = Tolerances(**given, returns=vars(arguments)["return"])
    try:
        return compare(read_result(arguments.baseline), result, tolerances)
    except UsageError:
        if not arguments.accept:
            raise
        return ()


def _as_row(one: Compared) -> dict[str, object]:
    return {**dataclasses.asdict(one), "held": one.held, "verdict": one.verdict}


def _print(title: str, compared: tuple[Compared, ...]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("", "baseline", "now", "change", "may be worse by", ""):
        table.add_column(heading, justify="left" if heading == "" else "right", no_wrap=True)
    for one in compared:
        table.add_row(*_words(one), f"[{COLOUR[one.verdict]}]{one.verdict}[/]")
    Console(width=None if sys.stdout.isatty() else 120, highlight=False).print(table)


def _words(one: Compared) -> tuple[str, ...]:
    from policyport.hil.report.text import number

    difference = one.now - one.baseline
    change = f"{100 * difference / abs(one.baseline):+.2f} %" if one.baseline else f"{difference:+g}"
    return one.name, number(one.baseline), number(one.now), change if difference else "", one.tolerance
