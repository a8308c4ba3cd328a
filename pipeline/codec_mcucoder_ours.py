"""Our codec as it is measured beside MCUCoder: by quality, and at the coarsest step by files cut short."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.artifact import code_version
from policyport.core.codec_file import pack_picture
from policyport.core.codec_latents import encode_numbers
from policyport.pipeline.cells import cell as kept_cell
from policyport.pipeline.codec_mcucoder import MEASURING
from policyport.pipeline.codec_rates import OURS, Coded, Point, coder_of, curve_of
from policyport.pipeline.codec_study import CodecCell, opened, trained
from policyport.pipeline.run import Say

if TYPE_CHECKING:
    from policyport.hil.codec import PictureDecoder, PictureEncoder

QUALITIES = (0, 3, 6)

PARTS = (1, 2, 4)
"""In files at quality 0 that are cut short."""


@dataclass(frozen=True)
class OurResult:
    """Our trained codec over the test photographs."""

    by_quality: tuple[Point, ...]
    cut_short: tuple[Point, ...]
    """A point's quality is the number of parts that are left."""

    @property
    def points(self) -> tuple[Point, ...]:
        """All of them."""
        return (*self.by_quality, *self.cut_short)

    @classmethod
    def of_table(cls, table: dict[str, Any]) -> OurResult:
        """The inverse of :func:`dataclasses.asdict`."""
        return cls(**{name: tuple(Point(**point) for point in points) for name, points in table.items()})


def run_ours(cell: CodecCell, folder: Path, say: Say) -> OurResult:
    """Train it and code the test photographs by its integers, unless its file says what came of that already.

    :raises ToolError: a package is not installed
    """
    from policyport.train.codec.photographs import test_photographs

    key = trained(cell, folder / "cells" / cell.name, say)

    def measured() -> dict[str, Any]:
        coders, pictures = opened(cell, folder), list(test_photographs().values())
        by_quality = curve_of(f"{OURS}, by quality", QUALITIES, [(p, coder_of(*coders, p)) for p in pictures])
        cut_short = curve_of(f"{OURS}, quality 0 cut short", PARTS, [(p, _cut(*coders, p)) for p in pictures])
        return dataclasses.asdict(OurResult(tuple(by_quality), tuple(cut_short)))

    given = {"integers": key, "qualities": QUALITIES, "parts": PARTS, "code": code_version(*MEASURING)}
    return OurResult.of_table(kept_cell(folder / "cells", cell.name, given, measured))


def _cut(encoder: PictureEncoder, decoder: PictureDecoder, picture: NDArray[np.uint8]) -> Coded:
    numbers, header = encoder.numbers(picture, 0), encoder.header(picture, 0)
    chunks: Sequence[bytes] = encode_numbers(numbers, encoder.coder)

    def coded(parts: int) -> tuple[int, NDArray[np.uint8]]:
        left = numbers.copy()
        left[..., encoder.coder.chunk_ranges()[parts - 1][1] :] = 0
        return len(pack_picture(header, list(chunks[:parts]))), decoder.picture(left, header)

    return coded
