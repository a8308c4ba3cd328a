"""Roundings made continuous, so that gradient descent can learn them: values, slopes, and the end.

AdaRound's own (Nagel et al. 2020, equations 22 to 24), and those its tables 3 and 5 compare it with.
Gradients are written out here, and tested equal to automatic ones.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from policyport.core.semantics import Integers, weight_range

Kind = Literal["rectified", "sigmoid", "temperature", "straight_through"]
"""The paper's rectified sigmoid; a plain one; one that temperature sharpens; free weights, rounded straight through."""

Floats = NDArray[np.float32]

ZETA, GAMMA = 1.1, -0.1
"""How far the sigmoid is stretched beyond 1 and 0, before it is cut there: its slope does not vanish at the ends."""

TEMPERATURE_END = 0.02
"""What the temperature falls to, from 1."""

SETTLED = 1e-3
"""How near to 0 or 1 a rounding counts as settled."""


def rectified_sigmoid(v: Floats) -> Floats:
    """h(V) = clip(sigmoid(V) (zeta - gamma) + gamma, 0, 1), equation 23."""
    from scipy.special import expit

    h: Floats = np.clip(expit(v) * np.float32(ZETA - GAMMA) + np.float32(GAMMA), 0.0, 1.0)
    return h


def initial(fraction: NDArray[np.float64]) -> Floats:
    """The V at which :func:`rectified_sigmoid` is ``fraction``, in [0, 1]."""
    return np.asarray(-np.log((ZETA - GAMMA) / (fraction - GAMMA) - 1), np.float32)


def regularizer(h: Floats, beta: float) -> float:
    """f_reg = sum(1 - |2 h - 1|^beta), equation 24: 0 where every h is 0 or 1."""
    return float(np.sum(1 - np.abs(2 * h - 1) ** np.float32(beta)))


def regularizer_slope(h: Floats, beta: float) -> Floats:
    """The slope of :func:`regularizer` by each h."""
    away = 2 * h - 1
    return np.float32(-2 * beta) * np.abs(away) ** np.float32(beta - 1) * np.sign(away)


class Relaxation:
    """Weights on their way to integers: :attr:`parameter`, and the integers that it stands for."""

    def __init__(self, kind: Kind, steps: NDArray[np.float64], bits: int) -> None:
        """Start at the float weights.

        :param steps: weights in steps of their scale, any shape
        """
        self.kind = kind
        self.low, self.high = weight_range(bits)
        self.floor = np.floor(steps).astype(np.float32)
        fraction = steps - np.floor(steps)
        if kind == "rectified":
            self.parameter = initial(fraction)
        elif kind == "straight_through":
            self.parameter = steps.astype(np.float32)
        else:
            inner = np.clip(fraction, 1e-4, 1 - 1e-4)
            self.parameter = np.log(inner / (1 - inner)).astype(np.float32)

    @property
    def regularized(self) -> bool:
        """Whether the regularizer is needed to settle it."""
        return self.kind in ("rectified", "sigmoid")

    def integers(self, done: float) -> Floats:
        """The relaxed integers when ``done`` of the iterations are, in [0, 1]."""
        values = np.rint(self.parameter) if self.kind == "straight_through" else self.floor + self.up(done)
        return np.clip(values, self.low, self.high)

    def up(self, done: float) -> Floats:
        """The share by which each weight rounds up, in [0, 1]."""
        from scipy.special import expit

        if self.kind == "rectified":
            return rectified_sigmoid(self.parameter)
        share: Floats = expit(self.parameter / self._temperature(done))
        return share

    def slope(self, by_integers: Floats, done: float, by_up: Floats | None = None) -> Floats:
        """The loss's slope by the parameter.

        :param by_integers: its slope by :meth:`integers`
        :param by_up: the regularizer's slope by :meth:`up`; None without one
        """
        from scipy.special import expit

        if self.kind == "straight_through":
            return by_integers * ((self.parameter >= self.low) & (self.parameter <= self.high))
        temperature = self._temperature(done)
        sigmoid = expit(self.parameter / temperature)
        inner = sigmoid * (1 - sigmoid) / temperature
        up = sigmoid
        if self.kind == "rectified":
            stretched = sigmoid * np.float32(ZETA - GAMMA) + np.float32(GAMMA)
            inner = np.float32(ZETA - GAMMA) * inner * ((stretched >= 0) & (stretched <= 1))
            up = np.clip(stretched, 0.0, 1.0)
        values = self.floor + up
        through = by_integers * ((values >= self.low) & (values <= self.high))
        slope: Floats = (through if by_up is None else through + by_up) * inner
        return slope

    def rounded(self) -> Integers:
        """The integers for good: whole, and in the range."""
        free = self.kind == "straight_through"
        values = np.rint(self.parameter) if free else self.floor + (self.up(1.0) >= 0.5)
        return np.clip(values, self.low, self.high).astype(np.int64)

    def unsettled(self) -> float:
        """Share of the roundings that are not at 0 or 1 when all is done."""
        if self.kind == "straight_through":
            return 0.0
        up = self.up(1.0)
        return float(np.mean((up > SETTLED) & (up < 1 - SETTLED)))

    def _temperature(self, done: float) -> np.float32:
        return np.float32(TEMPERATURE_END**done if self.kind == "temperature" else 1.0)
