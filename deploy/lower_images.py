"""How pools, margins and changes of size of an image are lowered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from policyport.core.operators import Window, resize_nearest
from policyport.deploy.layers import Pad, Resize
from policyport.deploy.lower_builder import View, plain_view
from policyport.deploy.lower_pending import Mean, Moved, Value
from policyport.deploy.lower_state import State, axes_of, node_window
from policyport.deploy.onnx_graph import attribute


def _layer_move(state: State, node: Any, move: Callable[[View, str], View]) -> Value:
    """A layer that moves elements: at once where its operand is quantized, else once it is."""
    value = state.value(node, 0)
    return move(value, node.output[0]) if isinstance(value, View) else Moved(value, move, node.input[0])


def max_pool(state: State, node: Any) -> Value:
    """MaxPool and GlobalMaxPool.

    :raises UnsupportedModelError: an attribute that is not supported
    """

    def move(view: View, name: str) -> View:
        image, back = _as_image(view)
        window = _pool_window(state, node, image)
        return back(state.builder.max_pool(image, window, name, state.graph.where(node)))

    return _layer_move(state, node, move)


def average_pool(state: State, node: Any) -> Value:
    """AveragePool and GlobalAveragePool.

    :raises UnsupportedModelError: an attribute that is not supported
    """
    view, back = _as_image(state.view(node, 0))
    window = _pool_window(state, node, view)
    pending = Mean(view, window, bool(attribute(node, "count_include_pad", 0)), state.graph.where(node))
    return Moved(pending, lambda v, _: back(v), "")


def _as_image(view: View) -> tuple[View, Callable[[View], View]]:
    """Lines as an image of one row, and the way back."""
    if len(view.shape) != 2:
        return view, lambda v: v
    return replace(view, index=view.index[:, None, :]), lambda v: replace(v, index=v.index[:, 0])


def _pool_window(state: State, node: Any, view: View) -> Window:
    """The window of a pool; ``ceil_mode`` is padding below and to the right."""
    if len(view.shape) != 3:
        raise state.graph.unsupported("a pool of what is no image", node, got=view.shape)
    size = (view.shape[1], view.shape[2])
    if node.op_type.startswith("Global"):
        return Window(size)
    given = [int(n) for n in attribute(node, "kernel_shape", [])]
    kernel = (1, given[0]) if len(given) == 1 else (given[0], given[1])
    window = node_window(state.graph, node, kernel, size)
    if not attribute(node, "ceil_mode", 0):
        return window
    if attribute(node, "count_include_pad", 0):
        raise state.graph.unsupported("an AveragePool with both ceil_mode and count_include_pad", node)
    top, left, bottom, right = window.pads
    over = [
        -(n + before + behind - extent) % stride
        for n, before, behind, extent, stride in zip(
            size, (top, left), (bottom, right), window.extent, window.stride, strict=True
        )
    ]
    return replace(window, pads=(top, left, bottom + over[0], right + over[1]))


def reduce_mean(state: State, node: Any) -> Value:
    """ReduceMean over height and width.

    :raises UnsupportedModelError: other axes
    """
    view = state.view(node, 0)
    axes = sorted(axes_of(state.graph, node, len(view.shape) + 1))
    if len(view.shape) != 3 or axes != [2, 3]:
        raise state.graph.unsupported(
            "a ReduceMean over other axes than height and width", node, expected=[2, 3], got=axes
        )
    pending = Mean(view, Window((view.shape[1], view.shape[2])), False, state.graph.where(node))
    keep = attribute(node, "keepdims", 1)
    return pending if keep else Moved(pending, lambda v, _: replace(v, index=v.index[:, 0, 0]), "")


def pad(state: State, node: Any) -> Value:
    """A border of one value around height and width.

    :raises UnsupportedModelError: an attribute that is not supported
    """
    pads = state.graph.array(node, 1)
    value = state.graph.array(node, 2)
    real = 0.0 if value is None else float(np.reshape(value, -1)[0])
    given = [int(n) for n in (attribute(node, "pads", []) if pads is None else pads.reshape(-1))]
    mode = attribute(node, "mode", b"constant").decode()
    named = state.graph.array(node, 3)
    if (
        len(given) != 8
        or given[:2] + given[4:6] != [0] * 4
        or min(given) < 0
        or mode != "constant"
        or named is not None
    ):
        raise state.graph.unsupported(
            "a Pad of this kind", node, expected="a constant border around height and width", got=f"{mode} {given}"
        )
    border = (given[2], given[3], given[6], given[7])

    def move(view: View, name: str) -> View:
        source = state.builder.channels_last(view, state.graph.where(node))
        quantization = state.builder.named(view.quantization(name))
        filled = quantization.tensor((1,), (real, real)).low
        height, width, channels = source.shape
        shape = (height + border[0] + border[2], width + border[1] + border[3], channels)
        target = replace(
            source, name=quantization.name, shape=shape, low=min(source.low, filled), high=max(source.high, filled)
        )
        return plain_view(state.builder.add(Pad(target.name, (source,), target, border, filled)))

    return _layer_move(state, node, move)


def resize(state: State, node: Any) -> Value:
    """Resize and Upsample to the nearest pixel.

    :raises UnsupportedModelError: an attribute that is not supported
    """
    if attribute(node, "mode", b"nearest").decode() != "nearest":
        raise state.graph.unsupported("a Resize that interpolates", node, expected="mode nearest")

    def move(view: View, name: str) -> View:
        source = state.builder.channels_last(view, state.graph.where(node))
        height, width = _resized(state, node, source.shape[:2])
        quantization = state.builder.named(view.quantization(name))
        target = replace(source, name=quantization.name, shape=(height, width, source.shape[2]))
        return plain_view(state.builder.add(Resize(target.name, (source,), target)))

    return _layer_move(state, node, move)


def _resized(state: State, node: Any, size: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of the result.

    :raises UnsupportedModelError: rounding of coordinates that differs from ``floor(y * rows / height)``
    """
    last = len(node.input) - 1
    given = state.graph.array(node, last)
    if given is not None and list(attribute(node, "axes", [])) == [2, 3]:
        given = np.concatenate([np.ones(2, given.dtype), given])
    if given is None or given.size != 4:
        raise state.graph.unsupported("a Resize without sizes or scales for four axes", node)
    scaled = node.op_type == "Upsample" or last != 3
    wanted = [int(n * s) if scaled else int(s) for n, s in zip((1, 1, *size), given.tolist(), strict=True)][2:]
    for rows, height in zip(size, wanted, strict=True):
        image = np.arange(rows).reshape(1, rows, 1, 1)
        if not np.array_equal(resize_nearest(image, height, 1).reshape(-1), _onnx_rows(node, rows, height)):
            raise state.graph.unsupported(
                "a Resize that picks other pixels than the nearest to the upper left",
                node,
                expected="coordinate_transformation_mode asymmetric, nearest_mode floor",
            )
    return wanted[0], wanted[1]


def _onnx_rows(node: Any, rows: int, height: int) -> Any:
    """The row that each row of the result shows, as ONNX's Resize defines it."""
    if node.op_type == "Upsample":
        return np.arange(height) * rows // height
    y = np.arange(height)
    where = {
        "asymmetric": y * rows / height,
        "half_pixel": (y + 0.5) * rows / height - 0.5,
        "pytorch_half_pixel": (y + 0.5) * rows / height - 0.5 if height > 1 else y * 0.0,
    }.get(attribute(node, "coordinate_transformation_mode", b"half_pixel").decode())
    rounding: dict[str, Callable[[Any], Any]] = {
        "floor": np.floor,
        "ceil": np.ceil,
        "round_prefer_floor": lambda x: np.ceil(x - 0.5),
        "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    }
    mode = attribute(node, "nearest_mode", b"round_prefer_floor").decode()
    return None if where is None else np.clip(rounding[mode](where), 0, rows - 1).astype(np.int64)
