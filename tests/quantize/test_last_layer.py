"""Last-layer post-training: closed forms, convex optima, and a choice that never makes validation worse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policyport.core.errors import ObservationError
from policyport.quantize.last_layer import Head, binary_logistic, logistic, loss, post_train, ridge

seeds = st.integers(0, 10**6)
property_test = settings(max_examples=40, deadline=None)


def drawn(seed: int, n: int, inputs: int = 5, outputs: int = 3) -> tuple[np.ndarray, np.ndarray, Head]:
    """Features, their outputs under a true layer, and that layer."""
    rng = np.random.default_rng(seed)
    x = rng.normal(1.0, 1.0, (n, inputs))
    truth = Head(rng.normal(size=(outputs, inputs)), rng.normal(size=outputs))
    return x, truth(x), truth


@given(seeds, st.integers(1, 12), st.integers(1, 12), st.floats(1e-4, 10.0), st.booleans())
@property_test
def test_dual_equals_primal(seed, n, inputs, penalty, pulled):
    x, t, truth = drawn(seed, n, inputs)
    around = truth.weights + 0.1 if pulled else None
    heads = [ridge(x, t, penalty, around=around, dual=dual) for dual in (True, False, None)]
    for head in heads[1:]:
        assert np.allclose(head.weights, heads[0].weights, atol=1e-7)
        assert np.allclose(head.bias, heads[0].bias, atol=1e-7)


@given(seeds, st.floats(1e-4, 10.0), st.booleans())
@property_test
def test_ridge_is_the_optimum(seed, penalty, pulled):
    x, t, _ = drawn(seed, 30)
    rng = np.random.default_rng(seed)
    t = t + rng.normal(size=t.shape)
    around = rng.normal(size=(3, 5)) if pulled else np.zeros((3, 5))
    variance = np.mean((x - x.mean(axis=0)) ** 2)

    def objective(head):
        fit = np.sum(np.mean((head(x) - t) ** 2, axis=0))
        return fit + penalty * variance * np.sum((head.weights - around) ** 2)

    best = ridge(x, t, penalty, around=around)
    reached = objective(best)
    for _ in range(10):
        other = Head(best.weights + 0.01 * rng.normal(size=best.weights.shape), best.bias + 0.01 * rng.normal(size=3))
        assert objective(other) >= reached


def test_ridge_finds_the_true_layer_where_there_is_no_noise():
    x, t, truth = drawn(0, 100)
    head = ridge(x, t, 1e-10)
    assert np.allclose(head.weights, truth.weights, atol=1e-6) and np.allclose(head.bias, truth.bias, atol=1e-6)


@given(seeds)
@settings(max_examples=8, deadline=None)
def test_logistic_optima_are_the_same_from_anywhere_and_flat(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, 4))
    classes = rng.integers(0, 3, 60)
    labels = rng.integers(0, 2, (60, 3))
    starts = [Head(np.zeros((3, 4)), np.zeros(3)), Head(rng.normal(size=(3, 4)), rng.normal(size=3))]
    for solve in (
        lambda start: logistic(x, classes, 3, 0.1, start),
        lambda start: binary_logistic(x, labels, 0.1, start),
    ):
        one, two = solve(starts[0]), solve(starts[1])
        assert np.allclose(one.weights, two.weights, atol=1e-4)
        assert np.allclose(one(x) - one(x).mean(), two(x) - two(x).mean(), atol=1e-1)


def test_binary_labels_are_independent_problems():
    rng = np.random.default_rng(1)
    x, labels = rng.normal(size=(80, 4)), rng.integers(0, 2, (80, 2))
    start = Head(np.zeros((2, 4)), np.zeros(2))
    both = binary_logistic(x, labels, 0.05, start)
    for i in range(2):
        alone = binary_logistic(x, labels[:, i : i + 1], 0.05, Head(np.zeros((1, 4)), np.zeros(1)))
        assert np.allclose(alone.weights[0], both.weights[i], atol=1e-4)


def test_a_softmax_of_two_classes_is_a_sigmoid():
    rng = np.random.default_rng(2)
    x, classes = rng.normal(size=(80, 4)), rng.integers(0, 2, 80)
    pair = logistic(x, classes, 2, 0.2, Head(np.zeros((2, 4)), np.zeros(2)))
    single = binary_logistic(x, classes[:, None], 0.1, Head(np.zeros((1, 4)), np.zeros(1)))
    assert np.allclose(pair.weights[1] - pair.weights[0], single.weights[0], atol=1e-4)


@given(seeds, st.sampled_from(["outputs", "classes", "labels"]), st.booleans())
@settings(max_examples=15, deadline=None)
def test_validation_never_gets_worse_and_the_penalty_is_the_best_tried(seed, kind, split):
    rng = np.random.default_rng(seed)
    x, t, truth = drawn(seed, 40, 4)
    t = t + rng.normal(size=t.shape)
    targets = {"outputs": t, "classes": t.argmax(axis=1), "labels": (t > 0).astype(int)}[kind]
    start = Head(truth.weights + rng.normal(size=truth.weights.shape), truth.bias)
    penalties = (1e-2, 1.0)
    held_out = (x[30:], targets[30:]) if split else None
    given_x, given_t = (x[:30], targets[:30]) if split else (x, targets)
    found = post_train(start, given_x, given_t, kind, held_out=held_out, penalties=penalties)
    assert found.loss_after <= found.loss_before
    if split:
        assert loss(kind, found.head, *held_out) == pytest.approx(found.loss_after)
        each = [post_train(start, given_x, given_t, kind, held_out=held_out, penalties=(p,)) for p in penalties]
        assert found.loss_after == pytest.approx(min(one.loss_after for one in each))


def test_a_start_that_is_best_is_kept():
    x, t, truth = drawn(0, 40)
    found = post_train(truth, x, t, "outputs", held_out=(x, t))
    assert found.head is truth and found.penalty is None and found.loss_after == found.loss_before


def test_noise_asks_for_a_larger_penalty():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 20))
    truth = np.zeros((1, 20))
    truth[0, 0] = 1.0
    start = Head(np.zeros((1, 20)), np.zeros(1))

    def chosen(noise):
        t = x @ truth.T + noise * rng.normal(size=(30, 1))
        fresh = rng.normal(size=(500, 20))
        return post_train(start, x, t, "outputs", held_out=(fresh, fresh @ truth.T)).penalty

    assert chosen(0.01) < chosen(1.0)


def test_features_broken_by_rounding_are_repaired():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 8))
    broken = np.round(x) + 0.3
    truth = Head(rng.normal(size=(2, 8)), np.zeros(2))
    found = post_train(truth, broken[:300], truth(x)[:300], "outputs", held_out=(broken[300:], truth(x)[300:]))
    assert found.loss_after < 0.7 * found.loss_before


@pytest.mark.parametrize("kind", ["constant", "one feature dead"])
def test_degenerate_features_are_solved(kind):
    x, t, _ = drawn(0, 20)
    x = np.full_like(x, 2.0) if kind == "constant" else x * np.array([1, 0, 1, 1, 1])
    head = ridge(x, t, 1e-3)
    assert np.all(np.isfinite(head.weights))
    if kind == "constant":
        assert np.allclose(head(x), t.mean(axis=0))


def test_bad_input_is_refused():
    x, t, truth = drawn(0, 6)
    bad = x.copy()
    bad[0, 0] = np.nan
    with pytest.raises(ObservationError, match="NaN"):
        ridge(bad, t, 0.1)
    with pytest.raises(ObservationError, match="NaN"):
        ridge(x, np.full_like(t, np.inf), 0.1)
    with pytest.raises(ObservationError, match="rows of numbers"):
        ridge(x[:0], t[:0], 0.1)
    with pytest.raises(ObservationError, match="differ in number"):
        ridge(x, t[:3], 0.1)
    with pytest.raises(ObservationError, match="no output"):
        logistic(x, np.full(6, 3), 3, 0.1, truth)
    with pytest.raises(ObservationError, match="one integer"):
        logistic(x, np.zeros(5, int), 3, 0.1, truth)
    with pytest.raises(ObservationError, match="another shape"):
        binary_logistic(x, t[:3], 0.1, truth)
    with pytest.raises(ObservationError, match="too few"):
        post_train(truth, x[:1], t[:1], "outputs")
