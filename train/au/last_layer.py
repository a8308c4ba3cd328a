"""Last-layer post-training of two views: each unit's classifier solved anew on features of the training pictures."""

from __future__ import annotations

import copy
import logging

import torch
from policyport.train.au.augment import network_input
from policyport.train.au.data import LabelledFaces
from policyport.train.au.networks import TwoViews, View
from policyport.train.last_layer import LastLayerStep, post_train
from torch import Tensor, nn

log = logging.getLogger(__name__)


def solve_last_layers(model: TwoViews, labelled: LabelledFaces, validation: LabelledFaces) -> TwoViews:
    """A copy of two views, each unit's logistic regression (L2) solved in each view.

    A unit's classifier is taken where its cross-entropy on the validation pictures, of other persons, is less. The copy
    has no relation networks: what they made of the classifiers is where the solution begins.
    """
    solved = copy.deepcopy(model)
    first, second = (_solve(view, labelled, validation) for view in (solved.first, solved.second))
    units = [sum(penalty is not None for penalty in step.penalties) for step in (first, second)]
    log.info("last layer solved anew: %d and %d of %d units gain", *units, len(labelled.units))
    return solved


def _solve(view: View, labelled: LabelledFaces, validation: LabelledFaces) -> LastLayerStep:
    device = view.classifier.weight.device
    folded = view.folded().to(device)
    dense = folded[-1]
    assert isinstance(dense, nn.Linear)  # what a folded view ends in
    (inputs, labels), held_out = (
        (torch.from_numpy(part.images), torch.from_numpy(part.labels)) for part in (labelled, validation)
    )
    step = post_train(nn.Sequential(_Pictures(), folded), dense, inputs, labels, "labels", held_out)
    view.relation, view.classifier = None, dense
    return step


class _Pictures(nn.Module):  # type: ignore[misc]
    """uint8 pictures as a network takes them."""

    def forward(self, images: Tensor) -> Tensor:
        return network_input(images)
