"""Last-layer post-training: all layers but the last stay, and the last one's convex problem is solved.

Moreau and Audiffren 2016, "Post Training in Deep Learning with Last Kernel" (1611.04499). What the layers
before the last yield are features of a fixed kernel; on them the task's loss with an L2 penalty is convex
in the last layer. For the squared loss the optimum has a closed form, in as many unknowns as there are
features (primal) or as there are observations (dual), whichever is fewer. For cross-entropy it is found
by L-BFGS. The penalty is chosen by validation, and the layer that was there stays where none is better.

On features of a quantized network this repairs much of what low widths break. A policy's targets are the
float policy's own outputs; a classifier's may be labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ObservationError
from policyport.core.semantics import Reals

Kind = Literal["outputs", "classes", "labels"]
"""Real targets [n, outputs]; classes [n]; or labels of 0 and 1, [n, outputs], each on its own."""

PENALTIES = tuple(float(x) for x in np.logspace(-6, 1, 15))
"""Penalties tried by default, as shares of the features' mean variance."""

ITERATIONS = 1000
"""Of L-BFGS, at the most."""

LARGEST_CURVATURE = 0.25
"""Of the logistic loss, where a probability is one half."""

FOLDS = 5
"""Parts for cross-validation, where nothing is held out."""


@dataclass(frozen=True)
class Head:
    """A last layer: ``features @ weights.T + bias``."""

    weights: Reals
    """[outputs, D]"""

    bias: Reals
    """[outputs]"""

    def __call__(self, features: Reals) -> Reals:
        """Features [n, D] to outputs [n, outputs]."""
        return features @ self.weights.T + self.bias


@dataclass(frozen=True)
class PostTrained:
    """The chosen last layer, and by what it was chosen."""

    head: Head
    penalty: float | None
    """The penalty it was found with; None where the start was kept."""

    loss_before: float
    """Validation loss of the start."""

    loss_after: float
    """Validation loss of ``head``, never above ``loss_before``."""


def ridge(
    features: NDArray[Any],
    targets: NDArray[Any],
    penalty: float,
    *,
    around: Reals | None = None,
    dual: bool | None = None,
) -> Head:
    """Minimise ``mean |W x + b - t|^2 + penalty * v * |W - W0|^2`` in closed form; the bias is not penalised.

    v is the features' mean variance, so that the penalty does not depend on their unit. Features are
    centred, which makes the bias exact.

    :param features: [n, D]
    :param targets: [n, outputs]
    :param penalty: above 0
    :param around: W0 [outputs, D], what the weights are pulled to; zero by default
    :param dual: solve in n unknowns instead of D; by default where n is smaller
    :raises ObservationError: no observation, unequal numbers, NaN or infinity
    """
    x, t = _checked(features), _checked(targets)
    if t.shape[0] != x.shape[0]:
        raise ObservationError("features and targets differ in number", expected=len(x), got=len(t))
    n, inputs = x.shape
    start = np.zeros((t.shape[1], inputs)) if around is None else around
    x_mean, t_mean = x.mean(axis=0), t.mean(axis=0)
    x = x - x_mean
    rest = t - t_mean - x @ start.T
    pull = penalty * n * _mean_variance(x)
    if n < inputs if dual is None else dual:
        step = x.T @ np.linalg.solve(x @ x.T + pull * np.eye(n), rest)
    else:
        step = np.linalg.solve(x.T @ x + pull * np.eye(inputs), x.T @ rest)
    weights = start + step.T
    return Head(weights, t_mean - weights @ x_mean)


def logistic(features: NDArray[Any], classes: NDArray[Any], outputs: int, penalty: float, start: Head) -> Head:
    """Minimise mean cross-entropy of a softmax ``+ penalty / 2 * v * |W|^2``, v as in :func:`ridge`.

    :param features: [n, D]
    :param classes: [n], integers in [0, outputs)
    :param start: where the search begins; the optimum is the same from anywhere
    """
    x = _checked(features)
    wanted = np.eye(outputs)[_classes(classes, len(x), outputs)]
    return _minimised(x, wanted, penalty, start, _softmax_loss)


