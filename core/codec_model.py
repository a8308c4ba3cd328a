"""What encoder and decoder of an image codec share: quantizer steps, contexts and frequency tables, all integers.

A block of 8x8 pixels has ``channels`` numbers. They are coded in their order, in parts of the file that follow one
another (``chunks``), so that a file cut short lacks the last channels. Each has a context: a weighted sum of magnitudes
coded before, cut into :data:`LEVELS`; channel and level choose one of a few frequency tables.
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ArtifactError

BLOCK = 8
"""Pixels along a side of a block."""

BLOCK_VALUES = 3 * BLOCK * BLOCK

PIXEL_CENTRE, PIXEL_SPAN = 128, 64
"""A pixel p enters an encoder as (p - 128) / 64, so that int8 holds it exactly."""

PREDICTED = 3
"""Channels of which the difference to a prediction from the neighbours is coded."""

REACH = 15
"""Symbols are the numbers from -REACH to REACH, then the escape, behind which a number follows in full."""

SYMBOLS = 2 * REACH + 2
ESCAPE = SYMBOLS - 1
ESCAPE_BITS = 11
"""Of a number in full, less -1024: a difference of two quantized numbers."""

LARGEST = 511
"""Of a quantized number, in steps."""

LARGEST_MAGNITUDE = 31
"""What counts in a context."""

NEIGHBOURS = 4
"""Left, above, above left, above right: of the same channel."""

REFERENCES = 3
"""Channels before, at the same place."""

THRESHOLDS = (1, 3, 6, 10, 16, 24, 36, 54, 80, 120, 180, 270, 400, 600, 900)
"""A context's level is how many of these its sum reaches."""

LEVELS = len(THRESHOLDS) + 1

QUALITIES = 16
"""Quantizer steps, the coarsest first."""

CODES_FILE = "codec.npz"

HASH_BYTES = 4


@dataclass(frozen=True)
class CoderModel:
    """The static part of a codec, from training pictures alone."""

    steps: NDArray[np.float64]
    """[QUALITIES] in grey levels, falling."""

    offsets: NDArray[np.uint8]
    """[channels] in 1/256 of a step: added to a magnitude before it is rounded down."""

    chunks: NDArray[np.uint8]
    """[chunks] first channel of each part of the file."""

    weights: NDArray[np.uint8]
    """[channels, NEIGHBOURS + REFERENCES]"""

    references: NDArray[np.uint8]
    """[channels, REFERENCES], each below its channel; 0 with weight 0 where there is none."""

    table_of: NDArray[np.uint8]
    """[channels, LEVELS] number of a table."""

    tables: NDArray[np.uint16]
    """[tables, SYMBOLS] frequencies from 1 on, the sum of each is 2^16."""

    @property
    def channels(self) -> int:
        """Numbers per block."""
        return len(self.weights)

    @property
    def table_bytes(self) -> int:
        """Flash of tables, their choice, and contexts."""
        return int(sum(getattr(self, f.name).nbytes for f in fields(self) if f.name != "steps"))

    def chunk_ranges(self) -> list[tuple[int, int]]:
        """First and last channel (excluded) of each chunk."""
        starts = [int(start) for start in self.chunks]
        return list(zip(starts, [*starts[1:], self.channels], strict=True))

    def digest(self) -> bytes:
        """:data:`HASH_BYTES` that another model hardly has."""
        hashed = hashlib.sha256()
        for name, array in sorted(self.arrays().items()):
            hashed.update(name.encode() + array.tobytes())
        return hashed.digest()[:HASH_BYTES]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """By name, little-endian, as :meth:`read` takes them."""
        return {f.name: np.ascontiguousarray(getattr(self, f.name)) for f in fields(self)}

    def write(self, path: Path) -> None:
        """Write ``codec.npz``."""
        np.savez_compressed(path, **self.arrays())

    @classmethod
    def read(cls, path: Path) -> CoderModel:
        """Read what :meth:`write` wrote.

        :raises ArtifactError: missing, torn, or numbers that are no model
        """
        try:
            with path.open("rb") as stream, np.load(stream) as stored:
                model = cls(**{f.name: stored[f.name] for f in fields(cls)})
            model.check()
        except (OSError, KeyError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise ArtifactError(
                "no readable codec here", where=path, got=error, cure="train the codec again"
            ) from error
        return model

    def check(self) -> None:
        """:raises ValueError: sizes or values that do not fit each other"""
        n = self.channels
        channel = np.arange(n)[:, None]
        holds = {
            "steps": self.steps.shape == (QUALITIES,) and bool((self.steps > 0).all()),
            "offsets": self.offsets.shape == (n,),
            "chunks": self.chunks[0] == 0
            and bool((np.diff(self.chunks.astype(int)) > 0).all())
            and self.chunks[-1] < n,
            "weights": self.weights.shape == (n, NEIGHBOURS + REFERENCES) and n >= PREDICTED,
            "references": self.references.shape == (n, REFERENCES)
            and bool(((self.references < channel) | (self.weights[:, NEIGHBOURS:] == 0)).all()),
            "table_of": self.table_of.shape == (n, LEVELS) and bool((self.table_of < len(self.tables)).all()),
            "tables": self.tables.shape[1:] == (SYMBOLS,)
            and bool((self.tables > 0).all())
            and bool((self.tables.sum(axis=1, dtype=np.int64) == 1 << 16).all()),
        }
        wrong = [name for name, held in holds.items() if not held]
        if wrong:
            raise ValueError(f"{', '.join(wrong)} of a wrong shape or value")
