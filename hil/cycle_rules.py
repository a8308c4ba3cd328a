"""What each Cortex-M core takes for an instruction, from zero-wait-state memory: the tables of Arm's manuals.

``docs/cycle-model.md`` gives the sources, what is left out, and how far published measurements lie from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from policyport.deploy.board import Board
from policyport.hil.thumb import Kind


@dataclass(frozen=True)
class Rules:
    """Cycles of one core."""

    source: str
    """Where the numbers stand."""

    refill: int
    """Cycles that a taken branch adds: the pipeline fills again."""

    cycles: Mapping[Kind, int] = field(default_factory=dict)
    """Those that are not 1. Of loads and stores of several registers: without the registers."""

    return_by_load: int = 0
    """Cycles that a load or pop into the program counter adds to its own and to a taken branch."""

    call: int = 0
    """Cycles that BL adds to a taken branch."""

    indexed_store: int = 1
    """A store whose address has an index register."""

    pipelined: bool = False
    """Whether a load or store right behind a load overlaps with it by one cycle, if the load is not its address."""

    address_stall: int = 0
    """Cycles for an address that the data-processing instruction right before computes."""

    dual_issue: bool = False
    """Whether two instructions can begin in one cycle."""


_V7M = {
    Kind.DIVIDE: 7,
    Kind.LOAD: 2,
    Kind.LOAD_PAIR: 3,
    Kind.STORE_PAIR: 3,
    Kind.LOAD_MULTIPLE: 1,
    Kind.STORE_MULTIPLE: 1,
    Kind.TABLE_BRANCH: 2,
    Kind.IF_THEN: 0,
    Kind.SYSTEM: 2,
    Kind.FLOAT_ACCUMULATE: 3,
    Kind.FLOAT_DIVIDE: 14,
}
_V6M = {Kind.LOAD: 2, Kind.STORE: 2, Kind.LOAD_MULTIPLE: 1, Kind.STORE_MULTIPLE: 1}

_M4 = Rules(
    "Arm DDI 0439, Cortex-M4 TRM, 3.3 and 7.2.3",
    refill=2,
    cycles=_V7M,
    indexed_store=2,
    pipelined=True,
    address_stall=1,
)

RULES = {
    "cortex-m0": Rules(
        "Arm DDI 0432, Cortex-M0 TRM, 3.3",
        refill=2,
        cycles={**_V6M, Kind.SYSTEM: 4},
        return_by_load=1,
        call=1,
        indexed_store=2,
    ),
    "cortex-m0plus": Rules(
        "Arm DDI 0484, Cortex-M0+ TRM, 3.3",
        refill=1,
        cycles={**_V6M, Kind.SYSTEM: 3},
        return_by_load=1,
        call=1,
        indexed_store=2,
    ),
    "cortex-m3": Rules(
        "Arm DDI 0337, Cortex-M3 TRM, 3.3",
        refill=2,
        cycles={
            **_V7M,
            Kind.MULTIPLY_ACCUMULATE: 2,
            Kind.LONG_MULTIPLY: 4,
            Kind.LONG_MULTIPLY_ACCUMULATE: 5,
        },
        indexed_store=2,
        pipelined=True,
        address_stall=1,
    ),
    "cortex-m4": _M4,
    "cortex-m33": Rules(
        "those of the Cortex-M4: Arm publishes no timing table of the Cortex-M33",
        refill=2,
        cycles=_V7M,
        indexed_store=2,
        pipelined=True,
        address_stall=1,
    ),
    "cortex-m7": Rules(
        "issue rules of our own over Arm DDI 0489: Arm publishes no timing table of the Cortex-M7",
        refill=1,
        cycles={
            Kind.MULTIPLY: 2,
            Kind.MULTIPLY_ACCUMULATE: 2,
            Kind.LONG_MULTIPLY: 2,
            Kind.LONG_MULTIPLY_ACCUMULATE: 2,
            Kind.DIVIDE: 8,
            Kind.LOAD: 2,
            Kind.LOAD_PAIR: 2,
            Kind.FLOAT_ACCUMULATE: 5,
            Kind.FLOAT: 3,
            Kind.FLOAT_DIVIDE: 16,
        },
        dual_issue=True,
    ),
}
"""Core to its rules. There are none of the Cortex-M55: Arm publishes no table, and its vectors overlap."""


def rules_of(board: Board) -> Rules | None:
    """The rules of a board's core; None where there are none."""
    return RULES.get(board.core.removesuffix("f").replace("m0+", "m0plus"))
