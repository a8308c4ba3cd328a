"""Training by distillation: better on what was held out, repeatable, resumable, on the integers themselves."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from policyport.core.artifact import open_artifact
from policyport.core.errors import ObservationError
from policyport.quantize import QuantizeConfig, quantize
from policyport.quantize.choose import quantized
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.qat import HELD_OUT, Objective, QatSettings, finetune
from policyport.quantize.simulate import predict, simulate
from policyport.quantize.source import open_source

torch = pytest.importorskip("torch")
SHORT = QatSettings(epochs=12, patience=12, batch=32)


@pytest.fixture(scope="module")
def start(make_graph):
    """A network of 2-bit weights with everything that training it takes."""
    graph = make_graph((4, 16, 16, 3), ("Tanh", "Relu", ""), seed=2)
    observations = np.random.default_rng(0).normal(size=(400, 4)).astype(np.float32)
    network = quantize_graph(graph, observations, QuantizeConfig(weight_bits=2), 8)
    return network, observations, graph.evaluate(observations)


def integers(network):
    return [np.concatenate([layer.weights.ravel(), layer.bias]) for layer in network.layers]


@pytest.mark.parametrize("objective", [Objective("values"), Objective("choices"), Objective("bits")])
@pytest.mark.parametrize("learn_steps", [True, False])
def test_the_held_out_loss_falls_and_is_that_of_the_integers(start, objective, learn_steps):
    network, observations, targets = start
    found = finetune(network, observations, targets, objective, replace(SHORT, learn_steps=learn_steps))
    assert min(found.losses) < found.losses[0] and 0 < found.best <= SHORT.epochs
    cut = len(observations) - len(observations) // HELD_OUT
    outputs = torch.from_numpy(predict(found.network, observations[cut:]))
    assert float(objective(outputs, torch.from_numpy(targets[cut:]))) == pytest.approx(min(found.losses), rel=1e-9)
    moved = [not np.array_equal(a, b) for a, b in zip(integers(found.network), integers(network), strict=True)]
    assert any(moved)
    layers = zip(found.network.layers, network.layers, strict=True)
    same = [a.weight_scale.tobytes() == b.weight_scale.tobytes() for a, b in layers]
    assert all(same) != learn_steps
    assert all(layer.weights.min() >= -2 and layer.weights.max() <= 1 for layer in found.network.layers)


def test_labels_are_learned(start):
    network, observations, targets = start
    labels = np.argmax(targets[:, ::-1], axis=1)  # not what the network was made for
    before = np.mean(np.argmax(predict(network, observations), axis=1) == labels)
    found = finetune(network, observations, labels, Objective("labels"), replace(SHORT, learning_rate=1e-2))
    assert np.mean(np.argmax(predict(found.network, observations), axis=1) == labels) > before + 0.2


def test_the_start_is_kept_where_nothing_betters_it(start):
    network, observations, _ = start
    settings = replace(SHORT, learning_rate=0.1, patience=2)
    found = finetune(network, observations, predict(network, observations), Objective("values"), settings)
    assert found.best == 0 and found.losses[0] == 0 and len(found.losses) == 3
    np.testing.assert_array_equal(predict(found.network, observations), predict(network, observations))


def test_the_same_seed_gives_the_same_integers(start):
    given = *start, Objective("values")
    first, second, other = (finetune(*given, replace(SHORT, epochs=3, seed=seed)).network for seed in (1, 1, 2))
    for a, b in zip(integers(first), integers(second), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(integers(first), integers(other), strict=True))


def test_an_interrupted_training_goes_on_to_the_same_integers(start, tmp_path, monkeypatch):
    from policyport.quantize import qat

    given, state = (*start, Objective("values"), replace(SHORT, epochs=6)), tmp_path / "deep" / "state.pt"
    whole = finetune(*given)
    epoch, calls = qat._Training.epoch, []

    def interrupted(self, *more):
        calls.append(len(self.losses))
        if len(calls) == 4:
            raise KeyboardInterrupt
        epoch(self, *more)

    monkeypatch.setattr(qat._Training, "epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        finetune(*given, state)
    assert state.is_file()
    resumed = finetune(*given, state)
    assert calls == [1, 2, 3, 4, 4, 5, 6]
    assert resumed.losses == whole.losses and not state.exists()
    for a, b in zip(integers(resumed.network), integers(whole.network), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_state_of_another_training_is_not_gone_on_from(start, tmp_path):
    network, observations, targets = start
    state, short = tmp_path / "state.pt", replace(SHORT, epochs=1)
    from policyport.quantize import qat

    other = qat._Training(network, Objective("values"), short)
    other.losses = [0.0, 0.0]
    other.keep(state, "another")
    found = finetune(network, observations, targets, Objective("values"), short, state)
    assert found.losses[0] > 0


@pytest.mark.parametrize("count", [0, 9])
def test_too_few_observations_are_refused(start, count):
    network, observations, targets = start
    with pytest.raises(ObservationError, match="too few"):
        finetune(network, observations[:count], targets[:count], Objective("values"))


def test_targets_of_other_observations_are_refused(start):
    network, observations, targets = start
    with pytest.raises(ObservationError, match="400 and 399"):
        finetune(network, observations, targets[1:], Objective("values"))


@pytest.mark.parametrize(
    ("rule", "kind"), [("argmax", "choices"), ("argmax_each", "choices"), ("threshold", "bits"), ("clip", "values")]
)
def test_the_objective_follows_the_action(make_task, start, rule, kind):
    _, _, targets = start
    task = replace(make_task(4, 3), action_rule=rule, action_sizes=(2, 1) if rule == "argmax_each" else ())
    objective = Objective.of(task, targets)
    assert objective.kind == kind and objective.sizes == task.action_sizes
    exact = torch.from_numpy(targets)
    other = exact + torch.tensor([1.0, 0.0, -1.0])
    assert float(objective(other, exact)) > float(objective(exact, exact))
    if rule == "argmax":  # what all outputs share decides nothing and counts for nothing
        assert float(objective(exact + 100, exact)) == pytest.approx(0, abs=1e-9)
        shifted = Objective.of(task, targets + np.arange(len(targets), dtype=np.float32)[:, None])
        assert shifted.scale == pytest.approx(objective.scale, rel=1e-3)


def test_the_stage_trains_and_writes_the_integers_as_qdq(model_folder):
    config = QuantizeConfig(method="qat", weight_bits=3, activations="int8", qat_epochs=4)
    artifact = quantize(model_folder / "policy.onnx", config, model_folder / "out")
    plain = quantize(model_folder / "policy.onnx", replace(config, method="lattice"), model_folder / "plain")
    assert artifact.manifest.files["model.onnx"] != plain.manifest.files["model.onnx"]
    assert not (model_folder / "out.partial").exists()
    source = open_source(model_folder / "policy.onnx")
    from policyport.quantize.stage import _rewritten

    network = quantized(_rewritten(source, config), config, 8)
    program = open_artifact(model_folder / "out", "quantize").file("model.onnx")
    import onnxruntime

    session = onnxruntime.InferenceSession(str(program), providers=["CPUExecutionProvider"])
    theirs = session.run(None, {session.get_inputs()[0].name: source.held_out})[0]
    ours = simulate(network, source.held_out).output
    assert np.abs(theirs - ours).max() <= 1.001 * network.output.scale
    assert np.mean(theirs == ours) > 0.9
    assert json.loads((model_folder / "out" / "layers.json").read_text())["layers"]
