"""``policyport study codec --peer mcucoder``: MCUCoder's encoder beside ours, trained here on the same photographs.

As many batches of as many crops train each. MCUCoder's code is coded by our entropy coder, with contexts and tables
from training photographs; the test photographs' files are counted whole. A cell is a file, its training a checkpoint
beside it, so that an interrupted comparison goes on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.artifact import code_version, sha256_json
from policyport.pipeline.cells import cell as kept_cell
from policyport.pipeline.codec_rates import Coded, Point, curve_of

if TYPE_CHECKING:
    from policyport.train.codec.mcucoder import DecoderName
    from policyport.train.codec.mcucoder_files import McuFiles
    from policyport.train.codec.mcucoder_learner import McuConfig

DECODERS: dict[DecoderName, tuple[str, int]] = {
    "ours": ("our decoder's convolutions", 48),
    "own": ("a decoder of its kind, 32 wide", 32),
}
"""Name to what it is and its width."""

KEPT = (1, 2, 4, 6, 9, 12)
"""Channels in its files."""

SOURCES = ("mcucoder", "mcucoder_learner", "learner", "losses", "networks", "photographs")
"""Of ``train/codec``: what a training depends on."""

_RATES = Path(__file__).with_name("codec_rates.py")
MEASURING = (_RATES, _RATES.parents[1] / "train" / "codec" / "mcucoder_files.py")
"""What a measurement depends on."""


@dataclass(frozen=True)
class McuCell:
    """One training of MCUCoder's encoder."""

    decoder: DecoderName
    steps: int
    seed: int
    images: Path | None = None
    """Folder of photographs; None takes the listed packages."""

    @property
    def name(self) -> str:
        """Its folder and file."""
        return f"mcucoder-{self.decoder}-{self.seed}"

    @property
    def config(self) -> McuConfig:
        """Of its training."""
        from policyport.train.codec.mcucoder_learner import McuConfig

        return McuConfig(self.decoder, DECODERS[self.decoder][1], self.steps, self.seed)


@dataclass(frozen=True)
class McuResult:
    """A trained MCUCoder over the test photographs."""

    decoder: DecoderName
    points: tuple[Point, ...]
    """At its authors' quantizer step; a point's quality is the number of channels."""

    decoder_parameters: int
    cpu_seconds: float
    """That its training took."""

    @classmethod
    def of_table(cls, table: dict[str, Any]) -> McuResult:
        """The inverse of :func:`dataclasses.asdict`."""
        fields: dict[str, Any] = {**table, "points": tuple(Point(**point) for point in table["points"])}
        return cls(**fields)


Said = Callable[[str, Sequence[Point]], None]
"""Is told the name of a cell that is measured, and its curve."""


def run_mcucoder(cell: McuCell, folder: Path) -> McuResult:
    """Train it and code the test photographs, unless its file says what came of that already.

    :raises ToolError: a package is not installed
    """
    from policyport.train.codec.photographs import test_photographs

    trained_key = _training_key(cell)

    def measured() -> dict[str, Any]:
        checkpoint = folder / "cells" / cell.name / f"{trained_key[:16]}.pt"
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        files, parameters, seconds = _trained(cell, checkpoint)
        coders = [(picture, coder_of_mcucoder(files, picture)) for picture in test_photographs().values()]
        points = curve_of(f"MCUCoder, {DECODERS[cell.decoder][0]}", KEPT, coders)
        return dataclasses.asdict(McuResult(cell.decoder, tuple(points), parameters, round(seconds, 1)))

    given = {"training": trained_key, "kept": KEPT, "code": code_version(*MEASURING)}
    return McuResult.of_table(kept_cell(folder / "cells", cell.name, given, measured))


def _training_key(cell: McuCell) -> str:
    from policyport.train.codec import stage
    from policyport.train.codec.config import CodecConfig

    photographs = stage.data_inputs(CodecConfig(images=cell.images))
    code = code_version(*(Path(stage.__file__).with_name(f"{name}.py") for name in SOURCES))
    return sha256_json([dataclasses.asdict(cell.config), photographs, code])


def _trained(cell: McuCell, checkpoint: Path) -> tuple[McuFiles, int, float]:
    """Its files, its decoder's parameters, and the processor seconds of the training."""
    import torch
    from policyport.core.codec_model import BLOCK
    from policyport.train.codec.mcucoder_files import McuFiles
    from policyport.train.codec.mcucoder_learner import learn_mcucoder
    from policyport.train.codec.photographs import training_pictures
    from policyport.train.codec.stage import FITTED_SIDE

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pictures = training_pictures(cell.images, Path("/"), cell.seed)
        state = learn_mcucoder(cell.config, pictures, checkpoint)
        sides = [[min(FITTED_SIDE, side) // BLOCK * BLOCK for side in picture.shape[:2]] for picture in pictures]
        corners = [picture[:rows, :columns] for picture, (rows, columns) in zip(pictures, sides, strict=True)]
        files = McuFiles.fit(state.codec, corners)
    finally:
        torch.set_num_threads(threads)
    return files, sum(p.numel() for p in state.codec.decoder.parameters()), state.cpu_seconds


def coder_of_mcucoder(files: McuFiles, picture: NDArray[np.uint8]) -> Coded:
    """Its files of one picture, by the number of channels."""
    from policyport.train.codec.mcucoder_files import PUBLISHED_QUALITY

    numbers, size = files.numbers(picture, PUBLISHED_QUALITY), (picture.shape[0], picture.shape[1])

    def coded(kept: int) -> tuple[int, NDArray[np.uint8]]:
        data = files.file(picture, numbers, PUBLISHED_QUALITY, kept)
        return len(data), files.picture(numbers, PUBLISHED_QUALITY, kept, size)

    return coded