def binary_logistic(features: NDArray[Any], labels: NDArray[Any], penalty: float, start: Head) -> Head:
    """Minimise mean binary cross-entropy, summed over labels, ``+ penalty / 2 * v * |W|^2``.

    :param features: [n, D]
    :param labels: [n, outputs], 0 or 1
    :param start: where the search begins; the optimum is the same from anywhere
    """
    x = _checked(features)
    return _minimised(x, _checked(labels), penalty, start, _sigmoid_loss)


def loss(kind: Kind, head: Head, features: NDArray[Any], targets: NDArray[Any]) -> float:
    """What validation compares: mean squared error per output, or mean cross-entropy; without penalty."""
    outputs = head(_checked(features))
    if kind == "outputs":
        return float(np.mean((outputs - _checked(targets)) ** 2))
    if kind == "classes":
        wanted = np.eye(outputs.shape[1])[_classes(targets, len(outputs), outputs.shape[1])]
        return _softmax_loss(outputs, wanted)[0]
    return _sigmoid_loss(outputs, _checked(targets))[0]


def post_train(
    start: Head,
    features: NDArray[Any],
    targets: NDArray[Any],
    kind: Kind,
    *,
    held_out: tuple[NDArray[Any], NDArray[Any]] | None = None,
    penalties: Sequence[float] = PENALTIES,
) -> PostTrained:
    """Solve the last layer anew under every penalty, and keep what validates best, the start included.

    For ``outputs`` the weights are pulled to the start's, which the observations say nothing against where
    they say nothing; for labels they are pulled to zero, as in the paper.

    :param start: the layer as it is
    :param features: [n, D], what it reads
    :param targets: [n, outputs], or classes [n]
    :param held_out: features and targets to validate on; by default one part in five, for each part in turn
    """
    validate = _held_out(held_out) if held_out is not None else _folded(len(features))

    def mean_loss(solve: Callable[[NDArray[Any], NDArray[Any]], Head]) -> float:
        return validate(solve, lambda head, x, t: loss(kind, head, x, t), features, targets)

    def at(penalty: float) -> float:
        return mean_loss(lambda x, t: _solve(kind, x, t, penalty, start))

    before = mean_loss(lambda x, t: start)
    losses = [at(penalty) for penalty in penalties]
    best = int(np.argmin(losses))
    if not losses[best] < before:
        return PostTrained(start, None, before, before)
    return PostTrained(_solve(kind, features, targets, penalties[best], start), penalties[best], before, losses[best])


def _solve(kind: Kind, features: NDArray[Any], targets: NDArray[Any], penalty: float, start: Head) -> Head:
    if kind == "outputs":
        return ridge(features, targets, penalty, around=start.weights)
    if kind == "classes":
        return logistic(features, targets, len(start.bias), penalty, start)
    return binary_logistic(features, targets, penalty, start)


Validation = Callable[..., float]


def _held_out(part: tuple[NDArray[Any], NDArray[Any]]) -> Validation:
    """Solve on all, measure on the part held out."""

    def validate(solve: Any, measure: Any, features: NDArray[Any], targets: NDArray[Any]) -> float:
        return float(measure(solve(features, targets), *part))

    return validate


def _folded(n: int) -> Validation:
    """Solve on all parts but one, measure on that, and take the mean over the parts."""
    folds = min(FOLDS, n)
    if folds < 2:
        raise ObservationError("too few observations to validate a last layer", expected="at least 2", got=n)
    part = np.arange(n) % folds

    def validate(solve: Any, measure: Any, features: NDArray[Any], targets: NDArray[Any]) -> float:
        losses = []
        for fold in range(folds):
            inside = part != fold
            head = solve(features[inside], targets[inside])
            losses.append(measure(head, features[~inside], targets[~inside]))
        return float(np.mean(losses))

    return validate


