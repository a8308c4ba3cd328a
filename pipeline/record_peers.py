"""Measures the peers that run on Linux boards and records them in ``peers.json``.

    python -m policyport.pipeline.record_peers --out runs/bench

What is there of other tools stays as it is. Networks that were measured under the folder are not measured again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from policyport.pipeline.bench_peers import FILE, Peers, load_peers


def peers_text(peers: Peers) -> str:
    """The content of ``peers.json``: an entry a line, so that a difference shows which."""
    networks = {
        name: {**dataclasses.asdict(network), "files": [*network.files]} for name, network in peers.networks.items()
    }
    sections = (
        _section("networks", "{}", (f"{json.dumps(name)}: {_line(entry)}" for name, entry in networks.items())),
        _section("sources", "{}", (f"{json.dumps(name)}: {_line(text)}" for name, text in peers.sources.items())),
        _section("rows", "[]", (_line(row.to_table()) for row in peers.rows)),
        _section("published", "[]", (_line(dataclasses.asdict(entry)) for entry in peers.published)),
    )
    return '{\n "schema": 1,\n' + ",\n".join(sections) + "\n}\n"


def _section(name: str, brackets: str, lines: Iterable[str]) -> str:
    return f' "{name}": {brackets[0]}\n  ' + ",\n  ".join(lines) + f"\n {brackets[1]}"


def _line(entry: Any) -> str:
    return json.dumps(entry, ensure_ascii=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write."""
    from policyport.pipeline.bench import Request
    from policyport.pipeline.bench_command import say_peer
    from policyport.pipeline.bench_linux_peers import run_peers

    parser = argparse.ArgumentParser(
        prog="python -m policyport.pipeline.record_peers", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="as policyport bench has it")
    given = parser.parse_args(arguments)
    FILE.write_text(peers_text(run_peers(Request(given.out), load_peers(), say_peer)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
