"""A lock between processes that can say who holds it; the operating system releases it when its holder dies."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from filelock import FileLock, Timeout


class NamedLock:
    """A lock file, and a note beside it that names the holder.

    :param path: the lock file; its folder exists
    """

    def __init__(self, path: Path) -> None:
        self._lock = FileLock(path)
        self._note = path.with_name(path.name + ".holder")

    def acquire(self, wait_s: float = 0.0) -> str:
        """Take the lock.

        :param wait_s: seconds to wait for another holder to let go
        :returns: empty where it is taken now, else who holds it: process id and command
        """
        try:
            self._lock.acquire(timeout=wait_s)
        except Timeout:
            return self._holder()
        self._note.write_text(f"pid {os.getpid()}: {shlex.join(sys.argv)}")
        return ""

    def release(self) -> None:
        """Let go; does nothing where it is not held."""
        if self._lock.is_locked:
            self._note.unlink(missing_ok=True)
            self._lock.release()

    def _holder(self) -> str:
        try:
            return self._note.read_text()
        except FileNotFoundError:  # it has the lock and not yet written, or has just let go
            return "a process that has not written its name"
