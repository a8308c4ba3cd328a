"""AdaRound (Nagel et al. 2020, "Up or Down?", 2004.10568): learned rounding of one layer, as published.

Each weight may round down or up, a quadratic unconstrained binary problem per row (equation 20). It is
relaxed (equations 21 to 25): weights are ``scale * clip(floor(W / scale) + h(V))`` with the rectified
sigmoid h, and Adam on V minimises

    | f(W x + b) - f(W~ x^ + b) |^2 + lambda * sum(1 - |2 h(V) - 1|^beta)

with f the activation function behind the layer, x the float network's inputs, and x^ the quantized
network's. beta falls from high, where h is free, to low, where it settles at 0 or 1. Here the result is
rounded for good: no weight is left between two integers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ObservationError, UnsupportedModelError
from policyport.core.progress import Advance
from policyport.core.semantics import Integers, Reals
from policyport.quantize.nodes import NONE, Function, Weighted
from policyport.quantize.rounding.relaxation import Floats, Kind, Relaxation, regularizer_slope

REPORT_EVERY = 100
"""Iterations between two words on progress."""

LARGEST_FEATURES = 50_000_000
"""Elements up to which all features are laid out beforehand, not batch by batch."""

STEP = np.float32(2**-7)
"""Half the distance over which differences are taken."""

CONVERGED_RATE = 1e-2
"""A learning rate at which 10,000 iterations converge on small layers; the paper's is a tenth of it."""

AIMET_LONGER = 1.5
"""Iterations that AIMET has for weights of fewer than 8 bits, over the paper's."""


@dataclass(frozen=True)
class AdaRoundSettings:
    """The paper's hyper-parameters, and which variant of the method."""

    iterations: int = 10_000
    batch: int = 32
    """Observations per iteration."""

    learning_rate: float = 1e-3
    """Of Adam."""

    regularization: float = 0.01
    """lambda"""

    beta_start: float = 20.0
    beta_end: float = 2.0
    warm_start: float = 0.2
    """Share of the iterations without the regularizer."""

    relaxation: Kind = "rectified"
    asymmetric: bool = True
    """The layer reads what the quantized layers before it yield; otherwise the float inputs."""

    activation: bool = True
    """Measure the error behind the activation function."""

    seed: int = 0


@dataclass(frozen=True)
class LearnedLayer:
    """What AdaRound is given of a layer."""

    node: Weighted
    """The float layer; its bias stays as it is."""

    float_inputs: NDArray[Any]
    """[n, *shape], what the layer reads in the float network."""

    inputs: NDArray[Any]
    """[n, *shape], what it reads behind the quantized layers, as real values."""

    def __post_init__(self) -> None:
        """Refuse what cannot be learned from.

        :raises ObservationError: no inputs, unequal inputs, NaN or infinity in them
        :raises UnsupportedModelError: NaN or infinity in weights or bias
        """
        node, name = self.node, self.node.name
        if not (np.all(np.isfinite(node.weights)) and np.all(np.isfinite(node.bias))):
            raise UnsupportedModelError("a layer's weights or bias hold NaN or infinity", where=name)
        if len(self.inputs) == 0 or self.inputs.shape != self.float_inputs.shape:
            raise ObservationError(
                "a layer's float and quantized inputs do not fit",
                where=name,
                expected="equal shapes, at least one observation",
                got=f"{list(self.float_inputs.shape)} and {list(self.inputs.shape)}",
            )
        if not (np.all(np.isfinite(self.inputs)) and np.all(np.isfinite(self.float_inputs))):
            raise ObservationError("a layer's inputs hold NaN or infinity", where=name)

    @property
    def weights(self) -> Reals:
        """[G, R, D]"""
        return self.node.matrix.astype(np.float64)

    @property
    def bias(self) -> Reals:
        """[G, R]"""
        return self.node.bias.astype(np.float64).reshape(self.node.group_count, -1)


@dataclass(frozen=True)
class AdaRounded:
    """A layer rounded by learning."""

    integers: Integers
    """[G, R, D], in the weight range."""

    unsettled: float
    """Share of roundings that were not at 0 or 1 when the iterations ended."""


def adaround(
    layer: LearnedLayer,
    scales: Reals,
    bits: int,
    settings: AdaRoundSettings | None = None,
    *,
    advance: Advance | None = None,
    state: Path | None = None,
) -> AdaRounded:
    """Learn to round one layer. Same arguments, same result.

    :param scales: [G, R]
    :param advance: told of the iterations done
    :param state: where the finished layer is kept; a call with equal arguments takes it from there
    """
    settings = settings or AdaRoundSettings()
    digest = _digest(layer, scales, bits, settings)
    if state is not None and state.is_file():
        held = np.load(state)
        if str(held["digest"]) == digest:
            return AdaRounded(held["integers"], float(held["unsettled"]))
    relaxation = Relaxation(settings.relaxation, layer.weights / scales[..., None], bits)
    _learn(relaxation, _Reconstruction(layer, scales, settings), settings, advance)
    result = AdaRounded(relaxation.rounded(), relaxation.unsettled())
    if state is not None:
        _keep(state, digest, result)
    return result


