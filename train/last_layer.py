"""Last-layer post-training as a step of a training: all layers but the last stay, the last one's problem is solved.

Moreau and Audiffren 2016, "Post Training in Deep Learning with Last Kernel" (1611.04499): at any point of a training of
any torch module the features that its last layer reads are worked out without drop-out, and the convex problem of that
layer under an L2 penalty is solved on them, as :mod:`policyport.quantize.last_layer` solves it. The layer is written
where observations held out are better served; else it stays as it was. Training can go on from it.

    for epoch in range(epochs):
        ...                                       # optimizer's steps
        post_train(net, net.last, images, classes, "classes", held_out=(more_images, more_classes))
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from policyport.core.errors import ConfigError, ObservationError
from policyport.core.semantics import Reals
from policyport.quantize.last_layer import PENALTIES, Head, Kind
from policyport.quantize.last_layer import post_train as solve
from torch import Tensor, nn

BATCH = 256
"""Inputs that go through the module at once."""

UNKNOWN = -1
"""A label that is not known."""


@dataclass(frozen=True)
class LastLayerStep:
    """What became of a last layer."""

    penalties: tuple[float | None, ...]
    """The penalty it was solved with, of labels one for each output; None where it stayed as it was."""

    loss_before: float
    """On what is held out: mean squared error or mean cross-entropy; of labels summed over outputs."""

    loss_after: float
    """The same behind the step, never above ``loss_before``."""

    @property
    def taken(self) -> bool:
        """Whether anything was written."""
        return any(penalty is not None for penalty in self.penalties)


def post_train(
    module: nn.Module,
    layer: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    kind: Kind,
    held_out: tuple[Tensor, Tensor],
    *,
    penalties: Sequence[float] = PENALTIES,
    batch: int = BATCH,
) -> LastLayerStep:
    """Solve a module's last layer, and write it where that validates better.

    ``outputs``: ridge regression onto real targets, in closed form, in as many unknowns as there are features or
    observations, whichever are fewer. ``classes``: softmax and cross-entropy. ``labels``: logistic regression, each
    output by itself with a penalty of its own, on those observations whose label is known; an output whose label is
    known nowhere, or always the same, stays.

    Optimizers keep their state: moments of the layer as it was fade in a few steps.

    :param module: is left in the mode, training or evaluation, in which each of its parts was
    :param layer: a part of it: a Linear, or a Conv2d of one pixel and one group, with a bias, run once in a pass
    :param inputs: [n, ...], what the module is called with
    :param targets: what the layer is to yield: real [n, outputs]; classes, integers [n]; or labels of 1, 0 and -1 for
        unknown [n, outputs]. Of a convolution with the places behind: [n, outputs, h, w], or classes [n, h, w]
    :param held_out: inputs and targets to validate on
    :param penalties: those tried, as shares of the features' mean variance
    :param batch: inputs that go through the module at once
    :raises ConfigError: a layer of another kind, or one that the module does not run once
    :raises ObservationError: features and targets that do not fit each other, NaN or infinity
    """
    solvable = _solvable(layer)
    start = _read(solvable)
    with _evaluating(module):
        seen, judging = (_features(module, layer, x, batch) for x in (inputs, held_out[0]))
    known, judged = (_rows(t, layer, kind) for t in (targets, held_out[1]))
    if kind == "labels":
        head, step = _solve_labels(start, (seen, known), (judging, judged), penalties)
    else:
        found = solve(start, seen, known, kind, held_out=(judging, judged), penalties=penalties)
        head, step = found.head, LastLayerStep((found.penalty,), found.loss_before, found.loss_after)
    if step.taken:
        _write(solvable, head)
    return step


Rows = tuple[NDArray[Any], NDArray[Any]]
"""Features [n, D] and targets [n] or [n, outputs]."""


def _solve_labels(start: Head, seen: Rows, judging: Rows, penalties: Sequence[float]) -> tuple[Head, LastLayerStep]:
    """Each output by itself, on what is known of it."""
    weights, bias = start.weights.copy(), start.bias.copy()
    for _, labels in (seen, judging):
        if labels.ndim != 2 or labels.shape[1] != len(bias):
            raise ObservationError("labels are of another shape", expected=f"[n, {len(bias)}]", got=list(labels.shape))
    chosen: list[float | None] = []
    before = after = 0.0
    for output in range(len(bias)):
        one = Head(weights[output : output + 1], bias[output : output + 1])
        mine, others = (_known(rows, output) for rows in (seen, judging))
        if len(np.unique(mine[1])) < 2 or not len(others[1]):
            chosen.append(None)
            continue
        found = solve(one, *mine, "labels", held_out=others, penalties=penalties)
        weights[output], bias[output] = found.head.weights[0], found.head.bias[0]
        chosen.append(found.penalty)
        before, after = before + found.loss_before, after + found.loss_after
    return Head(weights, bias), LastLayerStep(tuple(chosen), before, after)


def _known(rows: Rows, output: int) -> Rows:
    """Features, and labels [n, 1] of an output, where these are known."""
    features, labels = rows
    known = labels[:, output] != UNKNOWN
    return features[known], labels[known, output : output + 1]


def _solvable(layer: nn.Module) -> nn.Linear | nn.Conv2d:
    """The layer, where it is of a kind that can be solved.

    :raises ConfigError: it is of another
    """
    plain = isinstance(layer, nn.Linear) or (
        isinstance(layer, nn.Conv2d)
        and (layer.kernel_size, layer.stride, layer.padding, layer.groups) == ((1, 1), (1, 1), (0, 0), 1)
    )
    if plain and layer.bias is not None:
        return cast(nn.Linear | nn.Conv2d, layer)
    raise ConfigError(
        "no layer that can be solved",
        where="layer",
        expected="a Linear, or a Conv2d of kernel 1, stride 1, one group and no padding, with a bias",
        got=repr(layer),
    )


def _read(layer: nn.Linear | nn.Conv2d) -> Head:
    """Weights and bias in float64."""
    assert layer.bias is not None
    weights, bias = (part.detach().cpu().numpy().astype(np.float64) for part in (layer.weight, layer.bias))
    return Head(weights.reshape(len(bias), -1), bias)


def _write(layer: nn.Linear | nn.Conv2d, head: Head) -> None:
    with torch.no_grad():
        assert layer.bias is not None
        for parameter, values in ((layer.weight, head.weights), (layer.bias, head.bias)):
            parameter.copy_(torch.from_numpy(values.reshape(tuple(parameter.shape))))


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """In evaluation mode, drop-out off, for as long as the context lasts."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def _features(module: nn.Module, layer: nn.Module, inputs: Tensor, batch: int) -> Reals:
    """[n or n * places, D]: what the layer reads."""
    read: list[NDArray[Any]] = []
    handle = layer.register_forward_pre_hook(lambda _, given: read.append(_by_place(given[0].detach()).cpu().numpy()))
    device = next(module.parameters()).device
    batches = inputs.split(batch)
    try:
        with torch.no_grad():
            for part in batches:
                module(part.to(device))
    finally:
        handle.remove()
    if len(read) != len(batches):
        raise ConfigError(
            "the layer is not run once in each pass of the module",
            where="layer",
            expected=f"{len(batches)} runs for {len(batches)} batches",
            got=len(read),
        )
    return np.concatenate(read).astype(np.float64)


def _rows(targets: Tensor, layer: nn.Module, kind: Kind) -> NDArray[Any]:
    """Targets in the order of the features' rows."""
    plain = targets.detach().cpu()
    places = isinstance(layer, nn.Conv2d)
    rows: NDArray[Any] = (plain.reshape(-1) if places and kind == "classes" else _by_place(plain)).numpy()
    return rows


def _by_place(values: Tensor) -> Tensor:
    """[n, channels, h, w] to [n * h * w, channels]; anything else as it is."""
    return values.permute(0, 2, 3, 1).flatten(0, 2) if values.ndim == 4 else values
