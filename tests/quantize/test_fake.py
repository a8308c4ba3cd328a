"""Fake quantization in torch equals the integers, bit for bit, and can be trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policyport.core.errors import UnsupportedModelError
from policyport.core.operators import Window
from policyport.core.semantics import Requantization, activation_range, activation_stored_bits, requantize
from policyport.quantize.activation import Activation, fixed_output
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.graph import HostPrefix
from policyport.quantize.integer_nodes import QuantizedLayer
from policyport.quantize.network import QuantizedNetwork
from policyport.quantize.nodes import NONE, RELU, Convolution, Function, Linear
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.simulate import simulate

torch = pytest.importorskip("torch")
FUNCTIONS = ("", "Relu", "Tanh", "Sigmoid")


KINDS = {"": NONE, "Relu": RELU, "Tanh": Function("Tanh"), "Sigmoid": Function("Sigmoid")}


def layer_of(source, before, after, weights, scale, bias, function=""):
    """A fully connected layer of given integers."""
    floats = (weights * scale.astype(np.float64)[:, None]).astype(np.float32)
    node = Linear(
        name=after.name,
        inputs=(source.name,),
        linear_name=before.name,
        weights=floats,
        bias=np.zeros(len(bias), np.float32),
        function=KINDS[function],
    )
    return QuantizedLayer(
        node=node,
        inputs=(source,),
        output=after,
        before=before,
        weights=weights,
        weight_bits=8,
        weight_scale=scale,
        bias=bias,
    )


def random_network(seed: int, shape: tuple[int, ...], functions: tuple[str, ...], widths: tuple[int, ...]):
    """A network of arbitrary integers and scales, as no calibration would choose them."""
    rng = np.random.default_rng(seed)

    def activation(name, size, bits, relu=False):
        low, high = activation_range(bits)
        zero_point = int(rng.integers(low, high + 1)) if bits <= 8 else 0
        scale = float(np.float32(10 ** rng.uniform(-3, 1) / high))
        return Activation(name, (size,), bits, scale, zero_point, zero_point if relu else low, high)

    prefix = HostPrefix(
        rng.normal(size=shape[0]).astype(np.float32), (10 ** rng.uniform(-2, 2, shape[0])).astype(np.float32)
    )
    source = first = activation("observation", shape[0], widths[0])
    layers = []
    for i, function in enumerate(functions):
        size, bits, name = shape[i + 1], widths[i + 1], f"layer{i}"
        table = function in ("Tanh", "Sigmoid")
        before = activation(f"{name}/linear", size, activation_stored_bits(bits) if table else bits, function == "Relu")
        after = before
        if table:
            after = fixed_output(name, (size,), function, bits) if bits >= 8 else activation(name, size, bits)
        weights = rng.integers(-127, 128, (size, shape[i]))
        ratio = 10 ** rng.uniform(-9, -1, size)
        scale = (ratio * before.scale / source.scale).astype(np.float32)
        bias = rng.integers(-(2**27), 2**27, size) >> int(rng.integers(0, 20))
        layers.append(layer_of(source, before, after, weights, scale, bias, function))
        source = after
    return QuantizedNetwork("net", "observation", source.name, prefix, first, tuple(layers))


@st.composite
def networks(draw):
    depth = draw(st.integers(1, 3))
    shape = tuple(draw(st.integers(1, 12)) for _ in range(depth + 1))
    functions = tuple(draw(st.sampled_from(FUNCTIONS)) for _ in range(depth))
    widths = tuple(draw(st.sampled_from((8, 16, 5, 3, 2))) for _ in range(depth + 1))
    return random_network(draw(st.integers(0, 2**32 - 1)), shape, functions, widths)


def observations_for(network, seed=0):
    """Ordinary values, ones that quantize to halves, and ones far beyond every range."""
    rng = np.random.default_rng(seed)
    size, prefix = network.input.size, network.prefix
    ordinary = rng.normal(size=(20, size)) * network.input.scale * 2 ** (network.input.bits - 1)
    halves = network.input.scale * (rng.integers(-100, 100, (20, size)) + 0.5)
    extreme = rng.choice([-1e30, -1e6, -0.0, 0.0, 1e6, 1e30], (20, size))
    features = np.concatenate([ordinary, halves, extreme])
    return (features / prefix.gain + prefix.offset).astype(np.float32)


def assert_equal_bits(network, observations):
    from policyport.quantize.fake import FakeQuantized

    expected = simulate(network, observations)
    fake = FakeQuantized(network)
    for name, got in fake.integers(torch.from_numpy(observations)).items():
        np.testing.assert_array_equal(got, expected.tensors[name], err_msg=name)
    output = fake(torch.from_numpy(observations)).detach().numpy()
    assert output.dtype == np.float32
    np.testing.assert_array_equal(output.view(np.int32), expected.output.view(np.int32))


@given(networks())
@settings(deadline=None, max_examples=80)
def test_fake_equals_simulation_on_random_integers(network):
    assert_equal_bits(network, observations_for(network))


@given(st.integers(0, 1000), st.sampled_from([8, 16]), st.lists(st.sampled_from(FUNCTIONS), min_size=1, max_size=3))
@settings(deadline=None, max_examples=20)
def test_fake_equals_simulation_on_calibrated_networks(make_graph, seed, bits, functions):
    graph = make_graph((5, *[9] * len(functions)), tuple(functions), seed, gain=3.0)
    calibration = np.random.default_rng(seed).normal(size=(50, 5)).astype(np.float32)
    network = quantize_graph(graph, calibration, QuantizeConfig(), bits)
    assert_equal_bits(network, observations_for(network, seed))


def test_accumulators_at_the_edge_of_32_bits():
    """Weights and inputs all at their ends, and a bias that fills what is left."""
    size, source = 500, Activation("observation", (500,), 16, 1.0, 0, -32768, 32767)
    before = Activation("y", (2,), 16, 65536.0, 0, -32768, 32767)
    weights = np.stack([np.full(size, 127), np.full(size, -127)])
    room = 2**31 - 1 - 500 * 127 * 32768
    bias = np.array([-room, room])
    layer = layer_of(source, before, before, weights, np.ones(2, np.float32), bias)
    network = QuantizedNetwork("net", "observation", "y", HostPrefix.identity((size,)), source, (layer,))
    ends = np.array([[-40000.0] * size, [40000.0] * size, [32766.5, -32768.5] * 250], np.float32)
    assert_equal_bits(network, ends)
    assert np.abs(simulate(network, ends).tensors["y"].astype(int)).max() > 31000


@given(st.integers(0, 2**32 - 1), st.integers(0, 4), st.integers(1, 31), st.integers(8, 31))
@settings(deadline=None, max_examples=200)
def test_requantizing_is_exact_whichever_arithmetic_has_room(seed, shift, sum_bits, multiplier_bits):
    from policyport.quantize.fake_rounding import requantized

    random, reach = np.random.default_rng(seed), 2**31 - 1
    sums = random.integers(-(2**sum_bits) + 1, 2**sum_bits, (40, 3)) >> shift
    multiplier = random.integers(0, 2**multiplier_bits, 3)
    expected = requantize(sums, Requantization(multiplier, shift), 0, -reach, reach)
    found = requantized(torch.from_numpy(sums.astype(np.float64)), torch.from_numpy(multiplier), shift)
    np.testing.assert_array_equal(found.to(torch.int64).numpy(), expected)


@pytest.mark.parametrize(("channels", "groups", "kernel"), [(16, 16, 3), (57, 1, 3), (58, 1, 3), (200, 1, 1)])
@pytest.mark.parametrize("pads", [(1, 1, 1, 1), (0, 0, 1, 1)])
def test_convolutions_are_exact_up_to_the_last_sum_that_float32_holds(channels, groups, kernel, pads):
    """Inputs and weights at their ends, and beside them: 57 channels of 3x3 taps are the last that float32 has."""
    random, window = np.random.default_rng(0), Window((kernel, kernel), pads=pads)
    source = Activation("observation", (channels, 6, 6), 8, 1.0, -128, -128, 127)
    weights = np.full((16, channels // groups, kernel, kernel), 127)
    weights[1::2] -= random.integers(0, 3, weights[1::2].shape)
    shape = (16, *window.output_size(6, 6))
    after = Activation("y", shape, 16, float(np.float32(600.0)), 0, -32768, 32767)
    scale = np.ones(16, np.float32)
    node = Convolution(
        name="y", inputs=("observation",), linear_name="y", weights=weights.astype(np.float32),
        bias=np.zeros(16, np.float32), function=NONE, window=window, groups=groups,
    )  # fmt: skip
    bias = np.zeros(16, np.int64)
    layer = QuantizedLayer(
        node=node, inputs=(source,), output=after, before=after,
        weights=weights, weight_bits=8, weight_scale=scale, bias=bias,
    )  # fmt: skip
    prefix = HostPrefix.identity((channels, 6, 6))
    network = QuantizedNetwork("net", "observation", "y", prefix, source, (layer,))
    largest = np.full((1, channels * 36), 255.0)
    beside = largest - random.integers(0, 4, (3, channels * 36))
    assert_equal_bits(network, np.concatenate([largest, beside]).astype(np.float32))


def test_the_proof_refuses_one_more():
    layer = random_network(0, (2, 1), ("",), (16, 16)).layers[0]
    full = replace(layer, bias=np.array([2**31 - 1]))
    with pytest.raises(UnsupportedModelError, match="overflow"):
        _ = full.requantize


def small(make_graph, bits, functions=("Tanh", "Relu", "")):
    graph = make_graph((4, 16, 16, 2), functions, seed=1)
    observations = np.random.default_rng(0).normal(size=(400, 4)).astype(np.float32)
    return graph, observations, quantize_graph(graph, observations, QuantizeConfig(), bits)


@pytest.mark.parametrize("functions", [("Tanh", "Relu", ""), ("Sigmoid", "", "Tanh")])
def test_gradients_are_those_of_the_float_network(make_graph, functions):
    from policyport.quantize.fake import FakeQuantized

    _, observations, network = small(make_graph, 16, functions)
    fake, x = FakeQuantized(network), torch.from_numpy(observations)
    fake(x).square().sum().backward()
    straight = [p.grad.flatten() for p in fake.parameters()]

    weights = [(layer.weights, layer.bias) for layer in FakeQuantized(network).layers]
    y = ((x - fake.offset) * fake.gain).double()
    for (w, b), function in zip(weights, functions, strict=True):
        y = y @ w.T + b
        y = {"": lambda v: v, "Relu": torch.relu, "Tanh": torch.tanh, "Sigmoid": torch.sigmoid}[function](y)
    y.square().sum().backward()
    exact = [p.grad.flatten() for pair in weights for p in pair]
    for got, expected in zip(straight, exact, strict=True):
        assert torch.nn.functional.cosine_similarity(got, expected, dim=0) > 0.999
        assert got.norm() == pytest.approx(float(expected.norm()), rel=0.05)


def test_training_lowers_the_loss_and_gives_integers_back(make_graph):
    from policyport.quantize.fake import FakeQuantized

    graph, observations, network = small(make_graph, 8)
    x, target = torch.from_numpy(observations), torch.from_numpy(0.5 * graph.evaluate(observations) + 0.1)
    fake = FakeQuantized(network)
    optimizer = torch.optim.Adam(fake.parameters(), lr=1e-3)
    losses = []
    for _ in range(150):
        loss = (fake(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert min(losses[-20:]) < 0.3 * losses[0]
    trained = fake.network()
    assert any(not np.array_equal(a.weights, b.weights) for a, b in zip(trained.layers, network.layers, strict=True))
    np.testing.assert_array_equal(simulate(trained, observations).output, fake(x).detach().numpy())


def test_an_untrained_module_gives_its_network_back(make_graph):
    from policyport.quantize.fake import FakeQuantized

    _, _, network = small(make_graph, 8)
    for back, layer in zip(FakeQuantized(network).network().layers, network.layers, strict=True):
        np.testing.assert_array_equal(back.weights, layer.weights)
        np.testing.assert_array_equal(back.bias, layer.bias)


def moved(fake, seed, by=0.3):
    """The module with every learned step a little larger or smaller."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in fake.named_parameters():
            if name.endswith("exponents"):
                parameter += by * (2 * torch.rand(parameter.shape, generator=generator, dtype=torch.float64) - 1)
    return fake


