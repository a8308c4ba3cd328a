"""Runs in the emulated AArch64 Python: loads a runtime and a model, marks each inference for the plugin that counts.

    python3 arm64_guest.py FOLDER

``job.json`` names the runtime and the model, ``inputs.npy`` holds its inputs, one a row in the model's own shape and
type. ``answer.json`` gets the outputs and what lies where in memory. The regions of the first half are a call each
through the same binding that does nothing; those of the second half are an inference each. It imports nothing of ours.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

BEGIN, END = -7001, -7002
"""What block_counts.c waits for."""

WARM_UP = 3
"""Inferences before the first that is counted: buffers are found, and memory is laid out."""


class Runtime(Protocol):
    """A model, loaded."""

    def set_input(self, values: Any) -> None:
        """Before an inference, outside of what is counted."""

    def infer(self) -> None:
        """One inference."""

    def nothing(self) -> None:
        """Through the same binding, without an inference."""

    def output(self) -> Any:
        """Of the last inference."""


class TFLite:
    """The interpreter with its default delegates, XNNPACK among them, on one thread."""

    def __init__(self, model: str) -> None:
        interpreter = importlib.import_module("ai_edge_litert.interpreter").Interpreter(model, num_threads=1)
        interpreter.allocate_tensors()
        self._interpreter = interpreter
        self._source = interpreter.get_input_details()[0]["index"]
        self._target = interpreter.get_output_details()[0]["index"]
        self.infer = interpreter._interpreter.Invoke
        self.nothing = interpreter._interpreter.NumNodes

    def set_input(self, values: Any) -> None:
        """Copied into the interpreter's tensor."""
        self._interpreter.set_tensor(self._source, values)

    def output(self) -> Any:
        """Copied out of it."""
        return self._interpreter.get_tensor(self._target)


class OnnxRuntime:
    """A session on the CPU with all optimizations, on one thread, input and output bound beforehand."""

    def __init__(self, model: str) -> None:
        runtime = importlib.import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._make_value = runtime.OrtValue.ortvalue_from_numpy
        self._binding = self._session.io_binding()
        self._input: Any = None

    def set_input(self, values: Any) -> None:
        """Copied into what is bound."""
        if self._input is None:
            self._input = self._bind(values)
        self._input.update_inplace(values)

    def _bind(self, values: Any) -> Any:
        source, target = self._session.get_inputs()[0].name, self._session.get_outputs()[0].name
        value = self._make_value(values)
        self._output = self._make_value(self._session.run([target], {source: values})[0])
        self._binding.bind_ortvalue_input(source, value)
        self._binding.bind_ortvalue_output(target, self._output)
        self._run, self._bound = self._session._sess.run_with_iobinding, self._binding._iobinding
        return value

    def infer(self) -> None:
        """Without the checks of the Python layer above the binding."""
        self._run(self._bound, None)

    def nothing(self) -> None:
        """A property of the session."""
        _ = self._session._sess.get_profiling_start_time_ns

    def output(self) -> Any:
        """Copied out of what is bound."""
        return self._output.numpy()


RUNTIMES: dict[str, Callable[[str], Runtime]] = {"tflite": TFLite, "onnxruntime": OnnxRuntime}


def mark(region: int) -> None:
    """Tell the plugin: it sees the call, and the system refuses it."""
    with contextlib.suppress(OSError):
        os.close(region)


def main(folder: Path) -> None:
    """Run the job of a folder."""
    import numpy as np

    job = json.loads((folder / "job.json").read_text())
    inputs = np.load(folder / "inputs.npy")
    runtime: Runtime = RUNTIMES[job["runtime"]](job["model"])
    runtime.set_input(inputs[0])
    for _ in range(WARM_UP):
        runtime.nothing()
        runtime.infer()
    for _ in inputs:
        mark(BEGIN)
        runtime.nothing()
        mark(END)
    outputs = []
    for values in inputs:
        runtime.set_input(values)
        mark(BEGIN)
        runtime.infer()
        mark(END)
        outputs.append(runtime.output().reshape(-1).tolist())
    answer = {"outputs": outputs, "maps": Path("/proc/self/maps").read_text()}
    (folder / "answer.json").write_text(json.dumps(answer))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
