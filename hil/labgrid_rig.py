"""A real board that labgrid lends: its place is acquired while the rig is open."""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import sys
import tempfile
from typing import IO

from policyport.core.errors import BoardBusyError, BoardError, ConfigError, ToolError
from policyport.core.install import pip_install
from policyport.deploy.board import Board
from policyport.hil.rig import SerialRig

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
        self._process: subprocess.Popen[str] | None = None
        self._stderr: IO[str] | None = None

    def __enter__(self) -> LabgridRig:
        """Acquire the place.

        :raises BoardError: labgrid does not give it, or it has no serial port
        :raises ConfigError: an environment file that does not read
        """
        self._stderr = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "policyport.hil.rack.labgrid_place", self.where.removeprefix(PREFIX)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            start_new_session=True,  # Ctrl-C is for this process, which then closes that one
        )
        assert self._process.stdout is not None
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self.url = self._process.stdout.readline().strip()
            if not self.url:
                raise self._failure(self._process)
            undo.pop_all()
        return self

    def close(self) -> None:
        """Release the place; returns once it is. Does nothing the second time."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None and process.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None

    def _failure(self, process: subprocess.Popen[str]) -> Exception:
        """What the process that holds the place said."""
        code = process.wait(STOP_TIMEOUT_S)
        assert self._stderr is not None
        self._stderr.seek(0)
        said = self._stderr.read().strip()
        kind = {ConfigError.exit_code: ConfigError}.get(code, BoardError)
        kind = BoardBusyError if "somebody else has" in said else kind
        return kind("labgrid gives no port", where=self.where, got=said[-1500:])
