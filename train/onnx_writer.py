"""An actor as a float32 ONNX graph of Gemm and activation nodes.

The graph is written node by node instead of traced, so it holds nothing but the policy: no value head,
no log probabilities, no exporter's rewriting.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from policyport.train.actor import Actor, Linear

OPSET = 18
IR_VERSION = 10

OPERATORS = {"Tanh": "Tanh", "ReLU": "Relu", "Sigmoid": "Sigmoid"}
"""torch module to ONNX operator."""


def write_actor(actor: Actor, path: Path, name: str) -> None:
    """Write an actor: input ``observation`` [N, inputs], output ``output`` [N, outputs], float32.

    :param name: name of the graph
    """
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    current = _write_normalization(actor, nodes, constants)
    depth = 0
    for layer in actor.layers:
        if isinstance(layer, Linear):
            depth += 1
            wanted = f"layer{depth}"
            constants += [
                numpy_helper.from_array(layer.weight, f"{wanted}.weight"),
                numpy_helper.from_array(layer.bias, f"{wanted}.bias"),
            ]
            inputs = [current, f"{wanted}.weight", f"{wanted}.bias"]
            nodes.append(helper.make_node("Gemm", inputs, [wanted], name=wanted, transB=1))
        else:
            wanted = f"layer{depth}.{layer.lower()}"
            nodes.append(helper.make_node(OPERATORS[layer], [current], [wanted], name=wanted))
        current = wanted
    nodes[-1].output[0] = "output"
    size_in, size_out = actor.linear[0].weight.shape[1], actor.linear[-1].weight.shape[0]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("observation", onnx.TensorProto.FLOAT, ["N", size_in])],
        [helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, ["N", size_out])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="policyport")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def _write_normalization(actor: Actor, nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto]) -> str:
    """Sub, Div and Clip of normalised observations; the name of what they yield."""
    normalization = actor.normalization
    if normalization is None:
        return "observation"
    values = {
        "normalize.mean": normalization.mean,
        "normalize.deviation": normalization.deviation,
        "normalize.low": np.float32(-normalization.limit),
        "normalize.high": np.float32(normalization.limit),
    }
    constants += [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in values.items()]
    nodes += [
        helper.make_node("Sub", ["observation", "normalize.mean"], ["centred"], name="centre"),
        helper.make_node("Div", ["centred", "normalize.deviation"], ["scaled"], name="scale"),
        helper.make_node("Clip", ["scaled", "normalize.low", "normalize.high"], ["normalized"], name="clip"),
    ]
    return "normalized"
