"""Recurrent cells of an ONNX file, for one step: fully connected layers, products and sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.quantize.nodes import Concat, Function, Pointwise, Product, Sum
from policyport.quantize.onnx_builder import Builder, Value

Reals = NDArray[np.float64]

SIGMOID, TANH = Function("Sigmoid"), Function("Tanh")


class _Cell:
    """What an ONNX GRU or LSTM node holds: ``gates`` blocks of rows for the input, and as many for the state."""

    def __init__(self, build: Builder, node: Any, gates: int) -> None:
        self.build, self.name = build, next(name for name in reversed(node.output) if name)
        _check(build, node)
        self.input = build.settled(build.value(node, 0), f"{self.name}_input")
        self.state = build.value(node, 5)
        w, r, bias = (build.file.constant(node, i) for i in (1, 2, 3))
        assert w is not None and r is not None
        size = r.shape[-1]
        both = np.zeros((2, gates * size)) if bias is None else bias.astype(np.float64).reshape(2, -1)
        self._w, self._r = (x[0].astype(np.float64).reshape(gates, size, -1) for x in (w, r))
        self._input_bias, self._state_bias = both.reshape(2, gates, size)
        if self.state.shape != (size,) or self.input.shape != (self._w.shape[-1],):
            got = f"{self.input.shape} and {self.state.shape}"
            raise build.file.refuse(
                node, "a cell of another size", expected=f"({self._w.shape[-1]},), ({size},)", got=got
            )
        self.beside = side_by_side(build, f"{self.name}_beside", self.input, self.state)

    def gate(self, index: int, what: str, function: Function = SIGMOID) -> Value:
        """A function of what a gate makes of the input and the state together."""
        rows = np.hstack([self._w[index], self._r[index]])
        bias = self._input_bias[index] + self._state_bias[index]
        return self.build.dense(f"{self.name}_{what}", self.beside, rows, bias, function)

    def of_input(self, index: int, what: str) -> Value:
        """What a gate makes of the input alone."""
        return self.build.dense(f"{self.name}_{what}", self.input, self._w[index], self._input_bias[index])

    def of_state(self, index: int, what: str, state: Value) -> Value:
        """What a gate makes of a state alone."""
        return self.build.dense(f"{self.name}_{what}", state, self._r[index], self._state_bias[index])

    def product(self, what: str, a: Value, b: Value) -> Value:
        """Element by element."""
        return self.build.put(Product(name=f"{self.name}_{what}", inputs=(a.name, b.name)))

    def sum(self, what: str, a: Value, b: Value, signs: tuple[int, int] = (1, 1)) -> Value:
        """Element by element."""
        return self.build.put(Sum(name=f"{self.name}_{what}", inputs=(a.name, b.name), signs=signs))

    def tanh(self, what: str, x: Value) -> Value:
        """Of a value that no layer yields."""
        return self.build.put(Pointwise(name=f"{self.name}_{what}", inputs=(x.name,), function=TANH))


def read_gru(build: Builder, node: Any) -> tuple[Value, ...]:
    """``h' = n + z (h - n)``, ``z`` and ``r`` sigmoids of input and state.

    ``n = tanh(W x + b + r (R h + c))``, or ``tanh(W x + b + R (r h) + c)`` without ``linear_before_reset``.

    :returns: of the step alone, which is both outputs of the node
    :raises UnsupportedModelError: another direction, activation, clip or more than one step
    """
    cell = _Cell(build, node, 3)
    state = build.apart(cell.state, f"{cell.name}_state")
    update, reset = cell.gate(0, "update"), cell.gate(1, "reset")
    if build.file.attribute(node, "linear_before_reset", 0):
        remembered = cell.product("remembered", reset, cell.of_state(2, "recall", state))
    else:
        remembered = cell.of_state(2, "remembered", cell.product("kept", reset, state))
    candidate = cell.tanh("candidate", cell.sum("candidate_linear", cell.of_input(2, "seen"), remembered))
    moved = cell.product("moved", update, cell.sum("difference", state, candidate, (1, -1)))
    after = replace(cell.sum("after", candidate, moved), alone=False)
    return after, after


def read_lstm(build: Builder, node: Any) -> tuple[Value, ...]:
    """``c' = f c + i g`` and ``h' = o tanh(c')``, ``i``, ``o``, ``f`` sigmoids and ``g`` a tanh of input and state.

    :returns: of the step alone: ``h'`` twice, then ``c'``
    :raises UnsupportedModelError: as :func:`read_gru`; peepholes
    """
    cell = _Cell(build, node, 4)
    memory = build.apart(build.value(node, 6), f"{cell.name}_memory")
    forget, entering = cell.gate(2, "forget"), cell.gate(0, "entering")
    candidate = cell.gate(3, "candidate", TANH)
    kept, added = cell.product("kept", forget, memory), cell.product("added", entering, candidate)
    after = replace(cell.sum("memory_after", kept, added), alone=False)
    shown = cell.product("after", cell.gate(1, "leaving"), cell.tanh("shown", after))
    return replace(shown, alone=False), replace(shown, alone=False), after


def side_by_side(build: Builder, name: str, *values: Value) -> Value:
    """Vectors as one: a part of the input where they lie in it side by side, else laid together."""
    parts = [value.part for value in values if value.part is not None]
    if len({value.name for value in values}) == 1 and len(parts) == len(values):
        stops = [stop for _, stop in parts]
        if [start for start, _ in parts[1:]] == stops[:-1]:
            part = (parts[0][0], stops[-1])
            return Value(values[0].name, (part[1] - part[0],), part=part, alone=False)
    apart = [build.apart(value, f"{name}_part{i}") for i, value in enumerate(values)]
    return build.put(Concat(name=name, inputs=tuple(value.name for value in apart)))


def _check(build: Builder, node: Any) -> None:
    """Refuse what is no plain cell of one step."""
    usual: Sequence[str] = ("Sigmoid", "Tanh") if node.op_type == "GRU" else ("Sigmoid", "Tanh", "Tanh")
    given = [
        name.decode() if isinstance(name, bytes) else name for name in build.file.attribute(node, "activations", [])
    ]
    wanted = {
        "direction": (build.file.attribute(node, "direction", "forward"), "forward"),
        "activations": (given or list(usual), list(usual)),
        "clip": (build.file.attribute(node, "clip", None), None),
        "input_forget": (build.file.attribute(node, "input_forget", 0), 0),
        "sequence_lens": (node.input[4] if len(node.input) > 4 else "", ""),
        "peepholes": (node.input[7] if len(node.input) > 7 else "", ""),
    }
    for what, (got, expected) in wanted.items():
        if got != expected:
            raise build.file.refuse(node, f"a cell with another {what}", expected=expected or "none", got=got)
    states = (5,) if node.op_type == "GRU" else (5, 6)
    if any(index >= len(node.input) or node.input[index] not in build.values for index in states):
        raise build.file.refuse(
            node,
            "a cell whose state is no input of the network",
            cure="export the network with the state of the step before as an input; name it in task.json under `state`",
        )
