"""The row of half precision in a comparison: what stands between float32 and integers."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
from policyport.core.artifact import Artifact
from policyport.core.errors import UnsupportedModelError
from policyport.core.task import Task
from policyport.pipeline.compare_cell import ComparedCell, float_key, kept
from policyport.pipeline.compare_metric import judged

log = logging.getLogger(__name__)

METHOD, BITS = "fp16", 16


def half_cell(artifact: Artifact, out: Path, episodes: int) -> ComparedCell | None:
    """The float network of an artifact with weights, activations and results in half precision; written as fp16.onnx.

    :param out: the comparison's folder
    :param episodes: seeded episodes of a policy; 0 plays none
    :returns: None for what half precision cannot hold, and for a recurrent network
    """
    from policyport.quantize.half import evaluate_half, half_weights, write_half
    from policyport.quantize.metrics import closeness
    from policyport.quantize.onnx_reader import read_onnx

    task, begun = Task.read(artifact.file("task.json")), time.perf_counter()
    if task.state:
        return None
    graph = read_onnx(artifact.file("float.onnx"))
    try:
        write_half(graph, out / "fp16.onnx")
    except UnsupportedModelError as error:
        log.warning("no row of half precision: %s", error)
        return None
    seconds, half = time.perf_counter() - begun, half_weights(graph)
    with np.load(artifact.file("observations.npz")) as stored:
        observations = task.check_input(stored["held_out"])
    close = closeness(task, graph.evaluate(observations), evaluate_half(half, observations))
    found = kept(
        out / f"{METHOD}.metric.json",
        float_key(artifact),
        episodes,
        lambda: judged(artifact, task, lambda given: evaluate_half(half, given), episodes),
    )
    return ComparedCell(
        method=METHOD,
        bits=BITS,
        metric=found.metric,
        bits_per_pixel=found.bits_per_pixel,
        agreement=close.action_agreement,
        action_error=close.action_error,
        sqnr_db=close.sqnr_db,
        seconds=seconds,
        weight_bytes=2 * graph.parameters,
        layers={},
    )
