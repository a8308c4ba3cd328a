"""GPTQ (Frantar et al. 2022): one weight after the other, each error made good by those still free.

The order is that of falling curvature (``act-order``). With the order reversed this is Babai's nearest
plane (Chen et al. 2025, 2507.18553), which bounds the error only where no integer is clipped.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from policyport.core.semantics import Reals
from policyport.quantize.rounding.problem import LayerProblem


def gptq(problem: LayerProblem, scales: Reals) -> Reals:
    """Integers [G, R, D] (float64) for the problem's target.

    :param scales: [G, R]
    """
    low, high = problem.range
    order = np.argsort(-np.diagonal(problem.hessian, axis1=1, axis2=2), axis=1, kind="stable")
    inverse = np.linalg.inv(permuted(problem.hessian, order))
    factor = np.linalg.cholesky((inverse + inverse.transpose(0, 2, 1)) / 2).transpose(0, 2, 1)
    left = np.take_along_axis(problem.target, order[:, None, :], axis=2)
    integers = np.empty_like(left)
    for j in range(left.shape[2]):
        integers[:, :, j] = np.clip(np.rint(left[:, :, j] / scales), low, high)
        error = (left[:, :, j] - integers[:, :, j] * scales) / factor[:, j, j][:, None]
        left[:, :, j:] -= error[:, :, None] * factor[:, None, j, j:]
    return restored(integers, order)


def permuted(hessian: Reals, order: NDArray[np.intp]) -> Reals:
    """Rows and columns of each group's matrix [G, D, D] in ``order`` [G, D]."""
    by_row = np.take_along_axis(hessian, order[:, :, None], axis=1)
    return np.take_along_axis(by_row, order[:, None, :], axis=2)


def restored(integers: Reals, order: NDArray[np.intp]) -> Reals:
    """Integers [G, R, D] in ``order`` [G, D] back in the layer's own order."""
    plain = np.empty_like(integers)
    np.put_along_axis(plain, np.broadcast_to(order[:, None, :], integers.shape), integers, axis=2)
    return plain
