"""A serial line that harms its frames: they are lost, flipped, doubled, late, cut short, and the board is reset."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from policyport.firmware_bridge.frame import Frame, encode
from policyport.firmware_bridge.link import Link
from policyport.firmware_bridge.messages import Type

KINDS = ("drop", "flip", "duplicate", "delay", "truncate", "reset")
"""What can happen to a frame; a reset comes before a request."""


@dataclass(frozen=True)
class Faults:
    """How often a frame is harmed, and how."""

    share: float = 0.02
    """Of all frames, either way; each kind as often as the others."""

    longest_delay_s: float = 0.06
    seed: int = 0

    def kind(self, chance: random.Random, *, to_board: bool) -> str:
        """What happens to the next frame; empty for nothing."""
        if chance.random() >= self.share:
            return ""
        return chance.choice(KINDS if to_board else KINDS[:-1])


class FaultyLink(Link):
    """An open line that harms whole frames, the same ones for the same seed where the traffic is the same.

    :param url: as for :class:`Link`
    :param faults: none where its share is 0
    """

    def __init__(self, url: str, baud: int, faults: Faults) -> None:
        super().__init__(url, baud)
        self.faults = faults
        self.frames = 0
        """Frames either way so far."""

        self.harmed: Counter[str] = Counter()
        """How often each kind has happened."""

        self._chance = random.Random(faults.seed)
        self._from_board = bytearray()  # not a whole frame yet
        self._arrived = bytearray()
        self._late: list[tuple[float, bytes, Callable[[bytes], None]]] = []

    def write(self, data: bytes) -> None:
        """Send one frame, or what becomes of it."""
        self._release()
        self._harm(data, super().write, to_board=True)

    def read(self, timeout_s: float) -> bytes:
        """What has come, or nothing after ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        while True:
            self._release()
            left = deadline - time.monotonic()
            if not self._arrived:
                next_late = min((due - time.monotonic() for due, _, _ in self._late), default=left)
                self._receive(super().read(max(0.0, min(left, next_late))))
            if self._arrived or left <= 0:
                data = bytes(self._arrived)
                self._arrived.clear()
                return data

    def _receive(self, data: bytes) -> None:
        """Cut what came into frames, ``00 COBS 00``; what lies between two of them goes on as it is."""
        self._from_board += data
        while (begin := self._from_board.find(0)) >= 0:
            end = self._from_board.find(0, begin + 1)
            if end < 0:
                return
            frame = bytes(self._from_board[begin : end + 1])
            del self._from_board[: end + 1 if len(frame) > 2 else end]
            if len(frame) > 2:
                self._harm(frame, self._arrived.extend, to_board=False)

    def _harm(self, frame: bytes, send: Callable[[bytes], None], *, to_board: bool) -> None:
        self.frames += 1
        kind = self.faults.kind(self._chance, to_board=to_board)
        if kind:
            self.harmed[kind] += 1
        match kind:
            case "drop":
                return
            case "flip":
                frame = self._flipped(frame)
            case "duplicate":
                frame = frame + frame
            case "truncate":
                frame = frame[: self._chance.randrange(1, len(frame))]
            case "delay":
                due = time.monotonic() + self._chance.uniform(0, self.faults.longest_delay_s)
                self._late.append((due, frame, send))
                return
            case "reset":
                send(encode(Frame(Type.RESET, self._chance.randrange(256), 0, b"")))
        send(frame)

    def _flipped(self, frame: bytes) -> bytes:
        """With one to three of its bits turned over."""
        harmed = bytearray(frame)
        for place in self._chance.sample(range(8 * len(frame)), self._chance.randint(1, 3)):
            harmed[place // 8] ^= 1 << place % 8
        return bytes(harmed)

    def _release(self) -> None:
        """Let the frames go whose time has come."""
        now = time.monotonic()
        due = [one for one in self._late if one[0] <= now]
        self._late = [one for one in self._late if one[0] > now]
        for _, frame, send in due:
            send(frame)