def _minimised(x: Reals, wanted: Reals, penalty: float, start: Head, data_loss: Any) -> Head:
    """The optimum of a convex loss of the outputs and an L2 penalty, by L-BFGS in float64.

    The search is along the features' principal axes, each in the unit in which the objective is about equally curved.
    """
    from scipy.optimize import minimize

    outputs = len(start.bias)
    if wanted.shape != (len(x), outputs):
        raise ObservationError("labels are of another shape", expected=[len(x), outputs], got=list(wanted.shape))
    mean = x.mean(axis=0)
    pull = penalty * _mean_variance(x - mean)
    variance, axes = np.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    unit = 1 / np.sqrt(LARGEST_CURVATURE * np.maximum(variance, 0) + pull)
    z, shrink = (x - mean) @ (axes * unit), pull * unit**2

    def objective(flat: Reals) -> tuple[float, Reals]:
        weights, bias = flat[:-outputs].reshape(outputs, -1), flat[-outputs:]
        value, slope = data_loss(z @ weights.T + bias, wanted)
        value += 0.5 * float(np.sum(shrink * weights**2))
        return value, np.concatenate([(slope.T @ z + shrink * weights).reshape(-1), slope.sum(axis=0)])

    first = np.concatenate([(start.weights @ axes / unit).reshape(-1), start.bias + start.weights @ mean])
    options = {"maxiter": ITERATIONS, "maxfun": 2 * ITERATIONS, "ftol": 1e-13, "gtol": 1e-7}
    flat = minimize(objective, first, jac=True, method="L-BFGS-B", options=options).x
    weights = flat[:-outputs].reshape(outputs, -1) * unit @ axes.T
    return Head(weights, flat[-outputs:] - weights @ mean)


def _softmax_loss(outputs: Reals, wanted: Reals) -> tuple[float, Reals]:
    """Mean cross-entropy against ``wanted`` [n, outputs], and its slope by the outputs."""
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    normal = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    logarithm = shifted - normal
    return float(-np.sum(wanted * logarithm) / len(outputs)), (np.exp(logarithm) - wanted) / len(outputs)


def _sigmoid_loss(outputs: Reals, wanted: Reals) -> tuple[float, Reals]:
    """Mean over observations of the summed binary cross-entropy, and its slope by the outputs."""
    value = np.logaddexp(0.0, outputs) - wanted * outputs
    probability = 0.5 * (1 + np.tanh(0.5 * outputs))
    return float(np.sum(value) / len(outputs)), (probability - wanted) / len(outputs)


def _mean_variance(centred: Reals) -> float:
    """Mean variance of centred features [n, D]; 1 where nothing varies."""
    variance = float(np.mean(centred**2))
    return variance if variance > 0 else 1.0


def _classes(classes: NDArray[Any], n: int, outputs: int) -> NDArray[np.int64]:
    whole = np.asarray(classes)
    if whole.shape != (n,) or not np.issubdtype(whole.dtype, np.integer):
        raise ObservationError("classes are not one integer per observation", expected=[n], got=list(whole.shape))
    if n and (whole.min() < 0 or whole.max() >= outputs):
        raise ObservationError("a class is no output", expected=f"0 to {outputs - 1}", got=[whole.min(), whole.max()])
    return whole.astype(np.int64)


def _checked(values: NDArray[Any]) -> Reals:
    """Values [n, width] as float64."""
    plain = np.asarray(values, np.float64)
    if plain.ndim != 2 or not len(plain):
        raise ObservationError("a last layer is solved from rows of numbers", expected="[n, width]", got=plain.shape)
    if not np.all(np.isfinite(plain)):
        raise ObservationError("a last layer's features or targets hold NaN or infinity")
    return plain
