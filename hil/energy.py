"""Energy of inferences on a real board: what a power meter records between two moments of this machine's clock.

A driver of an instrument is whatever has the methods of :class:`PowerMeter`. A lab's own is registered in the
entry-point group ``policyport.power_meters`` of its package, as a callable from the text behind the colon to the meter.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import BoardError, ConfigError
from policyport.core.semantics import Integers
from policyport.hil.power_joulescope import Joulescope
from policyport.hil.power_lines import MeterLines
from policyport.hil.power_recording import Recording
from policyport.hil.power_replay import Replay
from policyport.hil.result import EnergyFigures

if TYPE_CHECKING:
    from policyport.firmware_bridge.client import Bridge, Identity

GROUP = "policyport.power_meters"

SETTLE_S = 0.1
"""Before the first moment and after the last, so that the meter's samples enclose both."""

IDLE_SHARE = 0.25
"""Of the time of the inferences, for which the board is measured idle before."""

LARGEST_GAP_SHARE = 0.05
"""Of that time, that may pass between two samples."""


class PowerMeter(Protocol):
    """An instrument in a board's supply."""

    def start(self, longest_s: float) -> None:
        """Begin to record, for at most so long."""

    def stop(self) -> Recording:
        """End, and what was recorded since."""
        ...

    def close(self) -> None:
        """Let go of the instrument."""


Driver = Callable[[str], PowerMeter]

DRIVERS: dict[str, Driver] = {"joulescope": Joulescope, "lines": MeterLines, "replay": Replay}
"""Those that come with this package; each gets the text behind the colon."""


def find_driver(name: str) -> Driver:
    """The driver of a kind of meter, a registered one before one of ours.

    :param name: what stands before the colon in ``power_meter``
    :raises ConfigError: there is none
    """
    registered = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name in registered:
        driver: Driver = registered[name].load()
        return driver
    if name in DRIVERS:
        return DRIVERS[name]
    raise ConfigError(
        "unknown power meter",
        where="power_meter",
        expected=", ".join(sorted({*DRIVERS, *registered})),
        got=name,
        cure=f"register its driver in the entry-point group {GROUP}: docs/energy.md",
    )


def joules_between(recording: Recording, begin_s: float, end_s: float) -> float:
    """The integral of the power between two moments, by trapezoids; between two samples it is linear.

    :param begin_s: on the clock of ``recording.times_s``
    """
    inside = (recording.times_s > begin_s) & (recording.times_s < end_s)
    times = np.concatenate([[begin_s], recording.times_s[inside], [end_s]])
    ends = np.interp([begin_s, end_s], recording.times_s, recording.watts)
    watts = np.concatenate([ends[:1], recording.watts[inside], ends[1:]])
    return float(np.sum((watts[1:] + watts[:-1]) / 2 * np.diff(times)))


@dataclass(frozen=True)
class Moments:
    """On ``time.monotonic``'s clock: the board idle, then at work."""

    idle_s: float
    begin_s: float
    end_s: float


def measure_energy(
    meter: str, seconds: float, bridge: Bridge, identity: Identity, q: Integers, samples: Path
) -> EnergyFigures:
    """Inferences one after the other for so long, and what they take.

    :param meter: ``NAME`` or ``NAME:ARGUMENT``
    :param q: [n, inputs], run over and over
    :param samples: ``.npz`` to write: ``times_s`` from the first inference on, ``watts``, and ``idle_s``, ``end_s``
    :raises ConfigError: no such meter
    :raises BoardError: no instrument, or its samples have a gap or do not enclose the inferences
    """
    name, _, argument = meter.partition(":")
    instrument = find_driver(name)(argument)
    try:
        instrument.start(longest_s=(1 + IDLE_SHARE) * seconds + 60.0)
        time.sleep(SETTLE_S)
        idle_s = time.monotonic()
        time.sleep(IDLE_SHARE * seconds)
        begin_s = time.monotonic()
        inferences, ticks = _run(bridge, q, begin_s + seconds)
        moments = Moments(idle_s, begin_s, time.monotonic())
        time.sleep(SETTLE_S)
        recording = instrument.stop()
    finally:
        instrument.close()
    gap_s = _require_whole(recording, moments, meter)
    np.savez_compressed(
        samples,
        times_s=recording.times_s - begin_s,
        watts=recording.watts,
        idle_s=idle_s - begin_s,
        end_s=moments.end_s - begin_s,
    )
    busy_s = (ticks - inferences * identity.counter_overhead_ticks) / identity.clock_hz
    return _figures(meter, recording, moments, inferences, busy_s, gap_s)


def _run(bridge: Bridge, q: Integers, until_s: float) -> tuple[int, int]:
    """How many inferences there were, and their ticks."""
    inferences = ticks = 0
    while time.monotonic() < until_s:
        _, each = bridge.run_many(q)
        inferences, ticks = inferences + len(each), ticks + int(each.sum())
    return inferences, ticks


def _require_whole(recording: Recording, moments: Moments, meter: str) -> float:
    """The largest gap between two samples that enclose the measurement, in seconds.

    :raises BoardError: too large, or they do not enclose it
    """
    times: NDArray[np.float64] = recording.times_s
    if len(times) < 2 or times[0] > moments.idle_s or times[-1] < moments.end_s:
        have = f"{times[0] - moments.begin_s:.3f} to {times[-1] - moments.begin_s:.3f} s" if len(times) else "none"
        raise BoardError(
            "the meter's samples do not enclose the inferences",
            where=meter,
            expected=f"{moments.idle_s - moments.begin_s:.3f} to {moments.end_s - moments.begin_s:.3f} s",
            got=have,
        )
    around = slice(np.searchsorted(times, moments.idle_s) - 1, np.searchsorted(times, moments.end_s) + 1)
    gap_s = float(np.diff(times[around]).max())
    most_s = LARGEST_GAP_SHARE * (moments.end_s - moments.begin_s)
    if gap_s > most_s:
        raise BoardError(
            "the meter's samples have a gap", where=meter, expected=f"at most {most_s:.3f} s", got=f"{gap_s:.3f} s"
        )
    return gap_s


def _figures(
    meter: str, recording: Recording, moments: Moments, inferences: int, busy_s: float, gap_s: float
) -> EnergyFigures:
    seconds = moments.end_s - moments.begin_s
    joules = joules_between(recording, moments.begin_s, moments.end_s)
    idle = joules_between(recording, moments.idle_s, moments.begin_s) / (moments.begin_s - moments.idle_s)
    return EnergyFigures(
        meter=meter,
        seconds=seconds,
        inferences=inferences,
        busy_s=busy_s,
        joules=joules,
        idle_watts=idle,
        per_inference_j=joules / inferences,
        above_idle_j=(joules - idle * seconds) / inferences,
        samples=int(np.count_nonzero((recording.times_s >= moments.begin_s) & (recording.times_s <= moments.end_s))),
        largest_gap_s=gap_s,
    )
