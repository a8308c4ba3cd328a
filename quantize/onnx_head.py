"""Arithmetic by constants, as the reader gathers it: what the host does, and what weights take over."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.quantize.graph import HostPrefix
from policyport.quantize.nodes import Weighted

Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Affine:
    """``x * scale + shift``, each [channels] float64."""

    scale: Reals
    shift: Reals

    @classmethod
    def of(cls, operator: str, constant: Reals, *, reverse: bool) -> Affine:
        """Add, Sub, Mul or Div by a constant; ``reverse``: the constant is the first operand."""
        one, zero = np.ones_like(constant), np.zeros_like(constant)
        if operator in ("Add", "Sum"):
            return cls(one, constant)
        if operator == "Sub":
            return cls(-one, constant) if reverse else cls(one, -constant)
        return cls(constant if operator == "Mul" else one / constant, zero)

    def then(self, other: Affine) -> Affine:
        """This one, then the other."""
        return Affine(self.scale * other.scale, self.shift * other.scale + other.shift)

    def folded(self, layer: Weighted) -> dict[str, Any]:
        """Weights and bias of a layer that does this to its input first."""
        groups = layer.group_count
        share = len(layer.weights) // groups
        scale, shift = (
            np.repeat(x.reshape(groups, -1), share, axis=0).reshape(
                len(layer.weights), -1, *[1] * (layer.weights.ndim - 2)
            )
            for x in (self.scale, self.shift)
        )
        moved = (layer.weights * shift).reshape(len(layer.weights), -1).sum(axis=1)
        return {"weights": layer.weights * scale, "bias": layer.bias + moved}

    @property
    def is_shift_by_three(self) -> bool:
        """Whether it is ``x + 3``, of which a clip to [0, 6] makes six times HardSigmoid."""
        return bool(np.all(self.scale == 1) and np.all(self.shift == 3))


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
