"""A scale and a shift for each channel, and the weights that take them over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
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

    def among(self, size: int, part: tuple[int, int]) -> Affine:
        """The same for features from ``part[0]`` to before ``part[1]`` of ``size``, nothing for the others."""
        scale, shift = np.ones(size), np.zeros(size)
        scale[slice(*part)], shift[slice(*part)] = self.scale, self.shift
        return Affine(scale, shift)

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
