"""Recorded figures of other tools and published ones: what ``policyport bench`` sets its own beside.

They are data, ``peers.json``, each with the source that it was taken from. Nothing here runs a peer: those of
microcontrollers are in no package index, and ``bench_linux_peers.py`` runs those of Linux boards.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("peers.json")


@dataclass(frozen=True)
class PeerNetwork:
    """A network that peers were measured on."""

    label: str
    macs: int
    files: tuple[str, ...]
    """Names, without their ending, under which it is known as a model file."""


@dataclass(frozen=True)
class PeerRow:
    """One inference of a tool on an emulated core."""

    network: str
    tool: str
    core: str
    instructions: int
    source: str
    """Key of :attr:`Peers.sources`."""

    cycles: int | None = None
    """Estimated by the same model as ours; None where it was not."""

    code_bytes: int | None = None
    model_bytes: int | None = None
    """Weights and their description."""

    arena_bytes: int | None = None
    stack_bytes: int | None = None

    instructions_max: int | None = None
    """Where inferences differ: of the longest; ``instructions`` is the median."""

    dot_products: int | None = None
    """Of the instructions, those that multiply and add four pairs of bytes in each lane."""

    agreement: float | None = None
    """Share of the outputs that equal the reference."""

    @property
    def place(self) -> tuple[str, str, str]:
        """What tells rows apart."""
        return self.network, self.tool, self.core

    def to_table(self) -> dict[str, Any]:
        """The JSON form, without what is not known, its source behind the figures."""
        known = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        source = known.pop("source")
        return {**known, "source": source}


@dataclass(frozen=True)
class Published:
    """A published latency on hardware."""

    network: str
    who: str
    software: str
    round: str
    board: str
    core: str
    clock_hz: int
    latency_ms: float

    @property
    def cycles(self) -> int:
        """Processor cycles: the latency times the clock."""
        return round(self.latency_ms * self.clock_hz / 1000)


@dataclass(frozen=True)
class Peers:
    """Everything that is recorded."""

    networks: Mapping[str, PeerNetwork]
    sources: Mapping[str, str]
    rows: tuple[PeerRow, ...]
    published: tuple[Published, ...]
    measured: tuple[PeerRow, ...] = ()
    """Of the rows, those that were measured beside ours and are not only recorded."""

    def beside(self, measured: Sequence[PeerRow], sources: Mapping[str, str]) -> Peers:
        """With rows that were measured, each in the place of the one that is recorded."""
        places = {row.place for row in measured}
        kept = tuple(row for row in self.rows if row.place not in places)
        return dataclasses.replace(
            self, rows=(*kept, *measured), sources={**self.sources, **sources}, measured=tuple(measured)
        )

    def network_of_file(self, stem: str) -> str:
        """The id of the network that a model file holds; the name itself where nobody recorded it."""
        return next((name for name, network in self.networks.items() if stem in network.files), stem)

    def of(self, network: str, core: str) -> tuple[PeerRow, ...]:
        """The peers of a network on a core, with or without floating-point unit; fewest instructions first."""
        found = (row for row in self.rows if row.network == network and row.core == core.removesuffix("f"))
        return tuple(sorted(found, key=lambda row: row.instructions))


@functools.cache
def load_peers() -> Peers:
    """Read ``peers.json``."""
    table = json.loads(FILE.read_text(encoding="utf-8"))
    return Peers(
        {
            name: PeerNetwork(entry["label"], entry["macs"], tuple(entry["files"]))
            for name, entry in table["networks"].items()
        },
        table["sources"],
        tuple(PeerRow(**row) for row in table["rows"]),
        tuple(Published(**row) for row in table["published"]),
    )
