"""QDQ graphs for tests, node by node."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE, CHANNELS = 8, 3


class Net:
    """A QDQ graph under construction; every method returns the name of a float value."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(value if isinstance(value, TensorProto) else numpy_helper.from_array(value, name))
        self.constants[-1].name = name
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        output = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def pair(self, source: str, scale: float = 0.02, zero_point: int = -3, dtype: Any = np.int8) -> str:
        s, z = self.constant(np.float32(scale)), self.constant(dtype(zero_point))
        return self.node("DequantizeLinear", self.node("QuantizeLinear", source, s, z), s, z)

    def weights(self, shape: tuple[int, ...], axis: int = 0, bits: int = 8) -> str:
        high = 2 ** (bits - 1) - 1
        values = self.rng.integers(-high, high, shape, endpoint=True).astype(np.int8)
        scale = (self.rng.uniform(0.1, 0.3, shape[axis]) / high).astype(np.float32)
        stored: Any = values
        if bits == 4:
            stored = helper.make_tensor("w", TensorProto.INT4, shape, values.reshape(-1).tolist())
        return self.node("DequantizeLinear", self.constant(stored), self.constant(scale), axis=axis)

    def conv(self, source: str, channels: int, outputs: int, size: int = 3, groups: int = 1, **attributes: Any) -> str:
        bits = attributes.pop("bits", 8)
        weights = self.weights((outputs, channels // groups, size, size), bits=bits)
        bias = self.constant(self.rng.normal(0, 0.1, outputs).astype(np.float32))
        attributes.setdefault("pads", [size // 2] * 4)
        return self.node("Conv", source, weights, bias, group=groups, **attributes)

    def dense(self, source: str, inputs: int, outputs: int) -> str:
        return self.node("Gemm", source, self.weights((outputs, inputs)), transB=1)

    def model(
        self, output: str, shape: tuple[int, ...] = (CHANNELS, SIDE, SIDE), *, checked: bool = True
    ) -> onnx.ModelProto:
        """The graph as a file.

        :param checked: every shape is inferred, which ONNX cannot for operators of other domains
        """
        rank = 2 if any(node.op_type == "Flatten" for node in self.nodes) else len(shape) + 1
        given = helper.make_tensor_value_info(output, TensorProto.FLOAT, [f"d{axis}" for axis in range(rank)])
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", *shape])],
            [helper.make_empty_tensor_value_info(output) if checked else given],
            self.constants,
        )
        domains = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=domains, ir_version=10)
        if not checked:
            return model
        return onnx.shape_inference.infer_shapes(model, strict_mode=True)
