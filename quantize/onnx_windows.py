"""Windows, margins and sizes as ONNX attributes give them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.operators import Window
from policyport.quantize.onnx_file import OnnxFile

Pads = tuple[int, int, int, int]


def read_window(file: OnnxFile, node: Any, kernel: tuple[int, ...], size: tuple[int, ...]) -> Window:
    """The window of a Conv, ConvTranspose, MaxPool or AveragePool.

    :param kernel: rows and columns
    :param size: height and width of what it slides over
    :raises UnsupportedModelError: it is not two-dimensional, or larger than the image
    """
    if len(kernel) != 2:
        raise file.refuse(node, "a window that is not two-dimensional", expected="height and width", got=kernel)
    stride = _pair(file.attribute(node, "strides", [1, 1]))
    dilation = _pair(file.attribute(node, "dilations", [1, 1]))
    top, left, bottom, right = (int(x) for x in file.attribute(node, "pads", [0, 0, 0, 0]))
    window = Window(_pair(kernel), stride, dilation, (top, left, bottom, right))
    automatic = file.attribute(node, "auto_pad", "NOTSET")
    if automatic in ("SAME_UPPER", "SAME_LOWER") and node.op_type != "ConvTranspose":
        window = Window(window.kernel, stride, dilation, _same(window, size, automatic))
    elif automatic not in ("NOTSET", "VALID"):
        raise file.refuse(node, "padding that depends on the output", expected="explicit pads", got=automatic)
    if file.attribute(node, "ceil_mode", 0):
        window = Window(window.kernel, stride, dilation, _ceiled(window, size))
    if node.op_type != "ConvTranspose" and min(window.output_size(size[0], size[1])) < 1:
        raise file.refuse(node, "a window larger than the image", expected=f"at most {size}", got=window.extent)
    return window


def _pair(values: Any) -> tuple[int, int]:
    first, second = (int(value) for value in values)
    return first, second


def _same(window: Window, size: tuple[int, ...], automatic: str) -> Pads:
    """Pads for which the result has ``ceil(size / stride)`` places."""
    needed = [
        max(0, (-(-length // stride) - 1) * stride + extent - length)
        for length, stride, extent in zip(size, window.stride, window.extent, strict=True)
    ]
    less, more = [need // 2 for need in needed], [need - need // 2 for need in needed]
    before, after = (less, more) if automatic == "SAME_UPPER" else (more, less)
    return before[0], before[1], after[0], after[1]


def _ceiled(window: Window, size: tuple[int, ...]) -> Pads:
    """Pads for which the last, incomplete window of each direction fits, unless it would see padding alone."""
    before, after = window.pads[:2], list(window.pads[2:])
    for i in range(2):
        length, stride, extent = size[i] + before[i] + after[i], window.stride[i], window.extent[i]
        places = -(-(length - extent) // stride) + 1
        if (places - 1) * stride >= size[i] + before[i]:
            places -= 1
        after[i] = max(after[i], after[i] + (places - 1) * stride + extent - length)
    return before[0], before[1], after[0], after[1]


def joined_pads(window: Window, pads: Pads) -> Window:
    """The window with more padding."""
    top, left, bottom, right = (a + b for a, b in zip(window.pads, pads, strict=True))
    return replace(window, pads=(top, left, bottom, right))


def read_margin(file: OnnxFile, node: Any, channels_last: bool) -> Pads:
    """The margin of a Pad node around an image; top, left, bottom, right.

    :raises UnsupportedModelError: it pads by something other than zeros, or other axes than height and width
    """
    given = file.attribute(node, "pads") if file.opset < 11 else file.constant(node, 1)
    value = file.attribute(node, "value", 0.0) if file.opset < 11 else file.constant(node, 2)
    axes = file.constant(node, 3)
    if file.attribute(node, "mode", "constant") != "constant" or (value is not None and np.any(np.asarray(value) != 0)):
        raise file.refuse(node, "a margin of something other than zeros", expected="mode constant, value 0")
    pads = np.asarray(given, np.int64).reshape(2, -1)
    whole = np.zeros((2, 4), np.int64)
    whole[:, range(4) if axes is None else axes.astype(int)] = pads
    rows, columns, channels = (1, 2, 3) if channels_last else (2, 3, 1)
    if whole[:, [0, channels]].any() or whole.min() < 0:
        raise file.refuse(node, "a margin around another axis", expected="height and width", got=pads.tolist())
    return int(whole[0, rows]), int(whole[0, columns]), int(whole[1, rows]), int(whole[1, columns])


def read_size(file: OnnxFile, node: Any, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width that a Resize or Upsample makes of an image of ``size``.

    :raises UnsupportedModelError: it does not take the nearest pixel to the upper left
    """
    mode = file.attribute(node, "mode", "nearest")
    scales = file.attribute(node, "scales") if node.op_type == "Upsample" and file.opset < 9 else None
    if scales is None:
        index = 1 if node.op_type == "Upsample" or file.opset < 11 else 2
        scales = file.constant(node, index)
    sizes = file.constant(node, 3)
    if sizes is not None and sizes.size:
        target = int(sizes[-2]), int(sizes[-1])
    elif scales is not None:
        target = int(np.floor(size[0] * float(scales[-2]))), int(np.floor(size[1] * float(scales[-1])))
    else:
        raise file.refuse(node, "a size that is not constant")
    if mode != "nearest" or not all(_is_upper_left(file, node, *pair) for pair in zip(size, target, strict=True)):
        raise file.refuse(
            node,
            "a change of size that the integer semantics do not cover",
            expected="mode nearest, each pixel taken from floor(place * size / new size)",
            got=f"mode {mode}, {size} to {target}",
        )
    return target


def _is_upper_left(file: OnnxFile, node: Any, size: int, target: int) -> bool:
    """Whether ONNX's coordinates say the same as ``floor(place * size / target)``."""
    places, scale = np.arange(target), target / size
    kind = file.attribute(node, "coordinate_transformation_mode", "half_pixel" if file.opset >= 11 else "asymmetric")
    rounding = file.attribute(node, "nearest_mode", "round_prefer_floor" if file.opset >= 11 else "floor")
    if kind in ("half_pixel", "pytorch_half_pixel"):
        exact = (places + 0.5) / scale - 0.5
    elif kind == "asymmetric":
        exact = places / scale
    else:
        return False
    rules: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
        "floor": np.floor,
        "ceil": np.ceil,
        "round_prefer_floor": lambda x: np.ceil(x - 0.5),
        "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    }
    return bool(np.array_equal(np.clip(rules[rounding](exact), 0, size - 1), places * size // target))
