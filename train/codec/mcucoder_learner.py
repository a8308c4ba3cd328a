"""Training of MCUCoder's encoder with a decoder: crops, batches, learning rate and validation as ours have them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import process_time

import numpy as np
import torch
from numpy.typing import NDArray
from policyport.core.progress import progress
from policyport.train.codec.learner import (
    LARGEST_GRADIENT,
    TRAINING_WINDOW,
    VALIDATION_CROPS,
    Resumable,
    random_crops,
    rate_at,
    split_pictures,
)
from policyport.train.codec.losses import ms_ssim
from policyport.train.codec.mcucoder import CHANNELS, DecoderName, McuCodec
from torch import Tensor, nn

log = logging.getLogger(__name__)

JUDGED = (2, 6, 12)
"""Channels kept in validation."""


@dataclass(frozen=True)
class McuConfig:
    """How it is trained; what has no comment is as in :class:`~policyport.train.codec.config.CodecConfig`."""

    decoder: DecoderName
    width: int
    """Of the decoder's layers, the widest ones of ours."""

    steps: int
    seed: int
    batch: int = 6
    crop: int = 96
    learning_rate: float = 1.5e-3
    evaluate_every: int = 250


@dataclass
class McuState(Resumable[McuCodec]):
    """MCUCoder's, and what it has cost."""

    cpu_seconds: float = 0.0
    """Of processor time, all its trainings together."""


def learn_mcucoder(
    config: McuConfig, pictures: Sequence[NDArray[np.uint8]], checkpoint: Path | None = None
) -> McuState:
    """Train it to MS-SSIM, each batch with so many channels kept, all numbers of them equally often.

    The same options and pictures give the same weights, interrupted or not: a checkpoint is written at each
    evaluation, and one that is there is gone on from. Pictures for validation are those that ours are validated on.

    :param pictures: each [rows, columns, 3], larger than a crop
    :returns: the state, its codec at its best on the validation crops
    """
    torch.manual_seed(config.seed)
    training, validation = split_pictures(pictures)
    codec = McuCodec(config.decoder, config.width)
    optimizer = torch.optim.Adam(codec.parameters(), config.learning_rate)
    state = McuState(codec, optimizer, torch.Generator().manual_seed(config.seed))
    if checkpoint is not None and checkpoint.is_file():
        state.restore(checkpoint)
    judged = random_crops(validation, config.crop, VALIDATION_CROPS, torch.Generator().manual_seed(1))
    with progress(f"train MCUCoder's encoder, decoder of {config.width}", config.steps) as advance:
        while state.step < config.steps:
            began = process_time()
            _step(state, config, training)
            state.step += 1
            state.cpu_seconds += process_time() - began
            if state.step % config.evaluate_every == 0 or state.step == config.steps:
                loss = _evaluate(state, judged)
                advance(state.step, f"1 - MS-SSIM {loss:.4f}")
                if checkpoint is not None:
                    state.save(checkpoint)
    state.codec.load_state_dict(state.best_weights)
    state.codec.eval()
    return state


def unlikeness(codec: McuCodec, picture: Tensor, kept: int) -> Tensor:
    """1 - MS-SSIM, the mean over pictures [n, 3, rows, columns] of 0 to 255, with the first ``kept`` channels."""
    wanted = picture / 255
    return (1 - ms_ssim(codec(wanted, kept), wanted, TRAINING_WINDOW)).mean()


def _step(state: McuState, config: McuConfig, pictures: Sequence[NDArray[np.uint8]]) -> None:
    picture = random_crops(pictures, config.crop, config.batch, state.generator)
    kept = int(torch.randint(1, CHANNELS + 1, (1,), generator=state.generator))
    for group in state.optimizer.param_groups:
        group["lr"] = rate_at(state.step, config.steps, config.learning_rate)
    state.optimizer.zero_grad()
    unlikeness(state.codec, picture, kept).backward()
    nn.utils.clip_grad_norm_(state.codec.parameters(), LARGEST_GRADIENT)
    state.optimizer.step()


def _evaluate(state: McuState, crops: Tensor) -> float:
    with torch.no_grad():
        found = [float(unlikeness(state.codec, crops, kept)) for kept in JUDGED]
    loss = sum(found) / len(found)
    log.info("step %d: 1 - MS-SSIM with %s channels %s", state.step, JUDGED, [round(one, 4) for one in found])
    state.judge(loss)
    return loss