@given(networks(), st.integers(0, 1000))
@settings(deadline=None, max_examples=60)
def test_learned_steps_train_what_the_integers_compute(network, seed):
    from policyport.quantize.fake import FakeQuantized

    observations = observations_for(network)
    fake = FakeQuantized(network, learn_steps=True)
    np.testing.assert_array_equal(simulate(network, observations).output, fake(torch.from_numpy(observations)).detach())
    fake = moved(fake, seed)
    expected = simulate(fake.network(), observations)
    for name, got in fake.integers(torch.from_numpy(observations)).items():
        np.testing.assert_array_equal(got, expected.tensors[name], err_msg=name)
    output = fake(torch.from_numpy(observations)).detach().numpy()
    np.testing.assert_array_equal(output.view(np.int32), expected.output.view(np.int32))


@given(
    st.lists(st.floats(-4, 4), min_size=1, max_size=20),
    st.floats(0.01, 2),
    st.sampled_from([2, 3, 4, 8]),
    st.floats(1e-3, 1),
)
@settings(deadline=None)
def test_the_gradient_of_a_step_is_that_of_the_paper(values, step, bits, share):
    """Esser et al. 2020, equation 3: round(v / s) - v / s inside, the bound outside, times the gradient scale."""
    from policyport.core.semantics import weight_range
    from policyport.quantize.fake_rounding import rounded
    from policyport.quantize.fake_steps import StepSizes

    low, high = weight_range(bits)
    steps = StepSizes([float(np.float32(step))], [share], learned=True)
    s, v = steps(), torch.tensor(values, dtype=torch.float64, requires_grad=True)
    (rounded(v / s, 0, low, high) * s).sum().backward()
    ratio = np.array(values) / float(np.float32(step))
    inside = (np.rint(ratio) >= low) & (np.rint(ratio) <= high)
    paper = np.where(inside, np.rint(ratio) - ratio, np.clip(ratio, low, high)).sum()
    assert float(steps.exponents.grad) == pytest.approx(share * paper * float(np.float32(step)), rel=1e-6, abs=1e-9)
    np.testing.assert_array_equal(v.grad, inside)


