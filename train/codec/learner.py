"""Training of encoder and decoder together, at all quantizer steps at once."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from policyport.core.codec_model import BLOCK, PIXEL_CENTRE, PIXEL_SPAN, PREDICTED
from policyport.core.progress import progress
from policyport.train.codec.config import CodecConfig
from policyport.train.codec.integers import lattice_grids
from policyport.train.codec.losses import compression_objective, cycle_loss, ms_ssim
from policyport.train.codec.networks import BitEstimate, Decoder, Encoder, rounded
from policyport.train.codec.transform import karhunen_loeve, sampled_blocks
from torch import Tensor, nn

log = logging.getLogger(__name__)

TRAINING_WINDOW = 5
"""Pixels of MS-SSIM's window in training, where crops are too small for the usual 11."""

VALIDATION_CROPS = 24

WARM_UP_STEPS = 50

LARGEST_GRADIENT = 2.0


class Codec(nn.Module):  # type: ignore[misc]
    """Encoder, decoder and the estimate of bits."""

    def __init__(self, config: CodecConfig, basis: NDArray[np.float64], deviation: NDArray[np.float64]) -> None:
        super().__init__()
        self.encoder = Encoder(config.encoder, basis)
        self.decoder = Decoder(basis, deviation, config.decoder_width)
        self.estimate = BitEstimate(deviation)


Network = TypeVar("Network", bound=nn.Module)


