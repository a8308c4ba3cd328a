"""The same integers in other runtimes: their agreement with the reference, measured and written down."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from policyport.core.errors import ToolError, UnsupportedModelError
from policyport.core.install import pip_install

if TYPE_CHECKING:
    from collections.abc import Sequence

    from policyport.core.semantics import Integers
    from policyport.deploy.layers import Tensor
    from policyport.deploy.program import Program

ONNX_NAME = "policy.qdq.onnx"
TFLITE_NAME = "policy.tflite"

LAYER_OBSERVATIONS = 8
"""Inputs with which each layer of another tool's file is run by its runtime; TFLite's reference kernels are slow."""

Kernels = Literal["optimized", "reference", "xnnpack"]
RESOLVERS: dict[Kernels, str] = {
    "optimized": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    "reference": "BUILTIN_REF",
    "xnnpack": "BUILTIN",
}
"""What TFLite calls the set of its kernels."""


def tflite_interpreter(model: Path | bytes, kernels: Kernels = "optimized") -> Any:
    """An interpreter of a TFLite model, tensors allocated, from whichever runtime works here.

    ``tflite_runtime`` imports beside numpy 2 and then fails when an interpreter is built, so one is
    built before it counts as there; ``ai_edge_litert`` is its maintained successor.

    :param model: a file or its content
    :param kernels: ``xnnpack`` is the delegate that is the default elsewhere, which announces itself on standard error
    :raises ToolError: no runtime builds an interpreter
    """
    given: dict[str, Any] = {"model_content": model} if isinstance(model, bytes) else {"model_path": str(model)}
    failures = []
    for package in ("tflite_runtime", "ai_edge_litert"):
        try:
            interpreter = _interpreter(package, given, kernels)
            interpreter.allocate_tensors()
            return interpreter
        except (ImportError, SystemError, RuntimeError, ValueError) as error:
            failures.append(f"{package}: {error}")
    raise ToolError(
        "no TFLite runtime builds an interpreter here",
        got="; ".join(failures),
        cure=pip_install("[tflite]"),
    )


def _interpreter(package: str, given: dict[str, Any], kernels: Kernels) -> Any:
    import importlib

    module = importlib.import_module(f"{package}.interpreter")
    chosen = getattr(module.OpResolverType, RESOLVERS[kernels])
    return module.Interpreter(**given, experimental_op_resolver_type=chosen, num_threads=1)


def write_exports(
    program: Program, source: Path | None, q: Integers, expected: Sequence[Integers], folder: Path
) -> dict[str, Any]:
    """Write the program's integers as QDQ ONNX and as TFLite, and run both in their runtimes.

    :param source: the file of another tool that the program was lowered from, which is run beside it too, whole and
        layer by layer; None where a stage of ours wrote it
    :param q: [n, inputs] quantized inputs
    :param expected: what the reference yields for them, by layer
    :returns: the table of ``exports.json``: per runtime and layer the values compared, how many are
        equal, and the largest difference; and what could not be written or run, with the reason
    """
    rows, skipped = [], []
    if source is not None:
        try:
            source_rows = _tflite_source_rows if source.suffix == ".tflite" else _onnx_source_rows
            rows += source_rows(program, source, q, expected)
        except ToolError as error:
            skipped.append({"export": source.name, "reason": str(error)})
    for name, write, run in (
        (ONNX_NAME, _onnx_bytes, _onnx_rows),
        (TFLITE_NAME, _tflite_bytes, _tflite_rows),
    ):
        try:
            (folder / name).write_bytes(write(program))
            rows += run(program, folder / name, q, expected)
        except (UnsupportedModelError, ToolError) as error:
            skipped.append({"export": name, "reason": str(error)})
    return {"schema": 1, "observations": len(q), "rows": rows, "skipped": skipped}


def _onnx_bytes(program: Program) -> bytes:
    from policyport.deploy.export_onnx import onnx_bytes

    return onnx_bytes(program)


def _tflite_bytes(program: Program) -> bytes:
    from policyport.deploy.export_tflite import tflite_bytes

    return tflite_bytes(program)


def _tflite_source_rows(
    program: Program, source: Path, q: Integers, expected: Sequence[Integers]
) -> list[dict[str, Any]]:
    """A TFLite file beside the program that was made of it: its output, and each of its layers on the same input."""
    from policyport.deploy.tflite_layers import compare_layers

    whole = [{**row, "runtime": f"{row['runtime']}, source"} for row in _tflite_rows(program, source, q, expected)]
    pairs = compare_layers(source, q[:LAYER_OBSERVATIONS])
    return whole + [_row(f"{p.runtime}, source by layers", p.layer, p.wanted, p.got) for p in pairs]


def _onnx_source_rows(
    program: Program, source: Path, q: Integers, expected: Sequence[Integers]
) -> list[dict[str, Any]]:
    """An ONNX file beside the program that was made of it: its output, and each activation that it quantizes."""
    import onnxruntime
    from policyport.deploy.onnx_layers import compare_activations, run_whole

    runtime = f"onnxruntime {onnxruntime.__version__}"
    whole = _row(f"{runtime}, source", program.layers[-1].name, expected[-1], run_whole(source, program, q))
    pairs = compare_activations(source, q[:LAYER_OBSERVATIONS])
    return [whole, *(_row(f"{runtime}, source by layers", p.layer, p.wanted, p.got) for p in pairs)]


def _tflite_rows(program: Program, path: Path, q: Integers, expected: Sequence[Integers]) -> list[dict[str, Any]]:
    """The output of a TFLite file's runtime beside the reference's."""
    interpreter = tflite_interpreter(path)
    outputs = run_tflite(interpreter, program, q)
    runtime = type(interpreter).__module__.split(".")[0]
    return [_row(runtime, program.layers[-1].name, expected[-1], outputs)]


def run_tflite(interpreter: Any, program: Program, q: Integers) -> Integers:
    """Integers through a TFLite interpreter whose file has the program's input and output.

    :param q: [n, inputs]
    :returns: [n, outputs], of unsigned and float files too
    """
    import numpy as np

    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    outputs = []
    for row in q:
        interpreter.set_tensor(source["index"], tflite_input(row, source, program.input))
        interpreter.invoke()
        outputs.append(tflite_output(interpreter.get_tensor(target["index"]), program.output))
    return np.array(outputs)


def tflite_input(row: Integers, details: Any, tensor: Tensor) -> Any:
    """Integers of the program's input, [inputs], as a file's input takes them, in its type and shape.

    :param details: what the interpreter says of its input
    """
    import numpy as np

    if details["dtype"] == np.float32:
        typed = ((row - tensor.zero_point) * np.float64(tensor.scale)).astype(np.float32)
    else:
        typed = (row + (128 if details["dtype"] == np.uint8 else 0)).astype(details["dtype"])
    return typed.reshape(details["shape"])


def tflite_output(given: Any, tensor: Tensor) -> Integers:
    """What an interpreter gave as integers of the program's output, [outputs]."""
    import numpy as np

    flat = given.reshape(-1)
    if flat.dtype == np.float32:
        flat = np.rint(flat / np.float32(tensor.scale)) + tensor.zero_point
    shifted: Integers = flat.astype(np.int64) - (128 if flat.dtype == np.uint8 else 0)
    return shifted


