"""Arithmetic by constants at the head of a network, as the reader gathers it: what the host does."""

from __future__ import annotations

from math import inf

import numpy as np
from numpy.typing import NDArray
from policyport.quantize.affine import Affine
from policyport.quantize.graph import HostPrefix

Reals = NDArray[np.float64]


class Head:
    """What the host does before the network: ``clip((x - offset) * gain, low, high)``."""

    def __init__(self, channels: int) -> None:
        self.offset: Reals = np.zeros(channels)
        self.gain: Reals = np.ones(channels)
        self.low, self.high = -inf, inf

    @property
    def is_even(self) -> bool:
        """Whether it does the same to every value."""
        return bool(np.all(self.offset == self.offset[0]) and np.all(self.gain == self.gain[0]))

    def for_channels(self, channels: int) -> Head:
        """The same, even, head for an observation of another shape."""
        made = Head(channels)
        made.offset[:], made.gain[:] = self.offset[0], self.gain[0]
        made.low, made.high = self.low, self.high
        return made

    def affine(self, part: Affine) -> bool:
        """Append an affine part, no scale zero; False behind a clip, where weights must take it over."""
        if np.isfinite([self.low, self.high]).any() or np.any(part.scale == 0):
            return False
        self.gain = self.gain * part.scale
        self.offset = self.offset - part.shift / self.gain
        return True

    def clip(self, low: float, high: float) -> None:
        """Append a clip."""
        self.low, self.high = max(self.low, low), min(self.high, high)

    def prefix(self, rank: int) -> HostPrefix:
        """What the host does to observations of that rank, 1 or 3."""
        each = (-1, *[1] * (rank - 1))
        offset, gain = (x.astype(np.float32).reshape(each) for x in (self.offset, self.gain))
        return HostPrefix(offset, gain, self.low, self.high)
