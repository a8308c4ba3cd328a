"""Roundings of the integer network in torch: exact integers forward, the gradient of what they stand for backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

Tensor = Any  # torch carries no types that a strict checker is shown here

EXACT_FLOAT64 = 2.0**52
"""A product below it, and half a step more, is exact in float64."""

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


class Straight(torch.autograd.Function):  # type: ignore[misc]
    """``exact`` forward; backward the gradient of ``smooth`` where ``inside``, none elsewhere.

    The straight-through estimator (Bengio et al. 2013), with the saturation of a clamp. Where ``smooth`` is
    computed of a step size, its gradient is that of LSQ (Esser et al. 2020, equation 3): ``q - v / step`` inside,
    and the bound outside, once the reader has multiplied ``q`` by the step again.
    """

    @staticmethod
    def forward(ctx: Any, smooth: Tensor, exact: Tensor, inside: Tensor | None) -> Tensor:
        ctx.save_for_backward(inside)
        return exact

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (inside,) = ctx.saved_tensors
        return grad_outputs[0] if inside is None else grad_outputs[0] * inside, None, None


Smooth = Callable[[], Tensor]
"""Gives what an exact value is the rounding of; asked only where there are gradients."""


def straight(smooth: Smooth, exact: Tensor, inside: Smooth | None = None) -> Tensor:
    """``exact`` as float64, with the gradient of ``smooth`` where ``inside``, by default everywhere."""
    exact = exact.to(torch.float64)
    return Straight.apply(smooth(), exact, inside and inside()) if torch.is_grad_enabled() else exact


def clamped(smooth: Smooth, q: Tensor, low: int, high: int) -> Tensor:
    """Integers ``q`` in [low, high] as float64, with the gradient of ``smooth`` where they lie there."""
    return straight(smooth, torch.clamp(q, low, high), lambda: (q >= low) & (q <= high))


def rounded(x: Tensor, zero_point: int, low: int, high: int) -> Tensor:
    """``clamp(round_half_even(x) + zero_point, low, high)``, rounded in the type of ``x``, as float64."""
    q = torch.round(x.detach()).to(torch.float64) + zero_point
    return clamped(lambda: x.to(torch.float64) + zero_point, q, low, high)


def requantized(accumulator: Tensor, multiplier: Tensor, shift: int) -> Tensor:
    """The rounding multiply of :func:`policyport.core.semantics.requantize`: integers, as float64 where that is exact.

    :param accumulator: float64
    :param multiplier: int64
    """
    sums = accumulator.detach()
    low, high = (abs(float(end)) for end in torch.aminmax(sums)) if sums.numel() else (0.0, 0.0)
    if max(low, high) * float(multiplier.abs().max()) * 2**shift < EXACT_FLOAT64:
        return (sums * (multiplier.to(torch.float64) * 2.0 ** (shift - 32))).add_(0.5).floor_()
    return ((sums.to(torch.int64) << shift) * multiplier + 2**31) >> 32


def looked_up(q: Tensor, table: Tensor) -> Tensor:
    """:func:`policyport.core.semantics.lookup`, int64."""
    whole = q.detach().to(torch.int64)
    if len(table) == 256:
        return table[whole + 128]
    index, fraction = (whole >> 8) + 128, whole & 255
    return (table[index] * (256 - fraction) + table[index + 1] * fraction + 128) >> 8


def softmax_shares(q: Tensor, table: Tensor) -> Tensor:
    """:func:`policyport.core.operators.softmax`, int64."""
    whole = q.detach().to(torch.int64)
    e = table[whole.amax(dim=-1, keepdim=True) - whole]
    total = e.sum(dim=-1, keepdim=True)
    share = torch.div(256 * e + torch.div(total, 2, rounding_mode="floor"), total, rounding_mode="floor")
    return torch.clamp(share - 128, max=127)
