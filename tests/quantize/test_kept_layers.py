"""An interrupted quantization goes on with the layers that it lacks, to the same bytes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from policyport.quantize import QuantizeConfig, quantize
from policyport.quantize.rounding import methods

CONFIGS = {
    "lattice": QuantizeConfig(weight_bits=2, activations="int8", prove_nodes=2_000),
    "adaround": QuantizeConfig(method="adaround", weight_bits=2, activations="int8", adaround_iterations=30),
}


class Counted:
    """A solver that counts its calls, and may be interrupted in one of them."""

    def __init__(self, solver):
        self.solver, self.calls, self.interrupted_at = solver, 0, 0

    def __call__(self, *arguments, **options):
        self.calls += 1
        if self.calls == self.interrupted_at:
            raise KeyboardInterrupt
        return self.solver(*arguments, **options)


@pytest.fixture(params=CONFIGS)
def counted(request, monkeypatch):
    """A method's configuration, and its solver under watch."""
    solver = Counted(getattr(methods, request.param))
    monkeypatch.setattr(methods, request.param, solver)
    return CONFIGS[request.param], solver


def test_layers_are_rounded_once_whatever_interrupts(model_folder, counted):
    config, solver = counted
    model, out = model_folder / "policy.onnx", model_folder / "out"
    whole = quantize(model, config, model_folder / "whole")
    assert solver.calls == 3
    solver.calls, solver.interrupted_at = 0, 3
    with pytest.raises(KeyboardInterrupt):
        quantize(model, config, out)
    layers = sorted((model_folder / "out.partial" / "layers").glob("*.npz"))
    assert len(layers) == 2 and not out.exists()
    solver.calls = solver.interrupted_at = 0
    resumed = quantize(model, config, out)
    assert solver.calls == 1
    assert resumed.manifest.files == whole.manifest.files and resumed.manifest.figures == whole.manifest.figures
    assert not (model_folder / "out.partial").exists()


def test_a_torn_layer_or_one_of_another_setting_is_rounded_anew(model_folder, monkeypatch):
    config, solver = QuantizeConfig(method="gptq", weight_bits=2, activations="int8"), Counted(methods.gptq)
    monkeypatch.setattr(methods, "gptq", solver)
    model, out = model_folder / "policy.onnx", model_folder / "out"
    solver.interrupted_at = 3
    with pytest.raises(KeyboardInterrupt):
        quantize(model, config, out)
    for path in (model_folder / "out.partial" / "layers").glob("*.npz"):
        path.write_bytes(path.read_bytes()[:100])
    solver.calls, solver.interrupted_at = 0, 3
    with pytest.raises(KeyboardInterrupt):
        quantize(model, config, out)
    solver.calls = solver.interrupted_at = 0
    quantize(model, replace(config, weight_bits=3), out)
    assert solver.calls == 3