def test_shares_are_one_over_the_root_of_values_and_largest_integer(make_graph):
    from policyport.quantize.fake import FakeQuantized

    _, _, network = small(make_graph, 8)
    fake = FakeQuantized(network, learn_steps=True)
    start, count, outputs = fake.steps.spans[0]
    assert count == outputs == 16 and fake.steps.shares[start] == pytest.approx(1 / np.sqrt(4 * 127))
    behind = fake.steps.shares[fake.steps.index["hidden1"]]  # behind a ReLU: 255 steps above zero
    assert behind == pytest.approx(1 / np.sqrt(16 * 255))
    assert fake.steps.shares[fake.steps.index["hidden0"]] == 0  # behind a tanh, whose scale is given


def test_the_share_of_few_levels_is_of_as_many_as_there_are(make_graph):
    from policyport.quantize.fake import FakeQuantized

    graph, observations, _ = small(make_graph, 8)
    network = quantize_graph(graph, observations, QuantizeConfig(activation_bits=3), 8)
    steps = FakeQuantized(network, learn_steps=True).steps
    assert steps.shares[steps.index["hidden1"]] == pytest.approx(1 / np.sqrt(16 * 7))
    above = 3 - network.activations["hidden0"].zero_point  # a tanh of few levels has a step of its own
    assert steps.shares[steps.index["hidden0"]] == pytest.approx(1 / np.sqrt(16 * max(1, above)))


