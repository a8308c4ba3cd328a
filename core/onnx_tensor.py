"""Constants of an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from policyport.core.errors import ArtifactError


def read_tensor(tensor: Any, path: Path) -> NDArray[Any]:
    """A TensorProto as an array.

    :param path: of the file, for the error
    :raises ArtifactError: a type that ONNX does not have, or other bytes than its shape takes
    """
    from onnx import numpy_helper

    try:
        return numpy_helper.to_array(tensor)
    except (KeyError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise ArtifactError(
            "torn model: a constant does not read",
            where=f"{path}, tensor {tensor.name}",
            expected="values of a type of ONNX, as many as the shape says",
            got=f"type {tensor.data_type}, shape {list(tensor.dims)[:8]}",
        ) from error
