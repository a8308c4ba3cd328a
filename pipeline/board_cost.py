"""What a quantized network takes of a board: the cost model that a budget of the quantize stage is kept by."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policyport.core.artifact import code_version
from policyport.core.errors import ConfigError

if TYPE_CHECKING:
    from policyport.deploy.config import DeployConfig
    from policyport.deploy.program import Program
    from policyport.deploy.program_cost import ProgramCost
    from policyport.quantize.config import QuantizeConfig
    from policyport.quantize.cost import Cost
    from policyport.quantize.network import QuantizedNetwork

WHERE = "[quantize] board"


class BoardCost:
    """The cost model of a board: kernels, constants and arena as deploy would have them, nothing compiled.

    :param board: name of a board
    :param optimize: what deploy's kernels save, ``size`` or ``speed``
    :raises ConfigError: no such board, or one whose kernels no cost is known of
    """

    def __init__(self, board: str, optimize: str = "size") -> None:
        from policyport import deploy
        from policyport.deploy.board import load_board
        from policyport.deploy.kernel_cost_core import Core

        self._core = Core.of(load_board(board, WHERE), optimize)
        code = code_version(Path(deploy.__path__[0]), Path(__file__))
        self.version = f"{board}, {optimize}, {code[:16]}"
        """Of the board and of everything that the costs are computed by."""

        self._last: tuple[QuantizedNetwork, Program, ProgramCost] | None = None

    def operators(self, network: QuantizedNetwork) -> Mapping[str, Cost]:
        """Of each operator; what deploy fuses away costs nothing, what it adds counts to what reads it, copies of input
        and output to the input.
        """
        from policyport.quantize.cost import Cost

        program, cost = self._costs(network)
        found = {network.input_name: Cost(0, cost.end_instructions), **{node.name: Cost() for node in network.nodes}}
        owners = _owners(program, network)
        for layer in cost.layers:
            found[owners[layer.name]] += Cost(layer.flash_bytes, layer.instructions)
        return found

    def ram_bytes(self, network: QuantizedNetwork) -> int:
        """The arena of whole layers."""
        return self._costs(network)[1].arena_bytes

    def _costs(self, network: QuantizedNetwork) -> tuple[Program, ProgramCost]:
        from policyport.deploy.lower import lower
        from policyport.deploy.program_cost import program_cost
        from policyport.quantize.qdq import write_qdq

        if self._last is None or self._last[0] is not network:
            with tempfile.TemporaryDirectory(prefix="policyport-") as folder:
                write_qdq(network, Path(folder) / "model.onnx")
                program = lower(Path(folder) / "model.onnx")
            self._last = network, program, program_cost(program, self._core)
        return self._last[1:]


def _owners(program: Program, network: QuantizedNetwork) -> dict[str, str]:
    """Layer to the operator that it counts to: its own, else that of the first layer that reads it."""
    names = {node.name for node in network.nodes}
    readers: dict[str, str] = {}
    for layer in program.layers:
        for tensor in layer.inputs:
            readers.setdefault(tensor.name, layer.name)
    found: dict[str, str] = {}
    for layer in reversed(program.layers):
        reader = readers.get(layer.output.name)
        found[layer.name] = layer.name if layer.name in names else found.get(reader or "", network.output_name)
    return found


def quantize_arguments(config: QuantizeConfig) -> dict[str, Any]:
    """What the quantize stage takes beside its input and options.

    :raises ConfigError: a board without a budget, or one that is not known
    """
    if not config.board:
        return {}
    if config.budget.is_open:
        raise ConfigError(
            "a board without a budget says nothing",
            where=WHERE,
            got=config.board,
            cure="give flash_budget, ram_budget or instructions_budget",
        )
    return {"costs": BoardCost(config.board, config.optimize)}


def quantize_inputs(config: QuantizeConfig) -> dict[str, str]:
    """What the outcome of the quantize stage depends on beside its input and options: by what costs are estimated."""
    return {name: costs.version for name, costs in quantize_arguments(config).items()}


def with_board(config: QuantizeConfig, deploy: DeployConfig) -> QuantizeConfig:
    """The options with the board of deploy and what its kernels save, where there is a budget and no other board."""
    if config.board or config.budget.is_open:
        return config
    return dataclasses.replace(config, board=deploy.board, optimize=deploy.optimize)
