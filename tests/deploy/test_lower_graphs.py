"""Lowering QDQ ONNX graphs of images: the integers that onnxruntime computes, to one step, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from policyport.core.errors import UnsupportedModelError
from policyport.deploy import reference
from policyport.deploy.layers import Add, Concat, Conv2d, FullyConnected, Layer, Pool, Transpose, TransposedConv2d
from policyport.deploy.lower import lower
from policyport.deploy.program import Program, dequantize_output, quantize_input
from qdq_net import CHANNELS, SIDE, Net

Build = Callable[[Net, str], str]

CASES: dict[str, tuple[Build, int]] = {
    "conv_relu": (lambda n, x: n.pair(n.node("Relu", n.conv(x, 3, 5)), 0.03, -128), 1),
    "conv_relu6": (
        lambda n, x: n.pair(
            n.node("Clip", n.conv(x, 3, 5), n.constant(np.float32(0)), n.constant(np.float32(6))), 0.03, -128
        ),
        1,
    ),
    "conv_strided": (lambda n, x: n.pair(n.conv(x, 3, 4, strides=[2, 2], pads=[0, 0, 1, 1])), 1),
    "conv_same_upper": (lambda n, x: n.pair(_auto(n, x)), 1),
    "conv_dilated": (lambda n, x: n.pair(n.conv(x, 3, 4, dilations=[2, 2], pads=[2, 2, 2, 2])), 1),
    "conv_grouped": (lambda n, x: n.pair(n.conv(x, 3, 6, groups=3)), 1),
    "conv_int4": (lambda n, x: n.pair(n.conv(x, 3, 6, bits=4)), 1),
    "conv_transposed": (lambda n, x: n.pair(_transposed(n, x)), 1),
    "conv_batch_norm": (lambda n, x: n.pair(_batch_norm(n, n.conv(x, 3, 4), 4)), 1),
    "batch_norm": (lambda n, x: n.pair(_batch_norm(n, x, 3)), 1),
    "pad_conv": (lambda n, x: n.pair(n.conv(_pad(n, x), 3, 4, pads=[0] * 4)), 1),
    "leaky": (lambda n, x: n.pair(n.node("LeakyRelu", x, alpha=0.3)), 1),
    "prelu": (lambda n, x: n.pair(n.node("PRelu", n.pair(n.conv(x, 3, 4)), n.constant(np.float32([0.25])))), 1),
    "max_pool": (lambda n, x: n.pair(n.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])), 1),
    "max_pool_ceil": (
        lambda n, x: n.pair(n.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)),
        1,
    ),
    "conv_max_pool": (
        lambda n, x: n.pair(n.node("MaxPool", n.conv(x, 3, 4), kernel_shape=[2, 2], strides=[2, 2])),
        1,
    ),
    "average_pool": (
        lambda n, x: n.pair(n.node("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4), 0.015),
        1,
    ),
    "average_pool_counting": (
        lambda n, x: n.pair(n.node("AveragePool", x, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)),
        1,
    ),
    "global_average": (lambda n, x: n.pair(n.node("GlobalAveragePool", x), 0.004), 1),
    "reduce_mean": (
        lambda n, x: n.pair(n.node("ReduceMean", x, n.constant(np.array([2, 3])), keepdims=0), 0.004),
        1,
    ),
    "add": (lambda n, x: n.pair(n.node("Relu", n.node("Add", x, n.pair(n.conv(x, 3, 3), 0.03, 7))), 0.03, -128), 1),
    "sub": (lambda n, x: n.pair(n.node("Sub", x, n.pair(n.conv(x, 3, 3), 0.03, 7)), 0.043), 1),
    "mul": (lambda n, x: n.pair(n.node("Mul", x, n.pair(n.conv(x, 3, 3), 0.03, 7)), 0.06), 1),
    "squeeze_excite": (lambda n, x: n.pair(n.node("Mul", x, _gate(n, x)), 0.02), 1),
    "mul_constant": (lambda n, x: n.pair(n.node("Mul", x, n.constant(np.float32(0.37))), 0.01), 1),
    "mul_channels": (
        lambda n, x: n.pair(n.node("Mul", x, n.constant(np.float32([0.5, -1.5, 0]).reshape(1, 3, 1, 1))), 0.03),
        1,
    ),
    "add_channels": (
        lambda n, x: n.pair(n.node("Add", x, n.constant(np.float32([0.5, -1.5, 0]).reshape(3, 1, 1))), 0.043),
        1,
    ),
    "concat": (lambda n, x: n.pair(n.node("Concat", x, n.pair(n.conv(x, 3, 2), 0.03, 7), axis=1), 0.03), 1),
    "resize": (lambda n, x: n.pair(_resize(n, x)), 1),
    "resize_as_torch": (
        lambda n, x: n.pair(_resize(n, x, coordinate_transformation_mode="asymmetric", nearest_mode="floor")),
        1,
    ),
    "hard_swish": (
        lambda n, x: n.pair(n.node("Mul", x, n.node("HardSigmoid", x, alpha=1 / 6, beta=0.5)), 0.015),
        1,
    ),
    "silu": (lambda n, x: n.pair(n.node("Mul", x, n.node("Sigmoid", x)), 0.015), 1),
    "conv_tanh": (lambda n, x: n.pair(n.node("Tanh", n.pair(n.conv(x, 3, 3))), 1 / 128, 0), 1),
    "softmax": (
        lambda n, x: n.pair(n.node("Softmax", n.pair(n.conv(x, 3, 5)), axis=1), 1 / 256, -128),
        1,
    ),
    "flatten_dense": (lambda n, x: n.pair(n.dense(n.node("Flatten", n.pair(n.conv(x, 3, 2))), 128, 4), 0.1), 1),
    "dense_to_image": (lambda n, x: n.pair(_decoder(n, x)), 1),
    "transposes": (lambda n, x: n.pair(_round_trip(n, x)), 1),
    "unsigned": (lambda n, x: n.pair(n.node("Relu", n.conv(x, 3, 4)), 0.02, 0, np.uint8), 1),
    "change_of_scale": (lambda n, x: n.pair(n.pair(x, 0.031, 9), 0.017), 2),
}


def _auto(n: Net, x: str) -> str:
    return n.node("Conv", x, n.weights((4, 3, 3, 3)), auto_pad="SAME_UPPER", strides=[2, 2])


def _transposed(n: Net, x: str) -> str:
    weights = n.weights((3, 4, 3, 3), axis=1)
    return n.node("ConvTranspose", x, weights, strides=[2, 2], pads=[1] * 4, output_padding=[1, 1])


def _batch_norm(n: Net, x: str, channels: int) -> str:
    values = [n.rng.uniform(-1, 1, channels), n.rng.normal(0, 0.2, channels), n.rng.normal(0, 0.2, channels)]
    given = [n.constant(v.astype(np.float32)) for v in (*values, n.rng.uniform(0.5, 2, channels))]
    return n.node("BatchNormalization", x, *given)


def _pad(n: Net, x: str) -> str:
    return n.node("Pad", x, n.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1])))


def _gate(n: Net, x: str) -> str:
    pooled = n.pair(n.node("GlobalAveragePool", x), 0.005)
    return n.pair(n.node("Sigmoid", n.pair(n.conv(pooled, 3, 3, 1, pads=[0] * 4))), 1 / 256, -128)


def _resize(n: Net, x: str, **attributes: str) -> str:
    return n.node("Resize", x, "", n.constant(np.float32([1, 1, 2, 3])), mode="nearest", **attributes)


def _decoder(n: Net, x: str) -> str:
    vector = n.pair(n.dense(n.node("Flatten", n.node("MaxPool", x, kernel_shape=[4, 4], strides=[4, 4])), 12, 32), 0.05)
    image = n.node("Reshape", vector, n.constant(np.array([-1, 2, 4, 4])))
    return n.conv(image, 2, 3)


def _round_trip(n: Net, x: str) -> str:
    last = n.node("Transpose", n.pair(n.conv(x, 3, 4)), perm=[0, 2, 3, 1])
    return n.conv(n.node("Transpose", last, perm=[0, 3, 1, 2]), 4, 2)


def runtime(path: Path, images: Any) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": images})[0]


def images(count: int = 6) -> Any:
    return np.random.default_rng(1).normal(0, 1.2, (count, CHANNELS, SIDE, SIDE)).astype(np.float32)


def saved(n: Net, output: str, folder: Path, shape: tuple[int, ...] = (CHANNELS, SIDE, SIDE)) -> Path:
    path = folder / "net.onnx"
    onnx.save(n.model(output, shape), path)
    return path


def make(name: str, folder: Path) -> tuple[Path, Program]:
    n = Net()
    path = saved(n, CASES[name][0](n, n.pair("image")), folder)
    return path, lower(path)


@pytest.mark.parametrize("name", CASES)
def test_onnxruntime_computes_the_same_to_one_step(tmp_path: Path, name: str) -> None:
    path, program = make(name, tmp_path)
    flat = images().reshape(6, -1)
    q = reference.run(program, quantize_input(program, flat))[-1]
    got = dequantize_output(program, q)
    expected = runtime(path, images()).reshape(6, -1)
    apart = np.abs(got - expected) / program.output.scale
    assert apart.max() < CASES[name][1] + 0.01
    assert (apart < 0.01).mean() > 0.9 and len(np.unique(got)) > 4


def kinds(program: Program) -> list[type[Layer]]:
    return [type(layer) for layer in program.layers]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("conv_relu", [Conv2d]),
        ("conv_batch_norm", [Conv2d]),
        ("batch_norm", [Conv2d]),
        ("pad_conv", [Conv2d]),
        ("conv_max_pool", [Conv2d, Pool]),
        ("add", [Conv2d, Add]),
        ("conv_tanh", [Conv2d]),
        ("conv_transposed", [TransposedConv2d]),
        ("flatten_dense", [Conv2d, FullyConnected]),
        ("dense_to_image", [Pool, FullyConnected, Conv2d]),
        ("transposes", [Conv2d, Conv2d]),
        ("concat", [Conv2d, Concat]),
    ],
)
def test_what_folds_is_folded(tmp_path: Path, name: str, expected: list[type[Layer]]) -> None:
    layers = [kind for kind in kinds(make(name, tmp_path)[1]) if not (name == "concat" and kind is Add)]
    assert layers == expected


def test_images_in_pixels_need_no_transposition(tmp_path: Path) -> None:
    n = Net()
    here = n.node("Transpose", n.pair("image"), perm=[0, 3, 1, 2])
    path = saved(n, n.pair(n.conv(here, 3, 4)), tmp_path, (SIDE, SIDE, CHANNELS))
    program = lower(path)
    assert kinds(program) == [Conv2d] and program.host_input.order == "HWC"
    pixels = images().transpose(0, 2, 3, 1)
    got = dequantize_output(program, reference.run(program, quantize_input(program, pixels.reshape(6, -1)))[-1])
    expected = runtime(path, np.ascontiguousarray(pixels)).reshape(6, -1)
    assert np.abs(got - expected).max() < 1.01 * program.output.scale


def test_images_that_come_flat(tmp_path: Path) -> None:
    n = Net()
    scaled = n.node("Div", "image", n.constant(np.float32(0.5)))
    here = n.pair(n.node("Reshape", scaled, n.constant(np.array([-1, CHANNELS, SIDE, SIDE]))))
    path = saved(n, n.pair(n.conv(here, 3, 4)), tmp_path, (CHANNELS * SIDE * SIDE,))
    program = lower(path)
    assert program.input.shape == (SIDE, SIDE, CHANNELS) and program.host_input.order == "CHW"
    flat = images().reshape(6, -1)
    got = dequantize_output(program, reference.run(program, quantize_input(program, flat))[-1])
    assert np.abs(got - runtime(path, flat).reshape(6, -1)).max() < 1.01 * program.output.scale


def test_a_transposition_that_stays(tmp_path: Path) -> None:
    """Height and width exchanged between two convolutions: no weights to fold it into."""
    n = Net()
    here = n.node("Transpose", n.pair(n.conv(n.pair("image"), 3, 4)), perm=[0, 1, 3, 2])
    program = lower(saved(n, n.pair(n.conv(here, 4, 2)), tmp_path))
    assert kinds(program) == [Conv2d, Transpose, Conv2d]


def test_argmax(tmp_path: Path) -> None:
    n = Net()
    logits = n.pair(n.dense(n.node("Flatten", n.pair("image")), 192, 7), 0.1)
    path = saved(n, n.node("ArgMax", logits, axis=1, keepdims=0), tmp_path)
    program = lower(path)
    q = reference.run(program, quantize_input(program, images().reshape(6, -1)))
    np.testing.assert_array_equal(q[-1][:, 0], np.argmax(q[-2], axis=1))
    assert (q[-1][:, 0] == runtime(path, images())).mean() >= 5 / 6


def refused(n: Net, output: str, folder: Path, *words: str) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        lower(saved(n, output, folder))
    for word in words:
        assert word in str(caught.value)


def test_unsupported_operators_are_named_with_the_supported_ones(tmp_path: Path) -> None:
    n = Net()
    refused(n, n.pair(n.node("Erf", n.pair("image"))), tmp_path, "Erf", "Conv", "GlobalAveragePool")


def test_what_the_semantics_do_not_cover_is_refused(tmp_path: Path) -> None:
    n = Net()
    here = n.node("Transpose", n.pair("image"), perm=[1, 0, 2, 3])
    refused(n, n.pair(here), tmp_path, "batch axis")
    n = Net()
    cubic = n.node("Resize", n.pair("image"), "", n.constant(np.float32([1, 1, 2, 2])), mode="linear")
    refused(n, n.pair(cubic), tmp_path, "interpolates")
    n = Net()
    refused(n, n.pair(n.node("Elu", n.pair("image"), alpha=0.3)), tmp_path, "Elu", "alpha")
    n = Net()
    slopes = n.constant(np.float32([[[0.1]], [[0.2]], [[0.3]]]))
    refused(n, n.pair(n.node("PRelu", n.pair("image"), slopes)), tmp_path, "PRelu", "3 slopes")
    n = Net()
    refused(n, n.pair(n.node("Softmax", n.pair("image"), axis=2), 1 / 256, -128), tmp_path, "Softmax", "channels")
    n = Net()
    refused(n, n.pair(n.conv(n.conv(n.pair("image"), 3, 3), 3, 3)), tmp_path, "Conv node", "not quantized")
    n = Net()
    twice = n.node("Add", n.pair("image"), n.pair("image", 0.5))
    refused(n, n.pair(twice), tmp_path, "quantized twice")
