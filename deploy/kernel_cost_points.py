"""How many instructions layers without weights take, and pointwise tables behind those with weights.

So many for each element of the output (of an argmax, of the input), and of pools for each pixel of their window more.
The figures are fitted to emulated runs of images and vectors of several sizes; a test holds whole networks, of which
these are a part, against what they execute.
"""

from __future__ import annotations

import math
from typing import Literal

from policyport.deploy.layers import Add, Argmax, Layer, Pool, Reshape

Kernels = Literal["armv6m", "thumb", "dsp", "mve", "neon", "neon_dot"]
"""Variants, ``thumb`` on Cortex-M0 and M0+ apart: the same C takes more instructions of Armv6-M."""

CALL = 30
"""Instructions of a layer's call, whatever it computes."""

Costs = dict[str, tuple[float, float]]
"""By kind of layer: where all that it reads and writes has 8 bits, and where some has 16."""

ARMV6M: Costs = {
    "argmax": (13.3, 21.5),
    "concat": (4.0, 5.0),
    "lookup": (16.7, 45.8),
    "multiply": (91.0, 105.0),
    "pad": (22.2, 32.4),
    "rescale": (31.5, 42.0),
    "resize": (15.6, 23.8),
    "slice": (15.3, 31.7),
    "softmax": (77.7, 77.7),
    "sum": (36.6, 48.8),
    "transpose": (31.9, 33.3),
}
THUMB: Costs = {
    "argmax": (8.2, 8.2),
    "concat": (3.7, 5.0),
    "lookup": (3.9, 11.8),
    "multiply": (35.0, 38.0),
    "pad": (8.3, 7.5),
    "rescale": (13.4, 13.5),
    "resize": (4.3, 3.7),
    "slice": (3.9, 6.7),
    "softmax": (25.4, 25.4),
    "sum": (17.5, 17.9),
    "transpose": (13.6, 6.4),
}
DSP: Costs = {**THUMB, "lookup": (5.0, 11.8), "multiply": (31.0, 34.0), "pad": (10.8, 9.9), "sum": (9.0, 17.9)}
NEON: Costs = {
    "argmax": (7.3, 7.3),
    "concat": (5.1, 5.7),
    "lookup": (0.8, 15.5),
    "multiply": (31.8, 31.7),
    "pad": (10.0, 10.2),
    "rescale": (2.4, 15.5),
    "resize": (5.9, 5.9),
    "slice": (5.0, 10.5),
    "softmax": (23.5, 23.5),
    "sum": (2.3, 19.5),
    "transpose": (13.3, 7.5),
}
POINTS: dict[Kernels, Costs] = {
    "armv6m": ARMV6M,
    "thumb": THUMB,
    "dsp": DSP,
    "mve": {**DSP, "lookup": (3.2, 11.8)},
    "neon": NEON,
    "neon_dot": NEON,
}

Pooled = tuple[float, float]
"""Of an element of the output, and of each pixel of its window."""

POOLS: dict[str, dict[str, tuple[Pooled, Pooled]]] = {
    "armv6m": {"max": ((146, 26.8), (173, 29.8)), "average": ((164, 34.9), (168, 47.7))},
    "thumb": {"max": ((81, 22.5), (80, 23.6)), "average": ((100, 22.3), (100, 23.9))},
    "dsp": {"max": ((2, 1.8), (80, 23.6)), "average": ((29, 1.8), (100, 25.0))},
    "neon": {"max": ((3.9, 0.3), (55, 18.8)), "average": ((6.6, 0.6), (72, 20.8))},
}
"""By kernels and kind: several channels at a time, or where there is no such kernel int8; one at a time."""

AT_ONCE: dict[Kernels, tuple[str, int]] = {
    "armv6m": ("armv6m", 1),
    "thumb": ("thumb", 1),
    "dsp": ("dsp", 4),
    "mve": ("dsp", 4),
    "neon": ("neon", 16),
    "neon_dot": ("neon", 16),
}
"""Whose pools a core takes, and of how many channels at once."""


def point_instructions(layer: Layer, kernels: Kernels) -> int:
    """Instructions of a layer without weights."""
    if isinstance(layer, Reshape):
        return 0
    given = layer.inputs if isinstance(layer, Argmax) else (*layer.inputs, layer.output)
    wide = any(tensor.bits == 16 for tensor in given)
    if isinstance(layer, Pool):
        return round(CALL + _pooled(layer, kernels, wide))
    size = layer.input.size if isinstance(layer, Argmax) else layer.output.size
    return round(CALL + size * POINTS[kernels][_kind(layer)][wide])


def table_instructions(size: int, bits: int, kernels: Kernels) -> int:
    """Instructions of looking so many results of a layer up in a table of their width."""
    return round(CALL + size * POINTS[kernels]["lookup"][bits == 16])


def _pooled(layer: Pool, kernels: Kernels, wide: bool) -> float:
    name, at_once = AT_ONCE[kernels]
    channels = layer.output.shape[2]
    together = 0 if wide or layer.window.dilation != (1, 1) else channels - channels % at_once
    if name == "dsp" and together != channels:
        together = 0  # this kernel takes all channels or none
    pixels = math.prod(min(pair) for pair in zip(layer.window.kernel, layer.input.shape, strict=False))
    fast, slow = (element + pixel * pixels for element, pixel in POOLS[name][layer.kind])
    return layer.output.size * (fast * together + slow * (channels - together)) / channels


def _kind(layer: Layer) -> str:
    if isinstance(layer, Add):
        return "sum" if len(layer.inputs) > 1 else "rescale"
    return type(layer).__name__.lower()
