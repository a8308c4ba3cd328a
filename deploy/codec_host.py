"""The generated image encoder on this machine: the same C that runs on the board."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from policyport.core.codec_model import BLOCK
from policyport.core.codec_picture import whole_blocks
from policyport.core.errors import ObservationError
from policyport.deploy.codec_sources import TABLES
from policyport.deploy.host import HostLibrary

_TAKE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint8, ctypes.c_uint32)

_STATE_SLACK = 4096
"""Bytes of ``pp_codec_t`` beside its two rows of blocks, at the most."""


class HostCodec(HostLibrary):
    """A compiled image encoder.

    :param folder: of sources, as the deploy stage left it
    :raises ToolError: no compiler, or it refused the code
    """

    def __init__(self, folder: Path, compiler: Sequence[str] | None = None, flags: Sequence[str] = ()) -> None:
        super().__init__(folder, compiler, flags)
        header = (folder / f"{TABLES}.h").read_text()
        sizes = {name: int(value) for name, value in re.findall(r"#define PP_CODEC_(\w+) (\d+)u", header)}
        self.parts, self.width_max = sizes["PARTS"], sizes["WIDTH_MAX"]
        columns = self.width_max // BLOCK + 3
        self._state_bytes = columns * (sizes["CHANNELS"] + 2 * sizes["PREDICTED"]) + _STATE_SLACK

    def encode(self, picture: NDArray[np.uint8], quality: int) -> list[bytes]:
        """The parts of a picture's file.

        :param picture: [rows, columns, 3] or [rows, columns]
        :raises ObservationError: it is wider than the code was built for
        """
        pixels = whole_blocks(picture)
        width = pixels.shape[1]
        if width > self.width_max + -self.width_max % BLOCK:
            raise ObservationError("a picture that is too wide", expected=self.width_max, got=width)
        parts = [bytearray() for _ in range(self.parts)]

        def take(_: int | None, part: int, byte: int, count: int) -> None:
            parts[part].extend(bytes([byte]) * count)

        call = _TAKE(take)
        state = ctypes.create_string_buffer(self._state_bytes)
        self._library.pp_codec_begin(state, width, quality)
        for strip in pixels.reshape(-1, BLOCK, width, 3):
            rows = np.ascontiguousarray(strip)
            self._library.pp_codec_strip(state, ctypes.c_void_p(rows.ctypes.data), width, call, None)
        self._library.pp_codec_finish(state, call, None)
        return [bytes(part).rstrip(b"\0") for part in parts]
