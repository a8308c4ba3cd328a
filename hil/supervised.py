"""A process of its own that has something while it is wanted: an emulator, a board that a lab lends."""

from __future__ import annotations

import contextlib
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence

LAST_WORDS = 2000
"""Characters of what it said that an error shows."""


class Supervised:
    """A Python module that prints a line once it has what it is for, and gives it back as its standard input closes.

    :param arguments: module and its arguments, behind ``python -m``
    :param stop_timeout_s: how long it may take to end by itself before it is killed
    """

    process: subprocess.Popen[str]

    def __init__(self, arguments: Sequence[str], stop_timeout_s: float) -> None:
        self._arguments, self._stop_timeout_s = arguments, stop_timeout_s

    def __enter__(self) -> Supervised:
        """Start it."""
        self._stderr = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            start_new_session=True,  # Ctrl-C is for this process, which then closes that one
        )
        return self

    def __exit__(self, *_: object) -> None:
        """Let it end; returns once it is gone."""
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(self._stop_timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self._stderr.close()

    def first_line(self, timeout_s: float | None = None) -> str:
        """What it prints first; empty where it ended without a word.

        :raises queue.Empty: it has printed nothing in time
        """
        assert self.process.stdout is not None
        lines: queue.Queue[str] = queue.Queue()
        stdout = self.process.stdout
        threading.Thread(target=lambda: lines.put(stdout.readline()), daemon=True).start()
        return lines.get(timeout=timeout_s).strip()

    def last_words(self) -> str:
        """The end of what it has said on its standard error."""
        self._stderr.seek(0)
        return self._stderr.read().strip()[-LAST_WORDS:]