def _row(runtime: str, layer: str, wanted: Integers, got: Integers) -> dict[str, Any]:
    import numpy as np

    difference = np.abs(wanted - np.asarray(got, np.int64))
    return {
        "runtime": runtime,
        "layer": layer,
        "values": int(difference.size),
        "equal": int((difference == 0).sum()),
        "largest": int(difference.max()),
    }


def _onnx_rows(program: Program, path: Path, q: Integers, expected: Sequence[Integers]) -> list[dict[str, Any]]:
    """Every layer of the exported ONNX beside the reference."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # What the nodes say: optimized, 16-bit layers are fused into kernels that round far more coarsely.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    names = [f"{layer.output.name}_quantized" for layer in program.layers]
    session = onnxruntime.InferenceSession(_with_outputs(path, names), options, providers=["CPUExecutionProvider"])
    got = session.run(names, {session.get_inputs()[0].name: observations_for(program, q)})
    runtime = f"onnxruntime {onnxruntime.__version__}"
    return [
        _row(runtime, layer.name, wanted, in_device_order(layer.output, values))
        for layer, wanted, values in zip(program.layers, expected, got, strict=True)
    ]


def in_device_order(tensor: Tensor, values: Any) -> Any:
    """[n, elements] of what a runtime gives as [n, channels, height, width] or [n, elements]."""
    import numpy as np

    shaped = np.moveaxis(values, 1, -1) if len(tensor.shape) == 3 else values
    return shaped.reshape(len(values), -1)


def observations_for(program: Program, q: Integers) -> Any:
    """Observations that quantize to exactly these inputs, in their own shape.

    :param q: [n, inputs], inside what the host's clip leaves
    """
    import numpy as np

    real = (q - program.input.zero_point).astype(np.float64) * program.input.scale
    host = program.host_input
    if host.order == "CHW":
        real = np.moveaxis(real.reshape(-1, *program.input.shape), -1, 1)
    real = real.reshape(len(q), *(host.shape or program.input.shape))
    return (real / host.gain + host.offset).astype(np.float32)


def _with_outputs(path: Path, names: list[str]) -> bytes:
    """The model with every layer's integers as its outputs."""
    import onnx

    model = onnx.load(str(path))
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    return bytes(model.SerializeToString())
