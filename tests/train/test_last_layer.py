"""The step in a torch training: the layer's optimum, written where it validates better, everything else untouched."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policyport.core.errors import ConfigError, ObservationError
from policyport.quantize.last_layer import Head, binary_logistic, loss, ridge

torch = pytest.importorskip("torch")

from policyport.train.last_layer import LastLayerStep, post_train  # noqa: E402
from torch import nn  # noqa: E402


class Net(nn.Module):
    """4 values, 8 features behind drop-out and a norm, 3 outputs."""

    def __init__(self, seed: int = 0, conv: bool = False) -> None:
        super().__init__()
        torch.manual_seed(seed)
        first = nn.Conv2d(4, 8, 3, padding=1) if conv else nn.Linear(4, 8)
        norm = nn.BatchNorm2d(8) if conv else nn.BatchNorm1d(8)
        self.body = nn.Sequential(first, norm, nn.ReLU(), nn.Dropout(0.5))
        self.last = nn.Conv2d(8, 3, 1) if conv else nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.body(x))


def drawn(seed: int, n: int = 120) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs, and real targets of them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=generator)
    truth = torch.randn(4, 3, generator=torch.Generator().manual_seed(99))
    return x, torch.tanh(x @ truth) + 0.1 * torch.randn(n, 3, generator=generator)


TARGETS = {
    "outputs": lambda t: t,
    "classes": lambda t: t.argmax(dim=1),
    "labels": lambda t: (t > 0).long(),
}


def features_of(net: Net, x: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return copy.deepcopy(net).eval().body(x).double().numpy()


def head_of(net: Net) -> Head:
    return Head(net.last.weight.detach().double().flatten(1).numpy(), net.last.bias.detach().double().numpy())


@given(st.integers(0, 10**6), st.sampled_from(list(TARGETS)), st.integers(1, 200))
@settings(max_examples=12)
def test_validation_is_better_by_what_is_said_and_the_rest_is_left_alone(seed: int, kind: str, batch: int) -> None:
    net = Net(seed % 1000).train()
    net.body[3].eval()
    before = copy.deepcopy(net.state_dict())
    (x, t), (more_x, more_t) = ((x, TARGETS[kind](t)) for x, t in (drawn(seed), drawn(seed + 1)))
    start = head_of(net)
    step = post_train(net, net.last, x, t, kind, (more_x, more_t), penalties=(1e-3, 1e-1), batch=batch)
    features = features_of(net, more_x)
    assert step.loss_before == pytest.approx(loss(kind, start, features, more_t.numpy()), rel=1e-4)
    assert step.loss_after == pytest.approx(loss(kind, head_of(net), features, more_t.numpy()), rel=1e-4)
    assert step.loss_after <= step.loss_before and step.taken == (step.loss_after < step.loss_before)
    after = net.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if not name.startswith("last"))
    assert net.training and net.body[0].training and not net.body[3].training
    assert not net.last._forward_pre_hooks


def test_ridge_is_solved_on_features_without_drop_out() -> None:
    net = Net().train()
    (x, t), held_out = drawn(0), drawn(1)
    wanted = ridge(features_of(net, x), t.numpy(), 1e-2, around=head_of(net).weights)
    step = post_train(net, net.last, x, t, "outputs", held_out, penalties=(1e-2,))
    assert step.penalties == (1e-2,)
    np.testing.assert_allclose(head_of(net).weights, wanted.weights, atol=1e-5)
    np.testing.assert_allclose(head_of(net).bias, wanted.bias, atol=1e-5)


def test_what_validates_worse_is_not_written() -> None:
    net, (x, t) = Net().train(), drawn(0)
    held_out = drawn(1)
    with torch.no_grad():
        held_out = held_out[0], copy.deepcopy(net).eval()(held_out[0])
    before = head_of(net)
    step = post_train(net, net.last, x, t, "outputs", held_out)
    assert step == LastLayerStep((None,), step.loss_before, step.loss_before) and not step.taken
    np.testing.assert_array_equal(head_of(net).weights, before.weights)


def test_labels_that_are_unknown_teach_nothing() -> None:
    """Each output is the logistic regression on its own known observations; one without stays."""
    net, (x, t), (more_x, more_t) = Net(), drawn(0), drawn(1)
    labels, more = TARGETS["labels"](t), TARGETS["labels"](more_t)
    labels[::2, 0] = -1
    labels[:, 1] = -1
    more[:, 1] = 1
    labels[:, 2], more[::3, 2] = 1, -1
    start, features = head_of(net), features_of(net, x)
    step = post_train(net, net.last, x, labels, "labels", (more_x, more), penalties=(1e-2,))
    assert step.penalties == (1e-2, None, None)
    one = Head(start.weights[:1], start.bias[:1])
    wanted = binary_logistic(features[1::2], labels[1::2, :1].numpy(), 1e-2, one)
    np.testing.assert_allclose(head_of(net).weights[0], wanted.weights[0], atol=1e-5)
    np.testing.assert_array_equal(head_of(net).weights[1:], start.weights[1:])


@pytest.mark.parametrize("kind", list(TARGETS))
def test_a_convolution_of_one_pixel_is_a_layer_at_each_place(kind: str) -> None:
    net = Net(conv=True)
    generator = torch.Generator().manual_seed(3)
    images, more = (torch.randn(30, 4, 5, 5, generator=generator) for _ in range(2))
    targets, judges = (TARGETS[kind](torch.tanh(part[:, :3] + part[:, 1:])) for part in (images, more))
    step = post_train(net, net.last, images, targets, kind, (more, judges), penalties=(1e-2,), batch=7)
    assert step.loss_after < step.loss_before
    rows = features_of(net, more).transpose(0, 2, 3, 1).reshape(-1, 8)
    flat = judges.numpy().reshape(-1) if kind == "classes" else judges.numpy().transpose(0, 2, 3, 1).reshape(-1, 3)
    assert step.loss_after == pytest.approx(loss(kind, head_of(net), rows, flat), rel=1e-4)


def test_a_training_goes_on_from_it() -> None:
    """A few steps, the layer's optimum, a few steps more: the loss on held-out inputs falls by the step at once."""
    net, (x, t), held_out = Net(), drawn(0, 400), drawn(1)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)

    def steps(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            nn.functional.mse_loss(net(x), t).backward()
            optimizer.step()

    steps(5)
    step = post_train(net, net.last, x, t, "outputs", held_out)
    assert step.loss_after < 0.7 * step.loss_before
    steps(5)
    assert nn.functional.mse_loss(copy.deepcopy(net).eval()(held_out[0]), held_out[1]) < step.loss_before


@pytest.mark.parametrize(
    "layer",
    [nn.Linear(8, 3, bias=False), nn.Conv2d(8, 3, 3), nn.Conv2d(8, 4, 1, groups=2), nn.Conv2d(8, 3, 1, 2), nn.ReLU()],
)
def test_layers_that_cannot_be_solved_are_refused(layer: nn.Module) -> None:
    net, given = Net(), drawn(0)
    with pytest.raises(ConfigError, match="no layer that can be solved"):
        post_train(net, layer, *given, "outputs", given)


def test_a_layer_that_is_not_run_or_targets_that_do_not_fit_are_refused() -> None:
    net, (x, t) = Net(), drawn(0)
    with pytest.raises(ConfigError, match="not run once"):
        post_train(net, nn.Linear(8, 3), x, t, "outputs", (x, t))
    with pytest.raises(ObservationError, match="differ in number"):
        post_train(net, net.last, x, t[1:], "outputs", (x, t))
    with pytest.raises(ObservationError, match="another shape"):
        post_train(net, net.last, x, (t[:, 0] > 0).long(), "labels", (x, t))
    with pytest.raises(ObservationError, match="NaN"):
        post_train(net, net.last, x, t * float("nan"), "outputs", (x, t))
    assert net.training and not net.last._forward_pre_hooks
