"""Measured tables of the README: runs what they show and writes them between their markers.

    python -m policyport.pipeline.figures README.md

The recipes' results come from their runs under ``runs/``, which are made first where they are missing
or stale. The comparison builds the peers' networks with random weights: the count of an inference does
not depend on them. The peers' own figures are recorded in ``peers.json``; they were counted on the same
emulated core, and cannot be installed from a package index.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RECIPES = ("cartpole", "pendulum", "dqn")
VARIANTS = (("int8", "size"), ("int8", "speed"), ("int16", "size"))
"""Activation widths and what the kernels save, for the comparison."""

NETWORK = (4, 64, 64, 2)
SAMPLES = 256


def results_table(results: Sequence[dict[str, Any]]) -> str:
    """The recipes' results as Markdown, from their ``result.json``."""
    lines = [
        "| policy | float32 return | return on the board | actions as float32 | parity | instructions p50 (max)"
        " | flash, policy of it | RAM, policy of it | stack used |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        loop, count, size = result["loop"], result["latency"]["inference"], result["footprint"]
        equal = "every layer equal" if result["parity"]["equal"] else "differs"
        agreement = "" if loop["agreement"] is None else f"{100 * loop['agreement']:.2f} %"
        lines.append(
            f"| {result['model']} | {_mean(loop['float_returns'])} | {_mean(loop['board_returns'])} | {agreement}"
            f" | {equal} | {count['p50']:,} ({count['max']:,})"
            f" | {size['flash_bytes']:,} B, {size['policy_flash_bytes']:,} B"
            f" | {size['ram_bytes']:,} B, {size['policy_ram_bytes']:,} B"
            f" | {result['memory']['stack_used_bytes']:,} B |"
        )
    board = results[0]["board"]
    note = f"Emulated {board['name']} ({board['core']}, {board['emulator']}); 20 seeded episodes each."
    return "\n".join([*lines, "", note])


def _mean(returns: Sequence[float]) -> str:
    import numpy as np

    spread = np.std(returns, ddof=1) if len(returns) > 1 else 0.0
    return f"{np.mean(returns):.1f} ± {spread:.1f}"


def peers_table(rows: Sequence[dict[str, Any]]) -> str:
    """Networks side by side with the recorded peers, as Markdown."""
    lines = ["| network | tool | activations | instructions | flash | RAM |", "|---|---|---|---|---|---|"]
    for row in rows:
        lines.append(
            f"| {row['network']} | {row['tool']} | {row['widths']} | {row['instructions']:,}"
            f" | {row['flash_bytes']:,} B | {row['ram_bytes']:,} B |"
        )
    note = (
        "Cortex-M4, one inference. Flash is code, kernels, weights and tables; RAM is the arena and the painted stack."
        " Neither counts protocol or start-up code. The peer's rows are recorded, counted on the same emulated core."
    )
    return "\n".join([*lines, "", note])


def measure_network(function: str, activations: str, optimize: str, folder: Path) -> dict[str, Any]:
    """Build one network of the comparison and count it on the emulated Cortex-M4.

    :param function: ``Tanh`` or ``Relu``
    """
    from policyport.deploy import DeployConfig, FlashConfig, deploy, flash
    from policyport.hil import HilConfig, hil
    from policyport.quantize import QuantizeConfig, quantize

    model = _write_network(function, folder / "float")
    quantized = quantize(model, QuantizeConfig(activations=activations), folder / "quantize")  # type: ignore[arg-type]
    built = deploy(quantized.path, DeployConfig(optimize=optimize), folder / "deploy")  # type: ignore[arg-type]
    flashed = flash(built.path, FlashConfig(), folder / "flash")
    config = HilConfig(episodes=0, parity_observations=16, latency_observations=SAMPLES)
    measured = hil(built.path, flashed.path, config, folder / "hil")
    result = json.loads(measured.file("result.json").read_text())
    size = result["footprint"]
    name = {"Tanh": "tanh", "Relu": "ReLU"}[function]
    return {
        "network": f"{'-'.join(str(width) for width in NETWORK)}, {name}",
        "tool": "policyport" if optimize == "size" else "policyport, `--optimize speed`",
        "widths": activations,
        "instructions": result["latency"]["inference"]["p50"],
        "flash_bytes": size["policy_flash_bytes"],
        "ram_bytes": size["policy_ram_bytes"] + result["memory"]["stack_used_bytes"],
    }


def _write_network(function: str, folder: Path) -> Path:
    """A float network of the comparison with random weights, its task, and observations."""
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper
    from policyport.core.task import Environment, Task

    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    nodes, constants, current = [], [], "observation"
    for depth, (inputs, outputs) in enumerate(itertools.pairwise(NETWORK), 1):
        weight = (random.normal(size=(outputs, inputs)) / np.sqrt(inputs)).astype(np.float32)
        bias = (0.1 * random.normal(size=outputs)).astype(np.float32)
        constants += [numpy_helper.from_array(weight, f"w{depth}"), numpy_helper.from_array(bias, f"b{depth}")]
        last = depth == len(NETWORK) - 1
        target = "output" if last else f"layer{depth}"
        nodes.append(helper.make_node("Gemm", [current, f"w{depth}", f"b{depth}"], [target], transB=1))
        if not last:
            nodes.append(helper.make_node(function, [target], [f"{target}.{function.lower()}"]))
            target = f"{target}.{function.lower()}"
        current = target
    ends = [("observation", NETWORK[0]), ("output", NETWORK[-1])]
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", size]) for name, size in ends]
    graph = helper.make_graph(nodes, "comparison", values[:1], values[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    onnx.save(model, str(folder / "policy.onnx"))
    observations = random.normal(size=(2 * SAMPLES, NETWORK[0])).astype(np.float32)
    np.savez(folder / "observations.npz", observations=observations[:SAMPLES], held_out=observations[SAMPLES:])
    bound = (10.0,) * NETWORK[0]
    low = tuple(-value for value in bound)
    environment = Environment("CartPole-v1")
    Task("policy", "comparison", environment, NETWORK[0], low, bound, NETWORK[-1], "argmax").write(folder / "task.json")
    return folder / "policy.onnx"


def replace_block(text: str, name: str, content: str) -> str:
    """The text with what lies between the markers of block ``name`` replaced."""
    pattern = re.compile(rf"(<!-- figures:{name} -->\n).*?(<!-- /figures:{name} -->)", re.DOTALL)
    return pattern.sub(lambda match: f"{match[1]}{content}\n{match[2]}", text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables of a Markdown file."""
    import tempfile

    from policyport.pipeline import cli

    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m policyport.pipeline.figures", description=summary)
    parser.add_argument("page", type=Path, help="Markdown file with <!-- figures:NAME --> markers")
    given = parser.parse_args(arguments)
    results = []
    for recipe in RECIPES:
        code = cli.main(["run", f"recipes/{recipe}.toml"])
        if code:
            return code
        results.append(json.loads(Path("runs", recipe, "hil", "result.json").read_text()))
    rows = []
    peers = json.loads(Path(__file__).with_name("peers.json").read_text())
    with tempfile.TemporaryDirectory() as scratch:
        for function, peer in zip(("Tanh", "Relu"), peers, strict=True):
            rows.append(peer)
            for activations, optimize in VARIANTS:
                folder = Path(scratch) / f"{function}-{activations}-{optimize}"
                rows.append(measure_network(function, activations, optimize, folder))
    text = given.page.read_text()
    text = replace_block(text, "results", results_table(results))
    text = replace_block(text, "peers", peers_table(rows))
    given.page.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
