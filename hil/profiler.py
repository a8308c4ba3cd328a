"""Profiles the firmware of a board in its emulator: one inference, and each of its layers alone."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from policyport.core.errors import ProtocolError
from policyport.core.semantics import Integers
from policyport.deploy.board import Board
from policyport.firmware_bridge.client import Bridge
from policyport.hil.execution_profile import Code, Markers, Region, instruction_counts, read_regions
from policyport.hil.rig import EmulatedRig

ANSWER_TIMEOUT_S = 10.0
"""Seconds until a request is sent again: an emulator that reports every step is slow; QEMU can lose a first reply."""

RETRIES = 29
"""How often it is sent again. It is answered from the last reply, so nothing is profiled twice."""


@dataclass(frozen=True)
class Trace:
    """One profiled region."""

    region: Region
    counts: Mapping[int, int]
    """Address to how often it was executed."""


@dataclass(frozen=True)
class Profile:
    """What one inference executes."""

    code: Code
    overhead: Trace
    """An empty measurement: what every region has on top of its work."""

    inference: Trace
    layers: tuple[Trace, ...]
    """Each layer alone, as the firmware's trace runs it."""

    def instructions(self, trace: Trace) -> int:
        """Executed instructions, an empty measurement's subtracted."""
        return trace.region.executed - self.overhead.region.executed


def profile_firmware(board: Board, elf: Path, flash_bin: Path, q: Integers, layers: int, emulator: str) -> Profile:
    """Run one inference and each layer with every executed instruction counted.

    :param elf: the firmware with its symbols
    :param flash_bin: the same as the board's flash holds it
    :param q: [inputs], integers of the input's width
    :param layers: how many the network has
    :param emulator: ``auto``, ``qemu`` or ``unicorn``
    :raises ToolError: no emulator, or one that cannot profile
    :raises ProtocolError: the profile's sum is not what the firmware's own counter says
    """
    with tempfile.TemporaryDirectory(prefix="policyport-profile-") as scratch:
        folder = Path(scratch)
        Markers.of_firmware(elf).write(folder)
        rig = EmulatedRig(board, flash_bin, emulator, profile=folder)
        with rig, Bridge.open(rig.url, timeout_s=ANSWER_TIMEOUT_S, retries=RETRIES) as bridge:
            overhead_ticks = bridge.hello().counter_overhead_ticks
            *_, empty = read_regions(folder)  # the last that the firmware measures at its start is an empty one
            started = len(read_regions(folder))
            ticks = [bridge.infer(q).ticks, *(bridge.layer_ticks(layer, q) for layer in range(layers))]
            regions = read_regions(folder)[started:]
    counted = [rig.instructions(value, overhead_ticks) for value in ticks]
    _require_equal(counted, [region.executed - empty.executed for region in regions], board)
    code = Code.of_firmware(elf)
    settled = [region.without_steps(code) for region in (empty, *regions)]
    overhead, inference, *alone = (Trace(region, instruction_counts(region, code)) for region in settled)
    return Profile(code, overhead, inference, tuple(alone))


def _require_equal(counted: list[int], profiled: list[int], board: Board) -> None:
    if counted != profiled:
        raise ProtocolError(
            "the profile's instructions are not those that the firmware counted",
            where=f"emulated {board.name}: inference, then each layer",
            expected=counted,
            got=profiled,
        )
