"""Options of the training of an image codec."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from policyport.core.options import option


@dataclass(frozen=True)
class CodecConfig:
    """Which photographs, which encoder and decoder, and what they are trained for."""

    images: Path | None = option(
        None, "folder of photographs to train on, searched through; none takes listed packages, or draws pictures"
    )
    packages_root: Path = option(Path("/"), "where the listed packages of photographs are installed or unpacked")
    encoder: Literal["linear", "hybrid", "autoencoder"] = option(
        "linear",
        "one linear transform of 8x8 blocks, or beside it a small convolutional branch, or three convolutions",
        choices=("linear", "hybrid", "autoencoder"),
    )
    channels: int = option(48, "numbers per 8x8 block", low=4, high=64)
    decoder_width: int = option(48, "channels of the decoder's first layers", low=8)
    loss: Literal["mse", "mse+ms-ssim", "mse+ms-ssim+cycle"] = option(
        "mse+ms-ssim", "distortion: the paper's a, b and c", choices=("mse", "mse+ms-ssim", "mse+ms-ssim+cycle")
    )
    objective: Literal["rate", "compression", "none"] = option(
        "rate",
        "what keeps the code small: estimated bits, the paper's compression objective, or nothing",
        choices=("rate", "compression", "none"),
    )
    distortion_weight: float = option(
        12.0, "objective rate: of the squared error in steps, against bits per pixel", low=0
    )
    ms_ssim_weight: float = option(600.0, "of 1 - MS-SSIM, in squared grey levels", low=0)
    cycle_weight: float = option(1.0, "of the squared distance between both codes, in squared grey levels", low=0)
    compression_weight: float = option(2.0, "of the compression objective, in bits per pixel", low=0)
    compression_alpha: float = option(0.01, "the paper's alpha: of squared L2 over L1, against L1 over L2", low=0)
    compression_all: bool = option(False, "objective over all channels, not over those behind the first three alone")
    lowest_step: float = option(8.0, "finest quantizer step trained for, in grey levels", low=0.5)
    highest_step: float = option(200.0, "coarsest quantizer step trained for, in grey levels", low=0.5)
    weight_bits: int = option(0, "width of the encoder's weights in training, 0 for float", choices=(0, 8, 4, 3))
    steps: int = option(9000, "batches", low=1)
    batch: int = option(6, "crops of a batch", low=1)
    crop: int = option(96, "pixels along a side of a crop, a multiple of 8", low=32)
    learning_rate: float = option(1.5e-3, "Adam's, at the start", low=0)
    encoder_rate: float = option(0.2, "learning rate of the linear parts, as a share", low=0)
    drop_share: float = option(
        0.1, "share of crops whose last channels are missing, as in a file cut short", low=0, high=1
    )
    evaluate_every: int = option(250, "batches between two evaluations, each also a checkpoint", low=1)
    patience: int = option(20, "evaluations without a better one after which training ends", low=1)
    seed: int = option(0, "seed of the crops and the weights", low=0)
    threads: int = option(1, "threads that torch may use", low=1)
    calibration_blocks: int = option(2048, "blocks recorded for calibration", low=16)
    held_out_blocks: int = option(512, "blocks of test photographs recorded for figures on the board", low=16)

    @property
    def run_name(self) -> str:
        """Folder of its run where nothing is said."""
        return "codec"
