"""Roundings of the integer network as torch functions whose gradient passes straight through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

Tensor = Any  # torch carries no types that a strict checker is shown here

EXACT: dict[str, Callable[[Tensor], Tensor]] = {
    "Tanh": torch.tanh,
    "Sigmoid": torch.sigmoid,
    "HardSigmoid": functional.hardsigmoid,
    "HardSwish": functional.hardswish,
    "LeakyRelu": functional.leaky_relu,
    "Elu": functional.elu,
    "Softplus": functional.softplus,
    "Silu": functional.silu,
}
"""The functions that tables hold, for their gradient."""


class Round(torch.autograd.Function):  # type: ignore[misc]
    """``clamp(round_half_even(x) + zero_point, low, high)`` in float64."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, zero_point: int, low: int, high: int) -> Tensor:
        q = torch.round(x).to(torch.float64) + zero_point
        ctx.kind = x.dtype
        ctx.save_for_backward((q >= low) & (q <= high))
        return torch.clamp(q, low, high)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return (grad_outputs[0] * inside).to(ctx.kind), None, None, None


class Requantize(torch.autograd.Function):  # type: ignore[misc]
    """:func:`policyport.core.semantics.requantize` in int64."""

    @staticmethod
    def forward(
        ctx: Any,
        accumulator: Tensor,
        multiplier: Tensor,
        ratio: Tensor,
        shift: int,
        zero_point: int,
        bounds: tuple[int, int],
    ) -> Tensor:
        product = (accumulator.to(torch.int64) << shift) * multiplier + 2**31
        q = (product >> 32) + zero_point
        ctx.save_for_backward((q >= bounds[0]) & (q <= bounds[1]), ratio)
        return torch.clamp(q, *bounds).to(torch.float64)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        inside, ratio = ctx.saved_tensors
        return grad_outputs[0] * inside * ratio, None, None, None, None, None


class ShiftDown(torch.autograd.Function):  # type: ignore[misc]
    """``clamp(total >> shift, low, high)`` in int64: the end of a weighted sum."""

    @staticmethod
    def forward(ctx: Any, total: Tensor, shift: int, low: int, high: int) -> Tensor:
        q = total.to(torch.int64) >> shift
        ctx.shift = shift
        ctx.save_for_backward((q >= low) & (q <= high))
        return torch.clamp(q, low, high).to(torch.float64)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return grad_outputs[0] * inside * 2.0**-ctx.shift, None, None, None


class Lookup(torch.autograd.Function):  # type: ignore[misc]
    """:func:`policyport.core.semantics.lookup`; the gradient is the exact function's.

    ``name`` is of :data:`EXACT`; ``before`` is scale and zero point of the input, ``scale`` the result's.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, table: Tensor, name: str, before: tuple[float, int], scale: float) -> Tensor:
        ctx.name, ctx.before, ctx.scale = name, before, scale
        ctx.save_for_backward(q)
        whole = q.to(torch.int64)
        if len(table) == 256:
            return table[whole + 128].to(torch.float64)
        index, fraction = (whole >> 8) + 128, whole & 255
        return ((table[index] * (256 - fraction) + table[index + 1] * fraction + 128) >> 8).to(torch.float64)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None, None]:
        (q,) = ctx.saved_tensors
        scale, zero_point = ctx.before
        with torch.enable_grad():
            real = (scale * (q - zero_point)).detach().requires_grad_()
            (slope,) = torch.autograd.grad(EXACT[ctx.name](real).sum(), real)
        return grad_outputs[0] * slope * (scale / ctx.scale), None, None, None, None


class Softmax(torch.autograd.Function):  # type: ignore[misc]
    """:func:`policyport.core.operators.softmax`; the gradient is the exact function's."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, table: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        ctx.save_for_backward(q)
        whole = q.to(torch.int64)
        e = table[whole.amax(dim=-1, keepdim=True) - whole]
        total = e.sum(dim=-1, keepdim=True)
        share = torch.div(256 * e + torch.div(total, 2, rounding_mode="floor"), total, rounding_mode="floor")
        return torch.clamp(share - 128, max=127).to(torch.float64)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (q,) = ctx.saved_tensors
        exact = torch.softmax(ctx.scale * q, dim=-1)
        inner = grad_outputs[0] - (grad_outputs[0] * exact).sum(dim=-1, keepdim=True)
        return 256 * ctx.scale * exact * inner, None, None
