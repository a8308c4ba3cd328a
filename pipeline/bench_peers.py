"""Recorded figures of other tools and published ones: what ``policyport bench`` sets its own beside.

They are data, ``peers.json``, each with the source that it was taken from. Nothing here runs a peer: their sources
are in no package index.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
    table = json.loads(FILE.read_text())
    return Peers(
        {
            name: PeerNetwork(entry["label"], entry["macs"], tuple(entry["files"]))
            for name, entry in table["networks"].items()
        },
        table["sources"],
        tuple(PeerRow(**row) for row in table["rows"]),
        tuple(Published(**row) for row in table["published"]),
    )
