"""The profile of measured regions from an emulator that reports basic blocks: the twin of ``tcg_plugin.c``."""

from __future__ import annotations

from collections import Counter
from enum import Enum, auto
from pathlib import Path

from policyport.hil.execution_profile import Jump, Markers, Region


class _State(Enum):
    OUTSIDE = auto()
    BEGINNING = auto()
    """In ``pp_counter_begin``, which will return to where the region begins."""

    INSIDE = auto()


class BlockRecorder:
    """Follows execution block by block and writes every region into a folder.

    :param folder: with ``markers.txt``
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._markers = Markers.read(folder)
        self._state = _State.OUTSIDE
        self._return_address = self._first = self._last = self._behind = self._executed = 0
        self._jumps: Counter[Jump] = Counter()

    def enter(self, address: int, last: int, behind: int, count: int) -> None:
        """A block is about to be executed.

        :param last: address of its last instruction
        :param behind: address right behind it
        :param count: its instructions
        """
        if any(address in span for span in self._markers.ignored):
            return
        if address == self._markers.begin:
            self._state, self._return_address = _State.BEGINNING, self._behind
        elif self._state is _State.BEGINNING and address == self._return_address:
            self._state, self._executed, self._first, self._behind = _State.INSIDE, 0, address, address
            self._jumps.clear()
        elif self._state is _State.INSIDE and address == self._markers.end:
            self._state = _State.OUTSIDE
            Region(self._executed, self._first, self._last, self._jumps).write(self._folder)
        if self._state is _State.INSIDE:
            if address != self._behind:
                self._jumps[self._last, address] += 1
            self._executed += count
        self._last, self._behind = last, behind