@pytest.mark.parametrize("functions", [("Tanh", "Relu", ""), ("Relu", "Sigmoid", "Tanh"), ("Elu", "Silu", "")])
def test_gradients_of_steps_point_where_the_loss_falls(make_graph, functions):
    """A step's own gradient against the difference of losses: 16 bits, so that rounding hides little."""
    from policyport.quantize.fake import FakeQuantized

    graph, observations, network = small(make_graph, 16, functions)
    x, target = torch.from_numpy(4 * observations), torch.from_numpy(graph.evaluate(4 * observations))
    fake = moved(FakeQuantized(network, learn_steps=True), 1)

    def loss():
        return (fake(x) - target).double().square().mean()

    with torch.no_grad():
        # Weights that saturate: their gradient is not hidden by rounding.
        fake.steps.exponents[fake.steps.spans[0][0] :] -= 1.0
    loss().backward()
    exponents, (first, count, _) = fake.steps.exponents, fake.steps.spans[0]
    index, share = first + int(exponents.grad[first : first + count].abs().argmax()), float(fake.steps.shares[first])
    differences = []
    for sign in (1, -1):
        with torch.no_grad():
            exponents[index] += sign * 0.02
            differences.append(float(loss()))
            exponents[index] -= sign * 0.02
    slope = (differences[0] - differences[1]) / 0.04
    assert float(exponents.grad[index]) / share == pytest.approx(slope, rel=0.25)


@pytest.mark.parametrize("activation_bits", [8, 2])
def test_learned_steps_lower_the_loss_at_two_bits(make_graph, activation_bits):
    from policyport.quantize.fake import FakeQuantized

    graph = make_graph((4, 16, 16, 2), ("Tanh", "Relu", ""), seed=1)
    observations = np.random.default_rng(0).normal(size=(400, 4)).astype(np.float32)
    network = quantize_graph(graph, observations, QuantizeConfig(weight_bits=2, activation_bits=activation_bits), 8)
    x, target = torch.from_numpy(observations), torch.from_numpy(graph.evaluate(observations))
    losses = {}
    for learned in (False, True):
        fake = FakeQuantized(network, learn_steps=learned)
        optimizer = torch.optim.Adam(fake.parameters(), lr=3e-3)
        for _ in range(200):
            loss = (fake(x) - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses[learned] = float(loss.detach())
        np.testing.assert_array_equal(simulate(fake.network(), observations).output, fake(x).detach().numpy())
    start = float((torch.from_numpy(simulate(network, observations).output) - target).square().mean())
    assert losses[True] < losses[False] < start
