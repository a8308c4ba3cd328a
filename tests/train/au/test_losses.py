"""The losses, the relations and the networks of MLCR against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policyport.train.faces.units import EMOTIONET

torch = pytest.importorskip("torch")

from policyport.train.au.losses import agreement_loss, label_loss, selected, view_loss  # noqa: E402
from policyport.train.au.networks import BACKBONES, TwoViews, View, backbone  # noqa: E402
from policyport.train.au.relations import RelationNetwork, normalized, relations  # noqa: E402


def batch(seed: int, n: int = 12, units: int = 4):
    generator = np.random.default_rng(seed)
    logits = torch.from_numpy(generator.normal(size=(n, units)).astype(np.float32))
    return logits, torch.from_numpy(generator.integers(-1, 2, (n, units)).astype(np.int8))


@given(st.integers(0, 9999), st.integers(1, 30), st.lists(st.floats(0, 1), min_size=4, max_size=4))
@settings(max_examples=60)
def test_selective_learning_drops_negatives_of_rare_units_alone(seed: int, n: int, shares: list[float]) -> None:
    _, labels = batch(seed, n)
    kept = selected(labels, torch.tensor(shares), torch.Generator().manual_seed(seed)).numpy()
    truth = labels.numpy()
    assert (kept[truth == 1] == 1).all() and (kept[truth == -1] == 0).all()
    for column, share in enumerate(np.float32(shares)):
        positives, negatives = (np.sum(truth[:, column] == value) for value in (1, 0))
        wanted = np.ceil(share * np.float32(positives + negatives))
        expected = min(negatives, wanted) if positives < wanted else negatives
        assert kept[truth[:, column] == 0, column].sum() == expected


@given(st.integers(0, 9999))
@settings(max_examples=30)
def test_the_label_loss_is_masked_cross_entropy(seed: int) -> None:
    logits, labels = batch(seed)
    weights = (labels != -1).float()
    p, truth = 1 / (1 + np.exp(-logits.double().numpy())), labels.numpy()
    each = np.where(truth == 1, -np.log(p), np.where(truth == 0, -np.log(1 - p), 0))
    expected = each.sum() / max(1, (truth != -1).any(axis=1).sum())
    assert float(label_loss(logits, labels, weights)) == pytest.approx(expected, rel=1e-4)


def test_an_unlabelled_batch_costs_nothing() -> None:
    logits, labels = batch(0)
    unknown = torch.full_like(labels, -1)
    assert float(label_loss(logits, unknown, (unknown != -1).float())) == 0


def test_the_view_loss_is_zero_for_orthogonal_and_one_for_parallel_classifiers() -> None:
    first = torch.eye(4)[:2]
    assert float(view_loss(first, torch.eye(4)[2:])) == 0
    assert float(view_loss(first, -3 * first)) == pytest.approx(1)


@given(st.integers(0, 9999))
@settings(max_examples=30)
def test_the_agreement_loss_is_the_jensen_shannon_divergence(seed: int) -> None:
    first, second = batch(seed)[0], batch(seed + 1)[0]
    assert float(agreement_loss(first, first)) == pytest.approx(0, abs=1e-6)
    p, q = (1 / (1 + np.exp(-x.double().numpy())) for x in (first, second))
    m = (p + q) / 2

    def divergence(a, b):
        return a * np.log(a / b) + (1 - a) * np.log((1 - a) / (1 - b))

    expected = ((divergence(p, m) + divergence(q, m)) / 2).mean()
    assert float(agreement_loss(first, second)) == pytest.approx(expected, abs=1e-5)
    assert float(agreement_loss(first, second)) == pytest.approx(float(agreement_loss(second, first)), rel=1e-5)


@given(st.integers(0, 9999))
@settings(max_examples=40)
def test_relations_are_differences_of_conditional_probabilities(seed: int) -> None:
    labels = np.random.default_rng(seed).integers(-1, 2, (40, 3)).astype(np.int8)
    found = relations(labels)
    for i in range(3):
        for j in range(3):
            both = labels[(labels[:, i] >= 0) & (labels[:, j] >= 0)]
            with_j, without = both[both[:, j] == 1, i], both[both[:, j] == 0, i]
            if i != j and len(with_j) and len(without):
                assert found[i, j] == pytest.approx(with_j.mean() - without.mean(), abs=1e-5)
    assert np.diag(found).tolist() == [1, 1, 1]


def test_units_that_never_change_have_no_relations() -> None:
    labels = np.array([[1, 0], [1, 1], [1, 0]], np.int8)
    np.testing.assert_array_equal(relations(labels), np.eye(2))
    np.testing.assert_array_equal(relations(np.full((3, 2), -1, np.int8)), np.eye(2))


def test_the_adjacency_is_normalized() -> None:
    relation = np.array([[1, -0.5], [0.25, 1]], np.float32)
    size = np.abs(relation)
    degree = np.diag(size.sum(axis=1) ** -0.5)
    np.testing.assert_allclose(normalized(relation), degree @ size.T @ degree, rtol=1e-6)


def test_the_relation_network_is_two_graph_convolutions() -> None:
    torch.manual_seed(0)
    initial, adjacency = torch.randn(3, 5), normalized(np.eye(3, dtype=np.float32) + 0.2)
    network = RelationNetwork(initial, adjacency)
    a, first, second = torch.from_numpy(adjacency), network.first.weight, network.second.weight
    hidden = torch.nn.functional.leaky_relu(a @ initial @ first.T, 0.2)
    torch.testing.assert_close(network(), a @ hidden @ second.T)
    assert not network.initial.requires_grad


@pytest.mark.parametrize("kind", BACKBONES)
def test_a_folded_view_sees_the_same(kind: str) -> None:
    torch.manual_seed(1)
    view = View(kind, 1, 64, 5).eval()
    view.relate(normalized(np.eye(5, dtype=np.float32) + 0.1))
    x = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(view.folded()(x), view(x), rtol=1e-5, atol=1e-5)


def test_sizes_of_the_board_networks() -> None:
    def weights(kind: str) -> int:
        features, size = backbone(kind, 1, 64)
        return sum(p.numel() for p in features.parameters()) + (size + 1) * len(EMOTIONET)

    assert weights("plain") == pytest.approx(114_000, rel=0.01)
    assert weights("depthwise") == pytest.approx(47_000, rel=0.03)


def test_views_are_two_networks() -> None:
    model = TwoViews("plain", 1, 64, 3)
    first, second = model(torch.zeros(2, 1, 64, 64))
    assert first.shape == second.shape == (2, 3) and not torch.equal(first, second)
