"""What is measured of an image encoder's pictures, as ``result.json`` holds it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """What coded pictures take and what is left of them: means over the pictures."""

    bits_per_pixel: float
    """Of whole files, headers and all."""

    psnr_db: float
    ms_ssim: float | None
    """None where a picture is too small for its five scales."""


@dataclass(frozen=True)
class QualityFigures:
    """An image codec's held-out pictures at one quality."""

    quality: int
    board: Rate
    """Of the files that the board's integers make, every picture's."""

    float32: Rate
    """The same with the encoder in float32, and the same quantizer, coder and decoder."""

    per_pixel: float | None
    """Network and coder together, in the board's unit, mean over the files of this quality that the board itself made;
    None where it made none."""


@dataclass(frozen=True)
class BoardFile:
    """A picture that the board coded: its file is the reference's, byte for byte, and decodes to the same numbers."""

    picture: str
    width: int
    height: int
    quality: int
    file_bytes: int
    count: int
    """Network and coder together, in the board's unit."""

    @property
    def per_pixel(self) -> float:
        """:attr:`count` over the pixels."""
        return self.count / (self.width * self.height)


@dataclass(frozen=True)
class CodingFigures:
    """An image encoder's held-out pictures, coded and decoded again."""

    source: str
    """Where the pictures come from."""

    pictures: int
    qualities: tuple[QualityFigures, ...]
    files: tuple[BoardFile, ...]
    """Made by the board: pictures and qualities in turn, as many as were asked for. All others are the reference's."""

    @property
    def per_pixel(self) -> float:
        """Network and coder together, in the board's unit, mean over the board's files."""
        return sum(file.per_pixel for file in self.files) / len(self.files)

    @property
    def compared_bytes(self) -> int:
        """Of the board's files."""
        return sum(file.file_bytes for file in self.files)
