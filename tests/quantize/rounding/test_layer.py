"""The ridge of a layer's problem: chosen on observations that the rounding did not see."""

from __future__ import annotations

import numpy as np
import pytest
from policyport.quantize.nodes import Linear
from policyport.quantize.rounding.gptq import gptq
from policyport.quantize.rounding.grids import weight_scales
from policyport.quantize.rounding.layer import layer_problem, validated_problem
from policyport.quantize.rounding.problem import LayerProblem, solution

INPUTS, OUTPUTS = 96, 8


def data(count: int, seed: int = 0) -> tuple[Linear, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(OUTPUTS, INPUTS)).astype(np.float32)
    node = Linear(name="layer", inputs=("x",), linear_name="layer", weights=weights, bias=np.zeros(OUTPUTS, np.float32))
    x = np.maximum(rng.normal(size=(count, INPUTS)), 0).astype(np.float32)
    return node, x, x + rng.normal(0, 0.3, x.shape).astype(np.float32)


def unseen_error(node: Linear, problem: LayerProblem) -> float:
    """Mean squared error of the outputs over many observations that no problem was made of."""
    found = solution(problem, gptq(problem, weight_scales(problem)), weight_scales(problem))
    rng = np.random.default_rng(99)
    x = np.maximum(rng.normal(size=(4000, INPUTS)), 0)
    noisy = x + rng.normal(0, 0.3, x.shape)
    rounded = (found.integers * found.scales[..., None])[0]
    return float(np.mean((noisy @ rounded.T + found.bias - x @ node.weights.T - node.bias) ** 2))


@pytest.mark.parametrize("seed", range(3))
def test_few_observations_do_not_mislead(seed: int) -> None:
    node, x, noisy = data(60, seed)
    plain = layer_problem(node, [(x, noisy)], 4)
    careful = validated_problem(node, [(x, noisy)], 4)
    assert unseen_error(node, careful) < 0.7 * unseen_error(node, plain)


def test_many_observations_are_trusted() -> None:
    node, x, noisy = data(6000)
    plain = layer_problem(node, [(x, noisy)], 4)
    careful = validated_problem(node, [(x, noisy)], 4)
    assert unseen_error(node, careful) <= 1.02 * unseen_error(node, plain)


@pytest.mark.parametrize("count", [1, 4])
def test_too_few_to_hold_any_out(count: int) -> None:
    node, x, noisy = data(count)
    plain, careful = layer_problem(node, [(x, noisy)], 4), validated_problem(node, [(x, noisy)], 4)
    np.testing.assert_allclose(careful.target, plain.target)


def test_the_split_does_not_depend_on_batches() -> None:
    node, x, noisy = data(60)
    whole = validated_problem(node, [(x, noisy)], 4)
    parts = validated_problem(node, [(x[:7], noisy[:7]), (x[7:], noisy[7:])], 4)
    np.testing.assert_allclose(parts.hessian, whole.hessian, rtol=1e-9, atol=1e-12)
