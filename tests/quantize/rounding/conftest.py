"""Random rounding problems, small enough to enumerate or as large as a layer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from policyport.quantize.rounding.problem import LayerProblem, Moments

ProblemMaker = Callable[..., LayerProblem]


@pytest.fixture(scope="session")
def make_problem() -> ProblemMaker:
    """``make_problem(seed, bits=2, groups=1, rows=3, inputs=4, observations=60, refit_bias=True)``."""

    def make(
        seed: int,
        bits: int = 2,
        groups: int = 1,
        rows: int = 3,
        inputs: int = 4,
        observations: int = 60,
        refit_bias: bool = True,
    ) -> LayerProblem:
        rng = np.random.default_rng(seed)
        mixing = rng.normal(size=(inputs, inputs)) + np.eye(inputs)
        floats = rng.normal(0.5, 1.0, (observations, groups, inputs)) @ mixing
        quantized = floats + rng.normal(0, 0.1, floats.shape)
        moments = Moments(groups, inputs, "layer")
        moments.update(floats, quantized)
        weights = rng.normal(size=(groups, rows, inputs))
        return moments.problem(weights, rng.normal(size=(groups, rows)), bits, refit_bias=refit_bias)

    return make
