"""AdaRound: faithful in its parts, on the grid, and near the optimum that branch and bound proves."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from policyport.core.errors import ObservationError, UnsupportedModelError
from policyport.core.operators import Window
from policyport.quantize.nodes import (
    NONE,
    RELU,
    RELU6,
    Convolution,
    Function,
    Linear,
    TransposedConvolution,
    Weighted,
)
from policyport.quantize.rounding.adaround import (
    AdaRoundSettings,
    LearnedLayer,
    _Adam,
    _Reconstruction,
    adaround,
    beta,
)
from policyport.quantize.rounding.branch_and_bound import prove
from policyport.quantize.rounding.layer import in_place
from policyport.quantize.rounding.nearest import ceil, floor, nearest
from policyport.quantize.rounding.problem import LayerProblem, Moments
from policyport.quantize.rounding.relaxation import (
    Relaxation,
    initial,
    rectified_sigmoid,
    regularizer,
    regularizer_slope,
)

FAST = AdaRoundSettings(iterations=2000, learning_rate=2e-2, regularization=0.2)
BITS = 4


def linear(weights: np.ndarray, bias: np.ndarray, function: Function = NONE) -> Linear:
    return Linear(name="layers.2", inputs=("x",), linear_name="linear", weights=weights, bias=bias, function=function)


def toy(seed: int = 0, n: int = 256, inputs: int = 8, rows: int = 2) -> LearnedLayer:
    """A layer of correlated inputs."""
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(n, inputs)) @ rng.normal(size=(inputs, inputs))).astype(np.float32)
    weights = rng.normal(size=(1, rows, inputs))
    return LearnedLayer(linear(weights[0], np.zeros(rows)), x, x)


def scales_of(layer: LearnedLayer) -> np.ndarray:
    """Min-max scales at 4 bits."""
    return np.abs(layer.weights).max(axis=-1) / 7


def problem_of(layer: LearnedLayer) -> LayerProblem:
    """The same layer as a least-squares problem with the bias left alone."""
    moments = Moments(1, layer.weights.shape[2])
    moments.update(layer.float_inputs[:, None], layer.inputs[:, None])
    return moments.problem(layer.weights, layer.bias, BITS, ridge=1e-9, refit_bias=False)


def objective(layer: LearnedLayer, integers: np.ndarray) -> np.ndarray:
    """Each row's output error, [1, R]."""
    return problem_of(layer).objective(integers, scales_of(layer))


def to_nearest(layer: LearnedLayer) -> np.ndarray:
    return nearest(layer.weights, scales_of(layer), BITS)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_the_relaxation_starts_at_the_float_weights(fractions):
    assert np.allclose(rectified_sigmoid(initial(np.array(fractions))), fractions, atol=1e-5)
    started = Relaxation("rectified", np.array(fractions) - 3, 4)
    assert np.allclose(started.integers(0.0), np.array(fractions) - 3, atol=1e-5)


def test_the_rectified_sigmoid_reaches_both_ends_and_keeps_a_slope_near_them():
    assert rectified_sigmoid(np.array([-10.0, 0.0, 10.0], np.float32)).tolist() == [0.0, 0.5, 1.0]
    near = Relaxation("rectified", np.array([0.01, 0.99]), 4)
    assert np.all(near.slope(np.ones(2, np.float32), 0.0) > 0.05)


def test_the_regularizer_is_zero_at_integers_alone_and_sharpens_as_beta_falls():
    assert regularizer(np.array([0.0, 1.0]), 2.0) == 0.0
    assert regularizer(np.array([0.5]), 2.0) == 1.0
    inner = np.array([0.2])
    assert regularizer(inner, 20.0) > regularizer(inner, 2.0) > 0


