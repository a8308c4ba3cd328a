"""The cells of the benchmark: each is one method on one network, kept in a file as it is measured."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from policyport.core.artifact import code_version
from policyport.quantize.rounding.live_peers import LIVE_PEERS, versions
from policyport.quantize.rounding.study import Row

HERE = Path(__file__).parent

NOT_MEASURED = ("benchmark.py", "benchmark_tables.py", "cells.py", "chain.py", "end_to_end.py", "live_peers.py")
"""Files of this folder that no figure of our own methods depends on."""


class Cells:
    """The measurements that a folder holds, in ``rows.jsonl``; lines of several folders may be put into one.

    :param epochs: of training
    :param iterations: of what is learned
    """

    def __init__(self, folder: Path, epochs: int, iterations: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path, self._lengths = folder / "rows.jsonl", f"{epochs} epochs, {iterations} iterations"

    def find(self, network: str, bits: int, method: str, seed: int) -> Row | None:
        """One that is there, as today's code would measure it; a line that an interruption tore is none."""
        wanted, key = (network, bits, method, seed), self._key(method)
        for line in self._path.read_text().splitlines() if self._path.is_file() else ():
            if not line.endswith("}"):
                continue
            table = json.loads(line)
            row = Row(**table["row"])
            if table["key"] == key and (row.network, row.bits, row.method, row.seed) == wanted:
                return row
        return None

    def keep(self, row: Row) -> None:
        """Write one behind the others."""
        with self._path.open("a") as stream:
            stream.write("\n" + json.dumps({"key": self._key(row.method), "row": asdict(row)}))

    def _key(self, method: str) -> str:
        """What a figure depends on besides its own names."""
        if method in LIVE_PEERS:
            tool = " ".join(*versions([method]).items())
            return f"{self._lengths}, {tool}, {code_version(HERE / 'digits.py', HERE / 'live_peers.py')}"
        sources = sorted(path for path in HERE.glob("*.py") if path.name not in NOT_MEASURED)
        return f"{self._lengths}, {code_version(*sources)}"
