"""What ``policyport hil faults IMAGE`` takes and prints."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from policyport.hil.rack.fault_campaign import Figures

SUMMARY = "harm the frames on the line to a board: exit code 1 where a wrong result is taken or the host hangs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    add = parser.add_argument
    add("image", type=Path, metavar="IMAGE", help="deploy folder")
    add("--frames", type=int, default=10_000, metavar="N", help="frames, either way [default: 10000]")
    add("--share", type=float, default=0.02, metavar="SHARE", help="of the frames that are harmed [default: 0.02]")
    add("--seed", type=int, default=0, help="of the faults [default: 0]")
    add("--port", default="", metavar="URL", help="pyserial URL of a real board [default: an emulated one]")
    add("--emulator", choices=("auto", "qemu", "unicorn"), default="auto", help="who runs the board [default: auto]")
    add("--timeout-s", type=float, default=0.1, help="seconds until a request is sent again [default: 0.1]")
    add("--retries", type=int, default=3, help="times a request is sent again [default: 3]")
    add("--json", action="store_true", help="print the figures as JSON, nothing else [default: no]")


def execute(arguments: argparse.Namespace) -> int:
    """Talk over the harmed line, print what came of it.

    :raises GateError: a wrong result was taken, or the host hung
    """
    from policyport.hil.rack.fault_campaign import as_table, require_none_wrong, run_campaign
    from policyport.hil.rack.faulty_link import Faults

    figures = run_campaign(
        arguments.image,
        arguments.frames,
        Faults(arguments.share, 1.2 * arguments.timeout_s, arguments.seed),
        port=arguments.port,
        emulator=arguments.emulator,
        timeout_s=arguments.timeout_s,
        retries=arguments.retries,
    )
    if arguments.json:
        print(json.dumps(as_table(figures), indent=2))
    elif arguments.quiet <= arguments.verbose:
        print("\n".join(lines(figures)))
    require_none_wrong(figures, arguments.image)
    return 0


def lines(figures: Figures) -> list[str]:
    """What came of it, for people."""
    harmed = ", ".join(f"{count:,} {kind}" for kind, count in figures.harmed.items())
    told = f"{figures.timed_out:,} time-outs, {figures.restarts_told:,} restarts, {figures.refused:,} refusals"
    return [
        f"{figures.frames:,} frames, {sum(figures.harmed.values()):,} harmed: {harmed or 'none'}",
        f"{figures.exchanges:,} exchanges: {figures.answered:,} answered, after {figures.resends:,} resends; {told}",
        f"{figures.wrong:,} wrong results taken; {figures.hung:,} hung, the longest exchange "
        f"{figures.longest_s:.2f} s of at most {figures.limit_s:.2f} s",
    ]
