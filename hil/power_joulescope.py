"""A Joulescope JS110 or JS220, by the maker's package ``joulescope``."""

from __future__ import annotations

import importlib
import time

import numpy as np
from policyport.core.closing import Closing
from policyport.core.errors import BoardError, ConfigError, ToolError
from policyport.core.install import pip_install
from policyport.hil.power_recording import Recording

RATE_HZ = 10_000


class Joulescope(Closing):
    """The one that is plugged in, at 10,000 samples each second.

    :param argument: nothing
    :raises BoardError: none is plugged in, or several are
    :raises ToolError: its package is not installed
    """

    def __init__(self, argument: str) -> None:
        if argument:
            raise ConfigError("a Joulescope takes no argument", where="power_meter", got=argument)
        try:
            package = importlib.import_module("joulescope")
        except ImportError as error:
            raise ToolError(
                "the package joulescope is not installed", where="power_meter", cure=pip_install("joulescope")
            ) from error
        try:
            self._device = package.scan_require_one(config="auto")
        except RuntimeError as error:
            raise BoardError("no Joulescope that could be meant", where="power_meter", got=error) from error
        self._device.parameter_set("sampling_frequency", RATE_HZ)
        self._device.open()

    def start(self, longest_s: float) -> None:
        """See :class:`policyport.hil.energy.PowerMeter`."""
        self._device.buffer_duration = longest_s
        self._device.start()

    def stop(self) -> Recording:
        """The last sample is that of this moment: what USB holds back is below a hundredth of a second."""
        self._device.stop()
        now_s = time.monotonic()
        samples = self._device.stream_buffer
        first, last = samples.sample_id_range
        watts = np.asarray(samples.samples_get(first, last, "power")["value"], np.float64)
        times_s = now_s - np.arange(len(watts))[::-1] / self._device.sampling_frequency
        kept = np.isfinite(watts)  # what it lost is no number
        return Recording(times_s[kept], watts[kept])

    def close(self) -> None:
        """See :class:`policyport.hil.energy.PowerMeter`."""
        self._device.close()
