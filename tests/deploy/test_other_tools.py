"""Files that other tools' quantizers write of small networks: each activation within a unit of onnxruntime's.

onnxruntime's own quantizer runs in the default suite; the others where their packages are installed.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from policyport.deploy.lower import lower
from policyport.deploy.onnx_layers import compare_activations
from policyport.deploy.program import quantize_input

pytestmark = pytest.mark.filterwarnings("default")  # theirs are no errors of ours


def images(count: int = 64) -> Any:
    return np.random.default_rng(5).uniform(0, 1, (count, 1, 8, 8)).astype(np.float32)


def network() -> Any:
    """Convolutions, one depthwise, a shortcut, a mean and two linear layers."""
    torch = pytest.importorskip("torch", reason="torch comes with policyport[train]")

    class Network(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.stem = torch.nn.Conv2d(1, 8, 3, 2, 1)
            self.depth = torch.nn.Conv2d(8, 8, 3, 1, 1, groups=8)
            self.point = torch.nn.Conv2d(8, 8, 1)
            self.pool = torch.nn.AdaptiveAvgPool2d(1)
            self.first, self.last = torch.nn.Linear(8, 12), torch.nn.Linear(12, 5)

        def forward(self, x: Any) -> Any:
            x = torch.relu(self.stem(x))
            x = torch.relu(self.point(torch.relu(self.depth(x))) + x)
            return self.last(torch.relu(self.first(torch.flatten(self.pool(x), 1))))

    torch.manual_seed(0)
    return Network().eval()


def float_file(folder: Path) -> Path:
    """The network as TorchScript's exporter writes it."""
    import torch

    path = folder / "float.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network(),
            (torch.from_numpy(images(1)),),
            path,
            dynamo=False,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "n"}, "logits": {0: "n"}},
        )
    return path