@dataclass
class Resumable(Generic[Network]):
    """How far a training has come: everything that a resumed one needs."""

    codec: Network
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    step: int = 0
    best: float = math.inf
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def judge(self, loss: float) -> bool:
        """Keep the weights where their loss is the lowest; whether it is."""
        if loss < self.best:
            self.best = loss
            self.best_weights = {name: value.clone() for name, value in self.codec.state_dict().items()}
            return True
        return False

    def save(self, checkpoint: Path) -> None:
        """Write a file that :meth:`restore` reads."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        fields |= {"codec": self.codec.state_dict(), "optimizer": self.optimizer.state_dict()}
        fields["generator"] = self.generator.get_state()
        partial = checkpoint.with_suffix(".partial")
        torch.save(fields, partial)
        partial.replace(checkpoint)

    def restore(self, checkpoint: Path) -> None:
        """Go on from a file that :meth:`save` wrote."""
        fields = torch.load(checkpoint, weights_only=True)
        self.codec.load_state_dict(fields.pop("codec"))
        self.optimizer.load_state_dict(fields.pop("optimizer"))
        self.generator.set_state(fields.pop("generator"))
        for name, value in fields.items():
            setattr(self, name, value)


@dataclass
class State(Resumable[Codec]):
    """Ours, and how long it has not become better."""

    waited: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Trained:
    """A codec at its best on the validation crops, and the curve of its training."""

    codec: Codec
    curve: list[dict[str, float]]


def learn(config: CodecConfig, pictures: Sequence[NDArray[np.uint8]], checkpoint: Path | None = None) -> Trained:
    """Train a codec; the same options and pictures give the same weights, interrupted or not.

    A checkpoint is written at each evaluation, and one that is there is gone on from. An eighth of the pictures,
    at least one, is kept from training to choose the best weights by.

    :param pictures: each [rows, columns, 3], larger than a crop
    """
    torch.manual_seed(config.seed)
    training, validation = split_pictures(pictures)
    basis, deviation = karhunen_loeve(training, config.channels, config.seed)
    codec = Codec(config, basis, deviation)
    if config.weight_bits:
        seen = sampled_blocks(training, config.calibration_blocks, config.seed)
        codec.encoder.quantize(config.weight_bits, lattice_grids(codec.encoder, seen, config.weight_bits))
    state = State(codec, _optimizer(codec, config), torch.Generator().manual_seed(config.seed))
    if checkpoint is not None and checkpoint.is_file():
        state.restore(checkpoint)
    judged = random_crops(validation, config.crop, VALIDATION_CROPS, torch.Generator().manual_seed(1))
    with progress(f"train {config.encoder} codec", config.steps) as advance:
        while state.step < config.steps and state.waited < config.patience:
            _step(state, config, training)
            state.step += 1
            if state.step % config.evaluate_every == 0 or state.step == config.steps:
                _evaluate(state, config, judged)
                advance(state.step, f"loss {state.curve[-1]['loss']:.4f}, {state.curve[-1]['bpp']:.3f} bpp")
                if checkpoint is not None:
                    state.save(checkpoint)
    state.codec.load_state_dict(state.best_weights)
    return Trained(state.codec.eval(), state.curve)


def split_pictures(pictures: Sequence[NDArray[np.uint8]]) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    """Training and validation pictures; two sizes of one photograph are neighbours in the list and stay together."""
    chosen = {number for number in range(len(pictures)) if number // 2 % 8 == 7} or {len(pictures) - 1}
    validation = [picture for number, picture in enumerate(pictures) if number in chosen]
    training = [picture for number, picture in enumerate(pictures) if number not in chosen]
    return training or validation, validation


def _optimizer(codec: Codec, config: CodecConfig) -> torch.optim.Optimizer:
    linear = [*codec.encoder.linear.parameters(), *codec.decoder.base.parameters()]
    slow = {id(parameter) for parameter in linear}
    estimate = list(codec.estimate.parameters())
    rest = [p for m in (codec.encoder, codec.decoder) for p in m.parameters() if id(p) not in slow]
    groups = [
        {"params": linear, "share": config.encoder_rate},
        {"params": rest, "share": 1.0},
        {"params": estimate, "share": 8.0},
    ]
    return torch.optim.Adam(groups, config.learning_rate)


def random_crops(pictures: Sequence[NDArray[np.uint8]], side: int, count: int, generator: torch.Generator) -> Tensor:
    """Crops [count, 3, side, side] of 0 to 255, larger pictures oftener, mirrored and turned at random."""
    areas = torch.tensor([math.sqrt(picture.shape[0] * picture.shape[1]) for picture in pictures])
    chosen = torch.multinomial(areas, count, replacement=True, generator=generator)
    crops = []
    for number in chosen.tolist():
        picture = pictures[number]
        uniform = torch.rand(4, generator=generator).tolist()
        y, x = (int(share * (size - side + 1)) for share, size in zip(uniform, picture.shape[:2], strict=False))
        crop = torch.from_numpy(np.ascontiguousarray(picture[y : y + side, x : x + side])).permute(2, 0, 1)
        crop = crop.flip(2) if uniform[2] < 0.5 else crop
        crops.append(crop.transpose(1, 2) if uniform[3] < 0.25 else crop)
    return torch.stack(crops).float()


def _steps(config: CodecConfig, count: int, generator: torch.Generator) -> Tensor:
    """Quantizer steps [count, 1, 1, 1], each octave equally often, in grey levels."""
    uniform = torch.rand(count, 1, 1, 1, generator=generator)
    return config.lowest_step * (config.highest_step / config.lowest_step) ** uniform


def losses(codec: Codec, config: CodecConfig, picture: Tensor, step: Tensor, noise: Tensor, kept: Tensor) -> Tensor:
    """What is trained for, and bits per pixel and squared error beside it, [3, n].

    :param picture: [n, 3, rows, columns] of 0 to 255
    :param step: [n, 1, 1, 1] in grey levels
    :param noise: as the code, within half a step of 0
    :param kept: [n, channels, 1, 1], 0 for channels that are missing
    """
    code = codec.encoder((picture - PIXEL_CENTRE) / PIXEL_SPAN)
    decoded = codec.decoder(rounded(code, step) * kept, step)
    error = (decoded - picture).square().mean(dim=(1, 2, 3))
    distortion = error
    if config.loss != "mse":
        similar = ms_ssim(decoded.clamp(0, 255) / 255, picture / 255, TRAINING_WINDOW)
        distortion = distortion + config.ms_ssim_weight * (1 - similar)
    if config.loss.endswith("cycle"):
        distortion = distortion + config.cycle_weight * cycle_loss(
            code, codec.encoder((decoded - PIXEL_CENTRE) / PIXEL_SPAN)
        )
    learned = code if config.objective == "rate" else code.detach()
    pixels = picture.shape[2] * picture.shape[3]
    bpp = codec.estimate(learned + noise * step, step).sum(dim=(1, 2, 3)) / pixels
    weight = config.distortion_weight / step.flatten().square()
    loss = (bpp + weight * distortion) / weight.sqrt() / 10
    if config.objective == "compression":
        part = code if config.compression_all else code[:, PREDICTED:]
        scaled = compression_objective(part / step, config.compression_alpha) / math.sqrt(part[0].numel())
        loss = loss + config.compression_weight * scaled / weight.sqrt() / 10
    return torch.stack([loss, bpp.detach(), error.detach()])


def _step(state: State, config: CodecConfig, pictures: Sequence[NDArray[np.uint8]]) -> None:
    generator, n = state.generator, config.batch
    picture = random_crops(pictures, config.crop, n, generator)
    step = _steps(config, n, generator)
    side = config.crop // BLOCK
    noise = torch.rand(n, config.channels, side, side, generator=generator) - 0.5
    first = torch.randint(PREDICTED, config.channels, (n, 1, 1, 1), generator=generator)
    whole = torch.rand(n, 1, 1, 1, generator=generator) >= config.drop_share
    kept = (torch.arange(config.channels).view(1, -1, 1, 1) < first) | whole
    for group in state.optimizer.param_groups:
        group["lr"] = group["share"] * rate_at(state.step, config.steps, config.learning_rate)
    loss, *_ = losses(state.codec, config, picture, step, noise, kept.float()).mean(dim=1)
    state.optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(state.codec.parameters(), LARGEST_GRADIENT)
    state.optimizer.step()


def rate_at(step: int, steps: int, highest: float) -> float:
    """The learning rate: it rises for some batches, then falls along half a cosine."""
    falling = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps))
    return highest * min(1, (step + 1) / WARM_UP_STEPS) * falling


def _evaluate(state: State, config: CodecConfig, crops: Tensor) -> None:
    """The loss on the validation crops, each at a step of its own."""
    steps = config.lowest_step * (config.highest_step / config.lowest_step) ** torch.linspace(0, 1, len(crops))
    side = config.crop // BLOCK
    noise = torch.rand(len(crops), config.channels, side, side, generator=torch.Generator().manual_seed(2)) - 0.5
    kept = torch.ones(len(crops), config.channels, 1, 1)
    with torch.no_grad():
        loss, bpp, error = losses(state.codec, config, crops, steps.view(-1, 1, 1, 1), noise, kept).mean(dim=1).tolist()
    state.curve.append({"steps": state.step, "loss": loss, "bpp": bpp, "squared_error": error})
    log.info("step %d: loss %.4f, %.3f bpp, squared error %.1f", state.step, loss, bpp, error)
    state.waited = 0 if state.judge(loss) else state.waited + 1
