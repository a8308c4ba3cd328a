"""Checkpoints of both trainings of a network for action units: its features, and its integers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def save(state: DataclassInstance, module: str, checkpoint: Path, **more: Any) -> None:
    """Write everything that going on needs, whole or not at all.

    :param state: a dataclass with an ``optimizer`` and a ``generator`` of torch
    :param module: the field that learns
    :param more: what else is kept
    """
    fields = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    for name in (module, "optimizer"):
        fields[name] = fields[name].state_dict()
    fields["generator"] = fields["generator"].get_state()
    partial = checkpoint.with_suffix(".partial")
    torch.save(fields | more, partial)
    partial.replace(checkpoint)


def load(checkpoint: Path) -> dict[str, Any]:
    """What :func:`save` wrote."""
    return cast(dict[str, Any], torch.load(checkpoint, map_location="cpu", weights_only=False))


def restore(state: Any, module: str, fields: dict[str, Any]) -> None:
    """Set a state, made as at the start, to what was kept.

    :param fields: by name, those of the state alone
    """
    getattr(state, module).load_state_dict(fields.pop(module))
    state.optimizer.load_state_dict(fields.pop("optimizer"))
    state.generator.set_state(fields.pop("generator"))
    for name, value in fields.items():
        setattr(state, name, value)
