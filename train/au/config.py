"""Options of the training of a network that sees action units."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from policyport.core.options import option
from policyport.quantize.config import ACTIVATION_BITS, WEIGHT_BITS
from policyport.train.faces.units import EMOTIONET

FORMATS = ("rendered", "bp4d", "disfa", "emotionet", "ckplus", "raf-au", "aff-wild2", "csv")


@dataclass(frozen=True)
class AuConfig:
    """Which faces, which network, and how both views are trained."""

    network: Path | None = option(
        None,
        "folder of a finished train artifact to take instead of training, with the faces and options that it was "
        "trained with; with qat_weights, its integers are trained",
    )
    labelled: Path | None = option(None, "folder of labelled pictures; none renders faces")
    unlabelled: Path | None = option(None, "folder of pictures without labels, searched through; none renders faces")
    format: Literal["rendered", "bp4d", "disfa", "emotionet", "ckplus", "raf-au", "aff-wild2", "csv"] = option(
        "rendered", "how the labelled folder is laid out", choices=FORMATS
    )
    units: tuple[int, ...] = option(EMOTIONET, "action units, by their numbers in the Facial Action Coding System")
    persons: int = option(550, "rendered persons with labels", low=4)
    unlabelled_persons: int = option(0, "rendered persons without labels", low=0)
    images_per_person: int = option(32, "rendered pictures of each person", low=1)
    backbone: Literal["plain", "depthwise", "resnet34"] = option(
        "plain", "network of each view", choices=("plain", "depthwise", "resnet34")
    )
    side: int = option(64, "pixels along a side of an aligned picture", low=32)
    colour: bool = option(False, "three channels instead of grey")
    views: Literal[1, 2] = option(1, "views that are deployed: the first, or the mean of both", choices=(1, 2))
    view_weight: float = option(400.0, "weight of the multi-view loss, the paper's 400; 0 leaves it out", low=0)
    agreement_weight: float = option(
        10.0, "weight of the co-regularization loss, the paper's 100; 0 leaves it out", low=0
    )
    relations: bool = option(True, "a second stage with the graph network over relations between units")
    selective: bool = option(False, "selective learning, as the paper: rare units lose negatives of a batch")
    steps: int = option(4000, "batches of the first stage", low=1)
    relation_steps: int = option(1000, "batches of the second stage", low=1)
    batch: int = option(96, "labelled pictures of a batch", low=2)
    unlabelled_batch: int = option(96, "unlabelled pictures of a batch, where there are any", low=1)
    learning_rate: float = option(2e-3, "Adam's, at the start of each stage", low=0)
    separate_augmentation: bool = option(True, "each view sees its own variant of a picture")
    evaluate_every: int = option(500, "batches between two evaluations, each also a checkpoint", low=1)
    patience: int = option(6, "evaluations without a better one after which a stage ends", low=1)
    last_layer: bool = option(
        False,
        "solve the last layer anew at the end of each stage: logistic regression for each unit, with a penalty; taken "
        "where validation gains",
    )
    qat_weights: int | None = option(
        None,
        "quantization-aware training: width of the deployed network's weights, in bits; none trains float32 alone",
        choices=WEIGHT_BITS,
    )
    qat_activations: int = option(8, "qat_weights: width of activations, in bits", choices=ACTIVATION_BITS)
    qat_steps: int = option(
        2000, "qat_weights: batches after the float training; 0 rounds, and tunes thresholds alone", low=0
    )
    qat_batch: int = option(64, "qat_weights: labelled pictures of a batch", low=2)
    qat_learning_rate: float = option(2e-3, "qat_weights: Adam's, at the start", low=0)
    fold: int = option(
        0,
        "published fold to test: 1 to 3 of bp4d and disfa, 1 of aff-wild2; 0 draws the subjects",
        low=0,
        high=3,
    )
    validation_share: float = option(0.1, "share of the labelled subjects for early stopping and thresholds", low=0.01)
    test_share: float = option(0.15, "share of the labelled subjects for figures, and the board's pictures", low=0.01)
    seed: int = option(0, "seed of the faces, the split and the training", low=0)
    threads: int = option(1, "threads that torch may use", low=1)
    device: Literal["cpu", "cuda"] = option("cpu", "what torch trains on", choices=("cpu", "cuda"))
    processes: int = option(1, "processes that render faces", low=1)
    calibration_pictures: int = option(512, "pictures recorded for calibration", low=1)
    held_out_pictures: int = option(1024, "test pictures recorded for figures on the board", low=1)

    @property
    def run_name(self) -> str:
        """Folder of its run where nothing is said."""
        return "au"
