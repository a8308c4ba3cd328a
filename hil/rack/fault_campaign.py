"""A conversation over a line that harms frames: is a wrong result ever taken, does the host ever hang?

Each exchange is one request whose right answer is known: bytes to be echoed, or an inference by the integer reference.
It ends with the right answer, after as many resends as it took, or with an error that says what happened.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from policyport.core.artifact import open_artifact
from policyport.core.errors import BoardFaultError, BoardTimeoutError, GateError, ProtocolError
from policyport.core.progress import progress
from policyport.core.semantics import Integers
from policyport.deploy import reference
from policyport.deploy.board import load_board
from policyport.deploy.firmware import image_file
from policyport.deploy.program import Program, read_program
from policyport.firmware_bridge.client import Bridge
from policyport.hil.provenance import emulator_version
from policyport.hil.rack.faulty_link import Faults, FaultyLink
from policyport.hil.rig import open_rig

INPUTS = 256
"""Random inputs whose outputs are known."""

GRACE_S = 1.0
"""What a busy machine may add to a time-out."""

RECOVERIES = 100
"""Greetings in a row without an answer after which the board counts as gone."""


@dataclass(frozen=True)
class Figures:
    """What came of it."""

    board: str
    emulator: str
    """``qemu`` or ``unicorn`` with its version; empty for a real board."""

    seed: int
    share: float
    """Of the frames that were to be harmed."""

    timeout_s: float
    retries: int
    frames: int
    """Either way, resends included."""

    exchanges: int
    harmed: dict[str, int]
    """Kind of fault to how often it was done."""

    answered: int
    """Exchanges that ended with the right answer."""

    resends: int
    timed_out: int
    """Exchanges that ended with "the board does not answer"."""

    restarts_told: int
    """Exchanges that ended with "the board restarted in the middle of a session"."""

    refused: int
    """Exchanges that ended with another error of the protocol."""

    wrong: int
    """Exchanges that ended with another answer than the right one."""

    hung: int
    """Exchanges that took longer than all their time-outs."""

    longest_s: float
    limit_s: float


class Conversation:
    """Exchanges one after the other, and what becomes of them."""

    def __init__(self, bridge: Bridge, link: FaultyLink, program: Program, limit_s: float) -> None:
        self._bridge = bridge
        self._link = link
        self._limit_s = limit_s
        self._chance = random.Random(link.faults.seed + 1)
        self._q = _random_inputs(program, link.faults.seed)
        self._outputs = reference.run(program, self._q)[-1]
        self._asks: tuple[Callable[[], bool], ...] = (self._echo, self._infer, self._infer_many)
        self.ends: Counter[str] = Counter()
        self.exchanges = 0
        self.hung = 0
        self.longest_s = 0.0

    def exchange(self) -> None:
        """One request.

        :raises BoardError: the board is gone for good
        """
        began_s = time.monotonic()
        try:
            end = "answered" if self._chance.choice(self._asks)() else "wrong"
        except BoardTimeoutError:
            end = "timed_out"
        except BoardFaultError:
            end = "restarts_told"
        except ProtocolError:
            end = "refused"
        took_s = time.monotonic() - began_s
        self.exchanges += 1
        self.ends[end] += 1
        self.hung += took_s > self._limit_s
        self.longest_s = max(self.longest_s, took_s)
        if end == "restarts_told":
            self.greet()

    def greet(self) -> None:
        """Begin a session, over the same line.

        :raises BoardError: nobody answers, however often it is asked
        """
        for _ in range(RECOVERIES):
            try:
                self._bridge.hello()
                return
            except BoardTimeoutError:
                continue
        raise BoardTimeoutError("the board is gone", where=self._link.url, got=f"no answer to {RECOVERIES} greetings")

    def _echo(self) -> bool:
        data = self._chance.randbytes(self._chance.choice((0, 8, 8, 8, 64, 1024)))
        return self._bridge.echo(data) == data

    def _infer(self) -> bool:
        row = self._chance.randrange(INPUTS)
        return np.array_equal(self._bridge.infer(self._q[row]).output, self._outputs[row])

    def _infer_many(self) -> bool:
        row = self._chance.randrange(INPUTS - 2)
        return np.array_equal(self._bridge.run_many(self._q[row : row + 2])[0], self._outputs[row : row + 2])


def run_campaign(
    deploy: Path,
    frames: int,
    faults: Faults,
    *,
    port: str = "",
    emulator: str = "auto",
    timeout_s: float = 0.1,
    retries: int = 3,
) -> Figures:
    """Talk to the board that an image was built for until so many frames have gone over the line.

    :param deploy: folder of a deploy artifact; a real board must have been flashed with it
    :param port: pyserial URL of a real board; empty for an emulated one
    :raises BoardError: no board, or it is gone for good
    :raises ToolError: no emulator for this board
    """
    image = open_artifact(deploy, "deploy")
    program, board = read_program(image.path), load_board(image.manifest.figures["board"])
    limit_s = timeout_s * (retries + 1) + GRACE_S
    with open_rig(board, image_file(image), port=port, emulator=emulator) as rig:
        link = FaultyLink(rig.url, board.uart.baud, faults)
        with Bridge(link, timeout_s, retries) as bridge, progress("faults", frames) as advance:
            conversation = Conversation(bridge, link, program, limit_s)
            conversation.greet()
            while link.frames < frames:
                conversation.exchange()
                advance(link.frames, f"{conversation.ends['wrong']} wrong, {conversation.hung} hung")
            emulated = emulator_version(rig.emulator)
            setting = {"board": board.name, "emulator": emulated, "timeout_s": timeout_s, "retries": retries}
            return _figures(conversation, link, bridge, limit_s, setting)


def require_none_wrong(figures: Figures, where: object) -> None:
    """Raise where a wrong result was taken, or the host hung.

    :raises GateError: how many of each
    """
    if figures.wrong or figures.hung:
        raise GateError(
            "the line's faults were not all caught",
            where=where,
            expected=f"no wrong result, no exchange longer than {figures.limit_s:.2f} s",
            got=f"{figures.wrong} wrong, {figures.hung} hung, the longest {figures.longest_s:.2f} s",
        )


def as_table(figures: Figures) -> dict[str, Any]:
    """The figures as plain values: for JSON."""
    return asdict(figures)


def _figures(
    conversation: Conversation, link: FaultyLink, bridge: Bridge, limit_s: float, setting: dict[str, Any]
) -> Figures:
    return Figures(
        **setting,
        seed=link.faults.seed,
        share=link.faults.share,
        frames=link.frames,
        exchanges=conversation.exchanges,
        harmed=dict(sorted(link.harmed.items())),
        resends=bridge.retries_used,
        answered=conversation.ends["answered"],
        timed_out=conversation.ends["timed_out"],
        restarts_told=conversation.ends["restarts_told"],
        refused=conversation.ends["refused"],
        wrong=conversation.ends["wrong"],
        hung=conversation.hung,
        longest_s=conversation.longest_s,
        limit_s=limit_s,
    )


def _random_inputs(program: Program, seed: int) -> Integers:
    """[INPUTS, inputs]: any integers that the input can hold."""
    source = program.input
    size = INPUTS, source.size
    return np.random.default_rng(seed).integers(source.low, source.high, size, np.int64, endpoint=True)
