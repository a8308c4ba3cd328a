"""One row of the benchmark: a network on a board, as figures."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from policyport.core.errors import ArtifactError, PolicyportError
from policyport.hil.result import Result
from policyport.pipeline.bench_peers import PeerRow

BENCH_SCHEMA = 1


@dataclass(frozen=True)
class Variant:
    """What of the compiler's choices a row fixes."""

    activations: str = "int8"
    optimize: str = "size"

    @property
    def label(self) -> str:
        """As the tables name it."""
        return self.activations if self.optimize == "size" else f"{self.activations}, for speed"


@dataclass(frozen=True)
class Row:
    """A measurement, or why there is none."""

    network: str
    """Id of the network, or the model file's name without its ending."""

    label: str
    board: str
    core: str
    variant: str
    emulator: str = ""
    compiler: str = ""
    macs: int = 0
    """Of the network as given, by which the peers' rows are divided too; of an unknown one, those left without dead
    channels."""

    instructions: int = 0
    """Executed by one inference: the median over the held-out inputs, exact."""

    instructions_max: int = 0
    cycles: int | None = None
    """Estimated, at zero wait states; None where the core has no rules."""

    code_bytes: int = 0
    """Functions of the network: generated code and kernels."""

    constant_bytes: int = 0
    """Weights, biases, multipliers and tables."""

    arena_bytes: int = 0
    stack_bytes: int = 0
    """Painted and measured."""

    parity: bool = False
    """Whether every integer of every layer equalled the reference."""

    runtimes: dict[str, float] = dataclasses.field(default_factory=dict)
    """Runtime to the share of the values it computed that equal the reference."""

    error: str = ""
    """Why there is no measurement; empty where there is one."""

    deploy_cpu_s: float | None = None
    """Processor seconds of the deploy stage: lowering, choice of kernels, C, its check on this machine, the firmware's
    build and the exports, compilers included. None where it was done before and did not say."""

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells rows apart."""
        return self.network, self.board, self.variant

    @property
    def instructions_per_mac(self) -> float | None:
        """None without a measurement, or a network that does not multiply."""
        return self.instructions / self.macs if self.macs and self.instructions else None

    @property
    def cycles_per_mac(self) -> float | None:
        """Estimated cycles for each multiply-accumulate."""
        return self.cycles / self.macs if self.macs and self.cycles else None


def row_of(result: Result, exports: dict[str, Any], macs: int, names: tuple[str, str], variant: Variant) -> Row:
    """The row of a measurement.

    :param exports: ``exports.json`` of the deploy artifact
    :param names: the network's id and label
    """
    size, inference = result.footprint, result.latency.inference
    return Row(
        *names,
        board=result.board.name,
        core=result.board.core,
        variant=variant.label,
        emulator=result.board.emulator,
        compiler=result.firmware.compiler,
        macs=macs,
        instructions=inference.p50,
        instructions_max=inference.max,
        cycles=None if result.estimate is None else result.estimate.cycles,
        code_bytes=size["policy_code_bytes"],
        constant_bytes=size["policy_constant_bytes"],
        arena_bytes=size["arena_bytes"],
        stack_bytes=result.memory.stack_used_bytes,
        parity=result.parity.equal,
        runtimes=agreement(exports),
    )


def failed_row(board: str, core: str, names: tuple[str, str], variant: Variant, error: PolicyportError) -> Row:
    """The row of a network that a board cannot run."""
    said = [line for line in str(error.got or "").splitlines() if line and not line.isdigit()]  # no exit code alone
    reason = ": ".join([error.what, *said[:1]])
    return Row(*names, board=board, core=core, variant=variant.label, error=reason)


def agreement(exports: dict[str, Any]) -> dict[str, float]:
    """Runtime to the share of the values it computed that equal the reference; without those that did not run."""
    values: Counter[str] = Counter()
    equal: Counter[str] = Counter()
    for row in exports["rows"]:
        values[row["runtime"]] += row["values"]
        equal[row["runtime"]] += row["equal"]
    return {runtime: equal[runtime] / count for runtime, count in values.items()}


def rows_to_table(rows: Sequence[Row], peers: Sequence[PeerRow] = ()) -> dict[str, Any]:
    """The JSON form of rows, and of what was measured of other tools."""
    table = {"schema": BENCH_SCHEMA, "rows": [dataclasses.asdict(row) for row in rows]}
    return table | {"peers": [row.to_table() for row in peers]} if peers else table


def rows_from_table(table: dict[str, Any], where: object) -> list[Row]:
    """The inverse of :func:`rows_to_table`.

    :raises ArtifactError: another schema, or a field that is missing or unknown
    """
    if not isinstance(table, dict) or table.get("schema") != BENCH_SCHEMA:
        raise ArtifactError("benchmark of another schema version", where=where, expected=BENCH_SCHEMA)
    try:
        return [Row(**row) for row in table["rows"]]
    except (KeyError, TypeError) as error:
        raise ArtifactError("benchmark that does not read as one", where=where, got=error) from error
