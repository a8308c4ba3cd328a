"""Peers that a Python package brings, run anew where it is installed: TensorFlow Lite Micro's own interpreter.

onnxruntime and TFLite are asked by the deploy stage already. The package ``tflite-micro`` holds the portable
kernels for the host: it says whether their integers are ours, not how fast they are on a board.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from policyport.core.artifact import Artifact

MICRO = "tflite-micro"


def live_agreement(built: Artifact) -> dict[str, float]:
    """Runtime to the share of the network's outputs that equal the reference, over the held-out observations.

    :param built: a deploy artifact
    :returns: empty where the package is not installed, or the network has no TFLite file
    """
    try:
        runtime = importlib.import_module("tflite_micro").runtime
    except ImportError:
        return {}
    if "policy.tflite" not in built.manifest.files:
        return {}
    import numpy as np
    from policyport.core.task import Task
    from policyport.deploy import reference
    from policyport.deploy.exports import run_tflite
    from policyport.deploy.program import quantize_input, read_program

    program = read_program(built.path)
    with np.load(built.file("observations.npz")) as arrays:
        held_out = Task.read(built.file("task.json")).check_observation(arrays["held_out"])
    q = quantize_input(program, held_out)
    outputs = run_tflite(MicroInterpreter(runtime, built.file("policy.tflite")), program, q)
    return {MICRO: float((outputs == reference.run(program, q)[-1]).mean())}


class MicroInterpreter:
    """TensorFlow Lite Micro's interpreter with the methods of TFLite's.

    :param runtime: the module ``tflite_micro.runtime``
    """

    def __init__(self, runtime: Any, model: Path) -> None:
        self._interpreter = runtime.Interpreter.from_file(str(model))

    def get_input_details(self) -> list[dict[str, Any]]:
        """Of the one input."""
        return [{**self._interpreter.get_input_details(0), "index": 0}]

    def get_output_details(self) -> list[dict[str, Any]]:
        """Of the one output."""
        return [{**self._interpreter.get_output_details(0), "index": 0}]

    def set_tensor(self, index: int, value: Any) -> None:
        """Set an input."""
        self._interpreter.set_input(value, index)

    def invoke(self) -> None:
        """Run once."""
        self._interpreter.invoke()

    def get_tensor(self, index: int) -> Any:
        """An output."""
        return self._interpreter.get_output(index)
