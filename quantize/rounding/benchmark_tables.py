"""The benchmark's results: every measurement, means over seeds, a table for a page, a figure."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from policyport.quantize.rounding.study import Row

SCHEMA = 2

BITS = (4, 3, 2)

PEERS = Path(__file__).with_name("peers.json")

FIGURES = ("accuracy", "agreement", "sqnr_db", "seconds")

Line = dict[str, Any]


def write(rows: Sequence[Row], out: Path) -> None:
    """Write every measurement and their means over seeds, beside what is recorded of other tools."""
    out.mkdir(parents=True, exist_ok=True)
    peers = json.loads(PEERS.read_text())
    lines = means(rows)
    run = _versions(lines)
    document = {"schema": SCHEMA, "rows": [asdict(row) for row in rows], "means": lines, "peers": peers, "run": run}
    (out / "results.json").write_text(json.dumps(document, indent=2) + "\n")
    with (out / "results.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, list(asdict(rows[0])), lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(row) for row in rows)
    (out / "results.md").write_text(markdown(lines, peers, run))
    _plot(lines, peers["rows"], out / "results.png")


def means(rows: Sequence[Row]) -> list[Line]:
    """One line for each network, width and method: means over seeds, and the spread of the noise."""
    groups: dict[tuple[str, int, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.network, row.bits, row.method), []).append(row)
    return [
        {
            "network": network,
            "bits": bits,
            "method": method,
            "seeds": sorted(row.seed for row in group),
            **{figure: float(np.mean([getattr(row, figure) for row in group])) for figure in FIGURES},
            "sqnr_db_spread": float(np.std([row.sqnr_db for row in group])),
        }
        for (network, bits, method), group in groups.items()
    ]


def _versions(lines: Sequence[Line]) -> dict[str, str]:
    """Other tools that ran, and their versions."""
    from policyport.quantize.rounding.live_peers import LIVE_PEERS, versions

    return versions(line["method"] for line in lines if line["method"] in LIVE_PEERS)


def markdown(lines: Sequence[Line], peers: Line, run: Mapping[str, str]) -> str:
    """Tables by network: a line for each method, SQNR, accuracy and seconds for each width.

    A recorded figure of another tool stands where the same method did not run beside ours. What is not of the
    trainings that the table's head names says which it is of.

    :param run: tools that ran beside ours, and their versions
    """
    parts, recorded = [], []
    for network in dict.fromkeys(line["network"] for line in lines):
        own = [line for line in lines if line["network"] == network]
        widths = sorted({line["bits"] for line in own}, reverse=True)
        live = {(line["bits"], line["method"]) for line in own}
        others = [
            row
            for row in peers["rows"]
            if row["network"] == network and row["bits"] in widths and (row["bits"], row["method"]) not in live
        ]
        recorded += others
        seeds = max((line["seeds"] for line in own), key=len)
        head = [
            f"| {network}, {_trainings(seeds)} |" + "".join(f" w{bits}: dB, %, s |" for bits in widths),
            "|---" * (len(widths) + 1) + "|",
        ]
        parts += [*head, *_table(own, widths, seeds, ""), *_table(others, widths, seeds, ", recorded"), ""]
    if run:
        parts.append("Run beside, weights alone: " + ", ".join(" ".join(tool) for tool in run.items()) + ".\n")
    if recorded:
        a8 = any("activation_bits" in row for row in recorded)
        note = " a8: with int8 activations, not to be compared with weights alone." if a8 else ""
        parts.append(f"Recorded: {peers['source']}.{note}")
    return "\n".join(parts) + "\n"


def _trainings(seeds: Sequence[int]) -> str:
    """The trainings that figures are means of, by their seeds."""
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"


def _table(lines: Sequence[Line], widths: Sequence[int], seeds: Sequence[int], note: str) -> list[str]:
    """Rows of methods; ``seeds`` are those that need no word."""
    rows = []
    for method in dict.fromkeys(line["method"] for line in lines):
        by_bits = {line["bits"]: line for line in lines if line["method"] == method}
        a8 = ", a8" if any("activation_bits" in line for line in by_bits.values()) else ""
        of = {tuple(line.get("seeds", seeds)) for line in by_bits.values()}
        whole = f", {_trainings(*of)}" if len(of) == 1 and of != {tuple(seeds)} else ""
        cells = [_cell(by_bits.get(bits), seeds if len(of) > 1 else None) for bits in widths]
        rows.append(f"| {method}{a8}{note}{whole} | " + " | ".join(cells) + " |")
    return rows


def _cell(line: Line | None, seeds: Sequence[int] | None) -> str:
    """Figures of one width; with the trainings that they are of, where these are others than ``seeds``."""
    if line is None:
        return ""
    figures = ", ".join(f"{line[key]:.1f}" if key in line else "-" for key in ("sqnr_db", "accuracy", "seconds"))
    if seeds is None or line.get("seeds", seeds) == seeds:
        return figures
    return f"{figures} ({_trainings(line['seeds'])})"


def _plot(lines: Sequence[Line], peers: Sequence[Line], path: Path) -> None:
    """SQNR against width, a panel for each network; recorded figures as crosses."""
    from matplotlib.figure import Figure

    networks = list(dict.fromkeys(line["network"] for line in lines))
    figure = Figure(figsize=(6.5 * len(networks), 5), layout="constrained")
    for panel, network in enumerate(networks, 1):
        axes = figure.add_subplot(1, len(networks), panel)
        for source, style in ((lines, "o-"), (peers, "x--")):
            chosen = [line for line in source if line["network"] == network]
            for method in dict.fromkeys(line["method"] for line in chosen):
                points = sorted((line["bits"], line["sqnr_db"]) for line in chosen if line["method"] == method)
                axes.plot(*zip(*points, strict=True), style, label=method, linewidth=1)
        axes.set(title=network, xlabel="bits of a weight", ylabel="SQNR of the logits, dB", xticks=BITS)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.savefig(path, dpi=120)