def check(path: Path, least: float, within: int = 1) -> None:
    """Every activation that the file quantizes, beside onnxruntime's."""
    program = lower(path)
    pairs = compare_activations(path, quantize_input(program, images().reshape(64, -1)))
    assert len(pairs) >= 4
    for pair in pairs:
        assert np.abs(pair.wanted - pair.got).max() <= within, pair.layer
    assert np.mean([np.mean(pair.wanted == pair.got) for pair in pairs]) > least


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize("activations", ["QUInt8", "QInt8"])
@pytest.mark.parametrize("weights", ["QInt8", "QInt4"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_onnxruntime(tmp_path: Path, form: str, activations: str, weights: str, per_channel: bool) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization", reason="onnxruntime's quantizer needs sympy")
    if form == "QOperator" and weights == "QInt4":
        pytest.skip("onnxruntime has no operators on integers of four bits")

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            self.left = iter([{"image": images()}])

        def get_next(self) -> Any:
            return next(self.left, None)

    path = tmp_path / "quantized.onnx"
    quantization.quantize_static(
        float_file(tmp_path),
        path,
        Reader(),
        quant_format=quantization.QuantFormat[form],
        activation_type=quantization.QuantType[activations],
        weight_type=quantization.QuantType[weights],
        per_channel=per_channel,
    )
    check(path, least=0.995)


def aimet(folder: Path, bits: int) -> Path:
    import aimet_torch
    import torch
    from aimet_torch.quantsim import QuantizationSimModel

    sample = torch.from_numpy(images())
    prepared = __import__("aimet_torch.model_preparer").model_preparer.prepare_model(network())
    simulation = QuantizationSimModel(prepared, sample[:1], default_param_bw=bits, default_output_bw=8)
    simulation.compute_encodings(lambda model: model(sample))
    path = folder / "aimet.onnx"
    options = {"input_names": ["image"], "output_names": ["logits"], "dynamo": False, "export_int32_bias": True}
    aimet_torch.onnx.export(simulation, (sample[:1],), str(path), opset_version=21, **options)
    return path


def aimet_onnx(folder: Path, bits: int) -> Path:
    import onnx
    from aimet_onnx.quantsim import QuantizationSimModel

    model = onnx.load(float_file(folder))
    simulation = QuantizationSimModel(model, param_type=f"int{bits}", activation_type="int8", quant_scheme="min_max")
    simulation.compute_encodings([{"image": images()}])
    path = folder / "aimet.onnx"
    onnx.save(simulation.to_onnx_qdq(), path)
    return path


def brevitas(folder: Path, bits: int, backend: str) -> Path:
    import torch
    from brevitas.export import export_onnx_qcdq
    from brevitas.graph.calibrate import calibration_mode
    from brevitas.graph.quantize import preprocess_for_quantize
    from brevitas_examples.imagenet_classification.ptq.ptq_common import quantize_model

    sample = torch.from_numpy(images())
    given = preprocess_for_quantize(network(), equalize_iters=0) if backend == "fx" else network()
    widths = {"bias_bit_width": 32, "weight_bit_width": bits, "act_bit_width": 8, "layerwise_first_last_bit_width": 8}
    kinds = {"scale_factor_type": "float_scale", "act_quant_type": "asym", "weight_quant_type": "sym"}
    ways = {"weight_param_method": "mse", "act_param_method": "stats", "act_quant_percentile": 99.999}
    more = {"weight_quant_granularity": "per_channel", "weight_narrow_range": True, "quant_format": "int"}
    model = quantize_model(given, backend, dtype=torch.float32, device="cpu", **widths, **kinds, **ways, **more)
    model.eval()
    with torch.no_grad(), calibration_mode(model):
        model(sample)
    with torch.no_grad():
        model(sample[:2])
    path = folder / "brevitas.onnx"
    export_onnx_qcdq(model, args=sample[:1], export_path=str(path), dynamo=False, input_names=["image"])
    return path


def mct(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import model_compression_toolkit as toolkit
    import torch

    def batches() -> Any:
        yield [torch.from_numpy(images())]

    # It names no exporter, and PyTorch's other one does not take its modules.
    export = torch.onnx.export
    monkeypatch.setattr(torch.onnx, "export", lambda *given, **named: export(*given, **{**named, "dynamo": False}))
    model, _ = toolkit.ptq.pytorch_post_training_quantization(network(), batches)
    path = folder / "mct.onnx"
    exporter = toolkit.exporter
    exporter.pytorch_export_model(
        model=model,
        save_model_path=str(path),
        repr_dataset=batches,
        serialization_format=exporter.PytorchExportSerializationFormat.ONNX,
        quantization_format=exporter.QuantizationFormat.FAKELY_QUANT,
    )
    return path


def torch_export(folder: Path, quantizer: str) -> Path:
    import torch
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    module = importlib.import_module(f"torchao.quantization.pt2e.quantizer.{quantizer}_inductor_quantizer")
    sample = torch.from_numpy(images())
    shapes = ({0: torch.export.Dim("n")},)
    chosen = getattr(module, f"{quantizer.title()}InductorQuantizer")()
    chosen.set_global(getattr(module, f"get_default_{quantizer}_inductor_quantization_config")())
    prepared = prepare_pt2e(torch.export.export(network(), (sample[:2],), dynamic_shapes=shapes).module(), chosen)
    with torch.no_grad():
        prepared(sample)
    path = folder / "pt2e.onnx"
    names = {"input_names": ["image"], "output_names": ["logits"], "opset_version": 21, "external_data": False}
    torch.onnx.export(convert_pt2e(prepared), (sample[:2],), path, dynamo=True, dynamic_shapes=shapes, **names)
    return path


Write = Callable[[Path, pytest.MonkeyPatch], Path]

TOOLS: dict[str, tuple[tuple[str, ...], float, Write]] = {
    "aimet_torch, w8": (("aimet_torch",), 0.999, lambda folder, _: aimet(folder, 8)),
    "aimet_torch, w4": (("aimet_torch",), 0.999, lambda folder, _: aimet(folder, 4)),
    "aimet_onnx, w8": (("aimet_onnx", "aimet_torch"), 0.98, lambda folder, _: aimet_onnx(folder, 8)),
    "aimet_onnx, w4": (("aimet_onnx", "aimet_torch"), 0.98, lambda folder, _: aimet_onnx(folder, 4)),
    "brevitas, graph, w8": (("brevitas", "onnxoptimizer"), 0.999, lambda folder, _: brevitas(folder, 8, "fx")),
    "brevitas, graph, w4": (("brevitas", "onnxoptimizer"), 0.999, lambda folder, _: brevitas(folder, 4, "fx")),
    "brevitas, layers, w4": (("brevitas", "onnxoptimizer"), 0.98, lambda folder, _: brevitas(folder, 4, "layerwise")),
    "mct": (("model_compression_toolkit",), 0.9, mct),
    "torchao, x86": (("torchao", "onnxscript"), 0.9, lambda folder, _: torch_export(folder, "x86")),
    "torchao, arm": (("torchao", "onnxscript"), 0.9, lambda folder, _: torch_export(folder, "arm")),
}
"""Packages, the least share of equal integers, and what writes a file."""


@pytest.mark.parametrize("name", TOOLS)
def test_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    packages, least, write = TOOLS[name]
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed")
    check(write(tmp_path, monkeypatch), least)
