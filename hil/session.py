"""An open board: the firmware of a deploy artifact, running on a board, and asked who it is.

with open_board("runs/cartpole/deploy") as board:
    print(board.identity.build_id, board.policy.predict(observation))
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from policyport.core.artifact import Artifact, open_artifact
from policyport.core.errors import BoardError, IdentityError

if TYPE_CHECKING:
    from policyport.core.task import Task
    from policyport.deploy.board import Board
    from policyport.deploy.program import Program
    from policyport.firmware_bridge.client import Bridge, Identity
    from policyport.firmware_bridge.log import WireLog
    from policyport.hil.policy import BoardPolicy
    from policyport.hil.rig import Rig


@dataclass(frozen=True)
class Line:
    """How a board is talked to."""

    emulator: str = "auto"
    """Who runs the board where no port is given."""

    baud: int = 0
    """Bits per second; 0 for the board's own."""

    timeout_s: float = 2.0
    """Seconds until a request is sent again."""

    retries: int = 3
    """Times a request is sent again."""

    wait_s: float = 0.0
    """Seconds to wait for a port that another process holds."""


DEFAULT = Line()
"""What suits a board on a cable, and an emulated one."""


@dataclass(frozen=True)
class OpenBoard:
    """A board that runs the firmware of a deploy artifact."""

    image: Artifact
    rig: Rig
    bridge: Bridge
    identity: Identity
    program: Program
    """The integers that the board computes."""

    task: Task
    policy: BoardPolicy
    """Stable-Baselines3's ``predict``, every output computed on the board."""

    @property
    def name(self) -> str:
        """Name of the board, as in ``policyport/deploy/boards``."""
        return str(self.image.manifest.figures["board"])

    @property
    def counts(self) -> list[int]:
        """Instructions (cycles on a real board) of every inference of :attr:`policy` so far."""
        overhead = self.identity.counter_overhead_ticks
        return [self.rig.instructions(ticks, overhead) for ticks in self.policy.ticks]


@contextmanager
def open_board(deploy: Path | str, port: str = "", line: Line = DEFAULT) -> Iterator[OpenBoard]:
    """Open the board that an image was built for, with that image on it.

    An emulated board is started with the image; a real one must have been flashed with it.

    :param deploy: folder of a deploy artifact
    :param port: pyserial URL of a real board; empty for an emulated one
    :raises ArtifactError: no deploy artifact
    :raises IdentityError: the board runs another firmware
    :raises BoardError: no board, a busy port, no answer, a fault
    :raises ToolError: no emulator for this board
    """
    from policyport.core.task import Task
    from policyport.deploy.board import load_board
    from policyport.deploy.firmware import image_file
    from policyport.deploy.program import read_program
    from policyport.hil.policy import BoardPolicy

    image = open_artifact(Path(deploy), "deploy")
    board = load_board(image.manifest.figures["board"])
    program, task = read_program(image.path), Task.read(image.file("task.json"))
    with connect(board, image_file(image), port, line) as (rig, bridge):
        identity = require_identity(bridge, image, program, port)
        rig.learn_counter(identity.counter)
        yield OpenBoard(image, rig, bridge, identity, program, task, BoardPolicy(bridge, program, task))


@contextmanager
def connect(
    board: Board, flash_bin: Path, port: str, line: Line = DEFAULT, log: WireLog | None = None
) -> Iterator[tuple[Rig, Bridge]]:
    """A board's rig and an open bridge to it; a board that died explains itself.

    :param flash_bin: content of an emulated board's flash, or its program under Linux
    :param port: as :func:`open_board`
    :raises BoardError: no board, a busy port, no answer, a fault
    :raises ToolError: no emulator for this board
    """
    from policyport.firmware_bridge.client import Bridge
    from policyport.hil.rig import open_rig

    with open_rig(board, flash_bin, port=port, emulator=line.emulator) as rig:
        try:
            with Bridge.open(
                rig.url,
                baud=line.baud or board.uart.baud,
                timeout_s=line.timeout_s,
                retries=line.retries,
                wait_s=line.wait_s,
                log=log,
            ) as bridge:
                yield rig, bridge
        except BoardError:
            rig.check_alive()
            raise


def require_identity(bridge: Bridge, image: Artifact, program: Program, port: str, build_id: str = "") -> Identity:
    """What runs on a board, which must be the firmware of an image.

    :param build_id: of the firmware, where it is another build of the image; empty for its own
    :raises IdentityError: it is another
    """
    from policyport.deploy.program import program_sha256

    identity = bridge.hello()
    wanted = {
        "build id": (build_id or image.manifest.figures["build_id"], identity.build_id),
        "model": (program_sha256(program), identity.model_sha256),
    }
    for what, (expected, got) in wanted.items():
        if got != expected:
            raise IdentityError(
                "the board runs another firmware than the image",
                where=port or f"emulated {image.manifest.figures['board']}",
                expected=f"{what} {expected}",
                got=f"{what} {got}",
                cure="flash again: policyport flash",
            )
    return identity
