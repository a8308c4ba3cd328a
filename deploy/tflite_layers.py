"""Every layer of a TFLite file by TFLite's reference kernels, beside the integer semantics on the same input."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from policyport.core.semantics import Integers
from policyport.core.tflite_file import TFLiteFile, read_tflite, with_outputs
from policyport.deploy import reference
from policyport.deploy.exports import tflite_input, tflite_interpreter, tflite_output
from policyport.deploy.tflite_reader import translate


@dataclass(frozen=True)
class LayerPair:
    """One layer's output, computed twice from the same integers."""

    layer: str
    runtime: str
    """The package whose kernels computed it."""

    wanted: Integers
    """[n, elements], by the integer semantics."""

    got: Integers
    """[n, elements], by TFLite."""


def compare_layers(path: Path, q: Integers) -> list[LayerPair]:
    """Each layer of a file, given what TFLite computed in the layers before it: so no difference adds up.

    :param path: an int8 TFLite file that :func:`policyport.deploy.lower.lower` takes
    :param q: [n, inputs] quantized inputs
    :raises ToolError: no TFLite runtime
    """
    file = read_tflite(path)
    program, numbers = translate(file), _yielded(file)
    names = [file.tensors[number].name for number in numbers]
    interpreter = tflite_interpreter(with_outputs(path.read_bytes(), numbers), kernels="reference")
    source, targets = interpreter.get_input_details()[0], interpreter.get_output_details()
    index = {name: target["index"] for name, target in zip(names, targets, strict=True)}
    rows: dict[str, tuple[list[Integers], list[Integers]]] = {
        layer.output.name: ([], []) for layer in program.layers if layer.output.name in index
    }
    for row in q:
        interpreter.set_tensor(source["index"], tflite_input(row, source, program.input))
        interpreter.invoke()
        known = {program.input.name: row}
        for layer in program.layers:
            name, operands = layer.output.name, [known[operand.name][None] for operand in layer.inputs]
            known[name] = reference.run_layer(layer, operands)[0]
            if name in rows:
                rows[name][0].append(known[name])
                known[name] = tflite_output(interpreter.get_tensor(index[name]), layer.output)
                rows[name][1].append(known[name])
    runtime = type(interpreter).__module__.split(".")[0]
    return [LayerPair(name, runtime, np.array(wanted), np.array(got)) for name, (wanted, got) in rows.items()]


def _yielded(file: TFLiteFile) -> list[int]:
    """The numbers of what the file's operators yield, of equal names the first."""
    found: dict[str, int] = {}
    for operator in file.operators:
        found.setdefault(file.tensors[operator.outputs[0]].name, operator.outputs[0])
    return list(found.values())
