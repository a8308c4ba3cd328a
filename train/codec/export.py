"""A codec as two float32 ONNX graphs: the encoder of a block, and the decoder of a whole picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper
from policyport.core.codec_model import BLOCK, BLOCK_VALUES, PIXEL_CENTRE, PIXEL_SPAN
from policyport.train.codec.mcucoder import CHANNELS, McuEncoder
from policyport.train.codec.networks import Decoder, Encoder, Residual
from policyport.train.onnx_writer import IR_VERSION, OPSET, OnnxGraph
from torch import Tensor, nn


def write_encoder(encoder: Encoder, path: Path) -> int:
    """Write ``observation`` [N, 192], a block's pixels 0 to 255 row by row, three colours each, to ``output``
    [N, channels], its code in grey levels.

    :return: how many weights and biases it has
    """
    graph = OnnxGraph()
    channels = encoder.linear.out_channels
    blocks = "observation"
    if len(encoder.branch):
        rows = graph.node("Reshape", "rows", blocks, graph.constant("shape", [-1, BLOCK, BLOCK, 3]))
        blocks = graph.node("Transpose", "planes", rows, perm=[0, 3, 1, 2])
    centred = graph.node("Sub", "centred", blocks, graph.constant("centre", float(PIXEL_CENTRE)))
    pixels = graph.node("Div", "pixels", centred, graph.constant("span", float(PIXEL_SPAN)))
    if not len(encoder.branch):
        weight = _array(encoder.linear.weight).transpose(0, 2, 3, 1).reshape(channels, BLOCK_VALUES)
        given = graph.constant("linear.weight", weight), graph.constant("linear.bias", _bias(encoder.linear))
        graph.node("Gemm", "linear", pixels, *given, transB=1)
    else:
        bent = pixels
        for number, module in enumerate(encoder.branch):
            bent = _module(graph, f"branch.{number}", bent, module)
        straight = _convolution(graph, "linear", pixels, encoder.linear)
        graph.node("Flatten", "code", graph.node("Add", "sum", straight, bent))
    graph.save(path, "image encoder", BLOCK_VALUES, channels)
    return sum(array.size for layer in encoder.weighted.values() for array in (_array(layer.weight), _bias(layer)))


def layer_name(encoder: Encoder, name: str) -> str:
    """Name in the graph of one of :attr:`Encoder.weighted`: what comes last there is the output."""
    return name if len(encoder.branch) else "output"


def write_decoder(decoder: Decoder, path: Path) -> None:
    """Write ``numbers`` [1, channels, rows, columns] (as quantized) and ``step`` [1, 1, 1, 1] (grey levels) to
    ``picture`` [1, 3, 8 rows, 8 columns], 0 to 255, not clipped.
    """
    graph = OnnxGraph()
    code = graph.node("Mul", "code", "numbers", "step")
    gained = graph.node("Mul", "gained", code, graph.constant("gain", _array(decoder.gain)))
    octaves = graph.node("Div", "octaves", graph.node("Log", "log", "step"), graph.constant("log16", np.log(16.0)))
    level = graph.node("Sub", "level", octaves, graph.constant("one", 1.0))
    first = graph.node("Slice", "first", gained, *(graph.constant(f"first.{k}", [v]) for k, v in _FIRST.items()))
    nothing = graph.node("Mul", "nothing", first, graph.constant("zero", 0.0))
    current = graph.node("Concat", "seen", gained, graph.node("Add", "plane", nothing, level), axis=1)
    for number, module in enumerate(decoder.network):
        current = _module(graph, f"network.{number}", current, module)
    scaled = graph.node("Mul", "scaled", current, graph.constant("scale", 32.0))
    base = decoder.base
    given = graph.constant("base.weight", _array(base.weight)), graph.constant("base.bias", _bias(base))
    transform = graph.node("ConvTranspose", "base", code, *given, strides=[BLOCK, BLOCK])
    graph.node("Add", "picture", transform, scaled)
    _save(graph, path, base.in_channels)


_FIRST = {"starts": 0, "ends": 1, "axes": 1}


def _module(graph: OnnxGraph, name: str, source: str, module: nn.Module) -> str:
    if isinstance(module, Residual):
        first = _convolution(graph, f"{name}.first", source, module.first)
        bent = graph.node("LeakyRelu", f"{name}.bent", first, alpha=0.1)
        return graph.node("Add", f"{name}.sum", source, _convolution(graph, f"{name}.second", bent, module.second))
    if isinstance(module, nn.ReLU):
        return graph.node("Relu", name, source)
    if isinstance(module, nn.PixelShuffle):
        return graph.node("DepthToSpace", name, source, blocksize=module.upscale_factor, mode="CRD")
    assert isinstance(module, nn.Conv2d), module
    return _convolution(graph, name, source, module)


def _convolution(graph: OnnxGraph, name: str, source: str, layer: nn.Conv2d) -> str:
    given = graph.constant(f"{name}.weight", _array(layer.weight)), graph.constant(f"{name}.bias", _bias(layer))
    window: dict[str, Any] = {"kernel_shape": list(layer.kernel_size), "strides": list(layer.stride)}
    assert isinstance(layer.padding, tuple)
    return graph.node("Conv", name, source, *given, **window, pads=[*layer.padding, *layer.padding])


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return np.asarray(tensor.detach().numpy(), np.float32)


def _bias(layer: nn.Conv2d | nn.ConvTranspose2d) -> NDArray[np.float32]:
    assert layer.bias is not None
    return _array(layer.bias)


def _save(graph: OnnxGraph, path: Path, channels: int) -> None:
    kind = onnx.TensorProto.FLOAT
    inputs = [
        helper.make_tensor_value_info("numbers", kind, [1, channels, "rows", "columns"]),
        helper.make_tensor_value_info("step", kind, [1, 1, 1, 1]),
    ]
    outputs = [helper.make_tensor_value_info("picture", kind, [1, 3, "height", "width"])]
    made = helper.make_graph(graph.nodes, "image decoder", inputs, outputs, graph.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="policyport")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def write_mcu_encoder(encoder: McuEncoder, path: Path, rows: int, columns: int) -> None:
    """Write MCUCoder's encoder of pictures of one size: ``observation`` [N, 3 rows columns], 0 to 255, pixel by pixel
    with its three colours, to ``output`` [N, rows / 8 columns / 8 CHANNELS], place by place with its CHANNELS numbers.
    """
    graph = OnnxGraph()
    pixels = graph.node("Reshape", "rows", "observation", graph.constant("shape", [-1, rows, columns, 3]))
    planes = graph.node("Transpose", "planes", pixels, perm=[0, 3, 1, 2])
    current = graph.node("Div", "unit", planes, graph.constant("span", 255.0))
    current = graph.node("Relu", "first.relu", _convolution(graph, "first", current, encoder.first))
    current = graph.node("Relu", "second.relu", _convolution(graph, "second", current, encoder.second))
    code = graph.node("Transpose", "places", _convolution(graph, "third", current, encoder.third), perm=[0, 2, 3, 1])
    graph.node("Flatten", "code", code)
    graph.save(path, "MCUCoder's encoder", 3 * rows * columns, CHANNELS * (rows // BLOCK) * (columns // BLOCK))