def automatic(kind: str, parameter: torch.Tensor, steps: np.ndarray, done: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Integers and h of a relaxation at 3 bits in torch, for its automatic gradient."""
    floor_of = torch.from_numpy(np.floor(steps)).float()
    if kind == "straight_through":
        inside = torch.clamp(parameter, -4, 3)
        return inside + (torch.round(inside) - inside).detach(), torch.zeros(1)
    temperature = 0.02**done if kind == "temperature" else 1.0
    up = torch.sigmoid(parameter / temperature)
    up = torch.clamp(up * 1.2 - 0.1, 0, 1) if kind == "rectified" else up
    return torch.clamp(floor_of + up, -4, 3), up


@pytest.mark.parametrize("kind", ["rectified", "sigmoid", "temperature", "straight_through"])
@pytest.mark.parametrize(("seed", "done", "power"), [(0, 0.0, 20.0), (1, 0.1, 11.0), (2, 0.3, 4.0), (3, 0.5, 2.0)])
def test_written_gradients_are_the_automatic_ones(kind, seed, done, power):
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, 2.5, (2, 3))
    relaxation = Relaxation(kind, steps, 3)
    relaxation.parameter += rng.normal(0, 0.3, steps.shape).astype(np.float32)
    pull = rng.normal(size=steps.shape).astype(np.float32)
    parameter = torch.from_numpy(relaxation.parameter.copy()).requires_grad_(True)
    integers, up = automatic(kind, parameter, steps, done)
    total = (integers * torch.from_numpy(pull)).sum()
    by_up = None
    if relaxation.regularized:
        total = total + 0.3 * (1 - (2 * up - 1).abs().pow(power)).sum()
        by_up = np.float32(0.3) * regularizer_slope(relaxation.up(done), power)
        assert regularizer(relaxation.up(done), power) == pytest.approx(
            float((1 - (2 * up - 1).abs() ** power).detach().sum()), abs=1e-4
        )
    total.backward()
    assert np.allclose(relaxation.integers(done), integers.detach().numpy(), atol=1e-5)
    assert np.allclose(relaxation.slope(pull, done, by_up), parameter.grad.numpy(), atol=2e-3, rtol=1e-3)


FUNCTIONS = {
    "": (NONE, lambda x: x),
    "Relu": (RELU, torch.relu),
    "Relu6": (RELU6, lambda x: torch.clamp(x, 0, 6)),
    "Tanh": (Function("Tanh"), torch.tanh),
    "Sigmoid": (Function("Sigmoid"), torch.sigmoid),
    "Silu": (Function("Silu"), torch.nn.functional.silu),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_reconstruction_error_has_the_automatic_gradient(name):
    function, behind = FUNCTIONS[name]
    layer = toy(5)
    layer = replace(layer, node=replace(layer.node, function=function, bias=np.array([0.3, -0.2])))
    scales = scales_of(layer)
    start = to_nearest(layer).astype(np.float32)
    loss, slope = _Reconstruction(layer, scales, FAST).loss(start, np.arange(20))
    integers = torch.from_numpy(start).requires_grad_(True)
    x, bias = torch.from_numpy(layer.inputs[:20]), torch.from_numpy(layer.bias[0]).float()
    wanted = behind(x @ torch.from_numpy(layer.weights[0]).float().T + bias)
    got = behind(x @ (integers[0] * torch.from_numpy(scales[0, :, None]).float()).T + bias)
    expected = (got - wanted).square().sum(dim=1).mean()
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-3)
    assert np.allclose(slope, integers.grad.numpy(), rtol=3e-3, atol=1e-3)


def test_adam_is_torchs():
    rng = np.random.default_rng(0)
    ours = rng.normal(size=5).astype(np.float32)
    theirs = torch.from_numpy(ours.copy()).requires_grad_(True)
    one, two = _Adam(ours, 1e-2), torch.optim.Adam([theirs], 1e-2)
    for _ in range(50):
        slope = rng.normal(size=5).astype(np.float32)
        one.step(slope)
        theirs.grad = torch.from_numpy(slope)
        two.step()
    assert np.allclose(ours, theirs.detach().numpy(), atol=1e-5)


def test_beta_falls_from_start_to_end_behind_the_warm_start():
    paper = AdaRoundSettings()
    values = [beta(done, paper) for done in np.linspace(paper.warm_start, 1.0, 9)]
    assert values[0] == pytest.approx(20.0) and values[-1] == pytest.approx(2.0)
    assert all(later < earlier for earlier, later in itertools.pairwise(values))


def test_the_papers_hyper_parameters_are_the_default():
    paper = AdaRoundSettings()
    assert (paper.iterations, paper.batch, paper.learning_rate, paper.regularization) == (10_000, 32, 1e-3, 0.01)
    assert (paper.beta_start, paper.beta_end, paper.warm_start) == (20.0, 2.0, 0.2)
    assert (paper.relaxation, paper.asymmetric, paper.activation) == ("rectified", True, True)


def test_roundings_settle_and_lie_between_floor_and_ceil():
    layer = toy()
    result = adaround(layer, scales_of(layer), BITS, FAST)
    assert result.unsettled == 0.0, "at the end every h is 0 or 1"
    down, up = floor(layer.weights, scales_of(layer), BITS), ceil(layer.weights, scales_of(layer), BITS)
    assert np.all((down <= result.integers) & (result.integers <= up))


@pytest.mark.parametrize("seed", range(5))
def test_the_objective_is_near_the_optimum_of_the_binary_problem(seed):
    layer = toy(seed)
    down = floor(layer.weights, scales_of(layer), BITS)
    optimum = np.full((1, 2), np.inf)
    for choice in itertools.product((0, 1), repeat=8):
        optimum = np.minimum(optimum, objective(layer, np.clip(down + np.array(choice), -8, 7)))
    reached = objective(layer, adaround(layer, scales_of(layer), BITS, FAST).integers)
    assert np.all(reached >= optimum * (1 - 1e-6))
    assert reached.sum() <= 3 * optimum.sum()
    assert reached.sum() < objective(layer, to_nearest(layer)).sum()


def test_branch_and_bound_reaches_below_what_up_or_down_allows():
    layer = toy(0)
    learned = adaround(layer, scales_of(layer), BITS, FAST).integers
    proof = prove(problem_of(layer), scales_of(layer), learned)
    assert np.all(proof.proven) and np.all(proof.objective <= objective(layer, learned))


def test_equal_arguments_give_equal_roundings_and_another_seed_may_not():
    layer = toy(3, inputs=24, rows=6)
    short = replace(FAST, iterations=400)
    one, two = (adaround(layer, scales_of(layer), BITS, short).integers for _ in range(2))
    other = adaround(layer, scales_of(layer), BITS, replace(short, seed=1)).integers
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def images(kind: str) -> Weighted:
    """A convolution with ReLU over 2 channels."""
    rng = np.random.default_rng(0)
    shape = {"plain": (3, 2, 3, 3), "depthwise": (4, 1, 3, 3), "transposed": (3, 2, 3, 3)}[kind]
    common = {
        "name": "layers.2",
        "inputs": ("x",),
        "linear_name": "linear",
        "weights": rng.normal(size=shape),
        "bias": rng.normal(size=shape[0]),
        "function": RELU,
    }
    if kind == "transposed":
        return TransposedConvolution(**common, window=Window((3, 3), (2, 2)))
    stride, groups = ((2, 2), 2) if kind == "depthwise" else ((1, 1), 1)
    return Convolution(**common, window=Window((3, 3), stride, pads=(1, 1, 1, 1)), groups=groups)


@pytest.mark.parametrize("kind", ["plain", "depthwise", "transposed"])
@pytest.mark.parametrize("beforehand", [True, False])
def test_convolutions_learn(kind, beforehand, monkeypatch):
    if not beforehand:
        monkeypatch.setattr("policyport.quantize.rounding.adaround.LARGEST_FEATURES", 0)
    node = images(kind)
    x = np.repeat(np.random.default_rng(1).normal(size=(64, 2, 3, 3)), 2, axis=3).astype(np.float32)
    layer = LearnedLayer(node, x, x)
    scales = np.abs(layer.weights).max(axis=-1) / 3
    result = adaround(layer, scales, 3, replace(FAST, batch=16))

    def error(integers):
        rounded = replace(node, weights=in_place(node, integers * scales[..., None]))
        return np.mean((node.evaluate(x) - rounded.evaluate(x)) ** 2)

    assert error(result.integers) < error(nearest(layer.weights, scales, 3))


@pytest.mark.parametrize("relaxation", ["sigmoid", "temperature", "straight_through"])
def test_the_papers_other_relaxations_learn_too(relaxation):
    layer = toy(3)
    result = adaround(layer, scales_of(layer), BITS, replace(FAST, relaxation=relaxation))
    assert objective(layer, result.integers).sum() < objective(layer, to_nearest(layer)).sum()
    assert result.integers.min() >= -8 and result.integers.max() <= 7


def test_asymmetric_reconstruction_makes_good_what_the_inputs_lost():
    layer = toy(2)
    layer = replace(layer, inputs=(layer.float_inputs * 0.8).astype(np.float32))
    both = [
        objective(layer, adaround(layer, scales_of(layer), BITS, replace(FAST, asymmetric=chosen)).integers).sum()
        for chosen in (True, False)
    ]
    assert both[0] < both[1]


def test_an_error_that_the_activation_hides_is_not_paid_for():
    """All outputs stay below zero: behind a ReLU nothing is to be gained, and the weights stay where they are."""
    layer = toy(4, inputs=24, rows=4)
    layer = replace(layer, node=replace(layer.node, bias=np.full(4, -1e3), function=RELU))
    hidden = adaround(layer, scales_of(layer), BITS, FAST)
    assert np.array_equal(hidden.integers, to_nearest(layer))
    seen = adaround(layer, scales_of(layer), BITS, replace(FAST, activation=False))
    assert not np.array_equal(seen.integers, hidden.integers)


def test_a_finished_layer_is_taken_from_its_state(tmp_path):
    layer = toy()
    state = tmp_path / "deep" / "layer.npz"
    calls = []
    short = replace(FAST, iterations=200)

    def advance(done: float, note: str = "") -> None:
        calls.append((done, note))

    first = adaround(layer, scales_of(layer), BITS, short, state=state, advance=advance)
    assert [done for done, _ in calls] == [100, 200] and "loss" in calls[0][1]
    again = adaround(layer, scales_of(layer), BITS, short, state=state, advance=advance)
    assert len(calls) == 2, "nothing is learned twice"
    assert np.array_equal(first.integers, again.integers) and again.unsettled == first.unsettled
    adaround(layer, scales_of(layer), BITS, replace(short, seed=9), state=state, advance=advance)
    assert len(calls) == 4, "a result of other settings is of no use"
    assert [path.name for path in state.parent.iterdir()] == ["layer.npz"]


def test_bad_input_is_refused_by_name():
    layer = toy()
    inputs, weights = layer.float_inputs.copy(), layer.node.weights.copy()
    inputs[0, 0] = weights[0, 0] = np.nan
    with pytest.raises(ObservationError, match=r"NaN.*layers.2"):
        replace(layer, float_inputs=inputs)
    with pytest.raises(UnsupportedModelError, match=r"NaN.*layers.2"):
        replace(layer, node=replace(layer.node, weights=weights))
    with pytest.raises(ObservationError, match=r"do not fit.*layers.2"):
        replace(layer, inputs=layer.inputs[:0], float_inputs=layer.inputs[:0])
    with pytest.raises(ObservationError, match="do not fit"):
        replace(layer, inputs=layer.inputs[:5])
