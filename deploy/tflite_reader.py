"""Lowers an int8 TFLite file, whoever made it, to the integer program.

The program rounds as docs/integer-semantics.md says, TFLite in its own way: expect single steps of difference.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from policyport.core.errors import ArtifactError, UnsupportedModelError
from policyport.core.operators import Window
from policyport.core.semantics import Reals, leaky_relu
from policyport.core.tflite_file import FileTensor, Operator, TFLiteFile
from policyport.deploy.layers import Argmax, Pad, Resize, Slice, Tensor
from policyport.deploy.lower_builder import OPEN, Builder, Clamp, Quantization, View, Weights, plain_view
from policyport.deploy.lower_pending import Chain, Distribution, channel_weights
from policyport.deploy.program import HostInput, Program

CLAMPS: dict[int, Clamp] = {0: OPEN, 1: (0.0, math.inf), 2: (-1.0, 1.0), 3: (0.0, 6.0)}
"""Of each ActivationFunctionType."""

FUNCTIONS = {"TANH": "Tanh", "LOGISTIC": "Sigmoid", "HARD_SWISH": "HardSwish", "ELU": "Elu"}
"""The pointwise function of each operator that is a table."""

CONTRADICTIONS = (ArithmeticError, IndexError, KeyError, TypeError, ValueError, struct.error)
"""What a file raises whose indices, shapes or offsets are wrong: FlatBuffers are read where they are needed."""

SAME = 0
"""Padding of which the result has the image's size over the stride, rounded up."""


def translate(file: TFLiteFile) -> Program:
    """The program layer for layer as the file has it, nothing fused but activations: to compare them one by one.

    :raises ArtifactError: a tensor, an operand or an option that is not as another part of the file has it
    :raises UnsupportedModelError: an operator, a type or a value range that the integer semantics do not cover
    """
    if len(file.inputs) != 1 or len(file.outputs) != 1:
        raise UnsupportedModelError(
            "the network must have one input and one output", where=file.path, got=(file.inputs, file.outputs)
        )
    try:
        reader = _Reader(file)
        for operator in file.operators:
            reader.take(operator)
        return reader.finish()
    except CONTRADICTIONS as error:
        raise ArtifactError(
            "torn model: its parts contradict each other", where=file.path, got=f"{type(error).__name__}: {error}"
        ) from error


