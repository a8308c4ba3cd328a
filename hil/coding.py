"""An image encoder on the board: whole held-out pictures coded, sent back, compared and decoded again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from policyport.core.artifact import Artifact
from policyport.core.codec_latents import decode_numbers, quantize_reals
from policyport.core.codec_picture import Picture
from policyport.core.errors import ParityError
from policyport.core.progress import Advance
from policyport.core.similarity import SMALLEST_SIDE, ms_ssim
from policyport.core.task import Task
from policyport.firmware_bridge.client import Bridge
from policyport.hil.codec import PictureDecoder, PictureEncoder, decibels, real_code, squared_error
from policyport.hil.coding_figures import BoardFile, CodingFigures, QualityFigures, Rate
from policyport.hil.config import HilConfig
from policyport.hil.held_out import HeldOut
from policyport.hil.policy import FloatPolicy
from policyport.hil.rig import Rig


def in_turn(names: Sequence[str], qualities: Sequence[int]) -> list[tuple[str, int]]:
    """Every picture at every quality: each picture once before any comes again, qualities alternating."""
    return [
        (name, qualities[(number + turn) % len(qualities)])
        for turn in range(len(qualities))
        for number, name in enumerate(names)
    ]


class Coder:
    """A deployed codec: its encoder's integers, its encoder in float32, and its decoder."""

    def __init__(self, deployed: Artifact, task: Task) -> None:
        self.encoder = PictureEncoder.open(deployed)
        self.decoder = PictureDecoder(deployed.path)
        self._float32 = FloatPolicy(deployed.file("float.onnx"), task)

    def float_code(self, picture: Picture) -> NDArray[np.float32]:
        """What the encoder makes in float32 [block rows, block columns, channels], in grey levels."""
        return real_code(self._float32.outputs, picture, self.encoder.coder.channels)

    def float_numbers(self, code: NDArray[np.float32], quality: int) -> NDArray[np.int64]:
        """A float32 code as quantized numbers."""
        coder = self.encoder.coder
        return quantize_reals(code, float(coder.steps[quality]), coder.offsets)

    def judged(self, picture: Picture, numbers: NDArray[np.int64], quality: int) -> tuple[bytes, Picture, Rate]:
        """The file of quantized numbers, what is decoded of it, and how good that is."""
        data = self.encoder.pack(picture, numbers, quality)
        seen = self.decoder.picture(numbers, self.encoder.header(picture, quality))
        alike = ms_ssim(picture, seen) if min(picture.shape[:2]) >= SMALLEST_SIDE else None
        bits = 8 * len(data) / (picture.shape[0] * picture.shape[1])
        return data, seen, Rate(bits, decibels(squared_error(seen, picture)), alike)


@dataclass(frozen=True)
class Reference:
    """What the integers in numpy make of a picture at a quality, and what float32 does."""

    numbers: NDArray[np.int64]
    data: bytes
    seen: Picture
    board: Rate
    float32: Rate


def references(coder: Coder, picture: Picture, qualities: Iterable[int]) -> dict[int, Reference]:
    """By quality."""
    code, exact, found = coder.encoder.code(picture), coder.float_code(picture), {}
    for quality in qualities:
        numbers = coder.encoder.quantized(code, quality)
        _, _, float32 = coder.judged(picture, coder.float_numbers(exact, quality), quality)
        found[quality] = Reference(numbers, *coder.judged(picture, numbers, quality), float32)
    return found


def code_pictures(
    bridge: Bridge,
    rig: Rig,
    coder: Coder,
    held_out: HeldOut,
    config: HilConfig,
    folder: Path,
    advance: Advance,
) -> CodingFigures:
    """Figures of every picture at every quality, some of them coded by the board.

    Leaves in ``folder`` the board's files, and the first picture with what is decoded of it at each quality.

    :param config: qualities, and how many files the board is to make
    :param advance: is told of the board's files
    :raises ParityError: a file of the board is not the reference's; both are left in ``folder``
    """
    qualities = list(dict.fromkeys(config.qualities))
    known = {name: references(coder, picture, qualities) for name, picture in held_out.pictures.items()}
    files = []
    for number, (name, quality) in enumerate(in_turn(list(known), qualities)[: config.coded_files]):
        picture, expected = held_out.pictures[name], known[name][quality]
        data, ticks = coder.encoder.encode_on_board(bridge, picture, quality)
        path = folder / f"{name}-{quality}.ppc"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        _require_same(data, expected.data, path)
        _require_decoded(coder, data, expected, path)
        height, width = picture.shape[:2]
        files.append(BoardFile(name, width, height, quality, len(data), rig.instructions(ticks, 0)))
        advance(number + 1)
    first = next(iter(known))
    write_picture(held_out.pictures[first], folder / "original.png")
    for quality in qualities:
        write_picture(known[first][quality].seen, folder / f"quality-{quality}.png")
    rows = tuple(_quality(quality, known.values(), files) for quality in qualities)
    return CodingFigures(held_out.source, len(known), rows, tuple(files))


def write_picture(picture: Picture, path: Path) -> None:
    """Write a PNG."""
    from PIL import Image

    Image.fromarray(picture).save(path)


def _quality(quality: int, known: Iterable[Mapping[int, Reference]], files: Iterable[BoardFile]) -> QualityFigures:
    of_all = [each[quality] for each in known]
    counts = [file.per_pixel for file in files if file.quality == quality]
    return QualityFigures(
        quality,
        _mean([one.board for one in of_all]),
        _mean([one.float32 for one in of_all]),
        float(np.mean(counts)) if counts else None,
    )


def _mean(rates: Sequence[Rate]) -> Rate:
    alike = [rate.ms_ssim for rate in rates if rate.ms_ssim is not None]
    return Rate(
        float(np.mean([rate.bits_per_pixel for rate in rates])),
        float(np.mean([rate.psnr_db for rate in rates])),
        float(np.mean(alike)) if len(alike) == len(rates) else None,
    )


def _require_same(got: bytes, expected: bytes, path: Path) -> None:
    if got == expected:
        return
    kept = path.with_suffix(".reference.ppc")
    kept.write_bytes(expected)
    at = next((i for i, pair in enumerate(zip(got, expected, strict=False)) if pair[0] != pair[1]), None)
    where = min(len(got), len(expected)) if at is None else at
    raise ParityError(
        "the board's file of a picture differs from the reference's",
        where=f"{path.name}, byte {where}",
        expected=f"{expected[where : where + 8].hex() or 'its end'}..., {len(expected):,} bytes",
        got=f"{got[where : where + 8].hex() or 'its end'}..., {len(got):,} bytes",
        cure=f"both files are kept: {path} and {kept.name}",
    )


def _require_decoded(coder: Coder, data: bytes, expected: Reference, path: Path) -> None:
    from policyport.core.codec_file import unpack_picture

    coded = unpack_picture(data, coder.decoder.coder, path)
    numbers = decode_numbers(coded.chunks, coded.header.rows, coded.header.columns, coder.decoder.coder)
    if coded.problem or not np.array_equal(numbers, expected.numbers):
        raise ParityError(
            "the board's file of a picture does not decode to the numbers that were coded",
            where=path,
            got=coded.problem or f"{int((numbers != expected.numbers).sum()):,} other numbers",
        )
