"""Which kernels the generated C of a layer calls."""

from __future__ import annotations

import re

from policyport.deploy.codegen_text import LayerCode
from policyport.deploy.layers import Layer, Strips

CALL = re.compile(r"\b(pp_[a-z0-9_]+)\(")
"""The call of a kernel."""

_PART = re.compile(r"^static void pp_layer_\d+_(\d+)\w+\([^)]*\)\n\{\n(.*?)^\}", re.MULTILINE | re.DOTALL)

Called = tuple[tuple[str, ...], ...]
"""Kernels by layer, or of layers that run together by part, in order; of a part each once."""


def called_kernels(layer: Layer, code: LayerCode) -> Called:
    """The kernels of a layer, or of each of its parts."""
    if not isinstance(layer, Strips):
        return (tuple(CALL.findall(code.call)),)
    parts: list[list[str]] = [[] for _ in layer.layers]
    for number, body in _PART.findall(code.definitions):
        parts[int(number) - 1] += CALL.findall(body)
    return tuple(tuple(dict.fromkeys(part)) for part in parts)
