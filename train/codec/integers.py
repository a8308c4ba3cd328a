"""An encoder's weights as integers: where quantization-aware training starts, and what it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from policyport.quantize import quantizers
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.fake_layer import starting_floats
from policyport.quantize.integer_nodes import QuantizedLayer
from policyport.quantize.layer_data import LayerData, RoundedLayer, Rounding
from policyport.quantize.network import QuantizedNetwork
from policyport.quantize.onnx_reader import read_onnx
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.rounding.methods import rounding
from policyport.quantize.source import open_source
from policyport.quantize.stage import for_task
from policyport.train.codec.export import layer_name, write_encoder
from policyport.train.codec.networks import Encoder, Grid
from torch import Tensor


def lattice_grids(encoder: Encoder, blocks: NDArray[np.uint8], bits: int) -> dict[str, Grid]:
    """Integers by integer least squares on blocks [n, 192], one layer after the other, and their scales.

    Weights are as near to the float ones as they can be without being at the edge of two integers.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder, "encoder.onnx")
        write_encoder(encoder, path)
        graph = read_onnx(path)
    config = QuantizeConfig(weight_bits=bits, input_gain=False, bias_correction=False)
    network = quantize_graph(graph, blocks.astype(np.float32), config, 8, rounding("lattice", refit_bias=False))
    layers = {layer.node.linear_name: layer for layer in network.layers}
    return {name: _grid(layers[layer_name(encoder, name)], own.weight) for name, own in encoder.weighted.items()}


def _grid(layer: QuantizedLayer, weight: Tensor) -> Grid:
    floats, _ = starting_floats(layer)
    scale = torch.from_numpy(layer.weight_scale.astype(np.float64))
    parts = floats.flatten(1) / scale[:, None]
    if layer.weights.ndim == 2:  # pixel by pixel, three colours each
        outputs, colours, *sides = weight.shape
        parts = parts.view(outputs, *sides, colours).permute(0, 3, 1, 2)
    return parts.reshape(weight.shape).float(), scale.float()


def trained_network(encoder: Encoder, folder: Path, bits: int) -> QuantizedNetwork:
    """The integers of an encoder that was trained with them, as the quantize stage has a codec's.

    :param folder: with its ``policy.onnx``, ``task.json`` and ``observations.npz``
    """
    source = open_source(folder / "policy.onnx")
    config = for_task(QuantizeConfig(activations="int8", weight_bits=bits), source)
    scales = {layer_name(encoder, name): scale.numpy() for name, scale in encoder.scales.items()}
    return quantize_graph(source.graph, source.observations, config, 8, _as_trained(scales))


def _as_trained(scales: Mapping[str, NDArray[np.float32]]) -> Rounding:
    def rounded(data: LayerData) -> RoundedLayer:
        scale = scales[data.node.linear_name]
        weights = quantizers.round_weights(data.node.weights.astype(np.float64), scale, data.weight_bits)
        bias = quantizers.round_bias(data.node.bias.astype(np.float64), data.source.scale, scale)
        return RoundedLayer(weights, scale, bias)

    return rounded
