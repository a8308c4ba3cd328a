"""A picture to a coded file, by the integers in numpy or by a board, and back, by float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from policyport.core.artifact import Artifact
from policyport.core.codec_file import LARGEST_SIDE, Header, pack_picture, unpack_picture
from policyport.core.codec_latents import decode_numbers, encode_numbers, multiplier, quantize_numbers
from policyport.core.codec_model import BLOCK, CODES_FILE, PIXEL_CENTRE, QUALITIES, CoderModel
from policyport.core.codec_picture import Picture, blocks_of, coloured, shown, whole_blocks
from policyport.core.errors import ObservationError
from policyport.core.progress import Advance
from policyport.deploy import reference
from policyport.deploy.codec_sources import check_encoder
from policyport.deploy.program import Program, read_program
from policyport.firmware_bridge.client import Bridge
from policyport.firmware_bridge.pictures import encode_on_board

DECODER_FILE = "decoder.onnx"
PICTURES_FILE = "pictures.npz"

AT_ONCE = 4096
"""Blocks that the integers in numpy take at once."""


class PictureEncoder:
    """An encoder's integers and its coder.

    :raises UnsupportedModelError: they do not belong together
    """

    def __init__(self, program: Program, coder: CoderModel) -> None:
        check_encoder(program, coder)
        self.program = program
        self.coder = coder

    @classmethod
    def open(cls, deployed: Artifact) -> PictureEncoder:
        """That of a deploy artifact.

        :raises ArtifactError: it is of no codec
        """
        return cls(read_program(deployed.path), CoderModel.read(deployed.file(CODES_FILE)))

    def code(self, picture: Picture) -> NDArray[np.int64]:
        """The network's output [block rows, block columns, channels], of which each quality takes a quantizer step."""
        pixels = whole_blocks(picture)
        blocks = blocks_of(pixels).astype(np.int64) - PIXEL_CENTRE
        parts = [
            reference.run(self.program, blocks[start : start + AT_ONCE])[-1] for start in range(0, len(blocks), AT_ONCE)
        ]
        return np.concatenate(parts).reshape(pixels.shape[0] // BLOCK, -1, self.coder.channels)

    def quantized(self, code: NDArray[np.int64], quality: int) -> NDArray[np.int64]:
        """A picture's code as quantized numbers [block rows, block columns, channels]."""
        factor = multiplier(float(self.coder.steps[quality]), self.program.output.scale)
        numbers = quantize_numbers(code.reshape(-1, self.coder.channels), factor, self.coder.offsets)
        return numbers.reshape(code.shape)

    def numbers(self, picture: Picture, quality: int) -> NDArray[np.int64]:
        """Quantized numbers [block rows, block columns, channels]."""
        return self.quantized(self.code(picture), quality)

    def pack(self, picture: Picture, numbers: NDArray[np.int64], quality: int) -> bytes:
        """The file of a picture's quantized numbers.

        :raises ObservationError: no picture, or no such quality
        """
        return pack_picture(self.header(picture, quality), encode_numbers(numbers, self.coder))

    def encode(self, picture: Picture, quality: int) -> bytes:
        """The file, by the integers in numpy.

        :raises ObservationError: no picture, or no such quality
        """
        self.header(picture, quality)
        return self.pack(picture, self.numbers(picture, quality), quality)

    def encode_on_board(
        self, bridge: Bridge, picture: Picture, quality: int, advance: Advance | None = None
    ) -> tuple[bytes, int]:
        """The file as a board made it, and the ticks that it took.

        :raises ObservationError: no picture, no such quality, or one that the board does not take
        """
        header = self.header(picture, quality)
        parts = len(self.coder.chunks)
        coded = encode_on_board(bridge, coloured(picture), quality, parts, advance)
        return pack_picture(header, coded.parts), coded.ticks

    def header(self, picture: Picture, quality: int) -> Header:
        """What begins the file.

        :raises ObservationError: no picture, or no such quality
        """
        shape, grey = picture.shape, picture.ndim == 2
        if picture.dtype != np.uint8 or not (grey or (picture.ndim == 3 and shape[2] == 3)) or 0 in shape:
            raise ObservationError("no picture", expected="uint8 [rows, columns] or [rows, columns, 3]", got=shape)
        if max(shape[:2]) > LARGEST_SIDE:
            raise ObservationError("a picture that is too large", expected=f"sides to {LARGEST_SIDE}", got=shape[:2])
        if not 0 <= quality < QUALITIES:
            raise ObservationError("no such quality", expected=f"0 to {QUALITIES - 1}", got=quality)
        return Header(shape[1], shape[0], quality, grey, self.coder.digest())


class PictureDecoder:
    """Coded files to pictures: the coder in integers, then the decoder's float32 by onnxruntime.

    :param folder: with ``codec.npz`` and ``decoder.onnx``
    """

    def __init__(self, folder: Path) -> None:
        import onnxruntime

        self.coder = CoderModel.read(folder / CODES_FILE)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(folder / DECODER_FILE), options, providers=["CPUExecutionProvider"]
        )

    def decode(self, data: bytes, where: object) -> tuple[Picture, str]:
        """The picture, and what is wrong with the file, empty where nothing is: then it is the picture in less detail.

        :param where: what it was read from, for the error
        :raises ArtifactError: nothing of it is a picture of this codec
        """
        coded = unpack_picture(data, self.coder, where)
        header = coded.header
        numbers = decode_numbers(coded.chunks, header.rows, header.columns, self.coder)
        return self.picture(numbers, header), coded.problem

    def picture(self, numbers: NDArray[np.int64], header: Header) -> Picture:
        """Quantized numbers [block rows, block columns, channels] as a picture."""
        step = np.full((1, 1, 1, 1), self.coder.steps[header.quality], np.float32)
        planes = numbers.transpose(2, 0, 1)[None].astype(np.float32)
        (values,) = self._session.run(None, {"numbers": planes, "step": step})
        return shown(values[0], header.height, header.width, header.grey)


def real_code(
    outputs: Callable[[NDArray[np.float32]], NDArray[np.float32]], picture: Picture, channels: int
) -> NDArray[np.float32]:
    """What an encoder in real numbers makes of a picture [block rows, block columns, channels], in grey levels.

    :param outputs: blocks [n, values] to codes [n, channels], float32
    """
    pixels = whole_blocks(picture)
    return outputs(blocks_of(pixels).astype(np.float32)).reshape(pixels.shape[0] // BLOCK, -1, channels)


def squared_error(first: Picture, second: Picture) -> float:
    """Mean, in squared grey levels."""
    return float(np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2))


def decibels(error: float) -> float:
    """PSNR of a mean squared error in squared grey levels."""
    return float(10 * np.log10(255**2 / max(error, 1e-10)))
