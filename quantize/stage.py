"""The quantize stage: a float32 ONNX to a QDQ ONNX, with figures on what it cost."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policyport.core.artifact import Artifact, ArtifactWriter, code_version, open_artifact, write_artifact
from policyport.core.errors import ConfigError
from policyport.core.options import to_table
from policyport.quantize.config import QuantizeConfig

if TYPE_CHECKING:
    from policyport.quantize.choose import Candidate
    from policyport.quantize.cost import CostModel
    from policyport.quantize.rounding.branch_and_bound import Proof
    from policyport.quantize.source import Source

CODE = (Path(__file__).parent, Path(__file__).parents[1] / "core")
"""Folders whose source decides the stage's key."""


def quantize(model: Path, config: QuantizeConfig, out: Path, costs: CostModel | None = None) -> Artifact:
    """Quantize a network and write the artifact; what is done stays in ``<out>.partial`` until all is.

    :param model: a train artifact's folder, or a float32 .onnx, .tflite or .pt2 with task.json and observations.npz
        beside it
    :param costs: what a budget is kept by, that of ``config.board``; None estimates by a Cortex-M4's dense layers
    :raises ArtifactError: something of the input is missing, torn or does not fit
    :raises ConfigError: nothing is within the budget, or a board is named whose costs nobody gives
    :raises UnsupportedModelError: the network is outside the integer semantics
    :raises ObservationError: an observation holds NaN or infinity
    :raises ToolError: quantization-aware training is asked for, and torch is not installed
    """
    from policyport.quantize.calibrate import collect
    from policyport.quantize.choose import candidates
    from policyport.quantize.layers import layer_rows, write_layers
    from policyport.quantize.layers_page import write_page
    from policyport.quantize.qdq import write_qdq
    from policyport.quantize.source import open_source
    from policyport.quantize.widths_file import write_widths

    if config.board and costs is None:
        raise ConfigError(
            "nobody says what this board takes",
            where="[quantize] board",
            got=config.board,
            cure="policyport quantize does, or give costs=policyport.pipeline.board_cost.BoardCost(board)",
        )
    source = _rewritten(open_source(model), config)
    partial = out.with_name(out.name + ".partial")
    tried = candidates(source, for_task(config, source), partial, costs)
    network = tried[-1].network
    inputs = {"model": source.key, **({} if costs is None else {"costs": costs.version})}
    with write_artifact(out, "quantize", inputs=inputs, config=to_table(config), code=code_version(*CODE)) as writer:
        writer.carry(source.model.parent)
        if source.task.state:
            _write_inputs(source, writer)
        write_qdq(network, writer.path / "model.onnx")
        _keep_float(source, writer)
        rows = layer_rows(source.graph, network, source.held_out)
        write_layers(rows, writer.path / "layers.json", writer.path / "layers.csv")
        writer.figures.update(_figures(source, tried))
        statistics = collect(source.graph, source.held_out)
        chosen = tried[-1].chosen
        write_page(writer.path / "layers.html", network, rows, statistics, writer.figures, chosen)
        if chosen is not None:
            write_widths(chosen, writer.path)
        writer.tools.update(_tools())
    shutil.rmtree(partial, ignore_errors=True)
    return open_artifact(out, "quantize")


def _write_inputs(source: Source, writer: ArtifactWriter) -> None:
    """Observations with the states behind them, so that what follows needs no order of steps."""
    import numpy as np

    path = writer.path / "observations.npz"
    np.savez_compressed(path, observations=source.observations, held_out=source.held_out)


def for_task(config: QuantizeConfig, source: Source) -> QuantizeConfig:
    """The options as a task needs them.

    A codec's pixels go in as they are, its code and what it sums have 16 bits; so have all of a recurrent network.

    :raises ConfigError: a recurrent network with activations of 8 bits
    """
    if source.task.state:
        if config.activations == "int8":
            raise ConfigError(
                "a recurrent network with int8 activations", where="[quantize] activations", expected="auto or int16"
            )
        return dataclasses.replace(config, activations="int16")
    if source.task.kind != "codec":
        return config
    from policyport.quantize.nodes import Weighted

    exact = {source.graph.output_name}
    for node in reversed(source.graph.nodes):
        if node.name in exact and not isinstance(node, Weighted):
            exact.update(node.inputs)
    wide = tuple(f"{node.name}=16" for node in source.graph.nodes if node.name in exact)
    return dataclasses.replace(config, input_gain=False, layer_activation_bits=(*wide, *config.layer_activation_bits))


def _keep_float(source: Source, writer: ArtifactWriter) -> None:
    """The float network as ONNX beside the integers; a TFLite or torch file becomes one."""
    if source.converted is None:
        writer.copy(source.model, "float.onnx")
        return
    import onnx

    onnx.save(source.converted, writer.path / "float.onnx")


def _rewritten(source: Source, config: QuantizeConfig) -> Source:
    """The source with its graph made ready: what quantizes better and decides the same."""
    from policyport.quantize.equalize import equalize
    from policyport.quantize.transforms import centre_outputs

    graph = source.graph
    if config.centre_outputs and source.task.action_rule == "argmax":
        graph = centre_outputs(graph)
    if config.equalize:
        graph = equalize(graph, source.observations)
    return dataclasses.replace(source, graph=graph)


def _figures(source: Source, tried: list[Candidate]) -> dict[str, Any]:
    """The numbers of the manifest: the chosen network's on held-out observations, then of every one tried."""
    chosen = tried[-1]
    network = chosen.network
    return {
        "activations": chosen.activations,
        "activation_bits": [network.input.bits, *(node.output.bits for node in network.nodes)],
        **dataclasses.asdict(chosen.held_out),
        **({} if chosen.head is None else {"last_layer": dataclasses.asdict(chosen.head)}),
        **({} if not chosen.proofs else {"proofs": {name: _proof(proof) for name, proof in chosen.proofs.items()}}),
        **({} if not chosen.blocks else {"blocks": [dataclasses.asdict(block) for block in chosen.blocks]}),
        "weight_bytes": network.weight_bytes,
        "float_bytes": 4 * source.graph.parameters,
        "observations": len(source.observations),
        "held_out": len(source.held_out),
        "tried": {
            candidate.activations: {
                "calibration": dataclasses.asdict(candidate.calibration),
                "held_out": dataclasses.asdict(candidate.held_out),
            }
            for candidate in tried
        },
    }


def _proof(proof: Proof) -> dict[str, Any]:
    """What branch and bound says of a layer: rows with a proven optimum, and how far the others can be from theirs."""
    return {
        "rows": int(proof.proven.size),
        "proven": int(proof.proven.sum()),
        "largest_gap": float(proof.gap.max()),
        "nodes": int(proof.nodes.sum()),
    }


def _tools() -> dict[str, str]:
    import numpy
    import onnx

    return {"numpy": numpy.__version__, "onnx": onnx.__version__}
