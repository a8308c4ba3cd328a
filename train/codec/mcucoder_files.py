"""MCUCoder's code as files by our entropy coder: contexts and tables from training pictures alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from policyport.core.codec_file import Header, pack_picture
from policyport.core.codec_latents import Numbers, encode_numbers, multiplier, quantize_numbers
from policyport.core.codec_model import CoderModel
from policyport.core.codec_picture import shown, whole_blocks
from policyport.train.codec.mcucoder import CHANNELS, McuCodec
from policyport.train.codec.tables import fit_coder

LEVELS_OF_A_CHANNEL = 64
"""Into which its ``video_enc_dec.py`` cuts a channel's range."""

FINEST_STEP = 0.51
"""In parts of :data:`LEVELS_OF_A_CHANNEL`: with it the fourth finest step is one part, as published."""

PUBLISHED_QUALITY = 12
"""That step's."""

SCALE = 1 / 256
"""Of a code as integers of 16 bits, in parts."""


@dataclass(frozen=True)
class McuFiles:
    """A trained MCUCoder and its coder: a file has the first so many channels, a part of it each."""

    codec: McuCodec
    centre: NDArray[np.float32]
    """[CHANNELS, 1, 1] mean of each channel over training pictures."""

    part: NDArray[np.float32]
    """[CHANNELS, 1, 1] of its range over training pictures, over :data:`LEVELS_OF_A_CHANNEL`."""

    coder: CoderModel

    @classmethod
    def fit(cls, codec: McuCodec, pictures: Sequence[NDArray[np.uint8]]) -> McuFiles:
        """The coder of a trained codec.

        :param pictures: for training, each [rows, columns, 3], whole blocks
        """
        codes = [_code(codec, picture) for picture in pictures]
        flat = np.concatenate([code.reshape(CHANNELS, -1) for code in codes], axis=1)
        centre = flat.mean(axis=1).reshape(-1, 1, 1)
        part = (np.ptp(flat, axis=1) / LEVELS_OF_A_CHANNEL).reshape(-1, 1, 1)
        parts = [((code - centre) / part).transpose(1, 2, 0).astype(np.float64) for code in codes]
        fitted = fit_coder(parts, FINEST_STEP, rounding=0.5)
        return cls(codec, centre, part, dataclasses.replace(fitted, chunks=np.arange(CHANNELS, dtype=np.uint8)))

    def numbers(self, picture: NDArray[np.uint8], quality: int) -> Numbers:
        """Quantized numbers [block rows, block columns, CHANNELS] of a picture [rows, columns, 3]."""
        parts = (_code(self.codec, whole_blocks(picture)) - self.centre) / self.part
        outputs = np.clip(np.round(parts.transpose(1, 2, 0) / SCALE), -32767, 32767).astype(np.int64)
        return quantize_numbers(outputs, multiplier(float(self.coder.steps[quality]), SCALE), self.coder.offsets)

    def file(self, picture: NDArray[np.uint8], numbers: Numbers, quality: int, kept: int) -> bytes:
        """The file of a picture's first ``kept`` channels."""
        header = Header(picture.shape[1], picture.shape[0], quality, False, self.coder.digest())
        return pack_picture(header, encode_numbers(numbers, self.coder)[:kept])

    def picture(self, numbers: Numbers, quality: int, kept: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """What is decoded of a file.

        :param size: rows and columns
        """
        parts = numbers.transpose(2, 0, 1).astype(np.float32) * np.float32(self.coder.steps[quality])
        code = torch.from_numpy(parts * self.part + self.centre)
        code[kept:] = 0
        with torch.no_grad():
            values = 255 * self.codec.decode(code[None])[0].numpy()
        return shown(values, *size, grey=False)


def _code(codec: McuCodec, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """[CHANNELS, block rows, block columns] of a picture of whole blocks."""
    planes = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        return np.asarray(codec.encoder(planes)[0].numpy(), np.float32)
