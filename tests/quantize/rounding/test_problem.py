"""A layer's problem: its objective is the layer's output error, and odd features are defined or refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policyport.core.errors import ObservationError, UnsupportedModelError
from policyport.quantize.rounding.grids import minmax_scales
from policyport.quantize.rounding.lattice import lattice
from policyport.quantize.rounding.nearest import nearest
from policyport.quantize.rounding.problem import Moments, solution


def observed(seed: int, n: int = 50, groups: int = 1, inputs: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    floats = rng.normal(3.0, 1.0, (n, groups, inputs))
    return floats, floats + rng.normal(0, 0.2, floats.shape)


@given(st.integers(0, 10**6), st.integers(1, 3), st.sampled_from([2, 3, 4, 8]))
@settings(max_examples=40, deadline=None)
def test_the_objective_is_the_output_error_up_to_a_constant(seed, groups, bits):
    """With a ridge of next to nothing, two roundings differ in the objective as in the mean squared output error."""
    rng = np.random.default_rng(seed)
    floats, quantized = observed(seed, groups=groups)
    weights, bias = rng.normal(size=(groups, 3, 4)), rng.normal(size=(groups, 3))
    moments = Moments(groups, 4)
    moments.update(floats, quantized)
    problem = moments.problem(weights, bias, bits, ridge=1e-12)
    scales = minmax_scales(problem)
    wanted = np.einsum("ngd,grd->ngr", floats, weights) + bias

    def error(integers):
        found = solution(problem, integers, scales)
        got = np.einsum("ngd,grd->ngr", quantized, found.integers * scales[..., None]) + found.bias
        return np.mean((wanted - got) ** 2, axis=0)

    one = nearest(weights, scales, bits)
    two = nearest(weights + 0.5 * rng.normal(size=weights.shape), scales, bits)
    differences = error(one) - error(two), problem.objective(one, scales) - problem.objective(two, scales)
    assert np.allclose(*differences, atol=1e-6, rtol=1e-6)


@given(st.integers(0, 10**6), st.lists(st.integers(0, 50), max_size=4))
@settings(max_examples=40, deadline=None)
def test_batches_do_not_change_the_moments(seed, cuts):
    floats, quantized = observed(seed)
    whole, parts = Moments(1, 4), Moments(1, 4)
    whole.update(floats, quantized)
    edges = [0, *sorted(cuts), 50]
    for first, last in itertools.pairwise(edges):
        parts.update(floats[first:last], quantized[first:last])
    weights, bias = np.ones((1, 2, 4)), np.zeros((1, 2))
    one, two = whole.problem(weights, bias, 4), parts.problem(weights, bias, 4)
    assert parts.count == 50
    assert np.allclose(one.hessian, two.hessian) and np.allclose(one.target, two.target)
    found = np.ones((1, 2, 4), np.int64), np.ones((1, 2))
    assert np.allclose(one.refitted_bias(*found), two.refitted_bias(*found))


@given(st.integers(0, 10**6), st.floats(-1, 1))
@settings(max_examples=40, deadline=None)
def test_the_refitted_bias_is_the_exact_optimum(seed, shift):
    rng = np.random.default_rng(seed)
    floats, quantized = observed(seed)
    weights, bias = rng.normal(size=(1, 3, 4)), rng.normal(size=(1, 3))
    moments = Moments(1, 4)
    moments.update(floats, quantized)
    problem = moments.problem(weights, bias, 3)
    found = lattice(problem)
    wanted = floats[:, 0] @ weights[0].T + bias
    got = quantized[:, 0] @ (found.integers * found.scales[..., None])[0].T
    residual = wanted - got - found.bias
    assert np.allclose(residual.mean(axis=0), 0, atol=1e-9)
    assert np.all(np.mean((residual - shift) ** 2, axis=0) >= np.mean(residual**2, axis=0) - 1e-12)


def test_without_a_free_bias_the_objective_is_the_papers(make_problem):
    problem = make_problem(1, refit_bias=False)
    rng = np.random.default_rng(0)
    x = rng.normal(2.0, 1.0, (40, 1, 4))
    moments = Moments(1, 4)
    moments.update(x, x)
    plain = moments.problem(problem.weights, problem.bias, 4, ridge=1e-9, refit_bias=False)
    assert np.allclose(plain.hessian[0], x[:, 0].T @ x[:, 0] / 40, atol=1e-7)
    assert np.allclose(plain.target, problem.weights, atol=1e-9), "equal features leave the target where it is"
    assert np.array_equal(plain.refitted_bias(np.zeros((1, 3, 4), np.int64), np.ones((1, 3))), problem.bias)


def test_the_target_is_the_least_squares_solution():
    floats, quantized = observed(5, n=200)
    weights, bias = np.random.default_rng(5).normal(size=(1, 2, 4)), np.array([[0.5, -1.0]])
    moments = Moments(1, 4)
    moments.update(floats, quantized)
    problem = moments.problem(weights, bias, 4, ridge=1e-12)
    design = np.hstack([quantized[:, 0], np.ones((200, 1))])
    best, *_ = np.linalg.lstsq(design, floats[:, 0] @ weights[0].T + bias, rcond=None)
    assert np.allclose(problem.target[0], best[:4].T, atol=1e-8)


DEGENERATE = {
    "constant features": lambda x: np.full_like(x, 3.0),
    "features that are all zero": lambda x: np.zeros_like(x),
    "a dead channel": lambda x: x * np.array([1.0, 0.0, 1.0, 1.0]),
    "one sample": lambda x: x[:1],
    "duplicated columns": lambda x: np.repeat(x[..., :1], 4, axis=-1),
    "an outlier channel": lambda x: x * np.array([1.0, 1e6, 1.0, 1e-6]),
}


@pytest.mark.parametrize("kind", DEGENERATE)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_degenerate_features_are_solved(kind, bits):
    x = DEGENERATE[kind](np.random.default_rng(0).normal(1.0, 1.0, (30, 1, 4)))
    weights, bias = np.random.default_rng(1).normal(size=(1, 3, 4)), np.ones((1, 3))
    moments = Moments(1, 4, "layer")
    moments.update(x, x)
    problem = moments.problem(weights, bias, bits)
    found = lattice(problem)
    assert np.all(np.isfinite(found.scales)) and np.all(np.isfinite(found.bias)) and np.all(found.objective >= 0)
    scales = minmax_scales(problem)
    assert np.all(found.objective <= problem.objective(nearest(weights, scales, bits), scales) + 1e-9)


def test_where_nothing_varies_weights_round_to_nearest():
    weights = np.array([[[0.9, -0.4, 0.2, 0.1]]])
    moments = Moments(1, 4)
    moments.update(np.full((9, 1, 4), 2.0), np.full((9, 1, 4), 2.5))
    problem = moments.problem(weights, np.zeros((1, 1)), 8)
    found = lattice(problem)
    assert np.array_equal(found.integers, nearest(weights, found.scales, 8))


@pytest.mark.parametrize("kind", ["zero", "constant"])
def test_degenerate_weights_are_solved(kind):
    x = np.random.default_rng(0).normal(size=(30, 1, 4))
    weights = np.zeros((1, 2, 4)) if kind == "zero" else np.full((1, 2, 4), 0.7)
    moments = Moments(1, 4)
    moments.update(x, x)
    found = lattice(moments.problem(weights, np.zeros((1, 2)), 4))
    assert np.all(found.scales > 0)
    assert np.allclose(found.integers * found.scales[..., None], weights, atol=0.05)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_by_name(value):
    x = np.ones((5, 1, 4))
    bad = x.copy()
    bad[2, 0, 1] = value
    moments = Moments(1, 4, "layers.3")
    for floats, quantized, which in ((bad, x, "float"), (x, bad, "quantized")):
        with pytest.raises(ObservationError, match=f"{which} features.*layers.3"):
            moments.update(floats, quantized)
    moments.update(x, x)
    weights = np.ones((1, 2, 4))
    weights[0, 0, 0] = value
    with pytest.raises(UnsupportedModelError, match=r"weights.*layers.3"):
        moments.problem(weights, np.zeros((1, 2)), 4)
    with pytest.raises(UnsupportedModelError, match=r"bias.*layers.3"):
        moments.problem(np.ones((1, 2, 4)), np.full((1, 2), value), 4)


def test_empty_and_misshapen_features_are_refused():
    moments = Moments(1, 4, "layers.3")
    moments.update(np.zeros((0, 1, 4)), np.zeros((0, 1, 4)))
    with pytest.raises(ObservationError, match=r"no observation.*layers.3"):
        moments.problem(np.ones((1, 2, 4)), np.zeros((1, 2)), 4)
    with pytest.raises(ObservationError, match="another shape"):
        moments.update(np.zeros((5, 1, 3)), np.zeros((5, 1, 3)))
    with pytest.raises(ObservationError, match="differ in number"):
        moments.update(np.zeros((5, 1, 4)), np.zeros((4, 1, 4)))


def test_a_width_that_is_none_is_refused():
    moments = Moments(1, 4)
    moments.update(np.ones((5, 1, 4)), np.ones((5, 1, 4)))
    with pytest.raises(UnsupportedModelError, match="weight width"):
        moments.problem(np.ones((1, 2, 4)), np.zeros((1, 2)), 9)


@given(st.integers(0, 999), st.integers(1, 3), st.integers(1, 29))
def test_moments_merge_as_if_seen_together(seed: int, groups: int, cut: int) -> None:
    rng = np.random.default_rng(seed)
    floats = rng.normal(3, 1, (30, groups, 4))
    quantized = floats + rng.normal(0, 0.2, floats.shape)
    whole, first, second = (Moments(groups, 4) for _ in range(3))
    whole.update(floats, quantized)
    first.update(floats[:cut], quantized[:cut])
    second.update(floats[cut:], quantized[cut:])
    first.merge(second)
    weights, bias = rng.normal(size=(groups, 2, 4)), rng.normal(size=(groups, 2))
    expected, got = (moments.problem(weights, bias, 4) for moments in (whole, first))
    np.testing.assert_allclose(got.hessian, expected.hessian, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(got.target, expected.target, rtol=1e-7, atol=1e-7)


@given(st.integers(0, 999))
def test_the_error_of_a_rounding_is_that_of_its_outputs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    floats = rng.normal(2, 1, (50, 2, 3))
    quantized = floats + rng.normal(0, 0.2, floats.shape)
    moments = Moments(2, 3)
    moments.update(floats, quantized)
    weights, bias = rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 4))

    def exact(rounded: np.ndarray, rounded_bias: np.ndarray) -> float:
        wanted = np.einsum("grd,ngd->ngr", weights, floats) + bias
        got = np.einsum("grd,ngd->ngr", rounded, quantized) + rounded_bias
        return float(((got - wanted) ** 2).sum(axis=(1, 2)).mean())

    rest = exact(0 * weights, bias) - moments.error(weights, bias, 0 * weights, bias)
    other, other_bias = np.round(weights), bias + 0.1
    assert moments.error(weights, bias, other, other_bias) + rest == pytest.approx(exact(other, other_bias), rel=1e-6)
