"""Networks of few levels on the digits, for ``policyport study levels``: rounded, or trained to the labels."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from policyport import core, quantize
from policyport.core.artifact import code_version
from policyport.pipeline.adaround_study import NETWORKS, network_of
from policyport.pipeline.cells import cell, kept
from policyport.pipeline.quarl_methods import FLOAT

if TYPE_CHECKING:
    from policyport.quantize.graph import FloatGraph
    from policyport.quantize.network import QuantizedNetwork
    from policyport.quantize.rounding.digits import Digits

__all__ = ["NETWORKS", "right_images"]

CODE = (Path(quantize.__path__[0]), Path(core.__path__[0]))

EPOCHS = 60
"""Of the trainings, in float32 and of the integers."""

LEARNING_RATE = 1e-2
"""Of the integers' training: weights of few bits change where a float one moves by half a step."""


def right_images(
    folder: Path, network: str, seed: int, method: str, bits: int, input_bits: int, *, measured_only: bool = False
) -> NDArray[np.float64] | None:
    """For each test image 100 where the network is right, 0 where it is not: their mean is the accuracy in percent.

    :param folder: where cells lie; what is there is not measured again
    :param network: of :data:`NETWORKS`
    :param seed: of its training
    :param method: ``float32``, ``lattice`` or ``qat``
    :param bits: of weights and hidden activations
    :param input_bits: of pixels
    :param measured_only: gives None for a cell that is not there
    :raises ToolError: torch or scikit-learn is missing
    """
    of = {"network": network, "seed": seed, "method": method, "bits": bits, "input_bits": input_bits}
    given = {**of, "epochs": EPOCHS, "code": code_version(*CODE)}
    given |= {"learning_rate": LEARNING_RATE} if method == "qat" else {}
    name = f"{network}-seed{seed}.{method}.{bits}.input{input_bits}"
    if measured_only:
        found = kept(folder, name, given)
    else:
        found = cell(folder, name, given, lambda: {"right": _right(network, seed, method, bits, input_bits)})
    return None if found is None else 100.0 * np.array(found["right"], np.float64)


@lru_cache(maxsize=1)
def _trained(network: str, seed: int) -> tuple[FloatGraph, Digits]:
    return network_of(network, seed, EPOCHS)


def _right(network: str, seed: int, method: str, bits: int, input_bits: int) -> list[int]:
    from policyport.quantize.simulate import predict

    graph, data = _trained(network, seed)
    if method == FLOAT:
        outputs: NDArray[Any] = graph.evaluate(data.test_images)
    else:
        outputs = predict(_integers(graph, data, method, bits, input_bits), data.test_images)
    return [int(right) for right in outputs.argmax(axis=1) == data.test_labels]


def _integers(graph: FloatGraph, data: Digits, method: str, bits: int, input_bits: int) -> QuantizedNetwork:
    from policyport.quantize.config import QuantizeConfig
    from policyport.quantize.ptq import quantize_graph
    from policyport.quantize.qat import Objective, QatSettings, finetune
    from policyport.quantize.rounding.methods import rounding

    config = QuantizeConfig(activation_bits=bits, input_bits=input_bits, output_bits=16, weight_bits=bits)
    start = quantize_graph(graph, data.train_images, config, 8, rounding("lattice", refit_bias=True))
    if method != "qat":
        return start
    settings = QatSettings(epochs=EPOCHS, learning_rate=LEARNING_RATE)
    return finetune(start, data.train_images, data.train_labels, Objective("labels"), settings).network
