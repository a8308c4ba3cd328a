"""Rounding methods side by side on scikit-learn's digits, with other tools, live or by recorded figures.

    python -m policyport.quantize.rounding.benchmark --out rounding

Trains the networks of :mod:`policyport.quantize.rounding.digits`, quantizes their weights per channel to
4, 3 and 2 bits by every method, and writes results.json, results.csv, results.md and results.png. Each measurement
is kept in rows.jsonl as it is made; an interrupted benchmark goes on with those that it lacks.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policyport.core.errors import ArtifactError, ConfigError, ToolError
from policyport.core.lock import NamedLock
from policyport.quantize.rounding.benchmark_tables import BITS, write

if TYPE_CHECKING:
    from policyport.quantize.rounding.digits import Digits
    from policyport.quantize.rounding.study import Row

NETWORKS = ("mlp", "resnet", "depthwise")

BLOCK = "rounding"
"""Of the page that ``--page`` writes."""

QUICK = (5, 200)
"""Epochs of training and iterations of what is learned, with ``--quick``."""

ITERATIONS = 10_000


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
    parser.add_argument("--measured-only", action="store_true", help="sum up what the folder holds, measure nothing")
    parser.add_argument("--quick", action="store_true", help="few epochs and iterations: to see that it runs")
    parser.add_argument("--page", type=Path, help="Markdown file whose block `rounding` is written")
    options = parser.parse_args(arguments)
    with _alone(options.out):
        rows = list(_rows(options))
        if not rows:
            cure = "run it without --measured-only"
            raise ArtifactError("nothing measured by today's code", where=options.out, got="no such row", cure=cure)
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
    from policyport.quantize.rounding.cells import Cells
    from policyport.quantize.rounding.digits import EPOCHS

    torch.set_num_threads(1)
    names = _methods(options)
    epochs, iterations = QUICK if options.quick else (EPOCHS, ITERATIONS)
    cells = Cells(options.out, epochs, iterations)
    for network in options.networks:
        for seed in options.seeds:
            for bits in options.bits:
                for name in names:
                    row = cells.find(network, bits, name, seed)
                    if row is None:
                        if options.measured_only:
                            continue
                        row = _measured(network, bits, name, seed, epochs, iterations)
                        cells.keep(row)
                    said = f"{network} seed {seed} w{bits} {name}: {row.sqnr_db:.2f} dB, {row.seconds:.1f} s"
                    print(said, flush=True)
                    yield row


def _measured(network: str, bits: int, method: str, seed: int, epochs: int, iterations: int) -> Row:
    from policyport.quantize.rounding.digits import graph_of
    from policyport.quantize.rounding.live_peers import LIVE_PEERS
    from policyport.quantize.rounding.study import measure, measure_live

    float_network, data = _trained(network, seed, epochs)
    if method in LIVE_PEERS:
        return measure_live(float_network, data, network, method, bits, seed, iterations)
    return measure(graph_of(float_network), data, network, method, bits, seed, iterations)


@functools.lru_cache(maxsize=1)
def _trained(network: str, seed: int, epochs: int) -> tuple[Any, Digits]:
    """The float network and its data."""
    from policyport.quantize.rounding.digits import load_digits, trained

    data = load_digits()
    return trained(network, data, seed, epochs), data


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


if __name__ == "__main__":
    main()
