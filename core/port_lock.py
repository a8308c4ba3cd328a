"""Who holds a serial port: a lock between processes that names its holder, and a look at who else has it open."""

from __future__ import annotations

import getpass
import hashlib
import os
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from policyport.core.errors import BoardBusyError
from policyport.core.lock import NamedLock

PROC = Path("/proc")


class PortLock:
    """An inter-process lock on a port; the operating system releases it when its holder dies.

    :param url: pyserial URL or device path; every ``loop://`` is a port of its own, so there is nothing to lock
    """

    def __init__(self, url: str) -> None:
        self.url = url
        name = hashlib.sha256(port_behind(url).encode()).hexdigest()[:16]
        self._lock = None if url.startswith("loop://") else NamedLock(_runtime_folder() / f"{name}.lock")

    def acquire(self, wait_s: float) -> None:
        """Take the lock.

        :param wait_s: seconds to wait for another holder to let go
        :raises BoardBusyError: another process holds it; its pid and command are named
        """
        holder = self._lock.acquire(wait_s) if self._lock else ""
        if holder:
            raise busy(self.url, holder)

    def holder(self) -> str:
        """Who holds it now, empty where nobody does; it is not kept."""
        holder = self._lock.acquire() if self._lock else ""
        if not holder:
            self.release()
        return holder

    def release(self) -> None:
        """Let go; does nothing where it is not held."""
        if self._lock:
            self._lock.release()


def busy(url: str, holder: str) -> BoardBusyError:
    """The error of a port that another process has.

    :param holder: process id and command
    """
    return BoardBusyError(
        "another process holds this port",
        where=url,
        got=f"held by {holder}",
        cure="end that process, or wait for it with --wait-s SECONDS",
    )


def port_behind(url: str) -> str:
    """One name for a port, by whichever of its names or wrappers it is given.

    A device is known by what its links lead to, ``spy://`` by what it wraps, a network port by host and number:
    options behind ``?`` and the protocol spoken there are no other port.
    """
    if "://" not in url:
        return os.path.realpath(url)
    if url.lower().startswith("spy://"):
        return port_behind(url[len("spy://") :].partition("?")[0])
    parts = urlsplit(url)
    host = "127.0.0.1" if parts.hostname in ("localhost", "::1") else parts.hostname
    return f"{host}:{parts.port}" if parts.scheme.lower() in ("socket", "rfc2217") else url


def processes_with(device: str) -> list[str]:
    """Processes that have a device open, by id and command, as far as this user may look (Linux); none elsewhere."""
    path = os.path.realpath(device)
    processes = sorted(PROC.glob("[0-9]*"), key=lambda folder: int(folder.name))
    others = (process for process in processes if process.name != str(os.getpid()))
    return [f"pid {process.name}: {_command(process)}" for process in others if path in _open_files(process)]


def runs(program: str) -> bool:
    """Whether a program of that name runs, whoever's it is (Linux); not elsewhere."""
    return any(_read(process / "comm").strip() == program.encode() for process in PROC.glob("[0-9]*"))


def _open_files(process: Path) -> set[str]:
    """Paths that a process has open; none where it has ended or belongs to somebody else."""
    try:
        return {os.readlink(link) for link in (process / "fd").iterdir()}
    except OSError:
        return set()


def _command(process: Path) -> str:
    return _read(process / "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()


def _read(path: Path) -> bytes:
    """A file of a process; empty where it has ended meanwhile."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _runtime_folder() -> Path:
    """A folder of this user's that does not outlive the session."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(base) if base else Path(tempfile.gettempdir()) / f"policyport-{getpass.getuser()}"
    folder = folder / "policyport"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
