"""Operators of an ONNX file that leave values as they are: other shapes, parts of vectors, other orders of the axes."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from policyport.quantize.nodes import Reshape, Shape
from policyport.quantize.onnx_builder import TO_FIRST, TO_LAST, Builder, Value


def read_reshape(build: Builder, node: Any) -> Value:
    """Flatten, Reshape, Squeeze and Unsqueeze."""
    value = build.value(node)
    if build.file.state and len(value.shape) == 1 and node.op_type != "Flatten":
        return _kept(build, node, value)
    value = build.whole(node)
    target = _target(build, node, value)
    if len(target) < 2 or target[0] != 1 or prod(target) != prod(value.shape) or len(target) not in (2, 4):
        raise build.file.refuse(
            node,
            "a change of shape that mixes observations",
            expected="[n, features] or [n, channels, height, width]",
            got=f"{value.file_shape} to {target}",
        )
    if target == value.file_shape:
        return value
    if value.name == build.file.input_name:
        return _entered(build, node, value, target[1:])
    if len(value.shape) == 1 and build.turns(node.output[0], target[1:]):
        return _turned(build, node, value, target[1:])
    return reshaped(build, node, build.settled(value, f"{node.output[0]}_operand0"), target[1:])


def _turned(build: Builder, node: Any, value: Value, target: Shape) -> Value:
    """A vector as an image of which the file has the channels last and turns them to the front."""
    *size, channels = target
    value = build.settled(value, f"{node.output[0]}_operand0")
    made = Reshape(name=node.output[0], inputs=(value.name,), target=(channels, *size), channels_last=True)
    return build.put(made, last=True)


def _kept(build: Builder, node: Any, value: Value) -> Value:
    """A vector of a recurrent network under more or fewer axes of one: of a sequence, a direction."""
    given = build.file.constant(node, 1) if node.op_type == "Reshape" else None
    if given is not None and int(given[-1]) not in (-1, value.shape[0]):
        got = given.tolist()
        raise build.file.refuse(
            node, "a vector of another size", expected=f"{value.shape[0]} along the last axis", got=got
        )
    return value


def read_gather(build: Builder, node: Any) -> Value:
    """The one step of a sequence, or the one direction of a cell."""
    value, index = build.value(node), build.file.constant(node, 1)
    axis = int(build.file.attribute(node, "axis", 0))
    if not build.file.state or len(value.shape) != 1 or index is None or axis != 0 or index.reshape(-1).tolist() != [0]:
        raise build.file.refuse(node, "a choice of elements", expected="the one step of a recurrent network: index 0")
    return value


def _entered(build: Builder, node: Any, value: Value, target: Shape) -> Value:
    """The observation, given flat or under another shape, as the image that the network takes it for."""
    if not value.alone or value.affine is not None or value.last or not build.head.is_even:
        raise build.file.refuse(
            node,
            "the observation changes its shape where something else reads it, or where its values differ in scale",
            cure="export the network with the shape it works on",
        )
    return build.enter(node.output[0], target)


def read_slice(build: Builder, node: Any) -> Value:
    """A part of a vector: by what reads it, or put together again with its other parts by a Concat."""
    value = build.value(node)
    starts, ends, axes, steps = (build.file.constant(node, i) for i in range(1, 5))
    vector = len(value.shape) == 1 and value.part is None and value.affine is None
    along = starts is not None and ends is not None and axes is not None and axes.tolist() in ([1], [-1])
    if not vector or not along or (steps is not None and steps.tolist() != [1]):
        raise build.file.refuse(node, "a part that is no range of features", expected="axis 1, step 1")
    assert starts is not None and ends is not None
    start, stop, _ = slice(int(starts[0]), int(ends[0])).indices(value.shape[0])
    return replace(value, shape=(stop - start,), part=(start, stop), alone=False)


def read_split(build: Builder, node: Any) -> tuple[Value, ...]:
    """A vector in parts side by side."""
    value = build.value(node)
    axis, count = int(build.file.attribute(node, "axis", 0)), len(node.output)
    given = build.file.constant(node, 1)
    sizes = [value.shape[0] // count] * count if given is None else [int(size) for size in given]
    vector = len(value.shape) == 1 and value.part is None and value.affine is None
    if not vector or axis not in (1, -1) or sum(sizes) != value.shape[0]:
        raise build.file.refuse(
            node, "a split of something other than a vector's features", expected="axis 1", got=axis
        )
    ends = np.cumsum(sizes).tolist()
    return tuple(
        replace(value, shape=(size,), part=(end - size, end), alone=False)
        for size, end in zip(sizes, ends, strict=True)
    )


def reshaped(build: Builder, node: Any, value: Value, target: Shape) -> Value:
    """The values under another shape, in the order that the file has them in."""
    last = value.last and prod(value.shape[1:]) > 1
    return build.put(Reshape(name=node.output[0], inputs=(value.name,), target=target, channels_last=last))


def _target(build: Builder, node: Any, value: Value) -> tuple[int, ...]:
    """The new shape in the file, n as 1."""
    shape = value.file_shape
    if node.op_type == "Flatten":
        axis = int(build.file.attribute(node, "axis", 1))
        return prod(shape[:axis]), prod(shape[axis:])
    given = build.file.constant(node, 1)
    if node.op_type == "Reshape":
        assert given is not None
        dims = [shape[i] if d == 0 and i < len(shape) else int(d) for i, d in enumerate(given)]
        if len(dims) > 1 and dims[0] == -1:
            dims[0] = 1
        known = prod(d for d in dims if d != -1)
        return tuple(prod(shape) // max(1, known) if d == -1 else d for d in dims)
    axes = build.file.attribute(node, "axes") if given is None else given
    if node.op_type == "Squeeze":
        ones = [i for i in range(1, len(shape)) if shape[i] == 1]
        gone = ones if axes is None else [int(a) % len(shape) for a in axes]
        return tuple(d for i, d in enumerate(shape) if i not in gone)
    rank = len(shape) + len(axes)
    added = [int(a) % rank for a in axes]
    rest = iter(shape)
    return tuple(1 if i in added else next(rest) for i in range(rank))


def read_transpose(build: Builder, node: Any) -> Value:
    """A change between [n, channels, height, width] and [n, height, width, channels]."""
    value, order = build.value(node), list(build.file.attribute(node, "perm", []))
    if build.file.state and len(value.shape) == 1 and order and order[-1] == len(order) - 1:
        return value  # the axes of batch and sequence exchanged
    value = build.whole(node)
    if len(value.shape) != 3 or order != (TO_FIRST if value.last else TO_LAST):
        raise build.file.refuse(
            node,
            "a transposition of something other than channels",
            expected=TO_FIRST if value.last else TO_LAST,
            got=order,
        )
    return replace(value, last=not value.last)
