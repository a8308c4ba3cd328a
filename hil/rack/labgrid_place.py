"""Holds a place of labgrid as long as standard input is open: a process of its own, so that a kill releases it too.

    python -m policyport.hil.rack.labgrid_place PLACE
    python -m policyport.hil.rack.labgrid_place lab.yaml:ROLE#console

acquires the place, prints the URL of its serial port, and releases it at the end. A place that the user had acquired
before stays acquired. An environment file can name the port itself, of this machine, and then nothing is acquired.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from policyport.core.errors import BoardBusyError, BoardError, ConfigError, PolicyportError

CLIENT = (sys.executable, "-m", "labgrid.remote.client")
CLIENT_TIMEOUT_S = 60.0
FOLDERS = (".yaml", ".yml")
"""Endings of an environment file."""


def split(spec: str) -> tuple[str, str, str]:
    """What comes behind ``labgrid:``: place or environment file, role in the file, name of the port.

    :param spec: ``PLACE``, ``FILE.yaml`` or ``FILE.yaml:ROLE``, with ``#NAME`` behind it where there are several ports
    """
    where, _, name = spec.partition("#")
    file, colon, role = where.rpartition(":")
    if colon and file.endswith(FOLDERS):
        return file, role, name
    return where, "main" if where.endswith(FOLDERS) else "", name


def target_of(where: str, role: str) -> dict[str, Any]:
    """The configuration of labgrid's target.

    :raises ConfigError: the file does not read, or has no such role
    """
    if not role:
        return {"resources": {"RemotePlace": {"name": where}}}
    environment, errors = importlib.import_module("labgrid").Environment, importlib.import_module("labgrid.exceptions")
    try:
        targets: dict[str, Any] = environment(where).config.get_targets() or {}
    except (errors.NoConfigFoundError, errors.InvalidConfigError, OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError("labgrid cannot read this environment", where=where, got=error) from error
    if role not in targets:
        raise ConfigError("no such target in this environment", where=where, expected=", ".join(targets), got=role)
    found: dict[str, Any] = targets[role]
    return {"resources": found.get("resources", {})}


def remote_places(target: dict[str, Any]) -> list[str]:
    """Names of the places that a target's resources come from; none where they are this machine's own."""
    resources = target["resources"]
    rows = [resources] if isinstance(resources, dict) else resources
    return [str(row["RemotePlace"]["name"]) for row in rows if "RemotePlace" in row]


def acquire(place: str) -> bool:
    """Acquire a place.

    :returns: whether it has to be released: False where this user had acquired it before
    :raises BoardBusyError: somebody else has it
    :raises BoardError: no such place, or no coordinator
    """
    done = _client(place, "acquire")
    if done.returncode == 0:
        return True
    said = (done.stderr or done.stdout).strip()
    if re.search(r"You have already acquired place \S+\.$", said):
        return False
    if "is already acquired" in said or "already acquired place" in said:
        raise BoardBusyError("somebody else has this place of labgrid", where=place, got=said)
    raise BoardError(
        "labgrid does not give this place",
        where=place,
        got=said.splitlines()[-1] if said else f"exit code {done.returncode}",
        cure="labgrid-client places lists them; LG_COORDINATOR says where the coordinator is",
    )


def release(place: str) -> None:
    """Release a place.

    :raises BoardError: labgrid does not
    """
    done = _client(place, "release")
    if done.returncode != 0:
        raise BoardError("labgrid does not release this place", where=place, got=(done.stderr or done.stdout).strip())


def _client(place: str, verb: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [*CLIENT, "-p", place, verb],
            capture_output=True,
            text=True,
            timeout=CLIENT_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is not for it: a release must get through
        )
    except subprocess.TimeoutExpired as error:
        raise BoardError("labgrid does not answer", where=place, expected=f"within {CLIENT_TIMEOUT_S:.0f} s") from error


def serial_url(target: dict[str, Any], name: str, where: str) -> str:
    """pyserial URL of a target's serial port.

    :param name: of the resource; empty where there is one
    :raises BoardError: it has none, or several
    """
    ports = importlib.import_module("labgrid.resource")
    made = importlib.import_module("labgrid").target_factory.make_target("board", target)
    kinds = (ports.NetworkSerialPort, ports.SerialPort)
    found = [resource for resource in made.resources if isinstance(resource, kinds)]
    wanted = [resource for resource in found if name in ("", resource.name)]
    if len(wanted) != 1:
        raise BoardError(
            "labgrid's place has several serial ports" if wanted else "labgrid's place has no such serial port",
            where=where,
            got=", ".join(resource.name or type(resource).__name__ for resource in found) or "none at all",
            cure="say which: labgrid:PLACE#NAME" if found else "labgrid-client show lists its resources",
        )
    made.await_resources(wanted, timeout=CLIENT_TIMEOUT_S)
    port = wanted[0]
    if not isinstance(port, ports.NetworkSerialPort):
        return str(port.port)
    return f"{'rfc2217' if port.protocol == 'rfc2217' else 'socket'}://{port.host}:{port.port}"


def hold(spec: str) -> None:
    """Acquire, print the URL, wait for the end of standard input, release.

    :raises PolicyportError: as the functions above
    """
    where, role, name = split(spec)
    if role and not Path(where).is_file():
        raise ConfigError("no such environment file of labgrid", where=where)
    target = target_of(where, role)
    acquired: list[str] = []
    try:
        for place in remote_places(target):
            if acquire(place):
                acquired.append(place)
        print(serial_url(target, name, where), flush=True)
        sys.stdin.read()
    finally:
        for place in acquired:
            release(place)


def main() -> int:
    """Entry point of the process."""
    try:
        hold(sys.argv[1])
    except PolicyportError as error:
        print(error, file=sys.stderr, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
