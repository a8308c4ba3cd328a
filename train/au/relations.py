"""What units have to do with each other, and the graph network that makes classifiers of it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SLOPE = 0.2  # of the leaky rectifier between the two layers


def relations(labels: NDArray[np.int8]) -> NDArray[np.float32]:
    """How much likelier unit i is with unit j than without: P(i | j) - P(i | not j), which is cov(i, j) / var(j).

    :param labels: [n, units] of 1, 0, -1; each pair is judged on the pictures where both are known
    :return: [units, units], 1 on the diagonal; 0 where a unit never changes or was never seen with the other
    Source: the matrices published with the paper have these values.
    """
    known = labels != -1
    present = np.where(known, labels, 0).astype(np.float64)
    pairs = known.T.astype(np.float64) @ known
    with np.errstate(divide="ignore", invalid="ignore"):
        both = present.T @ present / pairs
        mean_i = present.T @ known / pairs  # of i, over the pictures where j is known too
        mean_j = mean_i.T
        found = (both - mean_i * mean_j) / (mean_j * (1 - mean_j))
    found[~np.isfinite(found)] = 0
    np.fill_diagonal(found, 1)
    return found.astype(np.float32)


def normalized(relation: NDArray[np.float32]) -> NDArray[np.float32]:
    """D |R|^T D with D the inverse root of the rows' sums: the adjacency that the graph network multiplies by."""
    size = np.abs(relation)
    root = 1 / np.sqrt(size.sum(axis=1))
    return (root[:, None] * size.T * root[None, :]).astype(np.float32)


class RelationNetwork(nn.Module):  # type: ignore[misc]
    """Two graph convolutions that turn initial classifiers into the classifiers used.

    Nodes are units, a node's features its classifier's weights and bias: [units, features + 1] to the same. The paper's
    code draws the layers' weights at random; here they start from the identity.
    Source: section 3.4 of the paper; Kipf and Welling 2017.
    """

    def __init__(self, initial: Tensor, adjacency: NDArray[np.float32]) -> None:
        super().__init__()
        size = initial.shape[1]
        self.register_buffer("initial", initial.detach().clone())
        self.register_buffer("adjacency", torch.from_numpy(adjacency))
        self.first = nn.Linear(size, size, bias=False)
        self.second = nn.Linear(size, size, bias=False)
        for layer in (self.first, self.second):
            nn.init.eye_(layer.weight)  # starts as the classifiers smoothed along the graph, which suits the features

    def forward(self) -> Tensor:
        hidden = nn.functional.leaky_relu(self.adjacency @ self.first(self.initial), SLOPE)
        return self.adjacency @ self.second(hidden)
