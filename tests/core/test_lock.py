"""Locks between processes: one holder at a time, and it has a name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from policyport.core.lock import NamedLock

HOLD = """
import sys
from pathlib import Path
from policyport.core.lock import NamedLock
lock = NamedLock(Path(sys.argv[1]))
print(repr(lock.acquire()), flush=True)
sys.stdin.read()
"""


def test_the_holder_is_named_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = NamedLock(path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "''\n"
        assert lock.acquire().startswith(f"pid {holder.pid}: ") and str(path) in lock.acquire()
        holder.kill()
    assert lock.acquire(10.0) == ""
    lock.release()
    lock.release()


def test_what_was_released_can_be_taken(tmp_path: Path) -> None:
    first, second = NamedLock(tmp_path / "lock"), NamedLock(tmp_path / "lock")
    assert first.acquire() == "" and second.acquire() != ""
    first.release()
    assert second.acquire() == ""
    second.release()
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".holder")] == []