class _Reader:
    """The walk over the file's operators. Views have the file's shape without the batch axis: channels last."""

    def __init__(self, file: TFLiteFile) -> None:
        self._file, self._builder = file, Builder()
        self._views: dict[int, View] = {}
        first = file.inputs[0]
        if file.tensors[first].type != "float32":
            self._views[first] = self._first(first)

    def _first(self, number: int) -> View:
        """The program's input: a quantized tensor; uint8 becomes int8 by the host."""
        tensor = self._file.tensors[number]
        shape = tensor.shape[1:] if len(tensor.shape) in (2, 4) else (math.prod(tensor.shape),)
        target = self._builder.named(self._quantization(number)).tensor(shape)
        self._input = target
        return self._file_view(plain_view(target), tensor.shape[1:] or shape)

    def take(self, operator: Operator) -> None:
        """Lower one operator."""
        number, source = operator.outputs[0], operator.inputs[0]
        if operator.name == "QUANTIZE" and source not in self._views:
            self._views[number] = self._first(number)
        elif operator.name == "DEQUANTIZE" or (operator.name == "QUANTIZE" and self._same_reals(source, number)):
            self._views[number] = self._views[source]
        elif operator.name != "QUANTIZE" and source not in self._views and self._file.tensors[source].type == "float32":
            raise self._refuse(
                "a network of float32 numbers",
                operator,
                expected="int8 or int16 activations",
                got=f"float32 {self._file.tensors[source].name!r}",
                cure="quantize it first: `policyport quantize FILE`",
            )
        else:
            view = _HANDLERS[operator.name](self, operator)
            self._views[number] = self._file_view(view, self._file.tensors[number].shape[1:])

    def finish(self) -> Program:
        """The program, once every operator is taken."""
        view = self._views[self._file.outputs[0]]
        source, output = self._input, view.tensor
        if not np.array_equal(view.index.reshape(-1), np.arange(view.index.size)):
            output = self._builder.flat(view, self.where(self._file.operators[-1]))
        if not self._builder.layers:
            raise UnsupportedModelError("a network without layers", where=self._file.path)
        image, zeros = len(source.shape) == 3, np.zeros(1, np.float32)
        host = HostInput(zeros, zeros + 1, -math.inf, math.inf, source.shape if image else (), "HWC" if image else "")
        order: Any = "HWC" if len(output.shape) == 3 else ""
        return Program(self._file.path.stem, host, source, output, tuple(self._builder.layers), order)

    def where(self, operator: Operator) -> str:
        """The file and the operator, for an error."""
        return f"{self._file.path.name}, {operator.name} {self._file.tensors[operator.outputs[0]].name!r}"

    def _refuse(self, what: str, operator: Operator, **details: object) -> UnsupportedModelError:
        return UnsupportedModelError(what, where=self.where(operator), **details)  # type: ignore[arg-type]

    def _file_view(self, view: View, shape: tuple[int, ...]) -> View:
        """A view with channels first as one of the file's shape."""
        index = view.index.transpose(1, 2, 0) if view.index.ndim == 3 else view.index
        return replace(view, index=index.reshape(shape or (-1,)))

    def _image(self, operator: Operator, which: int = 0) -> View:
        """An operand as the builder takes images: channels first."""
        view = self._views[operator.inputs[which]]
        if view.index.ndim != 3:
            raise self._refuse("an operand that is not an image", operator, expected="4 axes", got=view.shape)
        return replace(view, index=view.index.transpose(2, 0, 1))

    def _operand(self, operator: Operator, which: int) -> View:
        view = self._views[operator.inputs[which]]
        return replace(view, index=view.index.transpose(2, 0, 1)) if view.index.ndim == 3 else view

    def _quantization(self, number: int) -> Quantization:
        tensor = self._file.tensors[number]
        bits = {"int8": 8, "uint8": 8, "int16": 16}.get(tensor.type)
        if bits is None or tensor.scale.size != 1:
            raise UnsupportedModelError(
                "an activation that is not quantized",
                where=f"{self._file.path.name}, tensor {tensor.name!r}",
                expected="int8 or int16 with one scale",
                got=f"{tensor.type}, {tensor.scale.size} scales",
                cure="convert the model with full integer quantization",
            )
        zero_point = int(tensor.zero_point[0]) - (128 if tensor.type == "uint8" else 0)
        return Quantization(tensor.name, float(tensor.scale[0]), zero_point, bits)

    def _same_reals(self, a: int, b: int) -> bool:
        return replace(self._quantization(a), name="") == replace(self._quantization(b), name="")

    def _target(self, operator: Operator) -> Quantization:
        return self._quantization(operator.outputs[0])

    def _constant(self, operator: Operator, which: int) -> FileTensor | None:
        """An operand's tensor, where it is constant; None where it is computed or left out."""
        number = operator.inputs[which] if which < len(operator.inputs) else -1
        tensor = self._file.tensors[number] if number >= 0 else None
        return tensor if tensor is not None and tensor.data is not None else None

    def _clamp(self, operator: Operator, slot: int) -> Clamp:
        kind = operator.options.integer(slot, bits=8)
        if kind not in CLAMPS:
            raise self._refuse("a fused activation that is not supported", operator, expected=list(CLAMPS), got=kind)
        return CLAMPS[kind]

    def _weights(self, operator: Operator, weights: int, bias: int, source: Tensor, depthwise: bool = False) -> Weights:
        """Weights [outputs, ...] with one scale per output, and the bias."""
        given, added = self._constant(operator, weights), self._constant(operator, bias)
        if given is None or given.data is None or given.type != "int8" or np.any(given.zero_point != 0):
            raise self._refuse("weights of a kind not supported", operator, expected="constant int8, zero point 0")
        values = given.data.astype(np.int64)
        values = np.moveaxis(values, 3, 0).transpose(1, 0, 2, 3)[0][..., None] if depthwise else values
        scale = np.broadcast_to(given.scale, len(values)).copy()
        integers = np.zeros(len(values)) if added is None or added.data is None else added.data.reshape(-1)
        return Weights(values, 8, scale, integers * (source.scale * scale))

    def _window(
        self, operator: Operator, image: View, kernel: tuple[int, int], dilation: tuple[int, int] = (1, 1)
    ) -> Window:
        """The window of a convolution or a pool, whose first three options are padding and strides."""
        options = operator.options
        stride = (options.integer(2, 1), options.integer(1, 1))
        window = Window(kernel, stride, dilation)
        if options.integer(0, bits=8) != SAME:
            return window
        size = zip(image.shape[1:], stride, window.extent, strict=True)
        over = [max((-(-n // step) - 1) * step + extent - n, 0) for n, step, extent in size]
        return replace(window, pads=(over[0] // 2, over[1] // 2, over[0] - over[0] // 2, over[1] - over[1] // 2))

    def convolution(self, operator: Operator) -> View:
        """CONV_2D and DEPTHWISE_CONV_2D."""
        depthwise, options = operator.name == "DEPTHWISE_CONV_2D", operator.options
        image = self._image(operator)
        weights = self._weights(operator, 1, 2, image.tensor, depthwise)
        first = 5 if depthwise else 4
        dilation = (options.integer(first + 1, 1), options.integer(first, 1))
        kernel = (int(weights.values.shape[1]), int(weights.values.shape[2]))
        groups = image.shape[0] // int(weights.values.shape[3])
        return self._builder.convolution(
            image,
            weights,
            self._window(operator, image, kernel, dilation),
            groups,
            self._target(operator),
            self._clamp(operator, 4 if depthwise else 3),
            self.where(operator),
        )

    def transposed(self, operator: Operator) -> View:
        """TRANSPOSE_CONV, whose padding is what its stated size leaves."""
        image, number = self._image(operator, 2), operator.outputs[0]
        weights = self._weights(operator, 1, 3, image.tensor)
        kernel = (int(weights.values.shape[1]), int(weights.values.shape[2]))
        stride = (operator.options.integer(2, 1), operator.options.integer(1, 1))
        wanted = self._file.tensors[number].shape[1:3]
        size = zip(image.shape[1:], stride, kernel, wanted, strict=True)
        over = [(n - 1) * step + k - want for n, step, k, want in size]
        before = [max(n, 0) // 2 for n in over]
        pads = (before[0], before[1], max(over[0], 0) - before[0], max(over[1], 0) - before[1])
        appended = (max(-over[0], 0), max(-over[1], 0))
        clamp = self._clamp(operator, 3)
        return self._builder.convolution(
            image, weights, Window(kernel, stride, (1, 1), pads), 1, self._target(operator), clamp,
            self.where(operator), appended,
        )  # fmt: skip

    def fully_connected(self, operator: Operator) -> View:
        """FULLY_CONNECTED over one vector."""
        view = self._views[operator.inputs[0]]
        weights = self._weights(operator, 1, 2, view.tensor)
        if weights.values.shape[1] != view.index.size:
            raise self._refuse(
                "a fully connected layer over more than one vector",
                operator,
                expected=f"{weights.values.shape[1]} values",
                got=view.index.size,
            )
        clamp = self._clamp(operator, 0)
        return self._builder.fully_connected(view, weights, self._target(operator), clamp, self.where(operator))

    def pool(self, operator: Operator) -> View:
        """MAX_POOL_2D and AVERAGE_POOL_2D."""
        image, options = self._image(operator), operator.options
        window = self._window(operator, image, (options.integer(4, 1), options.integer(3, 1)))
        target, clamp = self._target(operator), self._clamp(operator, 5)
        if operator.name == "AVERAGE_POOL_2D":
            return self._builder.average_pool(image, window, False, target, clamp, self.where(operator))
        view = self._builder.max_pool(image, window, target.name, self.where(operator))
        return view if clamp == OPEN else self._builder.rescaled(view, target, clamp, where=self.where(operator))

    def mean(self, operator: Operator) -> View:
        """MEAN over height and width."""
        image, axes = self._image(operator), self._constant(operator, 1)
        given = [] if axes is None or axes.data is None else sorted(int(a) % 4 for a in axes.data.reshape(-1))
        if given != [1, 2]:
            raise self._refuse("a MEAN over other axes than height and width", operator, expected=[1, 2], got=given)
        window = Window((image.shape[1], image.shape[2]))
        return self._builder.average_pool(image, window, False, self._target(operator), OPEN, self.where(operator))

    def arithmetic(self, operator: Operator) -> View:
        """ADD, SUB and MUL, of two activations or with a constant."""
        constants = [which for which in (0, 1) if self._constant(operator, which) is not None]
        target, clamp, where = self._target(operator), self._clamp(operator, 0), self.where(operator)
        if constants:
            return self._by_constant(operator, constants[0], target, clamp)
        a, b = self._operand(operator, 0), self._operand(operator, 1)
        if operator.name == "MUL":
            return self._builder.multiply(a, b, target, clamp, where)
        sign = -1.0 if operator.name == "SUB" else 1.0
        return self._builder.weighted_sum([a, b], [1.0, sign], target, clamp, where)

    def _by_constant(self, operator: Operator, which: int, target: Quantization, clamp: Clamp) -> View:
        """``gain * x + offset`` per channel, as a depthwise 1x1 convolution."""
        image, constant = self._image(operator, 1 - which), self._real(operator, which)
        if constant.size not in (1, image.shape[0]):
            raise self._refuse(
                "a constant that differs along other axes than the channels", operator, got=constant.shape
            )
        values = np.broadcast_to(constant.reshape(-1), image.shape[0])
        gain, offset = np.ones(image.shape[0]), values
        if operator.name == "MUL":
            gain, offset = values, np.zeros(image.shape[0])
        elif operator.name == "SUB":
            gain, offset = (gain, -values) if which == 1 else (-gain, values)
        weights, window = channel_weights(gain, offset), Window((1, 1))
        return self._builder.convolution(image, weights, window, image.shape[0], target, clamp, self.where(operator))

    def _real(self, operator: Operator, which: int) -> Reals:
        tensor = self._constant(operator, which)
        assert tensor is not None and tensor.data is not None
        if tensor.scale.size == 0:
            return tensor.data.astype(np.float64)
        return np.asarray((tensor.data.astype(np.float64) - tensor.zero_point[0]) * tensor.scale[0])

    def function(self, operator: Operator) -> View:
        """Pointwise functions."""
        view = self._operand(operator, 0)
        name = FUNCTIONS[operator.name] if operator.name in FUNCTIONS else leaky_relu(self._slope(operator))
        return self._builder.lookup(view, name, self._target(operator), OPEN, self.where(operator))

    def _slope(self, operator: Operator) -> float:
        """Below zero, of LEAKY_RELU by its option, of PRELU by its second operand."""
        if operator.name == "LEAKY_RELU":
            return operator.options.real(0)
        if self._constant(operator, 1) is None:
            raise self._refuse("a PRELU whose slope is computed", operator, expected="a constant")
        slopes = np.unique(self._real(operator, 1))
        if slopes.size != 1:
            raise self._refuse(
                "a PRELU with a slope for each channel", operator, expected="one slope", got=f"{slopes.size} slopes"
            )
        return float(slopes[0])

    def clamped(self, operator: Operator) -> View:
        """RELU, RELU6, and QUANTIZE: a change of scale with a clamp."""
        clamp = {"RELU": CLAMPS[1], "RELU6": CLAMPS[3]}.get(operator.name, OPEN)
        view = self._operand(operator, 0)
        return self._builder.rescaled(view, self._target(operator), clamp, where=self.where(operator))

    def bounded(self, operator: Operator) -> View:
        """MAXIMUM and MINIMUM with one constant that is quantized as the other operand: a clamp."""
        which = 0 if self._constant(operator, 0) is not None else 1
        limit, number = self._constant(operator, which), operator.inputs[1 - which]
        target = self._target(operator)
        alike = number in self._views and self._same_reals(number, operator.outputs[0])
        if limit is None or limit.data is None or limit.data.size != 1 or not alike:
            raise self._refuse(
                f"a {operator.name} of this kind",
                operator,
                expected="one constant, and one scale and zero point for all",
            )
        bound = float(self._real(operator, which).reshape(-1)[0])
        clamp = (bound, math.inf) if operator.name == "MAXIMUM" else (-math.inf, bound)
        view = self._operand(operator, 1 - which)
        return self._builder.rescaled(view, target, clamp, where=self.where(operator))

    def softmax(self, operator: Operator) -> View:
        """SOFTMAX over the last axis."""
        if operator.options.real(0) != 1.0:
            raise self._refuse("a SOFTMAX with beta", operator, expected=1.0, got=operator.options.real(0))
        view = self._operand(operator, 0)
        return Distribution(view, self.where(operator)).emit(self._builder, self._target(operator), OPEN)

    def argmax(self, operator: Operator) -> View:
        """ARG_MAX of a vector."""
        source = self._builder.flat(self._views[operator.inputs[0]], self.where(operator))
        name = self._builder.named(Quantization(self._file.tensors[operator.outputs[0]].name, 1.0, 0, 16)).name
        target = Tensor(name, (1,), 16, 1.0, 0, 0, source.size - 1)
        return plain_view(self._builder.add(Argmax(name, (source,), target)))

    def moved(self, operator: Operator) -> View:
        """RESHAPE, SQUEEZE, EXPAND_DIMS and TRANSPOSE: another view of the same integers."""
        view = self._views[operator.inputs[0]]
        if operator.name == "TRANSPOSE":
            order = self._constant(operator, 1)
            axes = [] if order is None or order.data is None else order.data.reshape(-1).tolist()
            if not axes or axes[0] != 0:
                raise self._refuse("a TRANSPOSE of the batch axis", operator, expected="axis 0 first", got=axes)
            view = replace(view, index=view.index.transpose([axis - 1 for axis in axes[1:]]))
        shape = self._file.tensors[operator.outputs[0]].shape
        if math.prod(shape[1:]) != view.index.size:
            raise self._refuse("a RESHAPE that does not keep the batch axis", operator, got=shape)
        view = replace(view, index=view.index.reshape(shape[1:]))
        return replace(view, index=view.index.transpose(2, 0, 1)) if view.index.ndim == 3 else view

    def concat(self, operator: Operator) -> View:
        """CONCATENATION."""
        views = [self._operand(operator, which) for which in range(len(operator.inputs))]
        axes, axis = len(views[0].shape) + 1, operator.options.integer(0)
        axis = axis % axes - 1
        axis = (1, 2, 0)[axis] if axes == 4 else axis
        names = tuple(f"{view.tensor.name}/rescaled" for view in views)
        chain = Chain(tuple(views), names, axis, self.where(operator))
        return chain.emit(self._builder, self._target(operator), self._clamp(operator, 1))

    def pad(self, operator: Operator) -> View:
        """PAD and PADV2: a border of zero, or of a constant."""
        image, borders, value = self._image(operator), self._constant(operator, 1), self._constant(operator, 2)
        source = self._builder.channels_last(image, self.where(operator))
        given = np.zeros((4, 2), int) if borders is None or borders.data is None else borders.data.reshape(-1, 2)
        if given.shape != (4, 2) or given[[0, 3]].any() or not given.any():
            raise self._refuse("a PAD of this kind", operator, expected="height and width", got=given.tolist())
        filled = source.zero_point if value is None or value.data is None else int(value.data.reshape(-1)[0])
        pads = (int(given[1, 0]), int(given[2, 0]), int(given[1, 1]), int(given[2, 1]))
        height, width, channels = source.shape
        shape = (height + pads[0] + pads[2], width + pads[1] + pads[3], channels)
        target = self._builder.named(self._target(operator)).tensor(shape)
        return plain_view(self._builder.add(Pad(target.name, (source,), target, pads, filled)))

    def resize(self, operator: Operator) -> View:
        """RESIZE_NEAREST_NEIGHBOR to the upper left."""
        options = operator.options
        if options.integer(0, bits=8) or options.integer(1, bits=8):
            raise self._refuse("a resize by corners or half pixels", operator, expected="neither")
        source = self._builder.channels_last(self._image(operator), self.where(operator))
        height, width = self._file.tensors[operator.outputs[0]].shape[1:3]
        target = self._builder.named(self._target(operator)).tensor((height, width, source.shape[2]))
        return plain_view(self._builder.add(Resize(target.name, (source,), target)))

    def slice(self, operator: Operator) -> View:
        """SLICE of a vector."""
        source = self._builder.flat(self._views[operator.inputs[0]], self.where(operator))
        begin, target = self._constant(operator, 1), self._file.tensors[operator.outputs[0]]
        if begin is None or begin.data is None or len(target.shape) != 2 or begin.data.reshape(-1)[0] != 0:
            raise self._refuse("a SLICE of this kind", operator, expected="a vector", got=target.shape)
        kept = self._builder.named(self._target(operator)).tensor(target.shape[1:])
        return plain_view(self._builder.add(Slice(kept.name, (source,), kept, int(begin.data.reshape(-1)[1]))))


_HANDLERS: dict[str, Callable[[_Reader, Operator], View]] = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D"), _Reader.convolution),
    **dict.fromkeys(("MAX_POOL_2D", "AVERAGE_POOL_2D"), _Reader.pool),
    **dict.fromkeys(("ADD", "SUB", "MUL"), _Reader.arithmetic),
    **dict.fromkeys((*FUNCTIONS, "LEAKY_RELU", "PRELU"), _Reader.function),
    **dict.fromkeys(("RELU", "RELU6", "QUANTIZE"), _Reader.clamped),
    **dict.fromkeys(("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE"), _Reader.moved),
    **dict.fromkeys(("PAD", "PADV2"), _Reader.pad),
    **dict.fromkeys(("MAXIMUM", "MINIMUM"), _Reader.bounded),
    "TRANSPOSE_CONV": _Reader.transposed,
    "FULLY_CONNECTED": _Reader.fully_connected,
    "MEAN": _Reader.mean,
    "SOFTMAX": _Reader.softmax,
    "ARG_MAX": _Reader.argmax,
    "CONCATENATION": _Reader.concat,
    "RESIZE_NEAREST_NEIGHBOR": _Reader.resize,
    "SLICE": _Reader.slice,
}
"""By operator name."""
