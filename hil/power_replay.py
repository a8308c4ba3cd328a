"""A recording from a file in place of a meter: CSV with the columns ``seconds`` and ``watts``, from the start on."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import numpy as np
from policyport.core.errors import ConfigError
from policyport.hil.power_recording import Recording


class Replay:
    """What another instrument recorded, or what is known of a supply, as if it were recorded now.

    :param file: CSV whose first line is ``seconds,watts``
    :raises ConfigError: no such file, or it does not read as one
    """

    def __init__(self, file: str) -> None:
        try:
            with Path(file).open(newline="") as stream:
                rows = [(float(row["seconds"]), float(row["watts"])) for row in csv.DictReader(stream)]
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                "this is no recording of a power meter",
                where=file,
                expected="CSV of numbers, the first line seconds,watts",
                got=error,
            ) from error
        self._seconds, self._watts = np.array(rows).reshape(-1, 2).T
        if not np.all(np.isfinite(self._watts)) or np.any(np.diff(self._seconds) <= 0):
            raise ConfigError("a recording whose seconds do not rise, or whose power is no number", where=file)
        self._began_s = 0.0

    def start(self, longest_s: float) -> None:
        """Its second 0 is this moment."""
        self._began_s = time.monotonic()

    def stop(self) -> Recording:
        """What it has until this moment."""
        until = self._seconds <= time.monotonic() - self._began_s
        return Recording(self._seconds[until] + self._began_s, self._watts[until])

    def close(self) -> None:
        """Nothing is open."""
