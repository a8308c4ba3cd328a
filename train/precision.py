"""Mixed precision in Stable-Baselines3: half-width arithmetic in the updates, float32 weights under it.

The layers of an update run in bfloat16 or float16 (``torch.autocast``), in both directions; weights, their gradients'
sums, distributions, losses and the optimizer stay float32. float16 has 5 bits of exponent, so its losses are scaled up
before they go backwards, and gradients down again before anything sees them (Micikevicius et al., arXiv 1710.03740,
section 3.2).
Actions are chosen in float32 as ever: what acts is what is exported.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from policyport.train.config import Precision

FIRST_SCALE = 2.0**16
"""Of a loss, where a chunk of training begins; halved where a gradient overflows."""

GROWTH_STEPS = 2000
"""Optimizer steps without an overflow after which the scale is doubled; as torch's ``GradScaler`` has it."""

Tensor = Any  # torch carries no types that a strict checker is shown here


class LossScale:
    """The scale of a loss, and what is known of overflows."""

    def __init__(self) -> None:
        self.value = FIRST_SCALE
        self.skipped = 0
        """Optimizer steps left out for an overflow."""

        self._clean_steps = 0

    def unscaled(self, gradient: Tensor) -> Tensor:
        """A gradient as it is without the scale."""
        return gradient / self.value

    def check(self, optimizer: Any, _arguments: Any, _more: Any) -> None:
        """Before an optimizer's step: an overflow takes its gradients away, so that nothing moves."""
        import torch

        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if all(bool(torch.isfinite(parameter.grad).all()) for parameter in parameters):
            self._clean_steps += 1
            if self._clean_steps == GROWTH_STEPS:
                self.value, self._clean_steps = self.value * 2.0, 0
            return
        for parameter in parameters:
            parameter.grad = None
        self.value, self._clean_steps = self.value / 2.0, 0
        self.skipped += 1


@contextmanager
def training_in(model: Any, precision: Precision) -> Iterator[LossScale | None]:
    """Let a model of Stable-Baselines3 update in a precision for as long as the context lasts.

    The loss scale begins anew with each context, so that training resumed between two of them goes on as if it had not
    been interrupted.

    :param model: its ``train`` is replaced meanwhile
    :returns: the scale of losses, where they are scaled
    """
    if precision == "float32":
        yield None
        return
    import torch

    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    update = model.train
    scale = LossScale() if precision == "fp16" else None

    def train(*given: Any, **named: Any) -> None:
        with torch.autocast(model.device.type, kind), ExitStack() as stack:
            if scale is not None:
                stack.enter_context(_scaled_losses(scale))
            update(*given, **named)

    with ExitStack() as hooks:
        for handle in _widened_outputs(model.policy):
            hooks.callback(handle.remove)
        if scale is not None:
            for handle in _hooks(model, scale):
                hooks.callback(handle.remove)
        model.train = train
        try:
            yield scale
        finally:
            del model.train


@contextmanager
def _scaled_losses(scale: LossScale) -> Iterator[None]:
    """Have every loss scaled as it goes backwards: Stable-Baselines3 calls ``loss.backward()`` deep in its updates."""
    import torch

    backward = torch.Tensor.backward

    def scaled(loss: Tensor, *given: Any, **named: Any) -> None:
        backward(loss * scale.value, *given, **named)

    tensors: Any = torch.Tensor
    tensors.backward = scaled
    try:
        yield
    finally:
        tensors.backward = backward


def _widened_outputs(policy: Any) -> list[Any]:
    """Have what leaves a stack of layers in float32: distributions and losses are no place for half precision.

    The log probability of a squashed action, for one, has a slope of a million where the action is near its end.
    """
    from torch import nn

    def widened(_module: Any, _given: Any, made: Tensor) -> Tensor:
        return made.float()

    stacks = [
        child
        for parent in policy.modules()
        if not isinstance(parent, nn.Sequential)
        for child in parent.children()
        if isinstance(child, (nn.Linear, nn.Sequential))
    ]
    return [stack.register_forward_hook(widened) for stack in stacks]


def _hooks(model: Any, scale: LossScale) -> list[Any]:
    """Unscale each gradient as it comes, and look at all of them before each optimizer's step."""
    parameters = [p for p in model.policy.parameters() if p.requires_grad]
    optimizers = [part.optimizer for part in (model.policy, *model.policy.children()) if hasattr(part, "optimizer")]
    if getattr(model, "ent_coef_optimizer", None) is not None:
        parameters.append(model.log_ent_coef)
        optimizers.append(model.ent_coef_optimizer)
    hooks = [parameter.register_hook(scale.unscaled) for parameter in parameters]
    return [*hooks, *(optimizer.register_step_pre_hook(scale.check) for optimizer in optimizers)]
