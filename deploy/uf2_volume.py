"""Volumes of UF2 bootloaders: found by the INFO_UF2.TXT that each holds, and written to by copying a file."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from policyport.core.errors import BoardError

MOUNTS = Path("/proc/mounts")
"""Linux' list of what is mounted where."""

MAC_VOLUMES = Path("/Volumes")
INFO = "INFO_UF2.TXT"


@dataclass(frozen=True)
class Volume:
    """A mounted volume of a board that waits for an image."""

    path: Path
    board_id: str
    """``Board-ID`` of its INFO_UF2.TXT."""


def find_volumes() -> list[Volume]:
    """The volumes with an INFO_UF2.TXT that names its board."""
    found = []
    for path in sorted(set(_mounted())):
        info = path / INFO
        if info.is_file():
            named = re.search(r"^Board-ID:[ \t]*(\S+)", info.read_text(errors="replace"), re.MULTILINE)
            found += [Volume(path, named[1])] if named else []
    return found


def choose_volume(board: str, board_ids: tuple[str, ...]) -> Volume:
    """The one volume that takes an image for a board.

    :param board: its name, for the error
    :param board_ids: the Board-IDs that are its own
    :raises BoardError: there is none of it, or more than one
    """
    volumes = find_volumes()
    own = [volume for volume in volumes if volume.board_id in board_ids]
    if len(own) == 1:
        return own[0]
    raise BoardError(
        "several boards wait for an image" if own else "no board waits for an image",
        where=board,
        expected=f"one mounted volume whose {INFO} has Board-ID {' or '.join(board_ids)}",
        got=", ".join(f"{volume.path} of {volume.board_id}" for volume in volumes) or "no volume with that file",
        cure="unplug all but one" if own else "plug the board in while its boot button is held, and mount its volume",
    )


def copy_image(data: bytes, volume: Volume, name: str) -> Path:
    """Copy a UF2 file onto a volume.

    :returns: where it was written; the board restarts with the last block, and the volume goes away with it
    :raises BoardError: the volume did not take all of it
    """
    path = volume.path / name
    try:
        with path.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        if (volume.path / INFO).is_file():  # a board that has restarted took everything
            raise BoardError(
                "the volume did not take the image", where=path, got=error, cure="plug the board in again"
            ) from error
    return path


def _mounted() -> list[Path]:
    """Where volumes are mounted; Linux writes a space in a name as ``\\040``."""
    if MOUNTS.is_file():
        places = (line.split()[1] for line in MOUNTS.read_text().splitlines() if line)
        return [Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), place)) for place in places]
    return [path for path in MAC_VOLUMES.iterdir() if path.is_dir()] if MAC_VOLUMES.is_dir() else []
