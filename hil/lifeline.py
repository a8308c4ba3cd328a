"""A child process that ends when its parent does, whichever way the parent ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that the kernel sends to this process when its parent is gone."""


def watch_parent(end: Callable[[], None]) -> None:
    """Call ``end`` from a thread once standard input closes.

    The parent holds the other end of that pipe; the kernel closes it when the parent dies, even by SIGKILL.
    """

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        end()

    threading.Thread(target=wait, name="parent watch", daemon=True).start()


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies; Linux alone can do that.

    For use as ``preexec_fn`` of a program that does not watch its own standard input.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
