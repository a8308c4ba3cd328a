"""A trained encoder in float32: its files are what its integers are measured against."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from policyport.core.artifact import Artifact
from policyport.core.codec_file import Header, pack_picture
from policyport.core.codec_latents import encode_numbers, quantize_reals
from policyport.core.codec_model import CODES_FILE, CoderModel
from policyport.hil.codec import PictureDecoder, real_code
from policyport.pipeline.codec_rates import Coded

FloatCoder = Callable[[NDArray[np.uint8]], Coded]
"""What codes a picture [rows, columns, 3]."""


def coder_of_float(trained: Artifact) -> FloatCoder:
    """The encoder of a train artifact in float32, with the decoder and the tables there."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(trained.file("policy.onnx")), options, providers=["CPUExecutionProvider"]
    )
    coder, decoder = CoderModel.read(trained.file(CODES_FILE)), PictureDecoder(trained.path)

    def of(picture: NDArray[np.uint8]) -> Coded:
        code = real_code(lambda blocks: session.run(None, {"observation": blocks})[0], picture, coder.channels)

        def coded(quality: int) -> tuple[int, NDArray[np.uint8]]:
            header = Header(picture.shape[1], picture.shape[0], quality, False, coder.digest())
            numbers = quantize_reals(code, float(coder.steps[quality]), coder.offsets)
            return len(pack_picture(header, encode_numbers(numbers, coder))), decoder.picture(numbers, header)

        return coded

    return of
