"""A real board that labgrid lends: its place is acquired while the rig is open."""

from __future__ import annotations

import contextlib
import importlib.util

from policyport.core.errors import BoardBusyError, BoardError, ConfigError, ToolError
from policyport.core.install import pip_install
from policyport.deploy.board import Board
from policyport.hil.rig import SerialRig
from policyport.hil.supervised import Supervised

PREFIX = "labgrid:"

STOP_TIMEOUT_S = 70.0
"""How long a release may take."""


class LabgridRig(SerialRig):
    """A board at a place of labgrid, released when this is closed, however that comes.

    :param where: ``labgrid:PLACE`` or ``labgrid:FILE.yaml:ROLE``, with ``#NAME`` where there are several serial ports
    :raises ToolError: labgrid is not installed
    """

    def __init__(self, board: Board, where: str) -> None:
        if importlib.util.find_spec("labgrid") is None:
            raise ToolError("the package labgrid is not installed", where=where, cure=pip_install("labgrid"))
        super().__init__(board, "")
        self.where = where
        self._supervised: Supervised | None = None
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> LabgridRig:
        """Acquire the place.

        :raises BoardError: labgrid does not give it, or it has no serial port
        :raises ConfigError: an environment file that does not read
        """
        arguments = ["policyport.hil.rack.labgrid_place", self.where.removeprefix(PREFIX)]
        with contextlib.ExitStack() as undo:
            self._supervised = undo.enter_context(Supervised(arguments, STOP_TIMEOUT_S))
            self.url = self._supervised.first_line()
            if not self.url:
                raise self._failure(self._supervised)
            self._undo = undo.pop_all()
        return self

    def close(self) -> None:
        """Release the place; returns once it is. Does nothing the second time."""
        self._supervised = None
        self._undo.close()

    def _failure(self, supervised: Supervised) -> Exception:
        """What the process that holds the place said."""
        code, said = supervised.process.wait(STOP_TIMEOUT_S), supervised.last_words()
        kind = {ConfigError.exit_code: ConfigError}.get(code, BoardError)
        kind = BoardBusyError if "somebody else has" in said else kind
        return kind("labgrid gives no port", where=self.where, got=said)
