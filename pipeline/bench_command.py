"""The command ``policyport bench``: its flags, and what it prints."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from policyport.pipeline.bench_peers import PeerRow
    from policyport.pipeline.bench_row import Row

SUMMARY = "measure a set of networks on every emulated board, beside recorded figures of other tools"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    parser.add_argument(
        "--models",
        nargs="+",
        type=Path,
        default=(),
        metavar="PATH",
        help="ONNX or TFLite files, or folders of them [default: networks of known shapes, weights from a seed]",
    )
    parser.add_argument(
        "--boards", nargs="+", default=(), metavar="BOARD", help="boards [default: one of each Cortex-M that runs here]"
    )
    parser.add_argument(
        "--peers",
        action="store_true",
        help="measure TFLite and onnxruntime on the cores of Linux boards too; their programs are downloaded on first"
        " use [default: recorded figures]",
    )
    parser.add_argument("--quick", action="store_true", help="two small networks on two boards [default: no]")
    parser.add_argument(
        "--compare", type=Path, metavar="BASELINE.json", help="fail where an instruction count rose [default: none]"
    )
    parser.add_argument(
        "--emulator", choices=("auto", "qemu", "unicorn"), default="auto", help="who runs the boards [default: auto]"
    )
    parser.add_argument(
        "--toolchain", choices=("auto", "gcc", "zig"), default="auto", help="ARM compiler [default: auto]"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/bench"), metavar="DIR", help="folder to write [default: runs/bench]"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Run the benchmark, write its files, and compare where that is asked for.

    :returns: 0
    :raises GateError: an instruction count rose against the baseline
    :raises ToolError: peers are asked for and cannot be run here
    """
    from policyport.pipeline.bench import Request, compare, run_bench
    from policyport.pipeline.bench_output import write_files
    from policyport.pipeline.bench_peers import load_peers

    request = Request(
        arguments.out,
        tuple(arguments.models),
        tuple(arguments.boards),
        arguments.quick,
        arguments.emulator,
        arguments.toolchain,
        arguments.peers,
    )
    quiet = arguments.quiet > arguments.verbose
    peers = load_peers()
    if request.peers:
        from policyport.pipeline.bench_linux_peers import run_peers

        peers = run_peers(request, peers, _silent if quiet else say_peer)
    rows = run_bench(request, _silent if quiet else say, peers.measured)
    for path in write_files(rows, request.out, peers):
        if not quiet:
            print(path)
    if arguments.compare is not None:
        compare(rows, arguments.compare)
    return 0


def say(row: Row) -> None:
    """One line on a row."""
    figures = row.error
    if not row.error:
        estimated = "" if row.cycles is None else f", {row.cycles:,} cycles estimated"
        flash = row.code_bytes + row.constant_bytes
        figures = f"{row.instructions:,} instructions{estimated}, flash {flash:,} B, arena {row.arena_bytes:,} B"
    print(f"{row.label:<28} {row.board:<12} {row.variant:<16} {figures}", flush=True)


def say_peer(row: PeerRow) -> None:
    """One line on a peer's row."""
    dots = f", {row.dot_products:,} of them dot products" if row.dot_products else ""
    print(f"{row.network:<28} {row.core:<12} {row.tool:<16} {row.instructions:,} instructions{dots}", flush=True)


def _silent(_: object) -> None:
    """Say nothing."""
