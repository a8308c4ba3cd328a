"""The losses of MLCR: labels that are there, two views that differ, two views that agree.

Source: Niu, Han, Shan, Chen, "Multi-label Co-regularization for Semi-supervised Facial Action Unit Recognition",
NeurIPS 2019. Labels are 1 present, 0 absent, -1 unknown; an unlabelled picture is unknown throughout.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

UNKNOWN = -1
CLAMP = 1e-3  # probabilities are kept this far from 0 and 1 where their logarithm is taken


def selected(labels: Tensor, shares: Tensor, generator: torch.Generator) -> Tensor:
    """Which labels of a batch count: selective learning.

    A unit that is rarer in the batch than its share loses negatives, drawn at random, until there are as many as its
    share of the batch asks for positives; the weight of a label never exceeds 1.

    :param labels: [n, units] of 1, 0, -1
    :param shares: [units], the share of positives a batch should have
    :return: float32 [n, units] of 0 and 1
    Source: section 3.2 of the paper, after Hand, Castillo, Chellappa 2018.
    """
    known = labels != UNKNOWN
    negative = labels == 0
    wanted = torch.ceil(shares * known.sum(dim=0))
    rare = (labels == 1).sum(dim=0) < wanted
    order = torch.rand(labels.shape, generator=generator).masked_fill(~negative, 2.0).argsort(dim=0).argsort(dim=0)
    kept = negative & ((order < wanted) | ~rare)
    return ((labels == 1) | kept).float()


def label_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Binary cross-entropy summed over the units, averaged over the pictures that have a label.

    :param logits: [n, units]
    :param labels: [n, units] of 1, 0, -1
    :param weights: [n, units], as :func:`selected` gives them
    Source: equation 1 of the paper.
    """
    each = functional.binary_cross_entropy_with_logits(logits, labels.clamp_min(0).float(), reduction="none")
    labelled = (labels != UNKNOWN).any(dim=1).sum().clamp_min(1)
    return (each * weights).sum() / labelled


def view_loss(first: Tensor, second: Tensor) -> Tensor:
    """Mean over the units of the absolute cosine between the two views' classifiers: 0 where they are orthogonal.

    :param first: and `second`: [units, features + 1], weights and bias of each unit
    Source: equation 2 of the paper.
    """
    return functional.cosine_similarity(first, second, dim=1).abs().mean()


def agreement_loss(first: Tensor, second: Tensor) -> Tensor:
    """Jensen-Shannon divergence between the two views' predictions, in nats, mean over pictures and units.

    :param first: and `second`: logits [n, units]
    Source: equation 3 of the paper.
    """
    p, q = (torch.sigmoid(logits).clamp(CLAMP, 1 - CLAMP) for logits in (first, second))
    return (entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2).mean()


def entropy(p: Tensor) -> Tensor:
    """Entropy of a coin that falls heads with probability p, in nats."""
    return -(p * p.log() + (1 - p) * (1 - p).log())
