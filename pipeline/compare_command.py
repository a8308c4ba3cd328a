"""What ``policyport quantize MODEL --compare`` takes and prints."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from policyport.core.errors import ConfigError
from policyport.core.options import from_arguments

if TYPE_CHECKING:
    from policyport.pipeline.compare_cell import ComparedCell


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of a comparison, beside the stage's own."""
    group = parser.add_argument_group("comparison of methods and widths")
    add = group.add_argument
    add(
        "--compare",
        action="store_true",
        help="quantize by several methods at several widths, and compare [default: no]",
    )
    add(
        "--compare-methods",
        nargs="+",
        metavar="METHOD",
        help="lattice, blocks, adaround, gptq, nearest, qat [default: lattice gptq nearest]",
    )
    add("--compare-bits", nargs="+", type=int, metavar="BITS", help="widths of weights [default: 8 4 3 2]")
    add(
        "--compare-episodes",
        type=int,
        default=20,
        help="seeded episodes of a policy in each cell; 0 for none [default: 20]",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Compare, print the table, write JSON, CSV and the page.

    :raises ConfigError: no model, or no such method or width
    """
    from policyport.pipeline.compare import METHODS, compare, to_csv, to_json
    from policyport.pipeline.compare_page import render_page
    from policyport.quantize.config import WEIGHT_BITS, QuantizeConfig

    if arguments.model is None:
        raise ConfigError(
            "no model given", where="policyport quantize --compare", expected="a train folder or an ONNX file"
        )
    quiet = arguments.json or arguments.quiet > arguments.verbose
    out: Path = arguments.out or arguments.model.resolve().parent / "compare"
    out.mkdir(parents=True, exist_ok=True)
    found = compare(
        arguments.model,
        from_arguments(QuantizeConfig, arguments, None),
        out,
        arguments.compare_methods or METHODS,
        arguments.compare_bits or WEIGHT_BITS,
        arguments.compare_episodes,
        (lambda _: None) if quiet else say,
    )
    for name, text in {
        "compare.json": to_json(found),
        "compare.csv": to_csv(found.cells),
        "compare.html": render_page(found),
    }.items():
        (out / name).write_text(text, encoding="utf-8")
    if arguments.json:
        print(to_json(found), end="")
    elif not quiet:
        exact = "" if found.float_metric is None else f"float32 {found.metric_name} {found.float_metric:.3f}; "
        print(f"{exact}{out / 'compare.html'}")
    return 0


def say(cell: ComparedCell) -> None:
    """One line on a cell."""
    from policyport.pipeline.compare import HEADER, words

    pairs = (f"{name} {word}" for name, word in zip(HEADER[2:], words(cell)[2:], strict=True) if word)
    print(f"{cell.method:<9} {cell.bits} bits  {', '.join(pairs)}", flush=True)
