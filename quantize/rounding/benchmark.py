"""Rounding methods side by side on scikit-learn's digits, with recorded figures of other tools.

    python -m policyport.quantize.rounding.benchmark --out rounding

Trains the networks of :mod:`policyport.quantize.rounding.digits`, quantizes their weights per channel to
4, 3 and 2 bits by every method, and writes results.json, results.csv, results.md and results.png. Each measurement
is kept in rows.jsonl as it is made; an interrupted benchmark goes on with those that it lacks.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from policyport.core.artifact import code_version
from policyport.core.errors import ArtifactError, ConfigError, ToolError
from policyport.core.lock import NamedLock

if TYPE_CHECKING:
    from policyport.quantize.rounding.study import Row

SCHEMA = 1

BITS = (4, 3, 2)

NETWORKS = ("mlp", "resnet", "depthwise")

BLOCK = "rounding"
"""Of the page that ``--page`` writes."""

PEERS = Path(__file__).with_name("peers.json")

FIGURES = ("accuracy", "agreement", "sqnr_db", "seconds")

Line = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m policyport.quantize.rounding.benchmark", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("rounding"), help="folder for the results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of training and of what is learned")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--bits", type=int, nargs="+", default=list(BITS), choices=BITS)
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help="names of the table's lines [default: all]")
    parser.add_argument("--live-peers", action="store_true", help="AIMET, Brevitas and MCT too, where installed")
    parser.add_argument("--study", action="store_true", help="the variants of AdaRound's paper too")
    parser.add_argument("--quick", action="store_true", help="few epochs and iterations: to see that it runs")
    parser.add_argument("--page", type=Path, help="Markdown file whose block `rounding` is written")
    options = parser.parse_args(arguments)
    with _alone(options.out):
        rows = list(_rows(options))
        write(rows, options.out)
    table = (options.out / "results.md").read_text()
    if options.page is not None:
        text = options.page.read_text()
        begin, end = f"<!-- figures:{BLOCK} -->\n", f"<!-- /figures:{BLOCK} -->"
        before, _, rest = text.partition(begin)
        options.page.write_text(before + begin + table + end + rest.partition(end)[2])
    print(table)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder's measurements, so that no other benchmark writes there meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = NamedLock(folder / "rows.lock")
    holder = lock.acquire()
    if holder:
        cure = "wait for it, or give another folder with --out"
        raise ArtifactError("another benchmark writes to this folder", where=folder, got=holder, cure=cure)
    try:
        yield
    finally:
        lock.release()


def _rows(options: argparse.Namespace) -> Iterator[Row]:
    """Every measurement, said as it is made."""
    try:
        import sklearn  # noqa: F401
        import torch
    except ImportError as error:
        raise ToolError(
            "the benchmark needs torch and scikit-learn", got=str(error), cure='pip install "policyport[bench]"'
        ) from error
    from policyport.quantize.rounding.digits import EPOCHS, graph_of, load_digits, trained
    from policyport.quantize.rounding.live_peers import LIVE_PEERS
    from policyport.quantize.rounding.study import measure, measure_live

    torch.set_num_threads(1)
    data = load_digits()
    names = _methods(options)
    epochs, iterations = (5, 200) if options.quick else (EPOCHS, 10_000)
    kept = _Kept(options.out, f"{epochs} epochs, {iterations} iterations, {code_version(Path(__file__).parent)}")
    for network in options.networks:
        for seed in options.seeds:
            float_network = trained(network, data, seed, epochs)
            graph = graph_of(float_network)
            for bits in options.bits:
                for name in names:
                    row = kept.find(network, bits, name, seed)
                    if row is None:
                        if name in LIVE_PEERS:
                            row = measure_live(float_network, data, network, name, bits, seed, iterations)
                        else:
                            row = measure(graph, data, network, name, bits, seed, iterations)
                        kept.keep(row)
                    said = f"{network} seed {seed} w{bits} {name}: {row.sqnr_db:.2f} dB, {row.seconds:.1f} s"
                    print(said, flush=True)
                    yield row


def _methods(options: argparse.Namespace) -> list[str]:
    """The lines of the table.

    :raises ConfigError: one of ``--methods`` is unknown
    """
    from policyport.quantize.rounding.live_peers import LIVE_PEERS
    from policyport.quantize.rounding.study import BLOCKS, METHODS, VARIANTS

    known = (*METHODS, BLOCKS, *VARIANTS, *LIVE_PEERS)
    names = options.methods or [*METHODS, BLOCKS, *(VARIANTS if options.study else ())]
    unknown = set(names) - set(known)
    if unknown:
        raise ConfigError("no such method", where="--methods", expected=", ".join(known), got=min(unknown))
    live = [name for name, peer in LIVE_PEERS.items() if peer.installed] if options.live_peers else []
    return [*names, *(name for name in live if name not in names)]


class _Kept:
    """The measurements that a folder holds.

    :param key: what they depend on besides their own names: others are passed over
    """

    def __init__(self, folder: Path, key: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path, self._key = folder / "rows.jsonl", key

    def find(self, network: str, bits: int, method: str, seed: int) -> Row | None:
        """One that is there; a line that an interruption tore is none."""
        from policyport.quantize.rounding.study import Row

        wanted = (network, bits, method, seed)
        for line in self._path.read_text().splitlines() if self._path.is_file() else ():
            if not line.endswith("}"):
                continue
            table = json.loads(line)
            row = Row(**table["row"])
            if table["key"] == self._key and (row.network, row.bits, row.method, row.seed) == wanted:
                return row
        return None

    def keep(self, row: Row) -> None:
        """Write one behind the others."""
        with self._path.open("a") as stream:
            stream.write("\n" + json.dumps({"key": self._key, "row": asdict(row)}))


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
            "seeds": len(group),
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

    :param run: tools that ran beside ours, and their versions
    """
    parts = []
    for network in dict.fromkeys(line["network"] for line in lines):
        own = [line for line in lines if line["network"] == network]
        widths = list(dict.fromkeys(line["bits"] for line in own))
        live = {(line["bits"], line["method"]) for line in own}
        others = [
            row
            for row in peers["rows"]
            if row["network"] == network and row["bits"] in widths and (row["bits"], row["method"]) not in live
        ]
        head = [
            f"| {network}, {_trainings(own)} |" + "".join(f" w{bits}: dB, %, s |" for bits in widths),
            "|---" * (len(widths) + 1) + "|",
        ]
        parts += [*head, *_table(own, widths, ""), *_table(others, widths, ", recorded"), ""]
    if run:
        parts.append("Run beside, weights alone: " + ", ".join(" ".join(tool) for tool in run.items()) + ".\n")
    parts.append(f"Recorded: {peers['source']}. a8: with int8 activations, not to be compared with weights alone.")
    return "\n".join(parts) + "\n"


def _trainings(lines: Sequence[Line]) -> str:
    """How many trainings the figures are means of."""
    counts = sorted({line["seeds"] for line in lines})
    return " or ".join(str(count) for count in counts) + (" training" if counts == [1] else " trainings")


def _table(lines: Sequence[Line], widths: Sequence[int], note: str) -> list[str]:
    rows = []
    for method in dict.fromkeys(line["method"] for line in lines):
        by_bits = {line["bits"]: line for line in lines if line["method"] == method}
        a8 = ", a8" if any("activation_bits" in line for line in by_bits.values()) else ""
        cells = [_cell(by_bits.get(bits)) for bits in widths]
        rows.append(f"| {method}{a8}{note} | " + " | ".join(cells) + " |")
    return rows


def _cell(line: Line | None) -> str:
    if line is None:
        return ""
    digits = {"sqnr_db": 1, "accuracy": 1, "seconds": 1}
    return ", ".join(f"{line[key]:.{places}f}" if key in line else "-" for key, places in digits.items())


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


if __name__ == "__main__":
    main()
