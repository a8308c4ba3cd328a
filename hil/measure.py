"""Measurements on a board: inference counts, their split over layers, memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ProtocolError
from policyport.core.semantics import Integers
from policyport.deploy.program import Program
from policyport.hil.result import Distribution, LatencyFigures, LayerShare, MemoryFigures
from policyport.hil.rig import Rig

if TYPE_CHECKING:
    from policyport.firmware_bridge.client import Bridge, Identity

Counts = NDArray[np.int64]

TRACED = 8
"""Observations that are traced layer by layer."""

WARM_UP = 2
"""Inferences before the first one that counts: caches and flash buffers of a real board."""


def distribution(counts: Counts) -> Distribution:
    """Percentiles of counts, each a count that was measured (the next higher one).

    :param counts: [observations]
    """
    p50, p95, p99 = (int(np.percentile(counts, p, method="higher")) for p in (50, 95, 99))
    return Distribution(
        len(counts), int(counts.min()), p50, p95, p99, int(counts.max()), float(np.round(counts.mean(), 2))
    )


def inference_counts(bridge: Bridge, rig: Rig, identity: Identity, q: Integers) -> tuple[Counts, bool]:
    """Counts of one inference per observation, and whether a second run counted the same.

    :param q: [n, inputs]
    :returns: [n], in the rig's unit
    :raises ProtocolError: an emulated board did not repeat its counts, or an output
    """
    bridge.run_many(q[:WARM_UP])
    first_outputs, first = bridge.run_many(q)
    again_outputs, again = bridge.run_many(q)
    if not np.array_equal(first_outputs, again_outputs):
        raise ProtocolError("the board gave two outputs for one input", where=rig.url)
    overhead = identity.counter_overhead_ticks
    counts = np.array([rig.instructions(int(t), overhead) for t in first], np.int64)
    repeated = np.array([rig.instructions(int(t), overhead) for t in again], np.int64)
    repeats = np.array_equal(counts, repeated)
    if rig.emulated and not repeats:
        at = int(np.flatnonzero(counts != repeated)[0])
        raise ProtocolError(
            "the emulated board did not repeat its instruction count",
            where=f"observation {at}",
            expected=int(counts[at]),
            got=int(repeated[at]),
        )
    return counts, repeats


def layer_shares(
    bridge: Bridge, rig: Rig, identity: Identity, program: Program, q: Integers, total: int
) -> tuple[LayerShare, ...]:
    """Each layer's part of an inference, and the rest.

    :param q: [n, inputs]; the first :data:`TRACED` are traced
    :param total: count of a whole inference
    """
    overhead = identity.counter_overhead_ticks
    traced = [[rig.instructions(layer.ticks, overhead) for layer in bridge.trace(row)] for row in q[:TRACED]]
    medians = [int(np.percentile(column, 50, method="higher")) for column in zip(*traced, strict=True)]
    rows = [*zip((layer.name for layer in program.layers), medians, strict=True), ("other", total - sum(medians))]
    return tuple(LayerShare(name, count, round(count / total, 4) if total else 0.0) for name, count in rows)


def measure_latency(
    bridge: Bridge, rig: Rig, identity: Identity, program: Program, q: Integers
) -> tuple[LatencyFigures, Counts]:
    """Latency over real observations.

    :param q: [n, inputs]
    :returns: the figures, and every count [n]
    """
    counts, repeats = inference_counts(bridge, rig, identity, q)
    summary = distribution(counts)
    layers = layer_shares(bridge, rig, identity, program, q, summary.p50)
    return LatencyFigures(summary, layers, identity.counter_overhead_ticks, repeats), counts


def measure_memory(bridge: Bridge, arena_bytes: int) -> MemoryFigures:
    """Stack and static RAM as the running firmware sees them; ask last, when the stack has been deepest."""
    memory = bridge.memory()
    return MemoryFigures(memory.stack_bytes, memory.stack_used_bytes, memory.ram_static_bytes, arena_bytes)
