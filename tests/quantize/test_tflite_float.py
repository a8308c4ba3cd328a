"""Float TFLite files in the quantize stage: the same numbers as in TFLite's runtime, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from policyport.core.errors import ArtifactError, ToolError, UnsupportedModelError
from policyport.core.task import Environment, Task
from policyport.deploy.exports import tflite_interpreter
from policyport.deploy.layers import Tensor
from policyport.deploy.lower import lower
from policyport.deploy.tflite_writer import TFLiteWriter
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.stage import quantize
from policyport.quantize.tflite_float import onnx_of_tflite

SAME, VALID, RELU, RELU6 = 0, 1, 1, 3
NOTHING = np.zeros(0)


class Net:
    """A float file under construction."""

    def __init__(self, seed: int, shape: tuple[int, ...], weight_kind: str = "float32") -> None:
        self.writer, self.generator, self.kind = TFLiteWriter(), np.random.default_rng(seed), weight_kind
        self.count = 0
        self.first = self.value(shape)

    def value(self, shape: tuple[int, ...], kind: str = "float32") -> int:
        self.count += 1
        return self.writer.activation(Tensor(f"v{self.count}", shape, 1.0, 0, 8, -128, 127), kind=kind)

    def weights(self, shape: tuple[int, ...], axis: int = 0) -> int:
        if self.kind == "float32":
            return self.writer.constant("w", self.generator.normal(0, 0.4, shape).astype("<f4"), NOTHING, NOTHING)
        scale = self.generator.uniform(0.002, 0.01, shape[axis])
        values = self.generator.integers(-127, 128, shape).astype(np.int8)
        return self.writer.constant("w", values, scale, np.zeros(len(scale), np.int64), axis)

    def bias(self, size: int) -> int:
        return self.writer.constant("b", self.generator.normal(0, 0.2, size).astype("<f4"), NOTHING, NOTHING)

    def operator(self, name: str, inputs: list[int], shape: tuple[int, ...], options: Any = None) -> int:
        target = self.value(shape)
        self.writer.operator(name, inputs, [target], options)
        return target

    def write(self, path: Path, output: int) -> Path:
        path.write_bytes(self.writer.finish([self.first], [output], "net"))
        return path


def image_net(path: Path, weight_kind: str = "float32") -> Path:
    """Convolutions padded and strided, a depthwise one, a sum, a pool, a dense layer, a softmax."""
    net = Net(1, (7, 6, 3), weight_kind)
    conv = {0: ("int8", SAME), 1: ("int32", 2), 2: ("int32", 1), 3: ("int8", RELU6)}
    x = net.operator("CONV_2D", [net.first, net.weights((4, 3, 3, 3)), net.bias(4)], (7, 3, 4), conv)
    deep = {0: ("int8", SAME), 1: ("int32", 1), 2: ("int32", 1), 3: ("int32", 1), 4: ("int8", RELU)}
    y = net.operator("DEPTHWISE_CONV_2D", [x, net.weights((1, 3, 3, 4), 3), net.bias(4)], (7, 3, 4), deep)
    z = net.operator("ADD", [x, y], (7, 3, 4), {0: ("int8", 0)})
    pool = {0: ("int8", VALID), 1: ("int32", 3), 2: ("int32", 2), 3: ("int32", 3), 4: ("int32", 2)}
    p = net.operator("AVERAGE_POOL_2D", [z], (3, 1, 4), pool)
    flat = net.operator("RESHAPE", [p, net.writer.numbers("s", [1, 12])], (12,))
    dense = net.operator("FULLY_CONNECTED", [flat, net.weights((5, 12)), net.bias(5)], (5,), {0: ("int8", 0)})
    return net.write(path, net.operator("SOFTMAX", [dense], (5,), {0: ("float32", 1.0)}))


def run_onnx(path: Path, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx_of_tflite(path).SerializeToString())
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def run_tflite(path: Path, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    try:
        interpreter = tflite_interpreter(path)
    except ToolError as error:
        pytest.skip(str(error))
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    rows = []
    for row in x:
        interpreter.set_tensor(source["index"], row[None])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(target["index"])[0])
    return np.stack(rows)


def test_the_onnx_computes_what_tflite_computes(tmp_path: Path) -> None:
    path = image_net(tmp_path / "net.tflite")
    x = np.random.default_rng(2).normal(size=(6, 7, 6, 3)).astype(np.float32)
    np.testing.assert_allclose(run_onnx(path, x), run_tflite(path, x), atol=1e-5)


def test_weights_of_a_file_quantized_in_them_alone_stand_for_reals(tmp_path: Path) -> None:
    path = image_net(tmp_path / "net.tflite", "int8")
    x = np.random.default_rng(2).normal(size=(3, 7, 6, 3)).astype(np.float32)
    assert np.isfinite(run_onnx(path, x)).all()
    assert {str(c.data_type) for c in onnx_of_tflite(path).graph.initializer if "weights" in c.name} == {"1"}


def test_a_float_file_becomes_integers(tmp_path: Path) -> None:
    path = image_net(tmp_path / "net.tflite")
    seen, held_out = np.random.default_rng(3).normal(size=(2, 64, 126)).astype(np.float32)
    np.savez(tmp_path / "observations.npz", observations=seen, held_out=held_out)
    task = Task("policy", "net", Environment("CartPole-v1"), 126, (-9.0,) * 126, (9.0,) * 126, 5, "argmax")
    task.write(tmp_path / "task.json")
    artifact = quantize(path, QuantizeConfig(method="nearest"), tmp_path / "quantize")
    assert artifact.manifest.figures["sqnr_db"] > 25
    assert artifact.file("float.onnx").is_file() and artifact.file("model.onnx").is_file()


def test_deploy_says_that_a_float_file_must_be_quantized_first(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"float32 numbers[^!]*`policyport quantize FILE`"):
        lower(image_net(tmp_path / "net.tflite"))


def test_what_is_no_float_network_is_refused(tmp_path: Path) -> None:
    torn = tmp_path / "torn.tflite"
    torn.write_bytes(image_net(tmp_path / "net.tflite").read_bytes()[:200])
    with pytest.raises(ArtifactError, match="torn model"):
        onnx_of_tflite(torn)
    integers = Net(1, (4,))
    integers.first = integers.value((4,), "int8")
    path = integers.write(tmp_path / "int8.tflite", integers.operator("TANH", [integers.first], (4,)))
    with pytest.raises(UnsupportedModelError, match="quantized already"):
        onnx_of_tflite(path)
    other = Net(1, (4,))
    path = other.write(tmp_path / "elu.tflite", other.operator("ELU", [other.first], (4,)))
    with pytest.raises(UnsupportedModelError, match="does not read") as caught:
        onnx_of_tflite(path)
    assert "ELU" in str(caught.value) and "CONV_2D" in str(caught.value)