def _learn(
    relaxation: Relaxation, reconstruction: _Reconstruction, settings: AdaRoundSettings, advance: Advance | None
) -> None:
    """Move the relaxation's parameter by Adam, in place."""
    optimizer = _Adam(relaxation.parameter, settings.learning_rate)
    drawn = np.random.default_rng(settings.seed)
    for i in range(settings.iterations):
        chosen = drawn.integers(reconstruction.observations, size=settings.batch)
        done = i / settings.iterations
        loss, by_integers = reconstruction.loss(relaxation.integers(done), chosen)
        by_up = None
        if relaxation.regularized and done >= settings.warm_start:
            by_up = np.float32(settings.regularization) * regularizer_slope(relaxation.up(done), beta(done, settings))
        optimizer.step(relaxation.slope(by_integers, done, by_up))
        if advance is not None and (i + 1) % REPORT_EVERY == 0:
            advance(i + 1, f"loss {loss:.3g}")


def beta(done: float, settings: AdaRoundSettings) -> float:
    """beta by half a cosine from start to end, over what follows the warm start."""
    along = (done - settings.warm_start) / (1 - settings.warm_start)
    return settings.beta_end + (settings.beta_start - settings.beta_end) * (1 + math.cos(math.pi * along)) / 2


def slope_of(function: Function, x: Floats) -> Floats:
    """The slope of an activation function, at what goes into it; by differences where it has no simpler form."""
    if not function.name:
        return np.ones_like(x)
    if function.clamps:
        return ((x > function.low) & (x < function.high)).astype(np.float32)
    return (function(x + STEP) - function(x - STEP)) / (2 * STEP)


class _Reconstruction:
    """The layer's output error as a function of its integers: mean over positions, summed over channels."""

    def __init__(self, layer: LearnedLayer, scales: Reals, settings: AdaRoundSettings) -> None:
        self.observations = len(layer.inputs)
        self._function = layer.node.function if settings.activation else NONE
        self._scale = scales[..., None].astype(np.float32)
        self._bias = layer.bias[:, None, :].astype(np.float32)
        exact = layer.weights.astype(np.float32)
        self._wanted = _batches(layer.node, layer.float_inputs, lambda x: self._function(self._linear(x, exact)))
        read = layer.inputs if settings.asymmetric else layer.float_inputs
        self._features = _batches(layer.node, read, lambda x: x)

    def loss(self, integers: Floats, chosen: NDArray[np.int64]) -> tuple[float, Floats]:
        """The loss on the chosen observations, and its slope by the integers [G, R, D]."""
        features = self._features(chosen)
        linear = self._linear(features, integers * self._scale)
        error = self._function(linear) - self._wanted(chosen)
        by_linear = np.float32(2 / linear.shape[1]) * error * slope_of(self._function, linear)
        by_weights = np.asarray(by_linear.transpose(0, 2, 1) @ features, np.float32)
        return float(np.vdot(error, error)) / linear.shape[1], by_weights * self._scale

    def _linear(self, features: Floats, weights: Floats) -> Floats:
        """[G, n, D] by weights [G, R, D] to [G, n, R]."""
        outputs: Floats = features @ weights.transpose(0, 2, 1) + self._bias
        return outputs


class _Adam:
    """Adam (Kingma and Ba 2015) with its usual constants, on one array in place."""

    def __init__(self, parameter: Floats, rate: float) -> None:
        self.parameter, self.rate, self.steps = parameter, rate, 0
        self.mean, self.square = np.zeros_like(parameter), np.zeros_like(parameter)

    def step(self, slope: Floats) -> None:
        """Move against the slope."""
        self.steps += 1
        self.mean += np.float32(0.1) * (slope - self.mean)
        self.square += np.float32(0.001) * (slope * slope - self.square)
        rate = self.rate / (1 - 0.9**self.steps)
        spread = np.sqrt(self.square / np.float32(1 - 0.999**self.steps)) + np.float32(1e-8)
        self.parameter -= np.float32(rate) * self.mean / spread


def _batches(
    node: Weighted, inputs: NDArray[Any], then: Callable[[Floats], Floats]
) -> Callable[[NDArray[np.int64]], Floats]:
    """From chosen observations [b] to ``then`` of their features [G, b * positions, D]."""
    values = np.asarray(inputs, np.float32)
    if node.rows(values[:1]).size * len(values) > LARGEST_FEATURES:
        return lambda chosen: then(np.ascontiguousarray(node.rows(values[chosen])))
    laid_out = then(np.ascontiguousarray(node.rows(values)))
    groups, positions, width = laid_out.shape
    by_observation = laid_out.reshape(groups, len(values), positions // len(values), width)
    return lambda chosen: by_observation[:, chosen].reshape(groups, -1, width)


def _digest(layer: LearnedLayer, scales: Reals, bits: int, settings: AdaRoundSettings) -> str:
    """What a kept result is good for."""
    node = replace(layer.node, weights=np.zeros(0), bias=np.zeros(0))
    digest = hashlib.sha256(repr((asdict(settings), bits, node)).encode())
    for array in (layer.weights, layer.bias, scales, layer.float_inputs, layer.inputs):
        digest.update(repr((array.shape, array.dtype.str)).encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _keep(path: Path, digest: str, result: AdaRounded) -> None:
    """Write a finished layer, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez(part, digest=digest, integers=result.integers, unsettled=result.unsettled)
    part.replace(path)
